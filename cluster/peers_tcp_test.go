package cluster

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/internal/certs"
	"github.com/croftdb/croft/internal/errs"
)

func TestTCPPeers(t *testing.T) {
	testPeers(t, func(t *testing.T) newPeers { return newTCPNetwork(t, nil).peers })
}

func TestTLSPeers(t *testing.T) {
	testPeers(t, func(t *testing.T) newPeers { return newTCPNetwork(t, newSource(t, newAuthority(t))).peers })
}

// tcpNetwork makes nodes of one cluster on loopback, which find each other.
type tcpNetwork struct {
	t       *testing.T
	tls     *certs.Source
	cluster string
	mu      sync.Mutex
	addrs   map[string]string
}

func newTCPNetwork(t *testing.T, tls *certs.Source) *tcpNetwork {
	return &tcpNetwork{t: t, tls: tls, cluster: "testers", addrs: map[string]string{}}
}

func (n *tcpNetwork) resolve(node string) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	addr, ok := n.addrs[node]
	return addr, ok
}

func (n *tcpNetwork) options(node string) tcpOptions {
	return tcpOptions{
		listen: "127.0.0.1:0", node: node, cluster: func() string { return n.cluster },
		resolve: n.resolve, tls: n.tls, logger: testLogger(),
	}
}

func (n *tcpNetwork) peers(node string) peers {
	p := n.make(n.options(node))
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addrs[node] = p.addr()
	return p
}

func (n *tcpNetwork) make(o tcpOptions) *tcpPeers {
	p, err := newTCPPeers(o)
	require.NoError(n.t, err)
	n.t.Cleanup(func() { require.NoError(n.t, p.close()) })
	return p
}

// newAuthority makes an authority and returns its directory.
func newAuthority(t *testing.T) string {
	dir := t.TempDir()
	_, err := certs.Authority(dir, false)
	require.NoError(t, err)
	return dir
}

func certFiles(t *testing.T, dir string) certs.Files {
	pair, err := certs.Node(dir, []string{"127.0.0.1", "localhost"}, true)
	require.NoError(t, err)
	return certs.Files{Cert: pair.CertPath, Key: pair.KeyPath, CA: filepath.Join(dir, certs.CAFile)}
}

func newSource(t *testing.T, dir string) *certs.Source {
	s, err := certs.Open(certFiles(t, dir), peerProtocol, testLogger())
	require.NoError(t, err)
	return s
}

