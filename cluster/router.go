package cluster

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

// maxNamespace is the longest name of a tenant in bytes.
const maxNamespace = 512

// checkNamespace reports whether name may be a tenant's.
func checkNamespace(name string) error {
	switch {
	case name == "" || len(name) > maxNamespace:
		return errs.New(errs.Invalid, "a namespace name has 1 to %d bytes, got %d", maxNamespace, len(name))
	case !utf8.ValidString(name):
		return errs.New(errs.Invalid, "namespace name %q is not valid UTF-8", name)
	case strings.IndexByte(name, 0) >= 0:
		return errs.New(errs.Invalid, "namespace name %q contains a NUL byte", name)
	}
	return nil
}

// route is where a namespace of an index lives.
type route struct {
	shard *shard
	key   engine.Key
}

// route finds the home of a namespace, from memory and without allocation; false if there is no tenant of that name.
func (n *Node) route(ix *Index, namespace string) (route, bool) {
	s := n.meta.state()
	t, ok := s.tenant(namespace)
	if !ok {
		return route{}, false
	}
	return route{n.replica(s.home(t)), engine.Key{Tenant: t.id, Index: ix.ID}}, true
}

// read returns the home of a namespace for a read; false if there is nothing to read.
func (n *Node) read(ix *Index, namespace string) (route, bool, error) {
	r, ok := n.route(ix, namespace)
	if !ok {
		return route{}, false, nil
	}
	return r, true, r.shard.readable(n.ctx)
}

// existing returns the home of a namespace that has a partition. ok is false for the default namespace without one,
// which exists all the same; any other is NotFound.
func (n *Node) existing(ix *Index, namespace string) (r route, ok bool, err error) {
	r, ok, err = n.read(ix, namespace)
	if err != nil {
		return r, false, err
	}
	if ok {
		_, ok = r.shard.engine.Partition(r.key)
	}
	if !ok && namespace != DefaultNamespace {
		return r, false, errs.New(errs.NotFound, "namespace %q does not exist in index %q", namespace, ix.Name)
	}
	return r, ok, nil
}

// create returns the home of a namespace and makes its tenant if there is none.
func (n *Node) create(ctx context.Context, ix *Index, namespace string) (route, error) {
	if r, ok := n.route(ix, namespace); ok {
		return r, nil
	}
	if err := checkNamespace(namespace); err != nil {
		return route{}, err
	}
	if err := n.disk.check(); err != nil {
		return route{}, err
	}
	t, err := n.meta.tenant(ctx, namespace)
	if err != nil {
		return route{}, err
	}
	return route{n.replica(n.meta.state().home(t)), engine.Key{Tenant: t.id, Index: ix.ID}}, nil
}
