package api

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/croftdb/croft/cluster"
)

func get(t *testing.T, c *http.Client, url string) (int, string, string) {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	require.NoError(t, err)
	req.Header.Set("Api-Key", testKey)
	resp, err := c.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, resp.Proto, string(b)
}

func TestBothVersionsOfHTTP(t *testing.T) {
	s := serve(t, newHandler(t, openNode(t)), ServerOptions{IndexPorts: -1})
	for want, set := range map[string]func(*http.Protocols){
		"HTTP/1.1": func(p *http.Protocols) { p.SetHTTP1(true) },
		"HTTP/2.0": func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) },
	} {
		p := new(http.Protocols)
		set(p)
		tr := &http.Transport{Protocols: p}
		defer tr.CloseIdleConnections()
		status, proto, body := get(t, &http.Client{Transport: tr}, "http://"+s.Addr().String()+"/indexes")
		require.Equal(t, 200, status)
		require.Equal(t, want, proto)
		require.Equal(t, `{"indexes":[]}`, body)
	}
}

// watchable is a Node whose indexes the test sets.
type watchable struct {
	Node
	mu  sync.Mutex
	all []cluster.Index
	f   func([]cluster.Index)
}

func (w *watchable) set(all ...cluster.Index) {
	w.mu.Lock()
	w.all = all
	w.mu.Unlock()
	w.f(all)
}

func (w *watchable) WatchIndexes(f func([]cluster.Index)) func() {
	w.f = f
	f(w.all)
	return func() {}
}

func (w *watchable) Indexes() []cluster.Index {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all
}

func (w *watchable) IndexByPort(port int) (cluster.Index, bool) {
	for _, ix := range w.Indexes() {
		if ix.Port == port {
			return ix, true
		}
	}
	return cluster.Index{}, false
}

func (w *watchable) IndexStats(context.Context, cluster.Index) ([]cluster.Namespace, error) {
	return nil, nil
}

// listenBeforeATakenPort starts a server whose second neighbour port is held by somebody else. It looks below the range
// that the system hands out by itself, where a neighbour may be taken at any moment.
func listenBeforeATakenPort(t *testing.T, h *Handler) (*Server, net.Listener) {
	t.Helper()
	hold := func(port int) net.Listener {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return nil
		}
		return l
	}
	for range 1000 {
		base := 10_000 + rand.IntN(20_000)
		free := hold(base + 1)
		if free == nil {
			continue
		}
		free.Close()
		taken := hold(base + 2)
		if taken == nil {
			continue
		}
		s, err := Listen(h, ServerOptions{Listen: fmt.Sprintf("127.0.0.1:%d", base)})
		if err == nil {
			return s, taken
		}
		taken.Close()
	}
	t.Fatal("no three free ports side by side")
	return nil, nil
}

func TestPortsFollowIndexes(t *testing.T) {
	w := &watchable{Node: openNode(t)}
	h := newHandler(t, w)
	s, taken := listenBeforeATakenPort(t, h)
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	base := s.Addr().(*net.TCPAddr).Port
	tr := &http.Transport{DisableKeepAlives: true}
	c := &http.Client{Transport: tr}
	a, b := cluster.Index{ID: 1, Name: "a", Dim: 11, Port: 1, Metric: 1}, cluster.Index{ID: 2, Name: "b", Dim: 22, Port: 2, Metric: 1}
	none := cluster.Index{ID: 3, Name: "none", Dim: 33, Metric: 1}
	url := func(offset int, path string) string { return fmt.Sprintf("http://127.0.0.1:%d%s", base+offset, path) }
	host := func(name string) string { return fmt.Sprintf(`"name":"%s","metric":"cosine","host":"%s"`, name, "%s") }

	w.set(a, b, none)
	_, _, body := get(t, c, url(0, "/indexes"))
	require.Contains(t, body, fmt.Sprintf(host("a"), url(1, "")))
	require.Contains(t, body, fmt.Sprintf(host("b"), url(0, "/i/b")), "its port is taken")
	require.Contains(t, body, fmt.Sprintf(host("none"), url(0, "/i/none")), "it has no port")
	status, _, body := get(t, c, url(1, "/describe_index_stats"))
	require.Equal(t, 200, status)
	require.Contains(t, body, `"dimension":11`)

	taken.Close()
	w.set(b)
	_, err := net.Dial("tcp", strings.TrimPrefix(url(1, ""), "http://"))
	require.Error(t, err, "the port of a deleted index is closed")
	_, _, body = get(t, c, url(2, "/describe_index_stats"))
	require.Contains(t, body, `"dimension":22`, "a port that became free is opened at the next change")

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	require.NoError(t, s.Shutdown(ctx))
	require.NoError(t, <-done)
	_, err = net.Dial("tcp", strings.TrimPrefix(url(2, ""), "http://"))
	require.Error(t, err)
	w.set(a) // after the end, nothing opens
	require.Empty(t, s.open)
}