func TestListenNeedsTLS(t *testing.T) {
	source := newSource(t, newAuthority(t))
	cases := []struct {
		listen, advertise string
		tls               *certs.Source
		want              errs.Kind
		says              string
	}{
		{"127.0.0.1:0", "", nil, kindFine, ""},
		{"[::1]:0", "", nil, kindFine, ""},
		{"localhost:0", "", nil, kindFine, ""},
		{"0.0.0.0:0", "127.0.0.1:1", nil, errs.FailedPrecondition, "without TLS"},
		{":0", "127.0.0.1:1", nil, errs.FailedPrecondition, "without TLS"},
		{"192.0.2.1:0", "", nil, errs.FailedPrecondition, "without TLS"},
		{"0.0.0.0:0", "127.0.0.1:1", source, kindFine, ""},
		{"0.0.0.0:0", "", source, errs.Invalid, "no address"},
		{"nowhere", "", nil, errs.Invalid, "nowhere"},
	}
	for _, c := range cases {
		t.Run(c.listen, func(t *testing.T) {
			o := newTCPNetwork(t, c.tls).options("a")
			o.listen, o.advertise = c.listen, c.advertise
			p, err := newTCPPeers(o)
			if c.want == kindFine {
				require.NoError(t, err)
				require.NoError(t, p.close())
				return
			}
			require.Equal(t, c.want, errs.KindOf(err), "%v", err)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestOpenPeers(t *testing.T) {
	none := func(string) (string, bool) { return "", false }
	o := Options{PeerListen: "127.0.0.1:0", PeerAdvertise: "127.0.0.1:9", Logger: testLogger()}
	p, err := openPeers(&o, "a", func() string { return "c" }, none, nil)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:9", p.addr())
	require.Nil(t, p.opts.tls)
	require.NoError(t, p.close())

	o.PeerListen, o.PeerTLS = "0.0.0.0:0", certFiles(t, newAuthority(t))
	p, err = openPeers(&o, "a", func() string { return "c" }, none, nil)
	require.NoError(t, err)
	require.NoError(t, p.close())

	o.PeerTLS.CA = o.PeerTLS.Key
	_, err = openPeers(&o, "a", func() string { return "c" }, none, nil)
	require.Equal(t, errs.Invalid, errs.KindOf(err), "%v", err)
}

// TestStrangers dials with hellos that must be refused.
func TestStrangers(t *testing.T) {
	n := newTCPNetwork(t, nil)
	p := started(t, n.peers, "a", echo).(*tcpPeers)
	p.open("shard 1")
	cases := []struct {
		name  string
		hello hello
		says  string
	}{
		{"other cluster", hello{kind: helloCall, cluster: "others", from: "x", to: "a"}, `not "others"`},
		{"raft of no cluster", hello{kind: helloRaft, from: "x", to: "a", group: "shard 1"}, "not \"\""},
		{"other node", hello{kind: helloCall, cluster: "testers", from: "x", to: "b"}, "this is node a"},
		{"raft of any node", hello{kind: helloRaft, cluster: "testers", from: "x", group: "shard 1"}, "this is node a"},
		{"unknown group", hello{kind: helloRaft, cluster: "testers", from: "x", to: "a", group: "shard 2"}, `no replica of "shard 2"`},
		{"unknown kind", hello{kind: 9, cluster: "testers", from: "x", to: "a"}, "unknown kind"},
		{"known group", hello{kind: helloRaft, cluster: "testers", from: "x", to: "a", group: "shard 1"}, ""},
		{"too long", hello{kind: helloCall, cluster: "testers", from: string(make([]byte, 2000)), to: "a"}, "the limit is"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			conn := dialRaw(t, p)
			_, err := conn.Write(appendHello(nil, &c.hello))
			require.NoError(t, err)
			err = readWelcome(conn)
			if c.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.says)
			_, err = conn.Read(make([]byte, 1))
			require.Error(t, err, "the connection is closed")
		})
	}
}

func dialRaw(t *testing.T, p *tcpPeers) net.Conn {
	conn, err := net.Dial("tcp", p.addr())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestBeforeJoining: who belongs to no cluster yet may ask to join and nothing else, and is asked nothing.
func TestBeforeJoining(t *testing.T) {
	n := newTCPNetwork(t, nil)
	member := n.peers("a")
	member.handle(methodJoin, echo)
	member.handle(methodStatus, echo)
	require.NoError(t, member.start())
	o := n.options("b")
	o.cluster = func() string { return "" }
	newcomer := n.make(o)
	require.NoError(t, newcomer.start())

	got, err := newcomer.callAddr(t.Context(), member.addr(), methodJoin, []byte("let me in"), nil)
	require.NoError(t, err)
	require.Equal(t, "b:let me in", string(got))
	_, err = newcomer.callAddr(t.Context(), member.addr(), methodStatus, nil, nil)
	require.Equal(t, errs.PermissionDenied, errs.KindOf(err), "%v", err)
	_, err = member.callAddr(t.Context(), newcomer.addr(), methodStatus, nil, nil)
	require.ErrorContains(t, err, "has not joined")
	require.Equal(t, errs.Unavailable, errs.KindOf(err))
}

// hostile is what a peer may send after it was let in for calls.
var hostile = map[string][]byte{
	"garbage":     bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), 4),
	"zeros":       make([]byte, 64),
	"oversized":   frameOf(func(b []byte) { binary.LittleEndian.PutUint32(b, maxFrame+1) }),
	"bad crc":     frameOf(func(b []byte) { b[4]++ }),
	"reserved":    frameOf(func(b []byte) { b[10] = 1 }),
	"an answer":   appendFrame(nil, &frame{kind: frameAnswer, method: methodStatus}, nil, nil),
	"no type":     appendFrame(nil, &frame{kind: 77, method: methodStatus}, nil, nil),
	"no patience": appendFrame(nil, &frame{kind: frameRequest, method: methodStatus, patience: -1}, nil, nil),
}

func frameOf(spoil func([]byte)) []byte {
	b := appendFrame(nil, &frame{kind: frameRequest, method: methodStatus}, nil, []byte("body"))
	b = append(b, "body"...)
	spoil(b)
	return b
}

func TestHostilePeers(t *testing.T) {
	n := newTCPNetwork(t, nil)
	p := started(t, n.peers, "a", echo).(*tcpPeers)
	b := started(t, n.peers, "b", nil)
	for name, sent := range hostile {
		t.Run(name, func(t *testing.T) {
			conn := dialRaw(t, p)
			_, err := conn.Write(appendHello(nil, &hello{kind: helloCall, cluster: "testers", from: "x", to: "a"}))
			require.NoError(t, err)
			require.NoError(t, readWelcome(conn))
			_, err = conn.Write(sent)
			require.NoError(t, err)
			got, _ := io.ReadAll(conn)
			require.Empty(t, got, "no answer, and the connection ends")
		})
	}
	t.Run("garbage for a hello", func(t *testing.T) {
		conn := dialRaw(t, p)
		_, err := conn.Write(hostile["garbage"])
		require.NoError(t, err)
		require.Error(t, readWelcome(conn))
	})
	t.Run("half a hello", func(t *testing.T) {
		conn := dialRaw(t, p)
		_, err := conn.Write(appendHello(nil, &hello{kind: helloCall})[:7])
		require.NoError(t, err)
		require.NoError(t, conn.(*net.TCPConn).CloseWrite())
		require.Error(t, readWelcome(conn))
	})
	got, err := b.call(t.Context(), "a", methodStatus, []byte("still there"), nil)
	require.NoError(t, err)
	require.Equal(t, "b:still there", string(got))
}

// TestSlowHellos: connections that say nothing keep nobody from being served, and close does not wait for them. That they are
// closed in time is told by the deadline that is on them.
func TestSlowHellos(t *testing.T) {
	n := newTCPNetwork(t, nil)
	p := started(t, n.peers, "a", echo).(*tcpPeers)
	for range maxHellos / 2 {
		dialRaw(t, p)
	}
	_, err := started(t, n.peers, "b", nil).call(t.Context(), "a", methodStatus, nil, nil)
	require.NoError(t, err)

	here, there := net.Pipe()
	defer there.Close()
	conn := &deadlined{Conn: here}
	go io.Copy(io.Discard, there)
	go func() { <-conn.set(); there.Close() }()
	p.hellos.Add(1)
	p.greet(conn)
	require.WithinRange(t, conn.at, time.Now(), time.Now().Add(helloPatience))
}

// deadlined tells of the first deadline that it gets.
type deadlined struct {
	net.Conn
	once sync.Once
	c    chan struct{}
	done sync.Once
	at   time.Time
}

func (d *deadlined) set() chan struct{} {
	d.once.Do(func() { d.c = make(chan struct{}) })
	return d.c
}

func (d *deadlined) SetDeadline(t time.Time) error {
	d.done.Do(func() { d.at = t; close(d.set()) })
	return d.Conn.SetDeadline(t)
}

func TestTooManyHellos(t *testing.T) {
	n := newTCPNetwork(t, nil)
	p := started(t, n.peers, "a", echo).(*tcpPeers)
	for range maxHellos {
		dialRaw(t, p)
	}
	await(t, func() bool { return p.hellos.Load() == maxHellos })
	_, err := dialRaw(t, p).Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "closed at once")
}

