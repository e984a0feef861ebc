package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/croftdb/croft/internal/errs"
)

// servers is the newest configuration that this replica knows, committed or not.
func (g *group) servers() []raft.Server {
	return g.raft().GetConfiguration().Configuration().Servers // never fails, it is a copy in memory
}

// soleVoter reports whether this node is the only voter among servers.
func soleVoter(servers []raft.Server, node raft.ServerID) bool {
	voters := 0
	for _, s := range servers {
		if s.Suffrage == raft.Voter {
			voters++
			if s.ID != node {
				return false
			}
		}
	}
	return voters == 1
}

// setSole notes whether this node is the only voter. One that is, and follows, elects itself at once.
func (g *group) setSole(sole bool) error {
	g.sole.Store(sole)
	if !sole {
		return nil
	}
	return g.look()
}

// look makes raft look whether it has heard of its leader: it does when its timeout is lowered. One that has no part in
// elections does not look: it has no timeout.
func (g *group) look() error {
	timeout := func(d time.Duration) error {
		return g.reload(func(rc *raft.ReloadableConfig) { rc.HeartbeatTimeout, rc.ElectionTimeout = d, d })
	}
	if g.floor.Load() > 0 {
		return nil
	}
	if err := timeout(g.opts.tick + 1); err != nil {
		return err
	}
	return timeout(g.opts.tick)
}

// reload changes what raft takes while it runs.
func (g *group) reload(change func(*raft.ReloadableConfig)) error {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	r := g.raft()
	rc := r.ReloadableConfig()
	change(&rc)
	return r.ReloadConfig(rc)
}

// lease is how long a leader may trust the voters' last word.
func (o *groupOptions) lease() time.Duration { return leaseOf(o.tick) }

func leaseOf(tick time.Duration) time.Duration { return max(tick/2, 5*time.Millisecond) }

// addLearner lets a node have the log without a vote.
func (g *group) addLearner(ctx context.Context, node string) error {
	return g.configure(ctx, "add learner", node, func(r *raft.Raft) raft.Future {
		return r.AddNonvoter(raft.ServerID(node), raft.ServerAddress(node), 0, g.opts.tick)
	})
}

// addVoter gives a learner its vote.
func (g *group) addVoter(ctx context.Context, node string) error {
	if err := g.setSole(false); err != nil { // before the others may elect each other
		return err
	}
	return g.configure(ctx, "add voter", node, func(r *raft.Raft) raft.Future {
		return r.AddVoter(raft.ServerID(node), raft.ServerAddress(node), 0, g.opts.tick)
	})
}

// removeServer takes a node out. It must not be this one: a leader hands over first.
func (g *group) removeServer(ctx context.Context, node string) error {
	err := g.configure(ctx, "remove", node, func(r *raft.Raft) raft.Future {
		return r.RemoveServer(raft.ServerID(node), 0, g.opts.tick)
	})
	if err == nil && soleVoter(g.servers(), g.opts.node) {
		err = g.setSole(true)
	}
	return err
}

// configure changes the configuration and waits until that is committed. raft takes no second change before.
func (g *group) configure(ctx context.Context, what, node string, change func(*raft.Raft) raft.Future) error {
	ctx, cancel := context.WithTimeout(ctx, 10*g.opts.tick)
	defer cancel()
	_, err := g.await(ctx, func() (any, error) { return nil, change(g.raft()).Error() })
	return errs.Wrap(errs.KindOf(err), err, "%s %s in %s", what, node, g.name)
}

// transfer hands leadership to a voter, or when node is empty to whichever has most of the log. No lease is taken in this term any more, because the request to take over may
// arrive at any time from now on, whatever becomes of it.
func (g *group) transfer(ctx context.Context, node string) error {
	r := g.raft()
	g.barLeases(r.CurrentTerm())
	g.transferred.Store(time.Now().UnixNano())
	ctx, cancel := context.WithTimeout(ctx, 2*g.opts.tick)
	defer cancel()
	done := make(chan error, 1)
	go func() { // not counted: it may never end (hashicorp/raft #696)
		if node == "" {
			done <- r.LeadershipTransfer().Error()
			return
		}
		done <- r.LeadershipTransferToServer(raft.ServerID(node), raft.ServerAddress(node)).Error()
	}()
	select {
	case err := <-done:
		return errs.Wrap(errs.Unavailable, err, "hand %s to %s", g.name, node)
	case <-ctx.Done():
		return errs.Wrap(errs.KindOf(ctx.Err()), ctx.Err(), "hand %s to %s", g.name, node)
	}
}

// stuck reports whether a transfer of long ago still makes raft refuse all writes (hashicorp/raft #696: the goroutine that
// would take the flag back waits for ever, also in later terms).
func (g *group) stuck(ctx context.Context) bool {
	at := g.transferred.Load()
	if at == 0 || !g.leads() || time.Since(time.Unix(0, at)) < 3*g.opts.tick {
		return false
	}
	err := g.barrier(ctx)
	if err == nil {
		g.transferred.Store(0)
	}
	return errors.Is(err, raft.ErrLeadershipTransferInProgress)
}

// restart replaces the raft instance by a new one over the same log and state machine. It takes no context: between the old
// instance and the new one the group answers nobody, so who asked for it must not end it there.
func (g *group) restart() error {
	g.logger.Warn("restarting raft", "group", g.name)
	if err := g.beginShutdown().Error(); err != nil {
		return err
	}
	return g.resume()
}

// resume starts raft after it was stopped. If it cannot be started the node fails, for the group would be gone until the
// next start, without a word.
func (g *group) resume() error {
	if err := sleep(g.opts.ctx, g.opts.lease()); err != nil { // it has forgotten whom it follows, see lease
		return err // the node is closing
	}
	o := g.opts
	o.restore = false // the state machine is newer than any snapshot
	if err := g.run(&o); err != nil {
		err = fmt.Errorf("restart %s: %w", g.name, err)
		g.fail.Poison(err)
		return err
	}
	g.transferred.Store(0)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = false
	return nil
}

// ids returns the nodes of servers with that suffrage, in order.
func ids(servers []raft.Server, wanted raft.ServerSuffrage) []string {
	var nodes []string
	for _, s := range servers {
		if s.Suffrage == wanted {
			nodes = append(nodes, string(s.ID))
		}
	}
	slices.Sort(nodes)
	return nodes
}
