package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxArgument bounds a JSON argument read from a file or stdin; more is for `croft import`.
const maxArgument = 64 << 20

// jsonArgument reads a JSON argument: inline, "-" for stdin, or the path of a file, which may be written @path.
func (a *app) jsonArgument(flag, s string) (jsontext.Value, error) {
	b, err := a.argumentBytes(s)
	if err != nil {
		return nil, usagef("%s: %w", flag, err)
	}
	v := jsontext.Value(bytes.TrimSpace(b))
	if !v.IsValid() {
		return nil, usagef("%s: %.60q is neither JSON nor a file", flag, s).withHint("quote JSON for the shell: %s '{\"lang\":\"en\"}'", flag)
	}
	return v, nil
}

func (a *app) argumentBytes(s string) ([]byte, error) {
	switch {
	case s == "-":
		return readBounded(a.stdin)
	case strings.HasPrefix(s, "@"):
		return readBoundedFile(s[1:])
	case startsLikeJSON(s):
		return []byte(s), nil
	}
	b, err := readBoundedFile(s)
	if os.IsNotExist(err) {
		return []byte(s), nil // told as bad JSON
	}
	return b, err
}

func startsLikeJSON(s string) bool {
	s = strings.TrimSpace(s)
	return s == "" || strings.ContainsRune(`{["`, rune(s[0]))
}

func readBoundedFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readBounded(f)
}

func readBounded(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxArgument+1))
	if err == nil && len(b) > maxArgument {
		return nil, fmt.Errorf("over %d MiB, use `croft import`", maxArgument>>20)
	}
	return b, err
}

// vectorArgument reads an array of numbers.
func (a *app) vectorArgument(flag, s string) ([]float32, error) {
	v, err := a.jsonArgument(flag, s)
	if err != nil {
		return nil, err
	}
	var values []float32
	if err := json.Unmarshal(v, &values); err != nil {
		return nil, usagef("%s is not an array of numbers: %w", flag, err)
	}
	return values, nil
}

// objectArgument reads an object; "" is none.
func (a *app) objectArgument(flag, s string) (jsontext.Value, error) {
	if s == "" {
		return nil, nil
	}
	v, err := a.jsonArgument(flag, s)
	if err != nil {
		return nil, err
	}
	if v.Kind() != '{' {
		return nil, usagef("%s is not a JSON object", flag)
	}
	return v, nil
}
