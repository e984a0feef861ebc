package api

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// tokenKey authenticates pagination tokens.
type tokenKey [sha256.Size]byte

// newTokenKey derives the key from a secret if there is one, else from what every node of a cluster knows. Tokens
// then outlive a restart, and end when the operator's key changes.
func newTokenKey(secret []byte, clusterID string, admin *[32]byte) tokenKey {
	b := codec.AppendString([]byte("croft page token 1"), clusterID)
	if admin != nil {
		b = codec.AppendBytes(b, admin[:])
	}
	return sha256.Sum256(codec.AppendBytes(b, secret))
}

// listing is what a token is good for: one call on one namespace with one prefix or filter, by those who see the same.
type listing struct {
	op        string
	index     engine.IndexID
	namespace string
	bound     string // prefix, or the filter in its canonical form
	reach     string // of the principal: its tenant, empty for all
}

// listing is what a token that is given out by this call is good for.
func (c *call) listing(namespace, bound string) listing {
	return listing{op: c.op, index: c.ix.ID, namespace: namespace, bound: bound, reach: c.principal.Tenant}
}

const (
	tokenVersion = 1
	tokenTagLen  = 16
	maxToken     = 2048
)

// seal makes the token that continues a listing after an id or name.
func (k *tokenKey) seal(l listing, after string) string {
	b := append([]byte{tokenVersion}, after...)
	return base64.RawURLEncoding.EncodeToString(append(b, k.tag(l, after)...))
}

// open returns where a listing goes on. An empty token is its beginning.
func (k *tokenKey) open(l listing, token string) (after string, err error) {
	if token == "" {
		return "", nil
	}
	if len(token) > maxToken {
		return "", errBadToken()
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) < 1+tokenTagLen || b[0] != tokenVersion {
		return "", errBadToken()
	}
	after = string(b[1 : len(b)-tokenTagLen])
	if !hmac.Equal(b[len(b)-tokenTagLen:], k.tag(l, after)) {
		return "", errBadToken()
	}
	return after, nil
}

func errBadToken() error {
	return errs.New(errs.Invalid, "paginationToken: not one that this call has returned").
		WithHint("send back pagination.next with the same index, namespace, prefix and filter, or leave it out to start over")
}

// tag authenticates everything, each part with its length, so that no two listings share one.
func (k *tokenKey) tag(l listing, after string) []byte {
	b := codec.AppendString([]byte{tokenVersion}, l.op)
	b = codec.AppendUint64(b, uint64(l.index))
	b = codec.AppendString(b, l.namespace)
	b = codec.AppendString(b, l.bound)
	b = codec.AppendString(b, l.reach)
	b = codec.AppendString(b, after)
	mac := hmac.New(sha256.New, k[:])
	mac.Write(b)
	return mac.Sum(nil)[:tokenTagLen]
}