// liar is a listener whose node says what test wants after each hello.
func liar(t *testing.T, n *tcpNetwork, node string, talk func(conn net.Conn)) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	n.addrs[node] = listener.Addr().String()
	var wg sync.WaitGroup
	var conns connSet
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns.add(conn)
			wg.Go(func() {
				defer conn.Close()
				if _, err := readHello(conn); err == nil {
					talk(conn)
				}
			})
		}
	})
	t.Cleanup(func() { listener.Close(); conns.closeAll(); wg.Wait() })
}

func TestLyingCallees(t *testing.T) {
	greet := appendWelcome(nil, nil)
	cases := []struct {
		name string
		talk func(conn net.Conn)
		want errs.Kind
	}{
		{"hangs up", func(net.Conn) {}, errs.Unavailable},
		{"garbage for a welcome", func(c net.Conn) { c.Write([]byte("HTTP/1.1 400 Bad Request")) }, errs.Unavailable},
		{"refuses", func(c net.Conn) { c.Write(appendWelcome(nil, errs.New(errs.NotFound, "no"))) }, errs.Unavailable},
		{"hangs up on a request", func(c net.Conn) { c.Write(greet); c.Read(make([]byte, 1)) }, errs.OutcomeUnknown},
		{"answers unasked", func(c net.Conn) {
			c.Write(appendFrame(greet, &frame{kind: frameAnswer, method: methodStatus, id: 1}, nil, nil))
			io.Copy(io.Discard, c)
		}, kindFine}, // it cannot be told from an answer that was quick, unless it is read before the request is written
		{"wrong id", func(c net.Conn) {
			c.Write(greet)
			io.ReadFull(c, make([]byte, frameHeader))
			c.Write(appendFrame(nil, &frame{kind: frameAnswer, method: methodStatus, id: 7}, nil, nil))
			io.Copy(io.Discard, c)
		}, errs.OutcomeUnknown},
		{"oversized", func(c net.Conn) {
			c.Write(greet)
			io.ReadFull(c, make([]byte, frameHeader))
			c.Write(hostile["oversized"])
			io.Copy(io.Discard, c)
		}, errs.OutcomeUnknown},
		{"unreadable error", func(c net.Conn) {
			c.Write(greet)
			io.ReadFull(c, make([]byte, frameHeader))
			c.Write(append(appendFrame(nil, &frame{kind: frameError, method: methodStatus, id: 1}, nil, []byte{1}), 1))
			io.Copy(io.Discard, c)
		}, errs.Corrupt},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			n := newTCPNetwork(t, nil)
			a := started(t, n.peers, "a", nil)
			liar(t, n, "b", c.talk)
			_, err := a.call(t.Context(), "b", methodStatus, nil, nil)
			if c.want == kindFine {
				if err != nil {
					require.Contains(t, []errs.Kind{errs.OutcomeUnknown, errs.Unavailable}, errs.KindOf(err), "%v", err)
				}
				return
			}
			require.Equal(t, c.want, errs.KindOf(err), "%v", err)
		})
	}
}

