package tenancy

import (
	"crypto/subtle"
	"time"

	"github.com/croftdb/croft/internal/errs"
)

// MinAdminKey is the least length of a key given by CROFT_ADMIN_KEY, in bytes: such a key may be any text, so its
// length is all that can be checked.
const MinAdminKey = 16

// Authenticator turns the text of a key or token into the principal that it stands for. It keeps no state: a key revoked in
// Source is refused by the next call. All fields may be unset, and then nobody gets in.
type Authenticator struct {
	Source KeySource
	Admin  *[32]byte     // HashKey of the operator's own key (CROFT_ADMIN_KEY)
	Tokens TokenVerifier // of JWTs; nil: none are taken
	Uses   KeyWatcher    // of stored keys; nil: nobody
}

// KeyWatcher is told which stored keys are used.
type KeyWatcher interface {
	// KeyUsed is called for each request with a key that is good, so it must be quick.
	KeyUsed(id string, at time.Time)
}

// TokenVerifier checks signed tokens.
type TokenVerifier interface {
	// Verify returns whom a token stands for. Unauthenticated: it is not valid, now; Unavailable: nobody can tell.
	Verify(token string, now time.Time) (Principal, error)
}

// AdminHash checks the text of CROFT_ADMIN_KEY and returns its hash for Authenticator.Admin.
func AdminHash(text string) (*[32]byte, error) {
	if len(text) < MinAdminKey {
		return nil, errs.New(errs.Invalid, "CROFT_ADMIN_KEY has %d bytes, at least %d are needed",
			len(text), MinAdminKey).WithHint("make one with: openssl rand -hex 32")
	}
	h := HashKey(text)
	return &h, nil
}

// Authenticate returns the principal of a key's text, or an Unauthenticated error that says nothing about which
// part was wrong. Ids are public, so looking one up may take its own time; hashes are compared in constant time. Only who
// has the secret is told that a key has expired.
func (a *Authenticator) Authenticate(text string, now time.Time) (Principal, error) {
	if text == "" {
		return Principal{}, errs.New(errs.Unauthenticated, "no API key was sent").
			WithHint("send it in the header Api-Key, or as Authorization: Bearer <key>")
	}
	hash := HashKey(text)
	if a.Admin != nil && subtle.ConstantTimeCompare(hash[:], a.Admin[:]) == 1 {
		return Principal{Role: RoleAdmin}, nil
	}
	if a.Tokens != nil && LooksLikeToken(text) {
		return a.Tokens.Verify(text, now)
	}
	k, ok := a.stored(text)
	if !ok || subtle.ConstantTimeCompare(hash[:], k.Hash[:]) != 1 {
		err := errs.New(errs.Unauthenticated, "Invalid API key.").
			WithHint("keys begin with croft_; the first one is printed when a data directory is made")
		err.Err = &Distrust{Tenant: k.TenantID}
		return Principal{}, err
	}
	if !k.Expires.IsZero() && !now.Before(k.Expires) {
		err := errs.New(errs.Unauthenticated, "this API key has expired at %s", k.Expires.UTC().Format(time.RFC3339)).
			WithHint("make another one: croft keys create")
		err.Err = &Distrust{Tenant: k.TenantID, Expired: true}
		return Principal{}, err
	}
	if a.Uses != nil {
		a.Uses.KeyUsed(k.ID, now)
	}
	return Principal{KeyID: k.ID, Role: k.Role, Tenant: k.Tenant, TenantID: k.TenantID}, nil
}

// stored finds the key that a text names. One that is a tenant's and does not say whose is refused: it would reach all.
func (a *Authenticator) stored(text string) (Key, bool) {
	if a.Source == nil {
		return Key{}, false
	}
	id, err := ParseKey(text)
	if err != nil {
		return Key{}, false
	}
	k, ok := a.Source.Key(id)
	return k, ok && k.Bound() == (k.Tenant != "")
}

// LooksLikeToken reports whether a text is of the form of a JWT: three parts, the first a JSON object in base64.
func LooksLikeToken(text string) bool {
	dots := 0
	for i := range len(text) {
		if text[i] == '.' {
			dots++
		}
	}
	return dots == 2 && len(text) > 2 && text[:2] == "ey"
}
