package cluster

import (
	"context"
	"time"

	"github.com/hashicorp/raft"
)

// elector has followers notice soon that nobody leads. raft looks when a timer of one to two election timeouts ends, and if its leader
// was heard of a moment before it waits for another such timer: up to three timeouts. As a follower that has not noticed refuses
// its vote, the slowest of them decides. The elector has raft look once the timeout is over, and one follower after the other,
// so that the first is elected and they do not split the votes.
type elector struct {
	groups func() []*group
	every  time.Duration
}

func (e *elector) run(ctx context.Context) {
	tick := time.NewTicker(e.every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			for _, g := range e.groups() {
				g.noticeSilence(time.Now())
			}
		case <-ctx.Done():
			return
		}
	}
}

// noticeSilence has raft look for its leader if that has been silent for an election timeout and this replica's turn has come. A
// replica that has never heard of one leaves it to raft.
func (g *group) noticeSilence(now time.Time) {
	r := g.raft()
	if g.sole.Load() || r.State() != raft.Follower {
		return
	}
	heard := r.LastContact()
	if heard.IsZero() || now.Sub(heard) < g.opts.tick {
		return
	}
	if turn, votes := g.turn(); votes && now.Sub(heard) >= g.opts.tick+time.Duration(turn)*g.opts.tick/4 {
		g.look()
	}
}

// turn counts the voters before this one, without the leader that is missed.
func (g *group) turn() (n int, votes bool) {
	_, leader := g.raft().LeaderWithID()
	for _, s := range g.servers() {
		switch {
		case s.Suffrage != raft.Voter || s.ID == leader:
		case s.ID == g.opts.node:
			return n, true
		default:
			n++
		}
	}
	return 0, false
}

// look makes raft look whether it has heard of its leader: it does when its timeout is lowered.
func (g *group) look() {
	longer := func(rc *raft.ReloadableConfig) { rc.HeartbeatTimeout++; rc.ElectionTimeout++ }
	if g.reload(longer) == nil { // the timeouts are ours: raft takes them
		_ = g.reload(func(*raft.ReloadableConfig) {})
	}
}
