package cluster

import (
	"context"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// checkNamespace reports whether name may be a tenant's.
func checkNamespace(name string) error {
	return errs.Wrap(errs.Invalid, tenancy.CheckName(name), "namespace name")
}

// route is where a namespace of an index lives.
type route struct {
	shard uint16
	key   engine.Key // Tenant is zero where the whole shard is meant
	turn  int        // attempts that have failed, since somebody last knew who leads
}

// route finds the home of a namespace, from memory and without allocation; false if there is no tenant of that name.
func (n *Node) route(ix *Index, namespace string) (route, bool) {
	s := n.meta.state()
	t, ok := s.tenant(namespace)
	if !ok {
		return route{}, false
	}
	return route{shard: s.home(t), key: engine.Key{Tenant: t.id, Index: ix.ID}}, true
}

// reroute looks again where a tenant lives.
func (n *Node) reroute(r *route) {
	s := n.meta.state()
	if t, ok := s.tenantByID(r.key.Tenant); ok {
		r.shard = s.home(t)
	}
}

// read returns the home of a namespace for a read; false if there is nothing to read. A tenant may have been made through
// another node a moment ago, so a name that is not known is looked up in newer metadata. At level Any it is so only until this
// node has caught up once since its start: what it knew before may be any age.
func (n *Node) read(ctx context.Context, ix *Index, namespace string) (route, bool, error) {
	if r, ok := n.route(ix, namespace); ok {
		return r, true, nil
	}
	newer := n.Refresh
	if ReadingOf(ctx).level() == Any {
		newer = n.CatchUp
	}
	if err := newer(ctx); err != nil {
		return route{}, false, err
	}
	r, ok := n.route(ix, namespace)
	return r, ok, nil
}

// existing is read for what needs the namespace to be there. ok is false for the default one without a tenant, which
// exists all the same; any other is NotFound.
func (n *Node) existing(ctx context.Context, ix *Index, namespace string) (r route, ok bool, err error) {
	r, ok, err = n.read(ctx, ix, namespace)
	if err == nil && !ok && namespace != DefaultNamespace {
		err = (&labels{ix.Name, namespace}).notFound()
	}
	return r, ok, err
}

type onlyKnownKey struct{}

// OnlyKnownTenants has a context's writes make no tenant: a write to one that is not there is NotFound.
func OnlyKnownTenants(ctx context.Context) context.Context {
	return context.WithValue(ctx, onlyKnownKey{}, true)
}

// create returns the home of a namespace and makes its tenant if there is none, unless OnlyKnownTenants forbids it.
func (n *Node) create(ctx context.Context, ix *Index, namespace string) (route, error) {
	if r, ok := n.route(ix, namespace); ok {
		return r, nil
	}
	if err := checkNamespace(namespace); err != nil {
		return route{}, err
	}
	if ctx.Value(onlyKnownKey{}) != nil || !n.CreatesOnWrite() {
		return n.known(ctx, ix, namespace)
	}
	if err := n.disk.check(); err != nil {
		return route{}, err
	}
	t, err := n.meta.tenant(ctx, namespace)
	if err != nil {
		return route{}, err
	}
	return route{shard: n.meta.state().home(t), key: engine.Key{Tenant: t.id, Index: ix.ID}}, nil
}

// known is create where the tenant must be there.
func (n *Node) known(ctx context.Context, ix *Index, namespace string) (route, error) {
	r, ok, err := n.read(ctx, ix, namespace)
	if err == nil && !ok {
		err = errs.New(errs.NotFound, "there is no tenant %q, and this write may not make one", namespace).
			WithHint("have an operator make it: croft tenants create")
	}
	return r, err
}

// changeMeta is proposeMeta that waits for the metadata plane to have a leader.
func (n *Node) changeMeta(ctx context.Context, c *metaCommand) (res metaResult, err error) {
	err = n.patiently(ctx, func() error {
		res, err = n.proposeMeta(ctx, c)
		return err
	})
	return res, err
}
