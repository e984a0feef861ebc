package cluster

import (
	"context"
	"sync"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// Refresh returns once this node's copy of the metadata has all that was acknowledged anywhere before the call. What is
// found in the copy can be used without; what is missing may only not have arrived yet. Unavailable while the metadata
// plane has no leader.
func (n *Node) Refresh(ctx context.Context) error {
	if n.meta.state().alone() && n.meta.group.leads() {
		return nil
	}
	return n.refresher.join(ctx, n)
}

// CatchUp returns once this node's copy of the metadata has, at some time since the node was started, had all that was
// acknowledged anywhere: from then on it is behind by moments, before by any time. Unavailable as Refresh.
func (n *Node) CatchUp(ctx context.Context) error {
	if n.refreshed.Load() {
		return nil
	}
	return n.Refresh(ctx)
}

// refresher shares refreshes: whoever comes while one is on its way waits for the next, which begins after it came.
type refresher struct {
	mu      sync.Mutex
	next    *refresh // that has not begun; nil: nobody waits for one
	running bool
}

// refresh is one look at the metadata plane's leader; err is set before done is closed.
type refresh struct {
	done chan struct{}
	err  error
}

func (f *refresher) join(ctx context.Context, n *Node) error {
	f.mu.Lock()
	if f.next == nil {
		f.next = &refresh{done: make(chan struct{})}
	}
	mine := f.next
	if !f.running {
		f.running = true
		n.background.Go(func() { f.run(n) })
	}
	f.mu.Unlock()
	select {
	case <-mine.done:
		return mine.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run refreshes until nobody waits any more.
func (f *refresher) run(n *Node) {
	for {
		f.mu.Lock()
		r := f.next
		f.next, f.running = nil, r != nil
		f.mu.Unlock()
		if r == nil {
			return
		}
		r.err = n.patiently(n.ctx, func() error { return n.refreshOnce(n.ctx) })
		close(r.done)
	}
}

func (n *Node) refreshOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, electionPatience)
	defer cancel()
	at, err := n.metaIndex(ctx)
	if err == nil {
		_, err = n.meta.fsm.wait(ctx, func(s *state) bool { return s.index >= at })
	}
	if err != nil {
		return errs.Wrap(errs.Unavailable, err, "ask for the newest metadata")
	}
	n.refreshed.Store(true)
	return nil
}

// metaIndex is the last entry that the metadata plane's leader has applied.
func (n *Node) metaIndex(ctx context.Context) (uint64, error) {
	g := n.meta.group
	if g.leads() {
		return n.metaIndexHere(ctx)
	}
	leader := g.leader()
	if leader == "" || leader == n.id.NodeID {
		return 0, newNotLeaderError(metaName, "")
	}
	answer, err := n.peers.call(ctx, leader, methodRefresh, nil, nil)
	if err != nil {
		return 0, err
	}
	r := codec.NewReader(answer)
	at := r.Uvarint()
	return at, r.Done()
}

// metaIndexHere is the last entry applied here, if this node leads the metadata plane.
func (n *Node) metaIndexHere(ctx context.Context) (uint64, error) {
	if err := n.meta.group.readable(ctx); err != nil {
		return 0, err
	}
	return n.meta.state().index, nil
}

// answerRefresh tells another node how new its metadata must be.
func (n *Node) answerRefresh(ctx context.Context, _ string, _, dst []byte) ([]byte, error) {
	if !n.opened.Load() {
		return dst, errStopping()
	}
	at, err := n.metaIndexHere(ctx)
	if err != nil {
		return dst, err
	}
	return codec.AppendUvarint(dst, at), nil
}
