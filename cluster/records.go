package cluster

import (
	"context"
	"time"

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
	Repeated bool // the answer of an earlier request, see WithOnce
}

// Upsert stores records in a namespace, which is created if missing; the whole request is one log entry.
func (n *Node) Upsert(ctx context.Context, ix Index, namespace string, recs []engine.Record) (Written, error) {
	r, err := n.create(ctx, &ix, namespace)
	if err != nil {
		return Written{}, err
	}
	v := applyVerb{labels: labels{ix.Name, namespace}, grows: true}
	v.command = &engine.Command{Op: engine.OpUpsert, Key: r.key, Records: recs, Once: onceOf(ctx)}
	err = n.ask(ctx, &r, &v)
	return v.written, err
}

// Update changes one record; an unknown id changes nothing. NotFound if the namespace does not exist.
func (n *Node) Update(ctx context.Context, ix Index, namespace, id string, values []float32, sparse *engine.Sparse, set metadata.Map) (Written, error) {
	up := engine.Update{Targets: []engine.Target{{ID: id}}, Values: values, Sparse: sparse, SetMetadata: set}
	return n.change(ctx, &ix, namespace, true, &engine.Command{Op: engine.OpUpdate, Update: up})
}

// Delete removes records by id. NotFound if the namespace does not exist.
func (n *Node) Delete(ctx context.Context, ix Index, namespace string, ids []string) (Written, error) {
	targets := make([]engine.Target, len(ids))
	for i, id := range ids {
		targets[i].ID = id
	}
	return n.change(ctx, &ix, namespace, false, &engine.Command{Op: engine.OpDelete, Targets: targets})
}

// DeleteAll removes every record of a namespace, which stays.
func (n *Node) DeleteAll(ctx context.Context, ix Index, namespace string) (Written, error) {
	return n.change(ctx, &ix, namespace, false, &engine.Command{Op: engine.OpDeleteAll})
}

// change commits a command about a namespace that must exist.
func (n *Node) change(ctx context.Context, ix *Index, namespace string, grows bool, c *engine.Command) (Written, error) {
	r, ok, err := n.existing(ctx, ix, namespace)
	if err != nil || !ok {
		return Written{Shard: NoShard}, err
	}
	c.Key, c.Once = r.key, onceOf(ctx)
	v := applyVerb{labels: labels{ix.Name, namespace}, grows: grows, exists: true, command: c}
	err = n.ask(ctx, &r, &v)
	return v.written, err
}

// UpdateWhere merges metadata into every record that matches f, or only counts them when dryRun is set. What matches
// is found first; a record changed meanwhile by somebody else is passed over. Many matches take several log
// entries, each all or nothing, the whole not.
func (n *Node) UpdateWhere(ctx context.Context, ix Index, namespace string, f *filter.Expr, set metadata.Map, dryRun bool) (Written, error) {
	return n.changeWhere(ctx, &ix, namespace, &whereVerb{filter: f, set: set, dryRun: dryRun})
}

// DeleteWhere removes every record that matches f, in entries as UpdateWhere.
func (n *Node) DeleteWhere(ctx context.Context, ix Index, namespace string, f *filter.Expr) (Written, error) {
	return n.changeWhere(ctx, &ix, namespace, &whereVerb{filter: f, remove: true})
}

func (n *Node) changeWhere(ctx context.Context, ix *Index, namespace string, v *whereVerb) (Written, error) {
	r, ok, err := n.existing(ctx, ix, namespace)
	if err != nil || !ok {
		return Written{Shard: NoShard}, err
	}
	v.labels, v.once = labels{ix.Name, namespace}, onceOf(ctx)
	err = n.ask(ctx, &r, v)
	return v.written, err
}

// commit proposes an encoded command, which it keeps, at this node's replica. One that takes space waits for room in the
// shard's buffers, needs more than the reserve on the disk, and finds the index defined; one that frees space is not
// stopped by a full disk.
func (n *Node) commit(ctx context.Context, sh *shard, ix *Index, grows bool, command []byte) (Written, error) {
	if grows {
		if err := n.disk.check(); err != nil {
			return Written{}, err
		}
	}
	if err := sh.engine.Admit(ctx, len(command)); err != nil && (grows || !errs.Is(err, errs.StorageFull)) {
		return Written{}, err
	}
	if grows {
		if err := n.aligner.define(ctx, sh, ix); err != nil {
			return Written{}, err
		}
	}
	return sh.proposeBytes(ctx, command)
}

// inBatches cuts targets into entries of bounded size and writes them one after the other; write is told how many records
// were changed before, and whether it has the last batch. When one fails after others took effect, the outcome of the
// whole is unknown.
func inBatches(sh *shard, targets []engine.Target, write func(batch []engine.Target, before int, last bool) (Written, error)) (Written, error) {
	sum := Written{Shard: int(sh.id)}
	for rest := targets; len(rest) > 0; {
		batch := rest[:batchLen(rest)]
		w, err := write(batch, sum.Affected, len(batch) == len(rest))
		if err != nil && len(rest) < len(targets) {
			return sum, errs.Wrap(errs.OutcomeUnknown, err, "after %d of %d matching records", len(targets)-len(rest), len(targets))
		}
		if err != nil {
			return w, err
		}
		if w.Repeated { // by one that came at the same time
			return w, nil
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
	r, ok, err := n.read(ctx, &ix, namespace)
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
	v := getQueryVerb()
	defer v.release()
	v.route, v.q, v.res = r, q, res
	begun := time.Now()
	err = n.ask(ctx, &v.route, v)
	if err == nil {
		ReadingOf(ctx).owned(res.Tenant)
		n.queries.observe(int(v.route.shard), begun, time.Since(begun))
	}
	if err == nil && v.tooLarge {
		err = engine.ErrAnswerTooLarge
	}
	return int(v.route.shard), err
}

// Fetch returns the records of ids that exist.
func (n *Node) Fetch(ctx context.Context, ix Index, namespace string, ids []string) ([]engine.Record, error) {
	r, ok, err := n.read(ctx, &ix, namespace)
	if err != nil || !ok {
		return nil, err
	}
	v := fetchVerb{ids: ids}
	err = n.ask(ctx, &r, &v)
	ReadingOf(ctx).owned(v.owner)
	return v.recs, err
}

// Scan returns up to limit records that match f (nil: all) in order of id, after the given id.
func (n *Node) Scan(ctx context.Context, ix Index, namespace, prefix, after string, f *filter.Expr, limit int) (recs []engine.Record, more bool, err error) {
	v := scanVerb{prefix: prefix, after: after, filter: f, limit: limit}
	err = n.scan(ctx, &ix, namespace, &v)
	return v.recs, v.more, err
}

// ScanIDs returns up to limit ids in order, after the given id.
func (n *Node) ScanIDs(ctx context.Context, ix Index, namespace, prefix, after string, limit int) (ids []string, more bool, err error) {
	v := scanVerb{idsOnly: true, prefix: prefix, after: after, limit: limit}
	err = n.scan(ctx, &ix, namespace, &v)
	return v.ids, v.more, err
}

func (n *Node) scan(ctx context.Context, ix *Index, namespace string, v *scanVerb) error {
	r, ok, err := n.read(ctx, ix, namespace)
	if err != nil || !ok {
		return err
	}
	err = n.ask(ctx, &r, v)
	ReadingOf(ctx).owned(v.owner)
	return err
}
