package cluster

import (
	"cmp"
	"context"
	"slices"
	"sort"
	"strings"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

// Namespace is one namespace of an index: a tenant with a partition in it.
type Namespace struct {
	Name  string
	Stats engine.PartitionStats
	Shard int
}

// CreateNamespace makes an empty namespace. AlreadyExists if it is there.
func (n *Node) CreateNamespace(ctx context.Context, ix Index, name string) (Namespace, error) {
	if name == DefaultNamespace {
		return Namespace{}, errNamespaceExists(&ix, name)
	}
	r, err := n.create(ctx, &ix, name)
	if err != nil {
		return Namespace{}, err
	}
	r.shard.creating.Lock() // of two who create it at once, one is told that it exists
	defer r.shard.creating.Unlock()
	if err := r.shard.readable(ctx); err != nil {
		return Namespace{}, err
	}
	if _, ok := r.shard.engine.Partition(r.key); ok {
		return Namespace{}, errNamespaceExists(&ix, name)
	}
	if _, err := n.grow(ctx, &ix, r, &engine.Command{Op: engine.OpCreatePartition, Key: r.key}); err != nil {
		return Namespace{}, err
	}
	stats, _ := r.shard.engine.Partition(r.key)
	return Namespace{name, stats, int(r.shard.id)}, nil
}

func errNamespaceExists(ix *Index, name string) error {
	return errs.New(errs.AlreadyExists, "namespace %q already exists in index %q", name, ix.Name)
}

// DeleteNamespace drops a namespace with its records. NotFound if it is not there.
func (n *Node) DeleteNamespace(ctx context.Context, ix Index, name string) error {
	r, ok, err := n.existing(&ix, name)
	if err != nil || !ok {
		return err
	}
	_, err = n.shrink(ctx, r, &engine.Command{Op: engine.OpDropPartition, Key: r.key})
	return err
}

// DescribeNamespace returns one namespace. The default one always exists.
func (n *Node) DescribeNamespace(ix Index, name string) (Namespace, error) {
	r, ok, err := n.existing(&ix, name)
	if err != nil {
		return Namespace{}, err
	}
	if !ok {
		return Namespace{Name: name, Shard: NoShard}, nil
	}
	stats, _ := r.shard.engine.Partition(r.key)
	return Namespace{name, stats, int(r.shard.id)}, nil
}

// Namespaces returns the namespaces of an index whose name has prefix, in order of name, after the given one; total
// counts all with the prefix. It costs a pass over the index's partitions in memory, and sorts a page.
func (n *Node) Namespaces(ix Index, prefix, after string, limit int) (page []Namespace, more bool, total int) {
	limit = max(limit, 0)
	for _, ns := range n.partitions(&ix) {
		if !strings.HasPrefix(ns.Name, prefix) {
			continue
		}
		total++
		if ns.Name > after {
			page = insertFirst(page, ns, limit+1)
		}
	}
	if len(page) > limit {
		return page[:limit], true, total
	}
	return page, false, total
}

// insertFirst keeps the first n namespaces in order of name.
func insertFirst(page []Namespace, ns Namespace, n int) []Namespace {
	if len(page) == n && ns.Name > page[n-1].Name {
		return page
	}
	at := sort.Search(len(page), func(i int) bool { return page[i].Name >= ns.Name })
	page = slices.Insert(page, at, ns)
	return page[:min(len(page), n)]
}

// IndexStats returns every namespace of an index that has records, in order of name.
func (n *Node) IndexStats(ix Index) []Namespace {
	all := slices.DeleteFunc(n.partitions(&ix), func(ns Namespace) bool { return ns.Stats.Records == 0 })
	slices.SortFunc(all, func(a, b Namespace) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// partitions returns the namespaces of an index, in no order. A partition away from its tenant's home is a copy of
// some kind, not a namespace.
func (n *Node) partitions(ix *Index) []Namespace {
	s := n.meta.state()
	var all []Namespace
	for id, sh := range n.replicas() {
		for _, p := range sh.engine.Partitions(ix.ID) {
			if t, ok := s.tenantByID(p.Key.Tenant); ok && s.home(t) == id {
				all = append(all, Namespace{t.name, p, int(id)})
			}
		}
	}
	return all
}
