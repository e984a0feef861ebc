package cluster

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// lease is a leader's right to answer reads from its own state. It ends before any voter that confirmed it would vote for
// somebody else, and belongs to one term: who leads again in a later one has another's writes to apply first.
//
// A voter refuses its vote while it has heard from a leader within the election timeout. Three things could break that,
// and are kept from it: a transfer of leadership, whose candidate is exempt (no lease in a term with a transfer); a voter
// that restarts and has forgotten whom it heard (nobody is heard for the length of a lease after a start, see Node.link);
// and a leader that votes itself once it has stepped down (leading is looked at with each read).
type lease struct {
	term  uint64
	until time.Time // by the monotonic clock
}

// leases are the lease of one group and the checks that renew it.
type leases struct {
	current atomic.Pointer[lease]
	settled atomic.Uint64 // the term of which an entry has been applied here

	mu      sync.Mutex
	barred  uint64      // the term without leases
	next    *leaseCheck // whoever comes while a check is under way waits for the next: it must begin after they came
	running bool
}

type leaseCheck struct {
	done chan struct{}
	err  error
}

// readable returns nil when this replica leads and has applied all that was committed before the call.
func (g *group) readable(ctx context.Context) error {
	if g.sole.Load() {
		if g.leads() {
			return nil
		}
		return g.errNotLed()
	}
	// In this order: a leader at one moment whose term is l's at a later one led l's term at the first.
	l := g.leases.current.Load()
	if l != nil && g.leads() && g.raft().CurrentTerm() == l.term && time.Now().Before(l.until) {
		return nil
	}
	return g.confirm(ctx)
}

// confirm waits for a check that begins after the call.
func (g *group) confirm(ctx context.Context) error {
	if !g.leads() {
		return g.errNotLed()
	}
	c, err := g.leases.join(g)
	if err != nil {
		return err
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	case <-g.fail.done():
		return errs.Wrap(errs.Unavailable, g.fail.Cause(), "%s is stopping", g.name) // nothing was done
	}
}

// join returns the check to wait for and sees to it that somebody runs it.
func (ls *leases) join(g *group) (*leaseCheck, error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if !ls.running {
		if err := g.begin(); err != nil {
			return nil, err
		}
		ls.running = true
		go ls.run(g)
	}
	if ls.next == nil {
		ls.next = &leaseCheck{done: make(chan struct{})}
	}
	return ls.next, nil
}

// run makes checks until nobody waits for one.
func (ls *leases) run(g *group) {
	defer g.inflight.Done()
	for {
		ls.mu.Lock()
		c := ls.next
		ls.next = nil
		if c == nil {
			ls.running = false
			ls.mu.Unlock()
			return
		}
		ls.mu.Unlock()
		c.err = g.checkLease()
		close(c.done)
	}
}

// checkLease asks the voters whether this replica still leads, and takes a lease if they say so. raft's own VerifyLeader
// will not do: it takes the answer to a heartbeat of long before, which only now arrives, for a vote.
func (g *group) checkLease() error {
	ctx, cancel := context.WithTimeout(g.opts.ctx, g.opts.tick)
	defer cancel()
	r := g.raft()
	term := r.CurrentTerm()
	if !g.leads() {
		return g.errNotLed()
	}
	if g.leases.settled.Load() != term {
		if err := r.Barrier(g.opts.tick).Error(); err != nil {
			return errs.Wrap(errs.Unavailable, err, "read from %s", g.name)
		}
		g.leases.settled.Store(term)
	}
	start := time.Now()
	until, ok := g.askVoters(ctx, term, start)
	if !ok || !g.leads() || r.CurrentTerm() != term {
		return g.errNotLed()
	}
	g.leases.mu.Lock()
	defer g.leases.mu.Unlock()
	if g.leases.barred != term {
		g.leases.current.Store(&lease{term, until})
	}
	return nil
}

// askVoters reports whether most voters follow this replica in term, and until when most of them will elect nobody else.
func (g *group) askVoters(ctx context.Context, term uint64, start time.Time) (until time.Time, ok bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // who has not answered when most have need not
	voters := 0
	promises := make(chan time.Time, maxVoters)
	for _, s := range g.servers() {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if s.ID != g.opts.node {
			go func() { promises <- g.askVoter(ctx, string(s.ID), term, start) }()
		}
	}
	until = start.Add(g.opts.lease())
	followers, silent := 0, 0
	for followers < voters/2 {
		p := <-promises
		if p.IsZero() {
			silent++
			if voters-1-silent < voters/2 {
				return until, false
			}
			continue
		}
		followers++
		if p.Before(until) {
			until = p
		}
	}
	return until, true
}

// maxVoters bounds the voters of a group; more than are wanted vote only while they are being exchanged.
const maxVoters = 2*maxReplicas + 1

// askVoter returns until when a voter will elect nobody else, zero if it does not follow this replica in term.
func (g *group) askVoter(ctx context.Context, node string, term uint64, start time.Time) time.Time {
	request := codec.AppendUint64(codec.AppendString(nil, g.name), term)
	answer, err := g.opts.call(ctx, node, methodConfirm, request, nil)
	if err != nil {
		return time.Time{}
	}
	r := codec.NewReader(answer)
	silence, tick := time.Duration(r.Uint64()), time.Duration(r.Uint64())
	tick = min(tick, g.opts.tick)
	if r.Done() != nil || silence < 0 || silence > tick || tick < 0 {
		return time.Time{}
	}
	const margin = 8 // clocks may run apart by an eighth

	// No longer than it stays deaf after a start.
	return start.Add(min(tick-tick/margin-silence, leaseOf(tick)))
}

// answerConfirm tells a leader that this node follows it, for how long it has not heard of it, and after how long a silence
// it will elect another: nodes may have been told different ticks.
func (n *Node) answerConfirm(_ context.Context, from string, request, dst []byte) ([]byte, error) {
	r := codec.NewReader(request)
	name, term := r.String(), r.Uint64()
	if err := r.Done(); err != nil {
		return dst, err
	}
	g, err := n.groupNamed(name)
	if err != nil {
		return dst, err
	}
	silence := time.Since(g.raft().LastContact())
	if g.leader() != from || g.raft().CurrentTerm() != term {
		return dst, errs.New(errs.FailedPrecondition, "node %s does not lead %s in term %d", from, name, term)
	}
	dst = codec.AppendUint64(dst, uint64(max(silence, 0)))
	return codec.AppendUint64(dst, uint64(g.opts.tick)), nil
}

// barLeases gives up the lease of this term and takes no other in it.
func (g *group) barLeases(term uint64) {
	g.leases.mu.Lock()
	defer g.leases.mu.Unlock()
	g.leases.barred = term
	g.leases.current.Store(nil)
}

func (g *group) errNotLed() error {
	return newNotLeaderError(g.name, g.leader())
}
