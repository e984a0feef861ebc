package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// Consistency is how fresh the answer of a read must be. Numbers are on the wire: append only.
type Consistency uint8

const (
	// Leader reads what was acknowledged before the read began, wherever it was written: the leader answers, under its lease.
	Leader Consistency = iota
	// Strong is Leader without a lease, which trusts clocks to run at about the same rate: the leader asks the others
	// for this read.
	Strong
	// Any reads from this node's replica if it has one, else from another: without a leader too, and perhaps old data.
	Any

	consistencyCount
)

var consistencyNames = [consistencyCount]string{"leader", "strong", "any"}

func (c Consistency) String() string {
	if c < consistencyCount {
		return consistencyNames[c]
	}
	return fmt.Sprintf("consistency(%d)", uint8(c))
}

// ParseConsistency reads the name of a level; nothing means Leader. Invalid if there is none of that name.
func ParseConsistency(name string) (Consistency, error) {
	for c, n := range consistencyNames {
		if n == name {
			return Consistency(c), nil
		}
	}
	if name == "" {
		return Leader, nil
	}
	return Leader, errs.New(errs.Invalid, "consistency %q is none of leader, strong, any", name)
}

// Reading says how fresh the answers of reads must be, and is told how fresh they were. It serves one request at a time.
type Reading struct {
	Consistency Consistency
	Staleness
	Receipt tenancy.Receipt // of the gate at the tenant's home, also where it refused; of the last one if several were asked
	Owner   tenancy.ID      // whose records were read, as the shard says that has read them; zero: nobody's
	Mixed   bool            // they were several tenants'
}

// Staleness is how far behind an answer may be: at worst, if several replicas had a part in it.
type Staleness struct {
	Applied uint64        // index of the shard's log up to which the replica had applied it; 0: no replica was asked
	Behind  uint64        // entries that the replica knew to be committed and had not applied
	Age     time.Duration // since the replica last heard from a leader; 0 at a leader, negative if it never has
}

type readingKey struct{}

// WithReading gives a context's reads a level other than Leader, and a place where to tell how fresh they were.
func WithReading(ctx context.Context, r *Reading) context.Context {
	return context.WithValue(ctx, readingKey{}, r)
}

// ReadingOf returns the context's Reading, nil if it has none.
func ReadingOf(ctx context.Context) *Reading {
	r, _ := ctx.Value(readingKey{}).(*Reading)
	return r
}

// level is the consistency asked for.
func (r *Reading) level() Consistency {
	if r == nil {
		return Leader
	}
	return r.Consistency
}

// note takes in how fresh one more answer was.
func (r *Reading) note(s Staleness) {
	switch {
	case r == nil:
	case r.Applied == 0:
		r.Staleness = s
	default:
		r.Applied, r.Behind = min(r.Applied, s.Applied), max(r.Behind, s.Behind)
		if r.Age >= 0 {
			r.Age = olderAge(r.Age, s.Age)
		}
	}
}

// owned takes in whose records one more answer has.
func (r *Reading) owned(by engine.TenantID) {
	if r == nil || by == (engine.TenantID{}) {
		return
	}
	r.Mixed = r.Mixed || r.Owner != (tenancy.ID{}) && r.Owner != tenancy.ID(by)
	r.Owner = tenancy.ID(by)
}

// receive takes in what a gate told.
func (r *Reading) receive(told *tenancy.Receipt) {
	if r != nil {
		r.Receipt = *told
	}
}

// olderAge is the greater of two ages; one that is unknown is the greatest.
func olderAge(a, b time.Duration) time.Duration {
	if a < 0 || b < 0 {
		return -1
	}
	return max(a, b)
}

// readableAt says whether this replica may answer a read at a level other than Any.
func (s *shard) readableAt(ctx context.Context, level Consistency) error {
	if err := s.readable(ctx); err != nil || level != Strong {
		return err
	}
	return s.group.verify(ctx)
}

// verify asks the other voters whether this replica leads. A write that was acknowledged before is then applied here:
// readable has seen to those of earlier terms, and those of this one are applied before they are acknowledged.
func (g *group) verify(ctx context.Context) error {
	if g.sole.Load() {
		return g.readable(ctx)
	}
	return g.confirm(ctx)
}

// filled says whether a replica has anything to tell: a new one has no log yet.
func (s *shard) filled() error {
	if s.group.raft().LastIndex() > 0 {
		return nil
	}
	return newNotLeaderError(s.group.name, s.group.leader())
}

// staleness tells how far behind this replica is. A leader that may answer is not.
func (s *shard) staleness(level Consistency) Staleness {
	st := Staleness{Applied: s.engine.AppliedIndex()}
	if level != Any || s.group.leads() {
		return st
	}
	committed, applied := s.group.raft().CommitIndex(), s.group.raft().AppliedIndex()
	st.Behind = committed - min(committed, applied)
	st.Age = -1
	if last := s.group.raft().LastContact(); !last.IsZero() {
		st.Age = time.Since(last)
	}
	return st
}