// TestStaleConnections: a node that restarts leaves connections behind that are dead, and no call may fail for that.
func TestStaleConnections(t *testing.T) {
	n := newTCPNetwork(t, nil)
	a := started(t, n.peers, "a", nil).(*tcpPeers)
	for i := range 5 {
		b := n.peers("b")
		b.handle(methodStatus, echo)
		require.NoError(t, b.start())
		_, err := a.call(t.Context(), "b", methodStatus, nil, nil)
		require.NoError(t, err, "round %d", i)
		pool := a.pool(callTarget{"b", b.addr()})
		require.Len(t, pool.idle, 1)
		c := pool.idle[0]
		require.NoError(t, b.close())
		<-c.done
		o := n.options("b")
		o.listen = b.addr() // the same again
		again := n.make(o)
		again.handle(methodStatus, echo)
		require.NoError(t, again.start())
		_, err = a.call(t.Context(), "b", methodStatus, nil, nil)
		require.NoError(t, err, "round %d", i)
		require.NoError(t, again.close())
	}
}

// TestUnwrittenIsRepeated breaks idle connections so that their reader has not noticed.
func TestUnwrittenIsRepeated(t *testing.T) {
	n := newTCPNetwork(t, nil)
	a := started(t, n.peers, "a", nil).(*tcpPeers)
	var calls atomic.Int32
	started(t, n.peers, "b", func(context.Context, string, []byte, []byte) ([]byte, error) {
		calls.Add(1)
		return nil, nil
	})
	_, err := a.call(t.Context(), "b", methodStatus, nil, nil)
	require.NoError(t, err)
	pool := a.pool(callTarget{"b", n.addrs["b"]})
	c := pool.idle[0]
	c.conn = unwritable{c.conn}
	_, err = a.call(t.Context(), "b", methodStatus, nil, nil)
	require.NoError(t, err)
	require.EqualValues(t, 2, calls.Load(), "each request was seen once")
	require.NotSame(t, c, pool.idle[0])
}

type unwritable struct{ net.Conn }

func (unwritable) Write([]byte) (int, error) { return 0, net.ErrClosed }

func TestIdleConnectionsAreReaped(t *testing.T) {
	n := newTCPNetwork(t, nil)
	a := started(t, n.peers, "a", nil).(*tcpPeers)
	b := started(t, n.peers, "b", echo)
	_, err := a.call(t.Context(), "b", methodStatus, nil, nil)
	require.NoError(t, err)
	target := callTarget{"b", b.addr()}
	pool := a.pool(target)
	c := pool.idle[0]

	a.reap(c.since)
	require.False(t, c.broken(), "not yet")
	a.reap(c.since.Add(1))
	<-c.done
	require.Empty(t, a.pools)
	pool.put(c)
	require.Empty(t, pool.idle, "a pool that was forgotten keeps nothing")
	_, err = a.call(t.Context(), "b", methodStatus, nil, nil)
	require.NoError(t, err)
	require.NotSame(t, pool, a.pool(target))
}

