package tenancy

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/internal/errs"
)

type keys map[string]Key

func (k keys) Key(id string) (Key, bool) { key, ok := k[id]; return key, ok }

func TestNewKey(t *testing.T) {
	now := time.Unix(1700000000, 0)
	text, key := NewKey("ci", RoleAdmin, now)
	require.Len(t, text, keyLen)
	id, err := ParseKey(text)
	require.NoError(t, err)
	require.Equal(t, Key{ID: id, Hash: HashKey(text), Name: "ci", Role: RoleAdmin, CreatedAt: now}, key)

	seen := map[string]bool{}
	digits := map[byte]bool{}
	for range 1000 {
		text, key := NewKey("", RoleAdmin, now)
		require.False(t, seen[text] || seen[key.ID], "repeated")
		seen[text], seen[key.ID] = true, true
		for i := len(text) - keySecretLen; i < len(text); i++ {
			digits[text[i]] = true
		}
	}
	require.Len(t, digits, 62, "every digit occurs")
}

func TestParseKeyRefuses(t *testing.T) {
	good, _ := NewKey("", RoleAdmin, time.Time{})
	for name, text := range map[string]string{
		"empty":         "",
		"prefix only":   keyPrefix,
		"short":         good[:len(good)-1],
		"long":          good + "x",
		"other prefix":  "Croft_" + good[len(keyPrefix):],
		"no separator":  strings.Replace(good, good[18:19], "x", 1)[:18] + "x" + good[19:],
		"sign in id":    keyPrefix + "-" + good[len(keyPrefix)+1:],
		"sign at end":   good[:len(good)-1] + "_",
		"not ascii":     good[:len(good)-2] + "é",
		"NUL in secret": good[:len(good)-1] + "\x00",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseKey(text)
			require.True(t, errs.Is(err, errs.Invalid), "%v", err)
			if len(text) > 20 {
				require.NotContains(t, err.Error(), text)
			}
		})
	}
}

func TestAuthenticate(t *testing.T) {
	text, key := NewKey("ci", RoleAdmin, time.Time{})
	other, _ := NewKey("other", RoleAdmin, time.Time{})
	viewer, viewerKey := NewKey("later role", "viewer", time.Time{})
	admin, err := AdminHash("correct horse battery")
	require.NoError(t, err)
	a := &Authenticator{Source: keys{key.ID: key, viewerKey.ID: viewerKey}, Admin: admin}

	for name, c := range map[string]struct {
		text string
		want Principal
		ok   bool
	}{
		"stored key":             {text, Principal{KeyID: key.ID, Role: RoleAdmin}, true},
		"role is the key's":      {viewer, Principal{KeyID: viewerKey.ID, Role: "viewer"}, true},
		"operator's key":         {"correct horse battery", Principal{Role: RoleAdmin}, true},
		"operator's, cut":        {"correct horse batter", Principal{}, false},
		"operator's, more":       {"correct horse battery ", Principal{}, false},
		"unknown id":             {other, Principal{}, false},
		"known id, other secret": {text[:len(keyPrefix)+keyIDLen] + other[len(keyPrefix)+keyIDLen:], Principal{}, false},
		"none":                   {"", Principal{}, false},
		"the hash itself":        {string(key.Hash[:]), Principal{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := a.Authenticate(c.text)
			require.Equal(t, c.want, got)
			require.Equal(t, c.ok, err == nil)
			if err != nil {
				require.True(t, errs.Is(err, errs.Unauthenticated))
			}
		})
	}
}

func TestAuthenticateSaysNothing(t *testing.T) {
	text, key := NewKey("", RoleAdmin, time.Time{})
	unknown, _ := NewKey("", RoleAdmin, time.Time{})
	a := &Authenticator{Source: keys{key.ID: key}}
	_, wrongSecret := a.Authenticate(text[:keyLen-1] + "!")
	_, wrongID := a.Authenticate(unknown)
	_, garbage := a.Authenticate("x")
	require.Equal(t, wrongSecret.Error(), wrongID.Error())
	require.Equal(t, garbage.Error(), wrongID.Error())
}

func TestEmptyAuthenticatorLetsNobodyIn(t *testing.T) {
	text, _ := NewKey("", RoleAdmin, time.Time{})
	for _, s := range []string{"", text, "\x00", strings.Repeat("0", 64)} {
		_, err := new(Authenticator).Authenticate(s)
		require.True(t, errs.Is(err, errs.Unauthenticated))
	}
}

func TestRevokedKeyIsRefusedAtOnce(t *testing.T) {
	text, key := NewKey("", RoleAdmin, time.Time{})
	src := keys{key.ID: key}
	a := &Authenticator{Source: src}
	_, err := a.Authenticate(text)
	require.NoError(t, err)
	delete(src, key.ID)
	_, err = a.Authenticate(text)
	require.True(t, errs.Is(err, errs.Unauthenticated))
}

func TestAdminHashLength(t *testing.T) {
	_, err := AdminHash(strings.Repeat("k", MinAdminKey-1))
	require.True(t, errs.Is(err, errs.Invalid))
	require.NotContains(t, err.Error(), "kkk")
	h, err := AdminHash(strings.Repeat("k", MinAdminKey))
	require.NoError(t, err)
	require.Equal(t, HashKey(strings.Repeat("k", MinAdminKey)), *h)
}

func TestAuthenticateOnlyExactTexts(t *testing.T) {
	text, key := NewKey("", RoleAdmin, time.Time{})
	a := &Authenticator{Source: keys{key.ID: key}}
	rapid.Check(t, func(t *rapid.T) {
		b := []byte(text)
		i := rapid.IntRange(0, len(b)-1).Draw(t, "i")
		b[i] ^= rapid.ByteRange(1, 255).Draw(t, "flip")
		if _, err := a.Authenticate(string(b)); err == nil {
			t.Fatalf("accepted a key with byte %d changed", i)
		}
	})
}

func TestRoles(t *testing.T) {
	for _, p := range Permissions() {
		require.True(t, RoleAdmin.May(p), "admin: %s", p)
		require.Equal(t, p == Open, Role("").May(p), "no role: %s", p)
		require.Equal(t, p == Open, Role("later").May(p), "unknown role: %s", p)
		require.NotEmpty(t, p.String())
	}
	require.Equal(t, "unknown permission", permissionCount.String())
}

func FuzzParseKey(f *testing.F) {
	text, _ := NewKey("", RoleAdmin, time.Time{})
	f.Add(text)
	f.Add("croft__")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseKey(s)
		if err != nil {
			return
		}
		if len(s) != keyLen || !strings.HasPrefix(s, keyPrefix+id+"_") {
			t.Fatalf("accepted %q", s)
		}
	})
}

func BenchmarkAuthenticate(b *testing.B) {
	text, key := NewKey("", RoleAdmin, time.Time{})
	a := &Authenticator{Source: keys{key.ID: key}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Authenticate(text); err != nil {
			b.Fatal(err)
		}
	}
}
