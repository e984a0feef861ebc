package api

import (
	"net/url"
	"slices"
	"strconv"

	"github.com/croftdb/croft/internal/errs"
)

// params are a request's query parameters.
type params url.Values

// parseParams refuses names that a route does not know: a misspelt prefix would otherwise list everything.
func parseParams(raw string, known []string) (params, error) {
	if raw == "" {
		return nil, nil
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, errs.New(errs.Invalid, "the query string is not valid: %s", err)
	}
	for name, v := range values {
		if !slices.Contains(known, name) {
			return nil, errs.New(errs.Invalid, "unknown query parameter %q; %s", clip(name), suggest(name, known))
		}
		if len(v) > 1 && name != "ids" {
			return nil, errs.New(errs.Invalid, "the query parameter %s is given %d times", name, len(v))
		}
	}
	return params(values), nil
}

func (p params) text(name string) string { return url.Values(p).Get(name) }

// integer returns a whole number from lo to hi, or def if the parameter is absent.
func (p params) integer(name string, def, lo, hi int) (int, error) {
	s := p.text(name)
	if s == "" {
		return def, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, invalid(name, "want a whole number, got %q", clip(s))
	}
	if n < lo || n > hi {
		return 0, invalid(name, "%d is not between %d and %d", n, lo, hi)
	}
	return n, nil
}
