package cluster

import (
	"context"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/tenancy"
)

// accountable is a verb that a tenant pays for.
type accountable interface {
	// account tells what a run has cost, beyond the time that it took.
	account(e *tenancy.Event)
}

// metered runs v and counts it for its tenant. What concerns a whole shard is nobody's.
func (n *Node) metered(ctx context.Context, sh *shard, key engine.Key, v verb, reading *Reading) tenancy.Outcome {
	begun := time.Now()
	err := v.run(ctx, n, sh, key)
	e := tenancy.Event{Outcome: tenancy.Outcome{Took: time.Since(begun), Err: err}}
	a, ok := v.(accountable)
	if !ok || key.Tenant == (engine.TenantID{}) {
		return e.Outcome
	}
	a.account(&e)
	if e.Class == tenancy.Write {
		e.Stored.Vectors, e.Stored.Bytes = sh.engine.Stored(key.Tenant)
	}
	n.usage.shard(sh.id).Note(tenancy.ID(key.Tenant), begun, &e)
	if reading != nil {
		reading.Receipt.ReadUnits = e.Units
	}
	return e.Outcome
}

// declined counts a request that was not let in.
func (n *Node) declined(sh *shard, key engine.Key) {
	n.usage.shard(sh.id).Note(tenancy.ID(key.Tenant), time.Now(), &tenancy.Event{Declined: true})
}

// unitBytes is how much of a namespace one read unit searches, and unitRecords how many records it fetches: Pinecone's measure.
const (
	unitBytes   = 1_000_000_000
	unitRecords = 10
)

// unitsOf is how many units of some size an amount takes, at least one.
func unitsOf(amount, unit int64) int64 { return max(1, (amount+unit-1)/unit) }

func (v *applyVerb) account(e *tenancy.Event) {
	e.Class, e.Written = tenancy.Write, int64(len(v.encoded))
	e.Removes = engine.Removes(v.encoded)
	accountWritten(e, &v.written)
}

func (v *whereVerb) account(e *tenancy.Event) {
	e.Class, e.Removes = tenancy.Write, v.remove
	accountWritten(e, &v.written)
	if v.dryRun {
		e.Class, e.Units = tenancy.Read, 1
	}
}

// accountWritten counts what a write has done; one that was done before has done nothing.
func accountWritten(e *tenancy.Event, w *Written) {
	if e.Outcome.Err == nil && !w.Repeated {
		e.Outcome.Affected = w.Affected
	}
}

func (v *createVerb) account(e *tenancy.Event) { e.Class = tenancy.Write }

func (v *queryVerb) account(e *tenancy.Event) {
	e.Class = tenancy.Search
	e.Outcome.Distances, e.Outcome.Bytes = int64(v.res.Distances), int64(v.res.Read)
	e.Units = unitsOf(int64(v.res.Stored), unitBytes)
}

func (v *fetchVerb) account(e *tenancy.Event) {
	e.Class, e.Units = tenancy.Read, unitsOf(int64(len(v.recs)), unitRecords)
	e.Outcome.Bytes = sizeOf(v.recs)
}

func (v *scanVerb) account(e *tenancy.Event) {
	e.Class, e.Units = tenancy.Read, 1
	if !v.idsOnly {
		e.Units = unitsOf(int64(len(v.recs)), unitRecords)
	}
	e.Outcome.Bytes = sizeOf(v.recs)
}

// sizeOf is about how many bytes were read for records.
func sizeOf(recs []engine.Record) (n int64) {
	for i := range recs {
		r := &recs[i]
		n += int64(len(r.ID) + 4*len(r.Values) + 8*len(r.Sparse.Indices) + r.Metadata.Size())
	}
	return n
}
