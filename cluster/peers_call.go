package cluster

import (
	"bufio"
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/tracing"
)

const (
	// maxCalls is how many calls to a node may be under way at once, each on a connection of its own; more wait.
	maxCalls = 256
	// maxIdleCalls is how many connections are kept for the next calls, idleCall how long.
	maxIdleCalls = 64
	idleCall     = time.Minute
	// writePatience bounds the writing of a frame whose caller has no deadline.
	writePatience = 30 * time.Second
	// joinedWrite is the longest body that is copied behind its head, to leave in one packet.
	joinedWrite = 64 << 10 // bytes
	readBuffer  = 8 << 10  // bytes
)

var errUnasked = errors.New("the other side answered what it was not asked")

// callTarget is where calls go: a node at an address, or an address alone.
type callTarget struct{ node, addr string }

func (t callTarget) name() string {
	if t.node != "" {
		return t.node
	}
	return "at " + t.addr
}

func (p *tcpPeers) call(ctx context.Context, to string, m method, request, dst []byte) ([]byte, error) {
	addr, ok := p.opts.resolve(to)
	if !ok {
		return dst, unreached(to, errNoAddress)
	}
	return p.ask(ctx, callTarget{to, addr}, m, request, dst)
}

func (p *tcpPeers) callAddr(ctx context.Context, addr string, m method, request, dst []byte) ([]byte, error) {
	return p.ask(ctx, callTarget{"", addr}, m, request, dst)
}

// ask sends a request to a node. It is one span, however many connections it takes.
func (p *tcpPeers) ask(ctx context.Context, to callTarget, m method, request, dst []byte) ([]byte, error) {
	ctx, span := p.opts.tracer.Call(ctx, "call")
	if span.On() {
		span.Text(spanMethod, m.String())
		span.Text(spanNode, p.opts.node)
		span.Text(spanPeer, to.name())
	}
	answer, err := p.exchange(ctx, to, m, request, dst)
	span.End(err)
	return answer, err
}

func (p *tcpPeers) exchange(ctx context.Context, to callTarget, m method, request, dst []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return dst, errs.Wrap(errs.KindOf(err), err, "call node %s", to.name())
	}
	if len(request) > maxFrame {
		return dst, errs.New(errs.TooLarge, "a request of %d bytes to node %s, the limit is %d", len(request), to.name(), maxFrame)
	}
	pool := p.pool(to)
	if err := pool.enter(ctx); err != nil {
		pool.link.called(true)
		return dst, unreached(to.name(), err)
	}
	defer pool.leave()
	for {
		c, reused, err := pool.get(ctx)
		if err != nil {
			pool.link.called(true)
			return dst, unreached(to.name(), err)
		}
		kind, out, err := c.exchange(ctx, m, request, dst)
		switch {
		case err == nil:
			pool.link.called(false)
			pool.put(c)
			return bodyOrError(kind, out, len(dst))
		case !errors.Is(err, errUnwritten):
			pool.link.called(true)
			return dst, unanswered(to.name(), err)
		case !reused || ctx.Err() != nil:
			pool.link.called(true)
			return dst, unreached(to.name(), err)
		}
		// The connection went stale while it lay idle. Each round uses one up, so this ends.
	}
}

// bodyOrError returns what was appended behind the first n bytes of out, or the error that this is.
func bodyOrError(kind frameType, out []byte, n int) ([]byte, error) {
	if kind == frameAnswer {
		return out, nil
	}
	err, ok := readError(out[n:])
	if !ok {
		err = errs.New(errs.Corrupt, "an error of another node cannot be read")
	}
	return out[:n], err
}

// pool is where the connections to a node wait.
func (p *tcpPeers) pool(to callTarget) *callPool {
	p.mu.Lock()
	defer p.mu.Unlock()
	pool := p.pools[to]
	if pool == nil {
		pool = &callPool{peers: p, to: to, link: p.opts.links.of(to.node), slots: make(chan struct{}, maxCalls)}
		p.pools[to] = pool
	}
	return pool
}

// reapIdle closes connections that nobody has used for long.
func (p *tcpPeers) reapIdle() {
	tick := time.NewTicker(idleCall / 2)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.reap(time.Now().Add(-idleCall))
		case <-p.ctx.Done():
			return
		}
	}
}

// reap closes what is idle since before then, and forgets addresses that nobody calls.
func (p *tcpPeers) reap(before time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for to, pool := range p.pools {
		if pool.reap(before) {
			delete(p.pools, to)
		}
	}
}

// callPool are the connections to one node. The one used last is used next, so that those not needed grow old.
type callPool struct {
	peers *tcpPeers
	to    callTarget
	link  *linkCounts
	slots chan struct{}

	mu   sync.Mutex
	idle []*callConn
	gone bool // the pool was forgotten: nothing is kept any more
}

func (p *callPool) enter(ctx context.Context) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *callPool) leave() { <-p.slots }

// get returns a connection that lies idle and is not known to be broken, else a new one.
func (p *callPool) get(ctx context.Context) (c *callConn, reused bool, err error) {
	for {
		c := p.pop()
		if c == nil {
			break
		}
		if !c.broken() {
			return c, true, nil
		}
	}
	c, err = p.connect(ctx)
	return c, false, err
}

