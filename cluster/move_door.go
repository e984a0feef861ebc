package cluster

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

// movedError is the refusal of a shard where a tenant does not live, or not any more: nothing was done. Links carry it.
type movedError struct {
	at  uint64 // entry of the metadata plane that says where it lives; 0: the one who refuses has not heard of it either
	err *errs.Error
}

func newMovedError(at uint64, t engine.TenantID, shard uint16) *movedError {
	err := errs.New(errs.Unavailable, "tenant %s has moved away from shard %d", t, shard).WithRetryAfter(retryLeader)
	return &movedError{at, err}
}

func (e *movedError) Error() string { return e.err.Error() }

func (e *movedError) Unwrap() error { return e.err }

// changes tells those who wait that something has changed, whatever it is.
type changes struct{ next atomic.Pointer[chan struct{}] }

// wait returns a channel that is closed by the next note. Who looks at what may change must have called it before.
func (c *changes) wait() <-chan struct{} {
	for {
		if ch := c.next.Load(); ch != nil {
			return *ch
		}
		ch := make(chan struct{})
		c.next.CompareAndSwap(nil, &ch)
	}
}

func (c *changes) note() {
	if ch := c.next.Swap(nil); ch != nil {
		close(*ch)
	}
}

// atHome returns when a request of a tenant may run at a replica: at once, but while the tenant moves. Writes wait where the
// tenant is about to leave, all wait where it is about to be served, and what comes to the wrong shard is sent away. Reads of a
// tenant that is about to leave go on for as long as it has no other home.
func (n *Node) atHome(ctx context.Context, sh *shard, key engine.Key, writes bool, level Consistency) error {
	if sh.engine.Residence(key.Tenant).Standing == engine.Home {
		return nil
	}
	patience := time.NewTimer(electionPatience)
	defer patience.Stop()
	begun, waited := time.Now(), false
	for ; ; waited = true {
		changed := sh.moved.wait()
		s := n.meta.state()
		wait, err := n.standing(ctx, s, sh, key, writes, level)
		if !wait {
			if waited && writes {
				n.noteHeld(time.Since(begun))
			}
			return err
		}
		select {
		case <-changed:
		case <-s.superseded:
		case <-patience.C:
			return errs.New(errs.Unavailable, "tenant %s is being moved", key.Tenant).WithRetryAfter(retryLeader)
		case <-ctx.Done():
			return ctx.Err()
		case <-n.ctx.Done():
			return errStopping()
		case <-n.fail.done():
			return errs.Wrap(errs.Unavailable, n.fail.Cause(), "%s is stopping", sh.group.name)
		}
	}
}

// standing says whether a request has to wait, and if not, why it cannot run.
func (n *Node) standing(ctx context.Context, s *state, sh *shard, key engine.Key, writes bool, level Consistency) (wait bool, err error) {
	t, known := s.tenantByID(key.Tenant)
	home := known && s.home(t) == sh.id
	elsewhere := func() error {
		if !known || home {
			return newMovedError(0, key.Tenant, sh.id)
		}
		return newMovedError(s.index, key.Tenant, sh.id)
	}
	switch sh.engine.Residence(key.Tenant).Standing {
	case engine.Home:
		return false, nil
	case engine.Fenced:
		if !home {
			return false, elsewhere()
		}
		if writes || level == Any {
			return writes, nil
		}
		return false, n.stillHome(ctx, sh, key)
	case engine.Staged:
		if home && level != Any {
			return true, nil // it is about to be served
		}
	}
	return false, elsewhere()
}

// stillHome asks the metadata plane whether a tenant that is about to leave a shard lives there still. If so, nobody has written
// to it elsewhere before the question.
func (n *Node) stillHome(ctx context.Context, sh *shard, key engine.Key) error {
	if err := n.Refresh(ctx); err != nil {
		return err
	}
	s := n.meta.state()
	if t, ok := s.tenantByID(key.Tenant); ok && s.home(t) != sh.id {
		return newMovedError(s.index, key.Tenant, sh.id)
	}
	return nil
}

// maxHops is how often a request follows a tenant without a pause.
const maxHops = 2

// follow asks again where a tenant has gone to, as long as that is what was answered.
func (n *Node) follow(ctx context.Context, r *route, err error, again func() error) error {
	for range maxHops {
		moved, ok := errors.AsType[*movedError](err)
		if !ok || r.key.Tenant == (engine.TenantID{}) || n.learn(ctx, moved) != nil {
			return err
		}
		n.reroute(r)
		err = again()
	}
	return err
}

// learn returns when this node knows what the one knew who has refused.
func (n *Node) learn(ctx context.Context, moved *movedError) error {
	ctx, cancel := context.WithTimeout(ctx, electionPatience)
	defer cancel()
	if moved.at == 0 {
		return n.Refresh(ctx)
	}
	_, err := n.meta.fsm.wait(ctx, func(s *state) bool { return s.index >= moved.at })
	return err
}
