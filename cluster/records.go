package cluster

import (
	"context"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/engine/filter"
	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/errs"
)

// NoShard is the shard of an answer that asked none.
const NoShard = -1

// maxTargets bounds one entry of a write by filter, in bytes of record ids.
const maxTargets = 1 << 20

// Written is the answer of a write.
type Written struct {
	Affected int
	LSN      uint64 // index of the entry in its shard's log; of the last one if there were several
	Shard    int
}

// Upsert stores records in a namespace, which is created if missing; the whole request is one log entry.
func (n *Node) Upsert(ctx context.Context, ix Index, namespace string, recs []engine.Record) (Written, error) {
	r, err := n.create(ctx, &ix, namespace)
	if err != nil {
		return Written{}, err
	}
	return n.grow(ctx, &ix, r, &engine.Command{Op: engine.OpUpsert, Key: r.key, Records: recs})
}

// Update changes one record; an unknown id changes nothing. NotFound if the namespace does not exist.
func (n *Node) Update(ctx context.Context, ix Index, namespace, id string, values []float32, sparse *engine.Sparse, set metadata.Map) (Written, error) {
	r, ok, err := n.existing(&ix, namespace)
	if err != nil || !ok {
		return Written{Shard: NoShard}, err
	}
	up := engine.Update{Targets: []engine.Target{{ID: id}}, Values: values, Sparse: sparse, SetMetadata: set}
	return n.grow(ctx, &ix, r, &engine.Command{Op: engine.OpUpdate, Key: r.key, Update: up})
}

// UpdateWhere merges metadata into every record that matches f, or only counts them when dryRun is set. What matches
// is found first; a record changed meanwhile by somebody else is passed over. Many matches take several log
// entries, each all or nothing, the whole not.
func (n *Node) UpdateWhere(ctx context.Context, ix Index, namespace string, f *filter.Expr, set metadata.Map, dryRun bool) (Written, error) {
	r, ok, err := n.existing(&ix, namespace)
	if err != nil || !ok {
		return Written{Shard: NoShard}, err
	}
	targets, err := r.shard.engine.Resolve(ctx, r.key, f)
	if err != nil || dryRun {
		return Written{Affected: len(targets), Shard: int(r.shard.id)}, err
	}
	return inBatches(r, targets, func(batch []engine.Target) (Written, error) {
		up := engine.Update{Targets: batch, SetMetadata: set}
		return n.grow(ctx, &ix, r, &engine.Command{Op: engine.OpUpdate, Key: r.key, Update: up})
	})
}

// Delete removes records by id. NotFound if the namespace does not exist.
func (n *Node) Delete(ctx context.Context, ix Index, namespace string, ids []string) (Written, error) {
	r, ok, err := n.existing(&ix, namespace)
	if err != nil || !ok {
		return Written{Shard: NoShard}, err
	}
	targets := make([]engine.Target, len(ids))
	for i, id := range ids {
		targets[i].ID = id
	}
	return n.shrink(ctx, r, &engine.Command{Op: engine.OpDelete, Key: r.key, Targets: targets})
}

// DeleteWhere removes every record that matches f, in entries as UpdateWhere.
func (n *Node) DeleteWhere(ctx context.Context, ix Index, namespace string, f *filter.Expr) (Written, error) {
	r, ok, err := n.existing(&ix, namespace)
	if err != nil || !ok {
		return Written{Shard: NoShard}, err
	}
	targets, err := r.shard.engine.Resolve(ctx, r.key, f)
	if err != nil {
		return Written{}, err
	}
	return inBatches(r, targets, func(batch []engine.Target) (Written, error) {
		return n.shrink(ctx, r, &engine.Command{Op: engine.OpDelete, Key: r.key, Targets: batch})
	})
}

// DeleteAll removes every record of a namespace, which stays.
func (n *Node) DeleteAll(ctx context.Context, ix Index, namespace string) (Written, error) {
	r, ok, err := n.existing(&ix, namespace)
	if err != nil || !ok {
		return Written{Shard: NoShard}, err
	}
	return n.shrink(ctx, r, &engine.Command{Op: engine.OpDeleteAll, Key: r.key})
}