func TestCallsAreBounded(t *testing.T) {
	n := newTCPNetwork(t, nil)
	a := started(t, n.peers, "a", nil).(*tcpPeers)
	started(t, n.peers, "b", echo)
	pool := a.pool(callTarget{"b", n.addrs["b"]})
	for range maxCalls {
		require.NoError(t, pool.enter(t.Context()))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := a.call(ctx, "b", methodStatus, nil, nil)
	require.Equal(t, errs.Unavailable, errs.KindOf(err), "%v", err)
	pool.leave()
	_, err = a.call(t.Context(), "b", methodStatus, nil, nil)
	require.NoError(t, err)
}

func TestPanicsStayWithTheirCaller(t *testing.T) {
	n := newTCPNetwork(t, nil)
	a := started(t, n.peers, "a", nil)
	started(t, n.peers, "b", func(_ context.Context, _ string, request, dst []byte) ([]byte, error) {
		return append(dst, request[3]), nil
	})
	_, err := a.call(t.Context(), "b", methodStatus, nil, nil)
	require.Equal(t, errs.Internal, errs.KindOf(err), "%v", err)
	got, err := a.call(t.Context(), "b", methodStatus, []byte("abcd"), nil)
	require.NoError(t, err)
	require.Equal(t, "d", string(got))
}

// TestKeptAnswers: a handler may answer with memory of its own, which must not be written to for the next answer.
func TestKeptAnswers(t *testing.T) {
	n := newTCPNetwork(t, nil)
	a := started(t, n.peers, "a", nil)
	cached := bytes.Repeat([]byte("x"), 1000)
	started(t, n.peers, "b", func(_ context.Context, _ string, request, dst []byte) ([]byte, error) {
		if len(request) == 0 {
			return cached, nil
		}
		return append(dst, request...), nil
	})
	for i := range 4 {
		_, err := a.call(t.Context(), "b", methodStatus, nil, nil)
		require.NoError(t, err)
		request := fmt.Appendf(nil, "request %d", i)
		got, err := a.call(t.Context(), "b", methodStatus, request, nil)
		require.NoError(t, err)
		require.Equal(t, request, got)
	}
	require.Equal(t, bytes.Repeat([]byte("x"), 1000), cached)
}

func TestTLSOfAnotherAuthority(t *testing.T) {
	ours := newTCPNetwork(t, newSource(t, newAuthority(t)))
	theirs := newTCPNetwork(t, newSource(t, newAuthority(t)))
	plain := newTCPNetwork(t, nil)
	started(t, ours.peers, "a", echo)
	for name, other := range map[string]*tcpNetwork{"theirs": theirs, "plain": plain} {
		t.Run(name, func(t *testing.T) {
			b := started(t, other.peers, "b", echo)
			other.addrs["a"], ours.addrs["b"] = ours.addrs["a"], other.addrs["b"]
			_, err := b.call(t.Context(), "a", methodStatus, nil, nil)
			require.Equal(t, errs.Unavailable, errs.KindOf(err), "%v", err)
		})
	}
}

// TestTLSReload replaces the certificates of running nodes, in place and with those of another authority.
func TestTLSReload(t *testing.T) {
	dir := newAuthority(t)
	n := newTCPNetwork(t, newSource(t, dir))
	a := started(t, n.peers, "a", nil).(*tcpPeers)
	started(t, n.peers, "b", echo)
	_, err := a.call(t.Context(), "b", methodStatus, nil, nil)
	require.NoError(t, err)
	serial := func() string { return n.tls.Server().Certificates[0].Leaf.SerialNumber.String() }
	before := serial()

	_, err = certs.Authority(dir, true)
	require.NoError(t, err)
	certFiles(t, dir)
	require.NotEqual(t, before, serial())
	a.reap(time.Now().Add(time.Hour)) // connections outlive the certificates they began with
	_, err = a.call(t.Context(), "b", methodStatus, nil, nil)
	require.NoError(t, err, "both ends have the new ones")

	require.NoError(t, os.WriteFile(filepath.Join(dir, "127.0.0.1.crt"), []byte("half a file"), 0o600))
	a.reap(time.Now().Add(time.Hour))
	_, err = a.call(t.Context(), "b", methodStatus, nil, nil)
	require.NoError(t, err, "files that cannot be used change nothing")
}

func TestHelloRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringN(0, 50, 200)
		h := hello{
			kind: helloKind(rapid.Byte().Draw(t, "kind")), cluster: text.Draw(t, "cluster"), from: text.Draw(t, "from"),
			to: text.Draw(t, "to"), group: text.Draw(t, "group"),
		}
		r := bytes.NewReader(append(appendHello(nil, &h), "more"...))
		got, err := readHello(r)
		require.NoError(t, err)
		require.Equal(t, h, got)
		require.Equal(t, 4, r.Len(), "not a byte more is read")
	})
}

