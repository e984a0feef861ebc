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
			got, err := a.Authenticate(c.text, time.Time{})
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
	_, wrongSecret := a.Authenticate(text[:keyLen-1]+"!", time.Time{})
	_, wrongID := a.Authenticate(unknown, time.Time{})
	_, garbage := a.Authenticate("x", time.Time{})
	require.Equal(t, wrongSecret.Error(), wrongID.Error())
	require.Equal(t, garbage.Error(), wrongID.Error())
}

func TestEmptyAuthenticatorLetsNobodyIn(t *testing.T) {
	text, _ := NewKey("", RoleAdmin, time.Time{})
	for _, s := range []string{"", text, "\x00", strings.Repeat("0", 64)} {
		_, err := new(Authenticator).Authenticate(s, time.Time{})
		require.True(t, errs.Is(err, errs.Unauthenticated))
	}
}

func TestRevokedKeyIsRefusedAtOnce(t *testing.T) {
	text, key := NewKey("", RoleAdmin, time.Time{})
	src := keys{key.ID: key}
	a := &Authenticator{Source: src}
	_, err := a.Authenticate(text, time.Time{})
	require.NoError(t, err)
	delete(src, key.ID)
	_, err = a.Authenticate(text, time.Time{})
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
		if _, err := a.Authenticate(string(b), time.Time{}); err == nil {
			t.Fatalf("accepted a key with byte %d changed", i)
		}
	})
}

func TestRoles(t *testing.T) {
	for _, p := range Permissions() {
		require.True(t, RoleAdmin.May(p), "admin: %s", p)
		require.Equal(t, p == Open, Role("").May(p), "no role: %s", p)
		require.Equal(t, p == Open, Role("later").May(p), "unknown role: %s", p)
		require.False(t, RoleReader.May(p) && !RoleWriter.May(p), "reader over writer: %s", p)
		require.False(t, RoleWriter.May(p) && !RoleTenantAdmin.May(p), "writer over tenant-admin: %s", p)
		require.NotEmpty(t, p.String())
	}
	require.Equal(t, "unknown permission", permissionCount.String())
}

func TestExpiredKey(t *testing.T) {
	text, key := NewKey("", RoleReader, time.Unix(100, 0))
	key.Expires = time.Unix(200, 0)
	a := &Authenticator{Source: keys{key.ID: key}}
	_, err := a.Authenticate(text, time.Unix(199, 0))
	require.NoError(t, err)
	_, err = a.Authenticate(text, time.Unix(200, 0))
	require.True(t, errs.Is(err, errs.Unauthenticated))
	require.ErrorContains(t, err, "expired")
	other, _ := NewKey("", RoleReader, time.Time{})
	_, err = a.Authenticate(text[:len(keyPrefix)+keyIDLen]+other[len(keyPrefix)+keyIDLen:], time.Unix(200, 0))
	require.NotContains(t, err.Error(), "expired", "who has not the secret learns nothing")
}

// TestKeyWithoutItsTenant: a tenant's key must not become one for all where the tenant's name is not known.
func TestKeyWithoutItsTenant(t *testing.T) {
	text, key := NewKey("", RoleWriter, time.Time{})
	key.TenantID = ID{1}
	for tenant, ok := range map[string]bool{"": false, "acme": true} {
		key.Tenant = tenant
		p, err := (&Authenticator{Source: keys{key.ID: key}}).Authenticate(text, time.Time{})
		require.Equal(t, ok, err == nil)
		require.Equal(t, tenant, p.Tenant)
	}
	key.TenantID, key.Tenant = ID{}, "acme"
	_, err := (&Authenticator{Source: keys{key.ID: key}}).Authenticate(text, time.Time{})
	require.Error(t, err)
}

func TestBinding(t *testing.T) {
	for _, c := range []struct {
		role      Role
		free, own bool
	}{
		{RoleAdmin, true, false}, {RoleOperator, true, false}, {RoleTenantAdmin, false, true}, {RoleWriter, true, true}, {RoleReader, true, true}, {"later", false, false}, {"", false, false},
	} {
		require.Equal(t, c.free, CheckBinding(c.role, "") == nil, "%s without tenant", c.role)
		require.Equal(t, c.own, CheckBinding(c.role, "acme") == nil, "%s of a tenant", c.role)
	}
}

// TestGrants: whatever somebody may grant has no right and no reach that he has not, but for an operator, who may open a
// tenant's records to its keys' holders and is audited for it.
func TestGrants(t *testing.T) {
	tenants := []string{"", "acme", "other"}
	for _, by := range Roles() {
		for _, own := range tenants {
			if CheckBinding(by, own) != nil {
				continue
			}
			p := Principal{Role: by, Tenant: own}
			for _, role := range Roles() {
				for _, tenant := range tenants {
					if CheckBinding(role, tenant) != nil || !p.MayGrant(role, tenant) {
						continue
					}
					require.True(t, p.Reaches(tenant), "%s of %q grants %q", by, own, tenant)
					require.True(t, by == RoleAdmin || tenant != "", "%s grants %s over all", by, role)
					for _, right := range Permissions() {
						if role.May(right) && by != RoleOperator {
							require.True(t, by.May(right), "%s grants %s", by, right)
						}
					}
				}
			}
			require.Equal(t, by == RoleAdmin, p.MayGrant(RoleAdmin, ""))
			require.Equal(t, by == RoleAdmin || by == RoleOperator || by == RoleTenantAdmin && own == "acme", p.MayGrant(RoleWriter, "acme"))
		}
	}
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
		if _, err := a.Authenticate(text, time.Time{}); err != nil {
			b.Fatal(err)
		}
	}
}
