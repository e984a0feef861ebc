package cluster

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/croftdb/croft/internal/errs"
)

// memoryNetwork joins the nodes of one process, for tests and simulation: it opens no socket and reads no clock but
// timers, so it works inside testing/synctest. What travels over a link that is cut, or is cut before it arrives, is lost:
// who waits for it waits until its time is up, as with a cable pulled. A message sent over a link already cut is refused
// at once, to spare tests the wait.
//
// A message that is under way goes on when who has sent it gives up, or dies: it arrives late, and nobody waits for the
// answer.
type memoryNetwork struct {
	// swallow makes links that are cut lose messages in silence, as routers do, in place of refusing them.
	swallow bool
	// onAppend, if not nil, sees each request of a leader to a follower, before it travels. It must not wait.
	onAppend func(group string, args *raft.AppendEntriesRequest)

	mu       sync.Mutex
	nodes    map[string]*memoryPeers // those that have started
	links    map[link]linkState      // those that are not plain
	isolated map[string]bool
	frozen   map[string]chan struct{} // closed when the node goes on
}

type link struct{ from, to string }

type linkState struct {
	cut   bool
	delay time.Duration
}

var (
	errCut  = errors.New("the link is cut")
	errGone = errors.New("nobody listens there")
	errLate = errors.New("time is up")
)

func newMemoryNetwork() *memoryNetwork {
	return &memoryNetwork{
		nodes: map[string]*memoryPeers{}, links: map[link]linkState{}, isolated: map[string]bool{}, frozen: map[string]chan struct{}{},
	}
}

// peers makes the links of a node. A node that was closed or dropped may be made again.
func (n *memoryNetwork) peers(node string) *memoryPeers {
	p := &memoryPeers{network: n, node: node, handlers: map[method]handler{}, groups: map[string]*memoryTransport{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// cut loses what from sends to to; the other direction is as it was.
func (n *memoryNetwork) cut(from, to string) {
	n.change(from, to, func(s *linkState) { s.cut = true })
}

// cutBoth cuts both directions.
func (n *memoryNetwork) cutBoth(a, b string) { n.cut(a, b); n.cut(b, a) }

// heal mends both directions between two nodes; delays stay.
func (n *memoryNetwork) heal(a, b string) {
	n.change(a, b, func(s *linkState) { s.cut = false })
	n.change(b, a, func(s *linkState) { s.cut = false })
}

// delay lets what from sends to to take d.
func (n *memoryNetwork) delay(from, to string, d time.Duration) {
	n.change(from, to, func(s *linkState) { s.delay = d })
}

// isolate cuts a node off from all others, also from those that come later, until rejoin.
func (n *memoryNetwork) isolate(node string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.isolated[node] = true
}

func (n *memoryNetwork) rejoin(node string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.isolated, node)
}

// freeze holds back what a node sends and what is sent to it, until thaw: then all of it arrives.
func (n *memoryNetwork) freeze(node string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.frozen[node] == nil {
		n.frozen[node] = make(chan struct{})
	}
}

func (n *memoryNetwork) thaw(node string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if f := n.frozen[node]; f != nil {
		close(f)
		delete(n.frozen, node)
	}
}

// healAll makes all links plain again.
func (n *memoryNetwork) healAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.links)
	clear(n.isolated)
	for node, f := range n.frozen {
		close(f)
		delete(n.frozen, node)
	}
}

// drop takes a node away as if its process had been killed: those who wait for it learn at once that it is gone. What it
// does itself goes on, unheard.
func (n *memoryNetwork) drop(node string) {
	n.mu.Lock()
	p := n.nodes[node]
	n.mu.Unlock()
	if p != nil {
		p.leave()
	}
}

func (n *memoryNetwork) change(from, to string, f func(*linkState)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.links[link{from, to}]
	f(&s)
	n.links[link{from, to}] = s
}

func (n *memoryNetwork) link(from, to string) linkState {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.links[link{from, to}]
	s.cut = s.cut || from != to && (n.isolated[from] || n.isolated[to])
	return s
}

func (n *memoryNetwork) node(id string) *memoryPeers {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.nodes[id]
}

// plain reports whether messages between two nodes arrive at once, both ways.
func (n *memoryNetwork) plain(a, b string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.frozen) == 0 && n.links[link{a, b}].delay <= 0 && n.links[link{b, a}].delay <= 0
}