func FuzzHello(f *testing.F) {
	f.Add(appendHello(nil, &hello{helloRaft, "c", "a", "b", "shard 1"}))
	f.Add(appendHello(nil, &hello{kind: helloCall}))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readHello(bytes.NewReader(b))
		if err != nil {
			return
		}
		got, err := readHello(bytes.NewReader(appendHello(nil, &h)))
		require.NoError(t, err)
		require.Equal(t, h, got)
	})
}

func FuzzWelcome(f *testing.F) {
	f.Add(appendWelcome(nil, nil))
	f.Add(appendWelcome(nil, errs.New(errs.Unavailable, "later")))
	f.Fuzz(func(t *testing.T, b []byte) {
		err := readWelcome(bytes.NewReader(b))
		if err == nil {
			require.Equal(t, appendWelcome(nil, nil), b[:welcomeHeader])
		}
	})
}

func FuzzFrame(f *testing.F) {
	f.Add(append(appendFrame(nil, &frame{kind: frameRequest, method: methodQuery, id: 3, patience: time.Second}, nil, []byte("body")), "body"...))
	f.Add(append(appendFrame(nil, &frame{kind: frameRequest, method: methodQuery, id: 4}, []byte("beside"), []byte("body")), "body"...))
	for _, b := range hostile {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := frameReader{r: bytes.NewReader(b)}
		head, err := r.next()
		if err != nil {
			return
		}
		body, err := r.body(&head, []byte("before"))
		require.Equal(t, "before", string(body[:6]))
		if err != nil {
			return
		}
		beside, rest := body[6:6+head.beside], body[6+head.beside:]
		again := append(appendFrame(nil, &head, beside, rest), rest...)
		require.Equal(t, b[:len(again)], again)
	})
}

// TestHeartbeatsGoThroughTheMainLoop: with a handler, raft's transport would call it from the connection's goroutine.
func TestHeartbeatsGoThroughTheMainLoop(t *testing.T) {
	n := newTCPNetwork(t, nil)
	a := started(t, n.peers, "a", nil).open("group")
	b := started(t, n.peers, "b", nil).open("group")
	b.SetHeartbeatHandler(func(rpc raft.RPC) {
		t.Error("the handler was called")
		rpc.Respond(&raft.AppendEntriesResponse{}, nil)
	})
	go func() {
		rpc := <-b.Consumer()
		rpc.Respond(&raft.AppendEntriesResponse{Term: rpc.Command.(*raft.AppendEntriesRequest).Term, Success: true}, nil)
	}()
	heartbeat := &raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{Addr: a.EncodePeer("a", "a")}, Term: 7}
	var answer raft.AppendEntriesResponse
	require.NoError(t, a.AppendEntries("b", "b", heartbeat, &answer))
	require.EqualValues(t, 7, answer.Term)
}

func BenchmarkCall(b *testing.B) {
	for _, size := range []int{100, 8 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			addrs := map[string]string{}
			build := func(node string) *tcpPeers {
				p, err := newTCPPeers(tcpOptions{
					listen: "127.0.0.1:0", node: node, cluster: func() string { return "c" }, logger: testLogger(),
					resolve: func(node string) (string, bool) { return addrs[node], true },
				})
				require.NoError(b, err)
				p.handle(methodStatus, func(_ context.Context, _ string, request, dst []byte) ([]byte, error) {
					return append(dst, request...), nil
				})
				require.NoError(b, p.start())
				addrs[node] = p.addr()
				b.Cleanup(func() { p.close() })
				return p
			}
			a, _ := build("a"), build("b")
			request := bytes.Repeat([]byte{1}, size)
			b.SetBytes(int64(2 * size))
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				var dst []byte
				for pb.Next() {
					var err error
					if dst, err = a.call(b.Context(), "b", methodStatus, request, dst[:0]); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
