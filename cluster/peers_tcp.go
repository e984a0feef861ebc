package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/croftdb/croft/internal/certs"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/tracing"
)

const (
	// helloPatience is how long a connection may take to say what it is for, the TLS handshake included.
	helloPatience = 5 * time.Second
	// callDial bounds dialling for a call: a node that takes longer is as good as gone.
	callDial = 3 * time.Second
	// maxHellos is how many connections may be at their hello, maxInbound how many there may be in all. 256 groups among
	// five nodes keep about 3,000.
	maxHellos  = 256
	maxInbound = 8192
)

// peerProtocol is what both ends of a TLS link must name (ALPN).
const peerProtocol = "croft"

var errNoAddress = errors.New("its address is not known")

// keepAlive finds out within half a minute that the other side of a quiet connection is gone.
func keepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}
}

// tcpOptions of links over TCP.
type tcpOptions struct {
	listen    string                                   // host:port; port 0: any that is free
	advertise string                                   // host:port that other nodes dial; empty: as listen
	node      string                                   // id of this node
	cluster   func() string                            // id of its cluster, empty until it has joined one
	resolve   func(node string) (addr string, ok bool) // where a node is; called for each call, so it must be quick
	tls       *certs.Source                            // nil: plain, on loopback alone
	links     *links                                   // nil: nothing is counted
	tracer    *tracing.Tracer                          // nil: no spans
	logger    *slog.Logger
}

// tcpPeers are links over TCP, with mutual TLS but on loopback. One listener serves all raft groups and all calls; each
// connection begins with a hello.
type tcpPeers struct {
	opts     tcpOptions
	listener net.Listener
	inFlight int // requests of raft to a node at once, see raftInFlight
	handlers [256]handler
	ctx      context.Context // ends with close
	cancel   context.CancelFunc
	inbound  connSet      // all accepted
	outbound connSet      // dialled for calls
	hellos   atomic.Int32 // connections that have not said yet what they are for

	mu      sync.Mutex
	closed  bool
	groups  map[string]safeTrans
	pools   map[callTarget]*callPool
	running sync.WaitGroup // counted under mu while not closed
}

var _ peers = (*tcpPeers)(nil)

// newTCPPeers takes its port, and answers nobody before start. FailedPrecondition: the address needs TLS.
func newTCPPeers(o tcpOptions) (*tcpPeers, error) {
	at, err := net.ResolveTCPAddr("tcp", o.listen)
	if err != nil {
		return nil, errs.Wrap(errs.Invalid, err, "listen for peers at %s", o.listen)
	}
	if o.tls == nil && !at.IP.IsLoopback() {
		return nil, errs.New(errs.FailedPrecondition, "listen for peers at %s: nodes speak without TLS on loopback alone", o.listen).
			WithHint("make certificates with `croft certs`, or listen at 127.0.0.1")
	}
	if o.advertise == "" && (at.IP == nil || at.IP.IsUnspecified()) {
		return nil, errs.New(errs.Invalid, "listen for peers at %s: that is no address other nodes could dial", o.listen).
			WithHint("say under which address they reach this node, or listen at that one")
	}
	lc := net.ListenConfig{KeepAliveConfig: keepAlive()}
	listener, err := lc.Listen(context.Background(), "tcp", at.String())
	if err != nil {
		return nil, errs.Wrap(errs.FailedPrecondition, err, "listen for peers")
	}
	p := &tcpPeers{opts: o, listener: listener, inFlight: raftInFlight, groups: map[string]safeTrans{}, pools: map[callTarget]*callPool{}}
	p.inbound.max = maxInbound
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p, nil
}

// openPeers takes the port of a node that has others, as its options say; see tcpOptions for cluster and resolve.
func openPeers(o *Options, node string, cluster func() string, resolve func(node string) (addr string, ok bool), counts *links) (_ *tcpPeers, err error) {
	t := tcpOptions{
		listen: o.PeerListen, advertise: o.PeerAdvertise, node: node, cluster: cluster, resolve: resolve, links: counts, tracer: o.Tracer, logger: o.Logger,
	}
	if o.PeerTLS != (certs.Files{}) {
		if t.tls, err = certs.Open(o.PeerTLS, peerProtocol, o.Logger); err != nil {
			return nil, err
		}
	}
	return newTCPPeers(t)
}

func (p *tcpPeers) handle(m method, h handler) { p.handlers[m] = h }

func (p *tcpPeers) addr() string {
	if p.opts.advertise != "" {
		return p.opts.advertise
	}
	return p.listener.Addr().String()
}

func (p *tcpPeers) start() error {
	if !p.spawn(p.accept) || !p.spawn(p.reapIdle) {
		return errs.New(errs.FailedPrecondition, "the links are closed")
	}
	return nil
}

// spawn runs f in a goroutine that close waits for.
func (p *tcpPeers) spawn(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.running.Go(f)
	return true
}

