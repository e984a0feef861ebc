package main

import (
	"log/slog"
	"time"

	"github.com/spf13/pflag"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
	"github.com/croftdb/croft/tenancy"
	"github.com/croftdb/croft/tenancy/token"
)

// tokenConfig says which signed tokens are taken; none unless there is a file, a URL or a secret.
type tokenConfig struct {
	file   string
	url    string
	secret string // never a flag
	token.Options
}

func (c *tokenConfig) addFlags(f *pflag.FlagSet) {
	f.StringVar(&c.file, "jwt-keys", "", "file of the keys that JWTs are signed with: a JSON web key set, or PEM")
	f.StringVar(&c.url, "jwt-jwks-url", "", "URL of such a key set: https, or http on loopback")
	f.StringVar(&c.Issuer, "jwt-issuer", "", "issuer (iss) of JWTs that are taken (required with JWTs)")
	f.StringVar(&c.Audience, "jwt-audience", "", "audience (aud) that they must be for (required with JWTs)")
	f.DurationVar(&c.Leeway, "jwt-leeway", 30*time.Second, "how far the issuer's clock may be off")
	f.StringVar(&c.TenantClaim, "jwt-tenant-claim", "tenant", "claim that names the tenant; a.b is b in a")
	f.StringVar(&c.RoleClaim, "jwt-role-claim", "role", "claim with the role, or a list with roles among others")
	f.BoolVar(&c.Operators, "jwt-operators", false, "take JWTs of the roles admin and operator too")
}

// wanted reports whether tokens are taken at all.
func (c *tokenConfig) wanted() bool { return c.file != "" || c.url != "" || c.secret != "" }

func (c *tokenConfig) validate(add func(format string, args ...any)) {
	if c.file != "" && c.url != "" {
		add("--jwt-keys and --jwt-jwks-url are both given: keys come from one of them")
	}
	if !c.wanted() && (c.Issuer != "" || c.Audience != "") {
		add("--jwt-issuer and --jwt-audience need keys: --jwt-keys, --jwt-jwks-url or CROFT_JWT_SECRET")
	}
	if c.wanted() && (c.Issuer == "" || c.Audience == "") {
		add("JWTs need --jwt-issuer and --jwt-audience, else those for other services would do")
	}
}

// openTokens has auth take tokens, if they are wanted.
func (f *floors) openTokens(c tokenConfig, log *slog.Logger, auth *tenancy.Authenticator) error {
	if !c.wanted() {
		return nil
	}
	var o token.KeysOptions
	if c.secret != "" {
		o.Secret = []byte(c.secret)
	}
	var err error
	switch {
	case c.file != "":
		o.Source = token.FromFile(vfs.OS(), c.file)
	case c.url != "":
		if o.Source, err = token.FromURL(c.url); err != nil {
			return err
		}
	}
	keys, err := token.OpenKeys(o, log, time.Now())
	if err != nil {
		return errs.Wrap(errs.Invalid, err, "keys of JWTs")
	}
	f.add(keys.Close)
	verifier, err := token.New(keys, c.Options)
	if err != nil {
		return err
	}
	auth.Tokens = verifier
	return nil
}
