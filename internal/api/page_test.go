package api

import (
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

func drawListing(t *rapid.T, name string) listing {
	return listing{
		op:        rapid.SampledFrom([]string{"list", "lis", "t"}).Draw(t, name+" op"),
		index:     engine.IndexID(rapid.Uint64Range(0, 2).Draw(t, name+" index")),
		namespace: rapid.StringMatching(`[ab]{0,2}`).Draw(t, name+" namespace"),
		bound:     rapid.StringMatching(`[ab]{0,2}`).Draw(t, name+" bound"),
	}
}

func TestTokensAreBoundToTheirListing(t *testing.T) {
	k := newTokenKey(nil, "cluster", &[32]byte{1})
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawListing(t, "a"), drawListing(t, "b")
		after := rapid.String().Draw(t, "after")
		token := k.seal(a, after)
		got, err := k.open(a, token)
		require.NoError(t, err)
		require.Equal(t, after, got)
		_, err = k.open(b, token)
		require.Equal(t, a == b, err == nil, "%v's token opened for %v", a, b)
	})
}

func TestTokensNeedTheKey(t *testing.T) {
	admin := &[32]byte{1}
	l := listing{op: "list"}
	k := newTokenKey(nil, "cluster", admin)
	token := k.seal(l, "x")
	for name, other := range map[string]tokenKey{
		"other cluster": newTokenKey(nil, "cluster2", admin),
		"other key":     newTokenKey(nil, "cluster", &[32]byte{2}),
		"no key":        newTokenKey(nil, "cluster", nil),
		"a secret":      newTokenKey([]byte("s"), "cluster", admin),
	} {
		_, err := other.open(l, token)
		require.True(t, errs.Is(err, errs.Invalid), name)
	}
	same := newTokenKey(nil, "cluster", &[32]byte{1})
	_, err := same.open(l, token)
	require.NoError(t, err)
}

func FuzzToken(f *testing.F) {
	k := newTokenKey([]byte("fuzz"), "cluster", nil)
	l := listing{op: "list", index: 1, namespace: "n", bound: "p"}
	f.Add("")
	f.Add(k.seal(l, "after"))
	f.Add(k.seal(l, ""))
	f.Add("AAAA====")
	f.Fuzz(func(t *testing.T, token string) {
		after, err := k.open(l, token)
		switch {
		case token == "":
			require.NoError(t, err)
		case err != nil:
			require.True(t, errs.Is(err, errs.Invalid))
		default: // only what we have sealed opens, in one spelling
			require.Equal(t, k.seal(l, after), token)
			_, err := base64.RawURLEncoding.DecodeString(token)
			require.NoError(t, err)
		}
	})
}