func (p *callPool) pop() *callConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle) - 1
	if n < 0 {
		return nil
	}
	c := p.idle[n]
	p.idle[n] = nil
	p.idle = p.idle[:n]
	return c
}

func (p *callPool) put(c *callConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone || len(p.idle) >= maxIdleCalls {
		c.conn.Close()
		return
	}
	c.since = time.Now()
	p.idle = append(p.idle, c)
}

// reap reports whether nothing is left of the pool. The oldest are in front.
func (p *callPool) reap(before time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.idle) && p.idle[n].since.Before(before) {
		p.idle[n].conn.Close()
		n++
	}
	p.idle = append(p.idle[:0], p.idle[n:]...)
	p.gone = len(p.idle) == 0 && len(p.slots) == 0
	return p.gone
}

func (p *callPool) connect(ctx context.Context) (*callConn, error) {
	ctx, cancel := context.WithTimeout(ctx, callDial)
	defer cancel()
	defer context.AfterFunc(p.peers.ctx, cancel)()
	conn, err := p.peers.dial(ctx, p.to.addr, &hello{kind: helloCall, to: p.to.node})
	if err != nil {
		return nil, err
	}
	kept, ok := p.peers.outbound.add(conn)
	if !ok {
		return nil, net.ErrClosed
	}
	c := &callConn{conn: kept, into: make(chan []byte, 1), answers: make(chan callAnswer, 1), done: make(chan struct{})}
	if !p.peers.spawn(c.read) {
		_ = kept.Close()
		return nil, net.ErrClosed
	}
	return c, nil
}

// callConn is a connection for calls, one at a time. A goroutine of its own reads it, so that it is known at once when
// the other side has left.
type callConn struct {
	conn    net.Conn
	id      uint32
	buf     []byte
	beside  []byte          // what travels with the request
	since   time.Time       // it lies idle
	into    chan []byte     // what the next answer is appended to
	answers chan callAnswer // at most one
	done    chan struct{}   // closed when read has ended
	err     error           // why; read it after done
}

type callAnswer struct {
	frame frame
	out   []byte
}

// errUnwritten says that not a byte of the request has left.
var errUnwritten = errors.New("the request did not leave")

func (c *callConn) broken() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// exchange sends a request and appends the body of what comes back to dst. After an error, which is errUnwritten when
// nothing was sent, the connection is closed and dst is not touched any more.
func (c *callConn) exchange(ctx context.Context, m method, request, dst []byte) (frameType, []byte, error) {
	c.id++
	c.into <- dst
	if err := c.write(ctx, m, request); err != nil {
		c.abandon()
		return 0, nil, err
	}
	a, err := c.await(ctx)
	if err == nil && (a.frame.id != c.id || a.frame.kind == frameRequest) {
		err = errUnasked
	}
	if err != nil {
		c.abandon()
		return 0, nil, err
	}
	return a.frame.kind, a.out, nil
}

func (c *callConn) await(ctx context.Context) (callAnswer, error) {
	select {
	case a := <-c.answers:
		return a, nil
	case <-ctx.Done():
		return callAnswer{}, ctx.Err()
	case <-c.done:
	}
	select {
	case a := <-c.answers: // it came before the end
		return a, nil
	default:
		return callAnswer{}, c.err
	}
}

// abandon closes the connection and waits until it is not read any more.
func (c *callConn) abandon() {
	c.conn.Close()
	<-c.done
}

// write sends a request with what is left of the caller's patience.
func (c *callConn) write(ctx context.Context, m method, request []byte) error {
	deadline, bounded := ctx.Deadline()
	f := frame{kind: frameRequest, method: m, id: c.id}
	if bounded {
		f.patience = max(1, time.Until(deadline))
	} else {
		deadline = time.Now().Add(writePatience)
	}
	if err := c.conn.SetWriteDeadline(deadline); err != nil {
		return errors.Join(errUnwritten, err)
	}
	c.beside = tracing.Append(c.beside[:0], ctx)
	c.buf = appendFrame(c.buf[:0], &f, c.beside, request)
	n, err := writeFrame(ctx, c.conn, &c.buf, request)
	if err != nil && n == 0 {
		return errors.Join(errUnwritten, err)
	}
	return err
}

// writeFrame writes the head in buf and the body, and returns how much of the head has left. A short body is copied, so
// buf may be a new one afterwards.
func writeFrame(ctx context.Context, conn net.Conn, buf *[]byte, body []byte) (int, error) {
	if len(body) <= joinedWrite {
		*buf = append(*buf, body...)
		return conn.Write(*buf)
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })() // this may take a while
	n, err := conn.Write(*buf)
	if err == nil {
		_, err = conn.Write(body)
	}
	return n, err
}

// read takes answers until the connection ends.
func (c *callConn) read() {
	defer close(c.done)
	defer c.conn.Close()
	r := frameReader{r: bufio.NewReaderSize(c.conn, readBuffer)}
	for {
		a, err := c.readAnswer(&r)
		if err != nil {
			c.err = err
			return
		}
		c.answers <- a
	}
}

func (c *callConn) readAnswer(r *frameReader) (a callAnswer, err error) {
	if a.frame, err = r.next(); err != nil {
		return a, err
	}
	select {
	case dst := <-c.into:
		a.out, err = r.body(&a.frame, dst)
		return a, err
	default:
		return a, errUnasked
	}
}
