// Package balance owns the arithmetic of what shards carry: which of them are in trouble (Check), which tenants should move
// so that all carry about the same (NewPlan), and how many shards are worth their money (Advise).
//
// It promises that the same figures give the same answer, that a plan carried out under loads that stay as they were is
// followed by an empty one, and that no tenant is ever moved back by it; plan.go argues how. cluster collects the figures,
// remembers what was decided and carries it out. This package knows no node, no raft, no clock and no store: it never
// asks for a figure and never changes anything, which is why it stands apart and can be tested with tables alone.
package balance

import "fmt"

// Measure is one of the things that a shard can have too much of.
type Measure int

// The measures.
const (
	Tenants Measure = iota
	Vectors
	Bytes   // of ids, values and metadata
	Queries // a second
	Compute // processors that are busy

	measures
)

var measureNames = [measures]string{"tenants", "vectors", "bytes", "queries", "compute"}

func (m Measure) String() string { return measureNames[m] }

// Load is an amount of each measure.
type Load [measures]float64

func (l *Load) add(o *Load) {
	for m := range l {
		l[m] += o[m]
	}
}

func (l *Load) sub(o *Load) {
	for m := range l {
		l[m] -= o[m]
	}
}

// Shard is a shard as its leader and its replicas tell of it.
type Shard struct {
	ID        int
	Dedicated bool // off the ring
	Draining  bool // its tenants are leaving
	Load      Load
	P95       float64 // ms, of the queries of the last minute; 0: there were none
	Led       bool    // it has a leader that answers
	Voters    int     // replicas that answer and have a vote
	Wanted    int     // replicas that it should have, as far as there are nodes for them
	Lag       uint64  // log entries that the last of them is behind
}

// shared reports whether tenants are to spread over the shard.
func (s *Shard) shared() bool { return !s.Dedicated && !s.Draining }

// Capacity is what a shard is meant to hold.
type Capacity struct {
	Tenants int
	Vectors int
}

// shares is how much of the capacity a load takes: of tenants, and of vectors.
func (c *Capacity) shares(l *Load) (tenants, vectors float64) {
	return l[Tenants] / float64(c.Tenants), l[Vectors] / float64(c.Vectors)
}

// used is the larger share: what is full in one respect has no room.
func (c *Capacity) used(l *Load) float64 {
	tenants, vectors := c.shares(l)
	return max(tenants, vectors)
}

// meanLoad is the mean over the shards on the ring.
func meanLoad(shards []Shard) (mean Load, n int) {
	for i := range shards {
		if shards[i].shared() {
			mean.add(&shards[i].Load)
			n++
		}
	}
	for m := range mean {
		mean[m] /= float64(max(1, n))
	}
	return mean, n
}

// percent is a share for people.
func percent(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }
