package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// accountable is a verb that a tenant pays for.
type accountable interface {
	// account completes the outcome of a run: what it has cost, beyond the time that it took.
	account(o tenancy.Outcome) tenancy.Event
}

// metered runs v and counts it for its tenant. What concerns a whole shard is nobody's.
func (n *Node) metered(ctx context.Context, sh *shard, key engine.Key, v verb, reading *Reading) tenancy.Outcome {
	ctx, span := n.opts.Tracer.Start(ctx, "run")
	begun := time.Now()
	err := v.run(ctx, n, sh, key)
	if span.On() {
		n.describe(span, sh, key, v)
	}
	span.End(err)
	o := tenancy.Outcome{Took: time.Since(begun), Err: err}
	a, ok := v.(accountable)
	if !ok || key.Tenant == (engine.TenantID{}) {
		return o
	}
	e := a.account(o)
	if e.Class == tenancy.Write {
		e.Stored.Vectors, e.Stored.Bytes = sh.engine.Stored(key.Tenant)
	}
	n.usage.shard(sh.id).Note(tenancy.ID(key.Tenant), begun, &e)
	if reading != nil {
		reading.Receipt.ReadUnits = e.Units
		if q, ok := v.(*queryVerb); ok {
			reading.Receipt.Cache = q.lookup.state()
		}
	}
	return e.Outcome
}

// declined counts a request that was not let in, unless it will be tried again where another leads.
func (n *Node) declined(sh *shard, key engine.Key, err error) {
	if _, moved := errors.AsType[*bookError](err); moved || errs.Is(err, errs.Canceled) {
		return
	}
	n.usage.shard(sh.id).Note(tenancy.ID(key.Tenant), time.Now(), &tenancy.Event{Declined: true, Outcome: tenancy.Outcome{Err: err}})
}

// unitBytes is how much of a namespace one read unit searches, and unitRecords how many records it fetches: Pinecone's measure.
const (
	unitBytes   = 1_000_000_000
	unitRecords = 10
)

// unitsOf is how many units of some size an amount takes, at least one.
func unitsOf(amount, unit int64) int64 { return max(1, (amount+unit-1)/unit) }

func (v *applyVerb) account(o tenancy.Outcome) tenancy.Event {
	e := tenancy.Event{Class: tenancy.Write, Outcome: o, Written: int64(len(v.encoded)), Removes: engine.Removes(v.encoded)}
	e.Outcome.Affected = v.written.changed(o.Err)
	return e
}

func (v *whereVerb) account(o tenancy.Outcome) tenancy.Event {
	if v.dryRun {
		return tenancy.Event{Class: tenancy.Read, Outcome: o, Units: 1}
	}
	o.Affected = v.written.changed(o.Err)
	return tenancy.Event{Class: tenancy.Write, Outcome: o, Removes: v.remove}
}

// changed is how many records a write has changed: one that repeats another has changed none.
func (w *Written) changed(err error) int {
	if err != nil || w.Repeated {
		return 0
	}
	return w.Affected
}

func (v *createVerb) account(o tenancy.Outcome) tenancy.Event {
	return tenancy.Event{Class: tenancy.Write, Outcome: o}
}

func (v *queryVerb) account(o tenancy.Outcome) tenancy.Event {
	o.Cached, o.Distances, o.Bytes = v.lookup.found != nil, int64(v.res.Distances), int64(v.res.Read)
	return tenancy.Event{Class: tenancy.Search, Outcome: o, Units: unitsOf(int64(v.res.Stored), unitBytes)}
}

func (v *fetchVerb) account(o tenancy.Outcome) tenancy.Event {
	o.Bytes = sizeOf(v.recs)
	return tenancy.Event{Class: tenancy.Read, Outcome: o, Units: unitsOf(int64(len(v.recs)), unitRecords)}
}

func (v *scanVerb) account(o tenancy.Outcome) tenancy.Event {
	e := tenancy.Event{Class: tenancy.Read, Outcome: o, Units: 1}
	if e.Outcome.Bytes = sizeOf(v.recs); !v.idsOnly {
		e.Units = unitsOf(int64(len(v.recs)), unitRecords)
	}
	return e
}

// sizeOf is about how many bytes were read for records.
func sizeOf(recs []engine.Record) (n int64) {
	for i := range recs {
		r := &recs[i]
		n += int64(len(r.ID) + 4*len(r.Values) + 8*len(r.Sparse.Indices) + r.Metadata.Size())
	}
	return n
}
