package tenancy

import (
	"crypto/subtle"

	"github.com/croftdb/croft/internal/errs"
)

// MinAdminKey is the least length of a key given by CROFT_ADMIN_KEY, in bytes: such a key may be any text, so its
// length is all that can be checked.
const MinAdminKey = 16

// Authenticator turns the text of a key into the principal that it stands for. It keeps no state: a key revoked in
// Source is refused by the next call. Both fields may be unset, and then nobody gets in.
type Authenticator struct {
	Source KeySource
	Admin  *[32]byte // HashKey of the operator's own key (CROFT_ADMIN_KEY)
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
// part was wrong. Ids are public, so looking one up may take its own time; hashes are compared in constant time.
func (a *Authenticator) Authenticate(text string) (Principal, error) {
	if text == "" {
		return Principal{}, errs.New(errs.Unauthenticated, "no API key was sent").
			WithHint("send it in the header Api-Key, or as Authorization: Bearer <key>")
	}
	hash := HashKey(text)
	if a.Admin != nil && subtle.ConstantTimeCompare(hash[:], a.Admin[:]) == 1 {
		return Principal{Role: RoleAdmin}, nil
	}
	if k, ok := a.stored(text); ok && subtle.ConstantTimeCompare(hash[:], k.Hash[:]) == 1 {
		return Principal{KeyID: k.ID, Role: k.Role}, nil
	}
	return Principal{}, errs.New(errs.Unauthenticated, "Invalid API key.").
		WithHint("keys begin with croft_; the first one is printed when a data directory is made")
}

func (a *Authenticator) stored(text string) (Key, bool) {
	if a.Source == nil {
		return Key{}, false
	}
	id, err := ParseKey(text)
	if err != nil {
		return Key{}, false
	}
	return a.Source.Key(id)
}
