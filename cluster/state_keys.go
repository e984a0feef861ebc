package cluster

import (
	"cmp"
	"slices"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// key finds an API key by its public id. That of a tenant is there only while the tenant is: whoever has its name later is
// another.
func (s *state) key(id string) (tenancy.Key, bool) {
	k, ok := s.keys.get(codec.HashString(id), func(k tenancy.Key) bool { return k.ID == id })
	if ok && k.Bound() {
		k.Tenant, ok = s.tenantName(engine.TenantID(k.TenantID))
	}
	return k, ok
}

// tenantName is the name of a tenant that is not deleted.
func (s *state) tenantName(id engine.TenantID) (string, bool) {
	t, ok := s.tenantByID(id)
	if !ok || t.life != tenantLive {
		return "", false
	}
	return t.name, true
}

// keysByID returns all keys in order of id, for snapshots; those of deleted tenants too.
func (s *state) keysByID() []tenancy.Key {
	all := slices.AppendSeq(make([]tenancy.Key, 0, s.keys.n), s.keys.all())
	slices.SortFunc(all, func(a, b tenancy.Key) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// The methods below change a copy that is not yet published.

func (s *state) putKey(k tenancy.Key) {
	s.keys = s.keys.put(codec.HashString(k.ID), k, func(o tenancy.Key) bool { return o.ID == k.ID })
}

func (s *state) addKey(k tenancy.Key) error {
	if _, taken := s.keys.get(codec.HashString(k.ID), func(o tenancy.Key) bool { return o.ID == k.ID }); taken {
		return errs.New(errs.AlreadyExists, "API key %q already exists", k.ID)
	}
	if _, ok := s.tenantName(engine.TenantID(k.TenantID)); k.Bound() && !ok {
		return errs.New(errs.NotFound, "the tenant of the key is gone")
	}
	s.putKey(k)
	return nil
}

// revokeKey forgets a key. One that is not there is NotFound, so that a typing error is told.
func (s *state) revokeKey(id string) error {
	before := s.keys.n
	s.keys = s.keys.remove(codec.HashString(id), func(o tenancy.Key) bool { return o.ID == id })
	if s.keys.n == before {
		return errNoKey(id)
	}
	return nil
}

// dropKeysOf forgets the keys of a tenant that is gone for good.
func (s *state) dropKeysOf(id engine.TenantID) {
	for _, k := range s.keysByID() {
		if k.Bound() && engine.TenantID(k.TenantID) == id {
			s.keys = s.keys.remove(codec.HashString(k.ID), func(o tenancy.Key) bool { return o.ID == k.ID })
		}
	}
}

func errNoKey(id string) error {
	return errs.New(errs.NotFound, "there is no API key %q", id).WithHint("`croft keys list` shows those that are there")
}

func appendKey(b []byte, k tenancy.Key) []byte {
	b = codec.AppendString(b, k.ID)
	b = append(b, k.Hash[:]...)
	b = codec.AppendString(b, k.Name)
	b = codec.AppendString(b, string(k.Role))
	b = appendTime(b, k.CreatedAt)
	b = append(b, k.TenantID[:]...)
	var expires int64
	if !k.Expires.IsZero() {
		expires = k.Expires.UnixNano()
	}
	return codec.AppendUint64(b, uint64(expires))
}

// readKey reads a key as it is written since version 6 of snapshots and commands, or before.
func readKey(r *codec.Reader, version int) tenancy.Key {
	k := tenancy.Key{ID: r.String()}
	copy(k.Hash[:], r.Raw(len(k.Hash)))
	k.Name = r.String()
	k.Role = tenancy.Role(r.String())
	k.CreatedAt = readTime(r)
	if version < 6 {
		return k
	}
	copy(k.TenantID[:], r.Raw(len(k.TenantID)))
	if expires := int64(r.Uint64()); expires != 0 {
		k.Expires = time.Unix(0, expires).UTC()
	}
	return k
}