func (p *tcpPeers) close() error {
	p.mu.Lock()
	p.closed = true
	groups := slices.Collect(maps.Values(p.groups))
	p.mu.Unlock()
	p.cancel()
	err := p.listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil // closed before
	}
	for _, t := range groups {
		err = errors.Join(err, t.Close())
	}
	p.inbound.closeAll()
	p.outbound.closeAll()
	p.running.Wait()
	return err
}

// open implements transports.
func (p *tcpPeers) open(group string) raft.Transport {
	t := newRaftTransport(p, group)
	p.mu.Lock()
	old, again := p.groups[group]
	closed := p.closed
	p.groups[group] = t
	p.mu.Unlock()
	if again {
		_ = old.Close()
	}
	if closed {
		_ = t.Close()
	}
	return t
}

// stream is nil if the group is not open.
func (p *tcpPeers) stream(group string) *raftStream {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.groups[group].stream
}

func (p *tcpPeers) forget(s *raftStream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.groups[s.group].stream == s {
		delete(p.groups, s.group)
	}
}

// accept never waits for a connection, only for the next one.
func (p *tcpPeers) accept() {
	for {
		conn, err := p.listener.Accept()
		if p.ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return
		}
		if err != nil { // no file descriptors left, for one
			p.opts.logger.Warn("cannot accept a peer", "err", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-p.ctx.Done():
			}
			continue
		}
		c, ok := p.inbound.add(conn)
		if !ok {
			continue
		}
		if p.hellos.Add(1) > maxHellos || !p.spawn(func() { p.greet(c) }) {
			p.hellos.Add(-1)
			_ = c.Close()
		}
	}
}

// greet hears what a connection is for, and hands it on.
func (p *tcpPeers) greet(conn net.Conn) {
	serve, err := p.hear(&conn)
	p.hellos.Add(-1)
	if err != nil {
		p.opts.logger.Debug("refused a peer", "remote", conn.RemoteAddr().String(), "err", err)
		conn.Close()
		return
	}
	serve()
}

// hear reads the hello, answers it and returns what is to be done. With TLS it puts that in front of conn.
func (p *tcpPeers) hear(conn *net.Conn) (serve func(), err error) {
	if err := (*conn).SetDeadline(time.Now().Add(helloPatience)); err != nil {
		return nil, err
	}
	if p.opts.tls != nil {
		secure := tls.Server(*conn, p.opts.tls.Server())
		if err := secure.Handshake(); err != nil {
			return nil, err
		}
		*conn = secure
	}
	c := *conn
	h, err := readHello(c)
	if err == nil {
		serve, err = p.admit(p.opts.links.count(c, h.from), &h)
	}
	if _, ours := errors.AsType[*errs.Error](err); err != nil && !ours {
		return nil, err // the connection broke
	}
	if _, werr := c.Write(appendWelcome(nil, err)); err != nil || werr != nil {
		return nil, errors.Join(err, werr)
	}
	return serve, c.SetDeadline(time.Time{})
}

// admit decides about a hello.
func (p *tcpPeers) admit(conn net.Conn, h *hello) (serve func(), err error) {
	cluster := p.opts.cluster()
	joins := h.cluster == "" && h.kind == helloCall
	switch {
	case cluster == "":
		return nil, errs.New(errs.Unavailable, "node %s has not joined a cluster yet", p.opts.node)
	case h.cluster != cluster && !joins:
		return nil, errs.New(errs.FailedPrecondition, "node %s is of cluster %s, not %q", p.opts.node, cluster, h.cluster).
			WithHint("an address was given to another cluster's node")
	case h.to != p.opts.node && (h.to != "" || h.kind == helloRaft):
		return nil, errs.New(errs.FailedPrecondition, "this is node %s, not %s", p.opts.node, h.to)
	}
	switch h.kind {
	case helloRaft:
		s := p.stream(h.group)
		if s == nil || !s.listens() {
			return nil, errs.New(errs.Unavailable, "node %s has no replica of %q that listens", p.opts.node, h.group)
		}
		return func() { s.offer(conn) }, nil
	case helloCall:
		return func() { newCallServer(p, conn, h).run() }, nil
	}
	return nil, errs.New(errs.FailedPrecondition, "a hello of unknown kind %d", h.kind)
}

// dial connects to a node and says hello.
func (p *tcpPeers) dial(ctx context.Context, addr string, h *hello) (net.Conn, error) {
	h.cluster, h.from = p.opts.cluster(), p.opts.node
	dialer := net.Dialer{KeepAliveConfig: keepAlive()}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	secured, err := p.introduce(conn, addr, h)
	if !stop() {
		err = errors.Join(ctx.Err(), err)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("at %s: %w", addr, err)
	}
	return p.opts.links.count(secured, h.to), nil
}

func (p *tcpPeers) introduce(conn net.Conn, addr string, h *hello) (net.Conn, error) {
	if p.opts.tls != nil {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		conn = tls.Client(conn, p.opts.tls.Client(host))
	}
	if _, err := conn.Write(appendHello(nil, h)); err != nil {
		return nil, err
	}
	return conn, readWelcome(conn)
}
