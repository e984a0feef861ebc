package token

import (
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

const (
	maxToken   = 8 << 10 // bytes
	maxTried   = 8       // keys that one token is tried with
	maxSubject = 128     // bytes kept of who a token was made out to
	maxTenant  = 512     // bytes of a tenant's name
)

// Options say which tokens are taken.
type Options struct {
	Issuer      string        // required
	Audience    string        // required: who a token must be made out for
	Leeway      time.Duration // between the issuer's clock and ours; 0: 30 s
	TenantClaim string        // name of the claim, or a path to it with dots; empty: tenant
	RoleClaim   string        // likewise; empty: role. Its value is a role, or a list with roles among others
	Operators   bool          // take tokens of the roles admin and operator, which are over all tenants
}

const maxLeeway = 5 * time.Minute

func (o *Options) ensureDefaults() {
	if o.Leeway == 0 {
		o.Leeway = 30 * time.Second
	}
	if o.TenantClaim == "" {
		o.TenantClaim = "tenant"
	}
	if o.RoleClaim == "" {
		o.RoleClaim = "role"
	}
}

func (o *Options) validate() error {
	var faults []error
	if o.Issuer == "" {
		faults = append(faults, errors.New("the issuer of tokens is not given"))
	}
	if o.Audience == "" {
		faults = append(faults, errors.New("the audience of tokens is not given: those for other services would do"))
	}
	if o.Leeway < 0 || o.Leeway > maxLeeway {
		faults = append(faults, errs.New(errs.Invalid, "the leeway is %s, must be 0 to %s", o.Leeway, maxLeeway))
	}
	return errors.Join(faults...)
}

// Verifier checks tokens. It is safe for concurrent use.
type Verifier struct {
	opts Options
	keys *Keys
}

var _ tenancy.TokenVerifier = (*Verifier)(nil)

// New returns a Verifier of tokens that are signed with keys.
func New(keys *Keys, o Options) (*Verifier, error) {
	o.ensureDefaults()
	if err := o.validate(); err != nil {
		return nil, errs.Wrap(errs.Invalid, err, "settings of tokens")
	}
	return &Verifier{o, keys}, nil
}

// Verify returns whom a token stands for. Unauthenticated: it is not valid, now; Unavailable: its key cannot be seen.
func (v *Verifier) Verify(text string, now time.Time) (tenancy.Principal, error) {
	if len(text) > maxToken {
		return tenancy.Principal{}, refused("it is longer than %d bytes", maxToken)
	}
	claims := jwt.MapClaims{}
	_, err := v.parser(now).ParseWithClaims(text, claims, func(t *jwt.Token) (any, error) { return v.keysFor(t, now) })
	if err != nil {
		return tenancy.Principal{}, explain(err)
	}
	return v.principal(claims)
}

func (v *Verifier) parser(now time.Time) *jwt.Parser {
	return jwt.NewParser(jwt.WithValidMethods([]string{HS256, RS256, ES256, EdDSA}), jwt.WithStrictDecoding(),
		jwt.WithIssuer(v.opts.Issuer), jwt.WithAudience(v.opts.Audience), jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
		jwt.WithLeeway(v.opts.Leeway), jwt.WithTimeFunc(func() time.Time { return now }))
}

// keysFor finds the keys that a token may be of. The library has seen to it that its algorithm is one of ours; only keys made
// for that one are tried, so that a public key is never taken for a secret.
func (v *Verifier) keysFor(t *jwt.Token, now time.Time) (any, error) {
	if _, ok := t.Header["crit"]; ok {
		return nil, refused("it has critical extensions, and none is known here")
	}
	id, _ := t.Header["kid"].(string)
	found, err := v.keys.find(t.Method.Alg(), id, now)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, refused("there is no key for it")
	}
	set := jwt.VerificationKeySet{}
	for _, k := range found[:min(len(found), maxTried)] {
		set.Keys = append(set.Keys, k)
	}
	return set, nil
}

// principal reads who the bearer is. Every claim has been signed; what is missing is never taken for "all".
func (v *Verifier) principal(claims jwt.MapClaims) (p tenancy.Principal, err error) {
	p.Subject = subject(claims)
	if p.Role, err = v.role(claims); err != nil {
		return tenancy.Principal{}, err
	}
	over := p.Role == tenancy.RoleAdmin || p.Role == tenancy.RoleOperator
	value := lookup(claims, v.opts.TenantClaim)
	if value == nil && over {
		return p, nil
	}
	tenant, ok := value.(string)
	switch {
	case !ok || tenant == "" || len(tenant) > maxTenant || !utf8.ValidString(tenant) || strings.IndexByte(tenant, 0) >= 0:
		return tenancy.Principal{}, refused("its claim %q names no tenant", v.opts.TenantClaim)
	case over:
		return tenancy.Principal{}, refused("it is of a tenant, and of the role %s over all of them", p.Role)
	}
	p.Tenant = tenant
	return p, nil
}

// role is the mightiest of those that a token names and may have.
func (v *Verifier) role(claims jwt.MapClaims) (tenancy.Role, error) {
	var named []string
	switch value := lookup(claims, v.opts.RoleClaim).(type) {
	case string:
		named = []string{value}
	case []any:
		for _, item := range value {
			if s, ok := item.(string); ok {
				named = append(named, s)
			}
		}
	}
	for _, r := range tenancy.Roles() {
		if (r == tenancy.RoleAdmin || r == tenancy.RoleOperator) && !v.opts.Operators {
			continue
		}
		if slices.Contains(named, string(r)) {
			return r, nil
		}
	}
	return "", refused("its claim %q names no role that tokens may have here", v.opts.RoleClaim)
}

// lookup finds a claim by its name, else by a path of names.
func lookup(claims jwt.MapClaims, name string) any {
	if v, ok := claims[name]; ok {
		return v
	}
	var at any = map[string]any(claims)
	for step := range strings.SplitSeq(name, ".") {
		m, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = m[step]
	}
	return at
}

// subject is who a token was made out to, as logs may have it.
func subject(claims jwt.MapClaims) string {
	s, err := claims.GetSubject()
	if err != nil || s == "" {
		return "unnamed"
	}
	return strings.ToValidUTF8(s[:min(len(s), maxSubject)], "")
}

func refused(format string, args ...any) error {
	return errs.New(errs.Unauthenticated, "the token is not taken: "+format, args...)
}

// reasons are what a client is told, and may know: none says anything about keys.
var reasons = []struct {
	err  error
	text string
}{
	{jwt.ErrTokenMalformed, "it is malformed"},
	{jwt.ErrTokenExpired, "it has expired"},
	{jwt.ErrTokenNotValidYet, "it is not valid yet"},
	{jwt.ErrTokenUsedBeforeIssued, "it is from the future"},
	{jwt.ErrTokenInvalidIssuer, "it is of another issuer"},
	{jwt.ErrTokenInvalidAudience, "it is for another audience"},
	{jwt.ErrTokenRequiredClaimMissing, "it lacks an expiry (exp), an issuer (iss) or an audience (aud)"},
	{jwt.ErrTokenInvalidClaims, "one of its times is no time"},
}

// explain turns the library's error into ours. Errors of keysFor pass.
func explain(err error) error {
	var own *errs.Error
	if errors.As(err, &own) {
		return own
	}
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			return &errs.Error{
				Kind: errs.Unauthenticated, Message: "the token is not taken: " + r.text, Err: &tenancy.Distrust{Expired: errors.Is(err, jwt.ErrTokenExpired)},
			}
		}
	}
	return refused("its signature does not fit")
}
