package cluster

import (
	"context"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

// A shard's co-state (engine.CostateEntry) is written by its leader alone:
//
//	term, err := sh.settle(ctx)      // on becoming leader, and whenever the term has changed: forget what was read before
//	v, err := sh.engine.Costate(...) // is what earlier leaders have written
//	err = sh.keep(ctx, term, ...)    // whole values

// costateBatch bounds the entries of co-state that one entry of the log carries, in bytes.
const costateBatch = 1 << 20

// settle returns the term in which this replica leads, once it has applied an entry of it. What co-state holds from then on is
// all that earlier leaders have written, and nobody else writes any before the term ends.
func (s *shard) settle(ctx context.Context) (term uint64, err error) {
	g := s.group
	term = g.raft().CurrentTerm()
	if !g.leads() {
		return 0, g.errNotLed()
	}
	if g.leases.settled.Load() != term {
		if err := g.barrier(ctx); err != nil {
			return 0, errs.Wrap(errs.Unavailable, err, "settle in %s", g.name)
		}
	}
	if !g.leads() || g.raft().CurrentTerm() != term {
		return 0, g.errNotLed()
	}
	g.leases.settled.Store(term)
	return term, nil
}

// keep commits whole values of co-state, and removals, by a leader that has settled in term. It takes as many entries of the
// log as they need. FailedPrecondition: somebody else led meanwhile and has written; OutcomeUnknown: some or all may be kept.
func (s *shard) keep(ctx context.Context, term uint64, entries []engine.CostateEntry) error {
	for rest := entries; len(rest) > 0; {
		n := costateLen(rest)
		if err := s.keepBatch(ctx, term, rest[:n]); err != nil {
			if len(rest) < len(entries) {
				return errs.Wrap(errs.OutcomeUnknown, err, "after %d of %d entries of co-state", len(entries)-len(rest), len(entries))
			}
			return err
		}
		rest = rest[n:]
	}
	return nil
}

func (s *shard) keepBatch(ctx context.Context, term uint64, entries []engine.CostateEntry) error {
	if !s.group.leads() || s.group.raft().CurrentTerm() != term { // the engine sees to what happens after this look
		return s.group.errNotLed()
	}
	c := &engine.Command{Op: engine.OpCostate, Term: term, Costate: entries}
	b := engine.AppendCommand(make([]byte, 0, engine.EncodedSize(c)), c)
	if err := s.engine.Admit(ctx, len(b)); err != nil {
		return err
	}
	_, err := s.proposeBytes(ctx, b)
	return err
}

// costateLen is how many entries from the start go into one entry of the log, at least one.
func costateLen(entries []engine.CostateEntry) int {
	size := 0
	for i := range entries {
		size += 32 + len(entries[i].Name) + len(entries[i].Value)
		if i > 0 && (size > costateBatch || i == engine.MaxCostateEntries) {
			return i
		}
	}
	return len(entries)
}
