package cluster

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// elector has followers notice soon that nobody leads. raft looks when a timer of one to two election timeouts ends, and if its leader
// was heard of a moment before it waits for another such timer: up to three timeouts. A follower that has more of the log refuses its
// vote, and who is refused waits for another timeout. So the elector has raft look once the timeout is over, one follower
// after the other: those with the longest logs first, who can be elected by all. See ballot for the others' votes.
type elector struct {
	groups func() []*group
	every  time.Duration
	asking sync.WaitGroup
}

// standing is a follower's place among those that miss a leader.
type standing struct {
	heard time.Time    // when the leader was last heard of
	turn  atomic.Int64 // how many look before it
}

func (e *elector) run(ctx context.Context) {
	defer e.asking.Wait()
	tick := time.NewTicker(e.every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			for _, g := range e.groups() {
				e.look(ctx, g, time.Now())
			}
		case <-ctx.Done():
			return
		}
	}
}

// look has raft look for its leader if that has been silent for an election timeout and this replica's turn has come. A replica
// that has never heard of one leaves it to raft.
func (e *elector) look(ctx context.Context, g *group, now time.Time) {
	r := g.raft()
	if g.sole.Load() || r.State() != raft.Follower {
		return
	}
	heard := r.LastContact()
	silence := now.Sub(heard)
	if heard.IsZero() || silence < g.opts.tick/2 {
		return
	}
	s := g.standing.Load()
	if s == nil || !s.heard.Equal(heard) {
		s = &standing{heard: heard}
		g.standing.Store(s)
		e.asking.Go(func() { g.compare(ctx, s) })
	}
	if silence >= g.opts.tick+time.Duration(s.turn.Load())*g.opts.tick/3 {
		_ = g.look() // the timeouts are ours: raft takes them
	}
}

// compare counts the voters that have more of the log than this replica, or as much and a lower id; the leader that is missed and those
// that do not answer do not count.
func (g *group) compare(ctx context.Context, s *standing) {
	ctx, cancel := context.WithTimeout(ctx, g.opts.tick/2)
	defer cancel()
	last, leader := g.raft().LastIndex(), g.leader()
	var asked sync.WaitGroup
	for _, v := range g.servers() {
		if v.Suffrage != raft.Voter || v.ID == g.opts.node || string(v.ID) == leader {
			continue
		}
		asked.Go(func() {
			answer, err := g.opts.call(ctx, string(v.ID), methodLast, codec.AppendString(nil, g.name), nil)
			if r := codec.NewReader(answer); err == nil {
				other := r.Uint64()
				if r.Done() == nil && (other > last || other == last && v.ID < g.opts.node) {
					s.turn.Add(1)
				}
			}
		})
	}
	asked.Wait()
}

// answerLast tells the last entry of a group's log here.
func (n *Node) answerLast(_ context.Context, _ string, request, dst []byte) ([]byte, error) {
	r := codec.NewReader(request)
	name := r.String()
	if err := r.Done(); err != nil {
		return dst, err
	}
	g, err := n.groupNamed(name)
	if err != nil {
		return dst, err
	}
	return codec.AppendUint64(dst, g.raft().LastIndex()), nil
}

// groupNamed finds this node's replica of a group.
func (n *Node) groupNamed(name string) (*group, error) {
	all := n.groups()
	i := slices.IndexFunc(all, func(g *group) bool { return g.name == name })
	if i < 0 {
		return nil, errs.New(errs.NotFound, "node %s has no replica of %s", n.id.NodeID, name)
	}
	return all[i], nil
}