// carry takes a message over a link. It is errCut if the link was cut when the message was sent; lost when that happened
// later, or the network swallows; ctx's error when that ended first.
func (n *memoryNetwork) carry(ctx context.Context, from, to string) (lost bool, err error) {
	l := n.link(from, to)
	if l.cut {
		if n.swallow {
			return true, nil
		}
		return false, errCut
	}
	if l.delay > 0 {
		t := time.NewTimer(l.delay)
		defer t.Stop()
		select {
		case <-t.C:
			lost = n.link(from, to).cut
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	for {
		f := n.freezing(from, to)
		if f == nil {
			return lost, nil
		}
		select {
		case <-f:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// freezing is closed when one of two nodes goes on; nil if none is frozen.
func (n *memoryNetwork) freezing(a, b string) chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if f := n.frozen[a]; f != nil {
		return f
	}
	return n.frozen[b]
}

// memoryPeers are the links of one node of a memoryNetwork.
type memoryPeers struct {
	network  *memoryNetwork
	node     string
	handlers map[method]handler
	ctx      context.Context // ends when the node leaves
	cancel   context.CancelFunc

	mu      sync.Mutex
	left    bool
	groups  map[string]*memoryTransport
	serving sync.WaitGroup // handlers; counted under mu while the node has not left
}

func (p *memoryPeers) handle(m method, h handler) { p.handlers[m] = h }

func (p *memoryPeers) addr() string { return p.node }

func (p *memoryPeers) start() error {
	p.network.mu.Lock()
	defer p.network.mu.Unlock()
	if p.ctx.Err() != nil {
		return errs.New(errs.FailedPrecondition, "node %s has left", p.node)
	}
	if p.network.nodes[p.node] != nil {
		return errs.New(errs.FailedPrecondition, "there is a node %s already", p.node)
	}
	p.network.nodes[p.node] = p
	return nil
}

// leave takes the node off the network.
func (p *memoryPeers) leave() {
	p.network.mu.Lock()
	if p.network.nodes[p.node] == p {
		delete(p.network.nodes, p.node)
	}
	p.cancel()
	p.network.mu.Unlock()
	p.mu.Lock()
	p.left = true
	p.mu.Unlock()
}

func (p *memoryPeers) close() error {
	p.leave()
	p.serving.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.groups {
		_ = t.Close()
	}
	return nil
}

// open implements transports. A group that is open already gets a new transport, and the old one is closed.
func (p *memoryPeers) open(group string) raft.Transport {
	t := newMemoryTransport(p, group)
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.groups[group]; old != nil {
		_ = old.Close()
	}
	p.groups[group] = t
	return t
}

func (p *memoryPeers) transport(group string) *memoryTransport {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.groups[group]
}

func (p *memoryPeers) callAddr(ctx context.Context, addr string, m method, request, dst []byte) ([]byte, error) {
	return p.call(ctx, addr, m, request, dst)
}

func (p *memoryPeers) call(ctx context.Context, to string, m method, request, dst []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return dst, errs.Wrap(errs.KindOf(err), err, "call node %s", to)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	if p.network.plain(p.node, to) {
		return p.deliver(ctx, ctx, to, m, request, dst)
	}
	type result struct {
		answer []byte
		err    error
	}
	done := make(chan result, 1)
	travel, request := context.WithoutCancel(ctx), slices.Clone(request)
	go func() {
		answer, err := p.deliver(ctx, travel, to, m, request, nil)
		done <- result{answer, err}
	}()
	select {
	case r := <-done:
		return append(dst, r.answer...), r.err
	case <-ctx.Done():
		return dst, unanswered(to, ctx.Err())
	}
}

// deliver takes a request to its node and the answer back. The request travels as long as travel goes on, and the answer
// is waited for as long as ctx does.
func (p *memoryPeers) deliver(ctx, travel context.Context, to string, m method, request, dst []byte) ([]byte, error) {
	patience := time.Duration(-1)
	if deadline, ok := ctx.Deadline(); ok {
		patience = time.Until(deadline)
	}
	lost, err := p.network.carry(travel, p.node, to)
	if err != nil {
		return dst, unreached(to, err)
	}
	if lost {
		return dst, p.giveUp(ctx, to)
	}
	target := p.network.node(to)
	if target == nil {
		return dst, unreached(to, errGone)
	}
	answers, ok := target.serve(travel, p.node, m, slices.Clone(request), patience)
	if !ok {
		return dst, unreached(to, errGone)
	}
	select {
	case a := <-answers:
		return p.receive(ctx, to, a, dst)
	case <-target.ctx.Done():
		return dst, unanswered(to, errGone)
	case <-ctx.Done():
		return dst, p.giveUp(ctx, to)
	}
}

// giveUp waits for the end of ctx.
func (p *memoryPeers) giveUp(ctx context.Context, to string) error {
	<-ctx.Done()
	return unanswered(to, ctx.Err())
}

// receive takes an answer over the link back.
func (p *memoryPeers) receive(ctx context.Context, from string, a memoryAnswer, dst []byte) ([]byte, error) {
	lost, err := p.network.carry(ctx, from, p.node)
	if lost || err != nil {
		return dst, p.giveUp(ctx, from)
	}
	if a.failed {
		err, _ := readError(a.body)
		return dst, err
	}
	return append(dst, a.body...), nil
}

type memoryAnswer struct {
	body   []byte // the answer, or an error as appendError wrote it
	failed bool
}

// serve runs a handler in a goroutine of its own, for as long as the caller's patience lasts, unless that is negative.
// caller ends when who asked has gone; a link that is cut does not tell.
func (p *memoryPeers) serve(caller context.Context, from string, m method, request []byte, patience time.Duration) (<-chan memoryAnswer, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left {
		return nil, false
	}
	ctx, cancel := p.ctx, context.CancelFunc(nil)
	if patience >= 0 {
		ctx, cancel = context.WithTimeout(ctx, patience)
	} else {
		ctx, cancel = context.WithCancel(ctx)
	}
	stop := context.AfterFunc(caller, func() {
		if !p.network.link(from, p.node).cut {
			cancel()
		}
	})
	answers := make(chan memoryAnswer, 1)
	p.serving.Go(func() {
		defer cancel()
		defer stop()
		answers <- p.answer(ctx, from, m, request)
	})
	return answers, true
}

func (p *memoryPeers) answer(ctx context.Context, from string, m method, request []byte) memoryAnswer {
	h := p.handlers[m]
	if h == nil {
		return memoryAnswer{appendError(nil, errNoMethod(m)), true}
	}
	body, err := h(ctx, from, request, nil)
	if err != nil {
		return memoryAnswer{appendError(nil, err), true}
	}
	return memoryAnswer{body, false}
}
