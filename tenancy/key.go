package tenancy

import (
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"time"

	"github.com/croftdb/croft/internal/errs"
)

// Key is an API key as it is stored: a public id and a hash of the secret, never the secret.
type Key struct {
	ID        string // public part, found in the key's text
	Hash      [32]byte
	Name      string // what people call it
	Role      Role
	CreatedAt time.Time
	Expires   time.Time // zero: never
	TenantID  ID        // whose key it is; zero: of no tenant, it reaches all
	Tenant    string    // that tenant's name, which the KeySource fills in and nobody stores
}

// Bound reports whether the key is a tenant's.
func (k *Key) Bound() bool { return k.TenantID != ID{} }

// KeySource finds stored keys; the metadata plane is one. The key of a tenant that is gone is gone with it.
type KeySource interface {
	Key(id string) (Key, bool)
}

// The text of a key is croft_<id>_<secret>. 43 base62 digits hold 256 bits; 12 hold 71, so that two random ids do
// not meet.
const (
	keyPrefix    = "croft_"
	keyIDLen     = 12
	keySecretLen = 43
	keyLen       = len(keyPrefix) + keyIDLen + 1 + keySecretLen
	base62       = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// NewKey makes a key of 256 random bits. The text is the only copy of the secret: show it once.
func NewKey(name string, role Role, now time.Time) (text string, key Key) {
	id := randomText(keyIDLen)
	text = keyPrefix + id + "_" + randomText(keySecretLen)
	return text, Key{ID: id, Hash: HashKey(text), Name: name, Role: role, CreatedAt: now}
}

// HashKey is what is stored of a key: the SHA-256 of its whole text. A plain hash is enough, since the text holds
// more chance than can be guessed.
func HashKey(text string) [32]byte { return sha256.Sum256([]byte(text)) }

// ParseKey returns the public id in a key's text. Texts of another form are Invalid; the message never repeats them.
func ParseKey(text string) (id string, err error) {
	rest, ok := strings.CutPrefix(text, keyPrefix)
	if !ok || len(text) != keyLen || rest[keyIDLen] != '_' ||
		!isBase62(rest[:keyIDLen]) || !isBase62(rest[keyIDLen+1:]) {
		return "", errs.New(errs.Invalid, "not an API key: want croft_<%d letters or digits>_<%d letters or digits>",
			keyIDLen, keySecretLen)
	}
	return rest[:keyIDLen], nil
}

func isBase62(s string) bool {
	for i := range len(s) {
		if c := s[i]; c-'0' > 9 && c|0x20-'a' > 'z'-'a' {
			return false
		}
	}
	return true
}

// randomText returns n uniform base62 digits. Bytes of 248 and more are thrown away, since 256 is no multiple of 62.
func randomText(n int) string {
	out := make([]byte, 0, n)
	var buf [64]byte
	for {
		rand.Read(buf[:]) // never fails: see crypto/rand
		for _, c := range buf {
			if c >= 4*62 {
				continue
			}
			if out = append(out, base62[c%62]); len(out) == n {
				return string(out)
			}
		}
	}
}