// grow proposes a write that takes space: it waits for room in the shard's buffers, needs more than the reserve on
// the disk, and finds the index defined.
func (n *Node) grow(ctx context.Context, ix *Index, r route, c *engine.Command) (Written, error) {
	if err := n.disk.check(); err != nil {
		return Written{}, err
	}
	if err := r.shard.engine.Admit(ctx, engine.EncodedSize(c)); err != nil {
		return Written{}, err
	}
	if err := n.aligner.define(ctx, r.shard, ix); err != nil {
		return Written{}, err
	}
	return r.shard.propose(ctx, c)
}

// shrink proposes a write that frees space: a full disk does not stop it.
func (n *Node) shrink(ctx context.Context, r route, c *engine.Command) (Written, error) {
	err := r.shard.engine.Admit(ctx, engine.EncodedSize(c))
	if err != nil && !errs.Is(err, errs.StorageFull) {
		return Written{}, err
	}
	return r.shard.propose(ctx, c)
}

// inBatches cuts targets into entries of bounded size and writes them one after the other. When one fails after
// others took effect, the outcome of the whole is unknown.
func inBatches(r route, targets []engine.Target, write func([]engine.Target) (Written, error)) (Written, error) {
	sum := Written{Shard: int(r.shard.id)}
	for rest := targets; len(rest) > 0; {
		batch := rest[:batchLen(rest)]
		w, err := write(batch)
		if err != nil && len(rest) < len(targets) {
			return sum, errs.Wrap(errs.OutcomeUnknown, err, "after %d of %d matching records", len(targets)-len(rest), len(targets))
		}
		if err != nil {
			return w, err
		}
		sum = Written{Affected: sum.Affected + w.Affected, LSN: w.LSN, Shard: w.Shard}
		rest = rest[len(batch):]
	}
	return sum, nil
}

// batchLen is how many targets from the start of ts go into one entry, at least one.
func batchLen(ts []engine.Target) int {
	size := 0
	for i := range ts {
		size += 12 + len(ts[i].ID)
		if size > maxTargets && i > 0 {
			return i
		}
	}
	return len(ts)
}

// Query searches a namespace into res; a missing namespace is an empty one. It returns the shard asked, NoShard if
// there was none to ask. Where q asks for neither breadth nor recall, it is given the index's.
func (n *Node) Query(ctx context.Context, ix Index, namespace string, q *engine.Query, res *engine.Result) (shard int, err error) {
	r, ok, err := n.read(&ix, namespace)
	if err != nil {
		return NoShard, err
	}
	if !ok {
		*res = engine.Result{Matches: res.Matches[:0], Plan: engine.PlanEmpty}
		return NoShard, nil
	}
	if q.Ef == 0 && q.Recall == 0 {
		q.Recall = ix.TargetRecall
	}
	return int(r.shard.id), r.shard.engine.Query(ctx, r.key, q, res)
}

// Fetch returns the records of ids that exist.
func (n *Node) Fetch(ctx context.Context, ix Index, namespace string, ids []string) ([]engine.Record, error) {
	r, ok, err := n.read(&ix, namespace)
	if err != nil || !ok {
		return nil, err
	}
	return r.shard.engine.Fetch(ctx, r.key, ids)
}

// Scan returns up to limit records that match f (nil: all) in order of id, after the given id.
func (n *Node) Scan(ctx context.Context, ix Index, namespace, prefix, after string, f *filter.Expr, limit int) (recs []engine.Record, more bool, err error) {
	r, ok, err := n.read(&ix, namespace)
	if err != nil || !ok {
		return nil, false, err
	}
	return r.shard.engine.Scan(ctx, r.key, prefix, after, f, limit)
}

// ScanIDs returns up to limit ids in order, after the given id.
func (n *Node) ScanIDs(ctx context.Context, ix Index, namespace, prefix, after string, limit int) (ids []string, more bool, err error) {
	r, ok, err := n.read(&ix, namespace)
	if err != nil || !ok {
		return nil, false, err
	}
	return r.shard.engine.ScanIDs(ctx, r.key, prefix, after, limit)
}
