package cluster

import (
	"context"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

var _ tenancy.KeySource = (*Node)(nil)

// AddKey stores an API key's hash. AlreadyExists if its id is taken.
func (n *Node) AddKey(ctx context.Context, k tenancy.Key) error {
	if k.ID == "" {
		return errs.New(errs.Invalid, "an API key needs an id")
	}
	_, err := n.changeMeta(ctx, &metaCommand{op: metaAddKey, key: k})
	return err
}

// Key returns a stored key by its public id, from memory; it makes Node a tenancy.KeySource.
func (n *Node) Key(id string) (tenancy.Key, bool) { return n.meta.state().key(id) }

// Keys counts the stored keys.
func (n *Node) Keys() int { return n.meta.state().keys.n }
