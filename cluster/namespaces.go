package cluster

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

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
		return Namespace{}, errNamespaceExists(ix.Name, name)
	}
	r, err := n.create(ctx, &ix, name)
	if err != nil {
		return Namespace{}, err
	}
	v := createVerb{labels: labels{ix.Name, name}}
	if err := n.ask(ctx, &r, &v); err != nil {
		return Namespace{}, err
	}
	return Namespace{name, v.stats, int(r.shard)}, nil
}

func errNamespaceExists(index, name string) error {
	return errs.New(errs.AlreadyExists, "namespace %q already exists in index %q", name, index)
}

// DeleteNamespace drops a namespace with its records. NotFound if it is not there.
func (n *Node) DeleteNamespace(ctx context.Context, ix Index, name string) error {
	_, err := n.change(ctx, &ix, name, false, &engine.Command{Op: engine.OpDropPartition})
	return err
}

// DescribeNamespace returns one namespace. The default one always exists.
func (n *Node) DescribeNamespace(ctx context.Context, ix Index, name string) (Namespace, error) {
	r, ok, err := n.existing(ctx, &ix, name)
	v := partitionsVerb{labels: labels{ix.Name, name}, one: true}
	if err == nil && ok {
		err = n.ask(ctx, &r, &v)
	}
	switch {
	case err != nil:
		return Namespace{}, err
	case !v.there:
		return Namespace{Name: name, Shard: NoShard}, nil
	}
	ReadingOf(ctx).owned(v.stats.Key.Tenant)
	return Namespace{name, v.stats, v.shard}, nil
}

// Namespaces returns the namespaces of an index whose name has prefix, in order of name, after the given one; total
// counts all with the prefix. Every shard passes over the index's partitions in memory and sorts a page. Unavailable if
// a shard does not answer: a part is never taken for the whole.
func (n *Node) Namespaces(ctx context.Context, ix Index, prefix, after string, limit int) (page []Namespace, more bool, total int, err error) {
	limit = max(limit, 0)
	page, total, err = n.gather(ctx, &ix, partitionsVerb{prefix: prefix, after: after, limit: limit + 1})
	if len(page) > limit {
		return page[:limit], true, total, err
	}
	return page, false, total, err
}

// IndexStats returns every namespace of an index that has records, in order of name. Errors as Namespaces.
func (n *Node) IndexStats(ctx context.Context, ix Index) ([]Namespace, error) {
	all, _, err := n.gather(ctx, &ix, partitionsVerb{recorded: true, limit: math.MaxInt32})
	return all, err
}

// gather asks every shard at once and merges what they find, in order of name. A tenant that moves meanwhile could be found
// twice, or not at all: then all are asked again.
func (n *Node) gather(ctx context.Context, ix *Index, asked partitionsVerb) (all []Namespace, total int, err error) {
	for range maxHops + 1 {
		s := n.meta.state()
		all, total, err = n.gatherOnce(ctx, s.shards, ix, asked)
		if err != nil || n.meta.state().flippedAt == s.flippedAt {
			break
		}
	}
	return all, total, err
}

func (n *Node) gatherOnce(ctx context.Context, shards []uint16, ix *Index, asked partitionsVerb) (all []Namespace, total int, err error) {
	answers, faults := make([]partitionsVerb, len(shards)), make([]error, len(shards))
	readings := make([]Reading, len(shards))
	reading := ReadingOf(ctx)
	var wg sync.WaitGroup
	for i, id := range shards {
		answers[i] = asked
		readings[i].Consistency = reading.level()
		wg.Go(func() {
			r := route{shard: id, key: engine.Key{Index: ix.ID}}
			faults[i] = n.ask(WithReading(ctx, &readings[i]), &r, &answers[i])
		})
	}
	wg.Wait()
	if err := missingShards(shards, faults); err != nil {
		return nil, 0, err
	}
	for i := range answers {
		reading.note(readings[i].Staleness)
		all = append(all, answers[i].found...)
		total += answers[i].total
	}
	sortNames(all)
	found := len(all)
	all = slices.CompactFunc(all, func(a, b Namespace) bool { return a.Name == b.Name })
	return all, total - (found - len(all)), nil
}

// missingShards names the shards that did not answer; the first fault says why, and what kind of fault it is.
func missingShards(shards []uint16, faults []error) error {
	var silent []string
	var first error
	for i, err := range faults {
		if err != nil {
			silent = append(silent, strconv.Itoa(int(shards[i])))
			first = cmp.Or(first, err)
		}
	}
	if first == nil {
		return nil
	}
	return errs.Wrap(errs.KindOf(first), first, "no answer from shards %s of %d", strings.Join(silent, ", "), len(shards))
}
