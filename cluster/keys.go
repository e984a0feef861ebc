package cluster

import (
	"cmp"
	"context"
	"slices"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

var _ tenancy.KeySource = (*Node)(nil)

const (
	maxKeyName    = 128     // bytes
	maxTenantKeys = 1000    // of one tenant, and of none
	maxKeys       = 1 << 20 // in all
)

// AddKey stores an API key's hash; k.Tenant names its tenant. AlreadyExists if its id is taken, NotFound if there is no such
// tenant, QuotaExceeded if there are too many.
func (n *Node) AddKey(ctx context.Context, k tenancy.Key) error {
	if err := n.settleKey(ctx, &k); err != nil {
		return err
	}
	_, err := n.changeMeta(ctx, &metaCommand{op: metaAddKey, key: k})
	return err
}

// settleKey checks a key and finds its tenant.
func (n *Node) settleKey(ctx context.Context, k *tenancy.Key) error {
	switch {
	case k.ID == "":
		return errs.New(errs.Invalid, "an API key needs an id")
	case len(k.Name) > maxKeyName:
		return errs.New(errs.Invalid, "the name of an API key has %d bytes, at most %d are taken", len(k.Name), maxKeyName)
	}
	if err := tenancy.CheckBinding(k.Role, k.Tenant); err != nil {
		return err
	}
	if k.Tenant != "" {
		if _, err := n.DescribeTenant(ctx, k.Tenant); err != nil { // which looks in newer metadata, too
			return err
		}
		t, ok := n.meta.state().tenant(k.Tenant)
		if !ok {
			return errs.New(errs.NotFound, "tenant %q is gone", k.Tenant)
		}
		k.TenantID, k.Tenant = tenancy.ID(t.id), ""
	}
	held, same := 0, 0
	for other := range n.meta.state().keys.all() {
		held++
		if other.TenantID == k.TenantID {
			same++
		}
	}
	if held >= maxKeys || same >= maxTenantKeys {
		return errs.New(errs.QuotaExceeded, "there are %d API keys of this tenant and %d in all, at most %d and %d are kept", same, held, maxTenantKeys, maxKeys).
			WithHint("revoke those that are not used: croft keys list")
	}
	return nil
}

// RevokeKey forgets an API key, on this node at once and on the others with the next message of the metadata plane. NotFound if
// there is none.
func (n *Node) RevokeKey(ctx context.Context, id string) error {
	_, err := n.changeMeta(ctx, &metaCommand{op: metaRevokeKey, key: tenancy.Key{ID: id}})
	return err
}

// Key returns a stored key by its public id, from memory; it makes Node a tenancy.KeySource.
func (n *Node) Key(id string) (tenancy.Key, bool) { return n.meta.state().key(id) }

// KeyCount counts the stored keys.
func (n *Node) KeyCount() int { return n.meta.state().keys.n }

// KeyQuery says which keys are asked for.
type KeyQuery struct {
	Tenant string // whose keys; with All, of everybody
	All    bool
	After  string // id that the page goes on behind
	Limit  int
}

// Keys returns stored keys in order of id, without their hashes; total counts those of all pages. They are those that this
// node knows of.
func (n *Node) Keys(q KeyQuery) (page []tenancy.Key, more bool, total int) {
	s := n.meta.state()
	var found []tenancy.Key
	for k := range s.keys.all() {
		if k.Bound() {
			var live bool
			if k.Tenant, live = s.tenantName(engine.TenantID(k.TenantID)); !live {
				continue
			}
		}
		if !q.All && k.Tenant != q.Tenant {
			continue
		}
		total++
		if k.ID > q.After {
			k.Hash = [32]byte{}
			found = append(found, k)
		}
	}
	slices.SortFunc(found, func(a, b tenancy.Key) int { return cmp.Compare(a.ID, b.ID) })
	more = len(found) > q.Limit
	return found[:min(len(found), q.Limit)], more, total
}