func TestConnectionsAreCapped(t *testing.T) {
	h := newHandler(t, openNode(t))
	s := serve(t, h, ServerOptions{IndexPorts: -1, MaxConnsPerIP: 2})
	ask := func(c net.Conn) error {
		fmt.Fprint(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		_, err := io.ReadFull(c, make([]byte, len("HTTP/1.1 200 OK")))
		return err
	}
	one, two := dial(t, s.Addr().String()), dial(t, s.Addr().String())
	require.NoError(t, ask(one))
	require.NoError(t, ask(two))
	require.Error(t, ask(dial(t, s.Addr().String())), "a third is closed at once")
	require.NoError(t, one.Close())
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			return false
		}
		defer c.Close()
		return ask(c) == nil
	}, 10*time.Second, time.Millisecond, "a place becomes free")
}

func TestCapsCount(t *testing.T) {
	m, err := newRequestMetrics(nil)
	require.NoError(t, err)
	caps := newConnCaps(3, 2, m)
	a, b := addrOf(fakeConn("10.0.0.1:1")), addrOf(fakeConn("[::ffff:10.0.0.1]:9"))
	require.Equal(t, a, b, "an address has one spelling")
	other := addrOf(fakeConn("10.0.0.2:1"))
	require.True(t, caps.take(a))
	require.True(t, caps.take(b))
	require.False(t, caps.take(a), "over the cap of one address")
	require.True(t, caps.take(other))
	require.False(t, caps.take(addrOf(fakeConn("10.0.0.3:1"))), "over the cap of all")
	c := &conn{Conn: fakeConn(""), caps: caps, ip: a}
	c.Close()
	c.Close()
	require.Equal(t, 2, caps.open)
	require.Equal(t, 1, caps.byIP[a])
	caps.give(b)
	caps.give(other)
	require.Empty(t, caps.byIP, "no entry stays behind")
}

type fakeConn string

func (f fakeConn) RemoteAddr() net.Addr             { return fakeAddr(f) }
func (f fakeConn) LocalAddr() net.Addr              { return fakeAddr(f) }
func (fakeConn) Close() error                       { return nil }
func (fakeConn) Read([]byte) (int, error)           { return 0, io.EOF }
func (fakeConn) Write(b []byte) (int, error)        { return len(b), nil }
func (fakeConn) SetDeadline(time.Time) error        { return nil }
func (fakeConn) SetReadDeadline(time.Time) error    { return nil }
func (fakeConn) SetWriteDeadline(t time.Time) error { return nil }

type fakeAddr string

func (fakeAddr) Network() string  { return "tcp" }
func (f fakeAddr) String() string { return string(f) }

func TestServerHasEveryLimit(t *testing.T) {
	s := NewHTTPServer(newHandler(t, openNode(t)), ServerOptions{})
	require.Equal(t, 5*time.Second, s.ReadHeaderTimeout)
	require.NotZero(t, s.WriteTimeout)
	require.NotZero(t, s.IdleTimeout)
	require.Equal(t, 16<<10, s.MaxHeaderBytes)
	require.Equal(t, 100, s.HTTP2.MaxConcurrentStreams)
}

func TestListenTellsATakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, err = Listen(newHandler(t, openNode(t)), ServerOptions{Listen: l.Addr().String()})
	require.ErrorContains(t, err, "open the client port")
}

func TestHugeHeaderIsRefused(t *testing.T) {
	s := serve(t, newHandler(t, openNode(t)), ServerOptions{IndexPorts: -1})
	c := dial(t, s.Addr().String())
	go fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Big: %s\r\n\r\n", strings.Repeat("x", 64<<10))
	b := make([]byte, len("HTTP/1.1 431"))
	_, err := io.ReadFull(c, b)
	require.NoError(t, err)
	require.Equal(t, "HTTP/1.1 431", string(b))
}

func TestMain(m *testing.M) {
	// A connection that is cut with bytes unread stays half a second, so that its last answer arrives.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}
