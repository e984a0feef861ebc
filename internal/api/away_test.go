package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/tenancy"
)

// doorNode is one that has heard that a tenant is let in nowhere, and has as many of its requests wait as it ever has.
type doorNode struct {
	Node
	refusals tenancy.Refusals
	open     bool
}

func newDoorNode(n Node, shut string) *doorNode {
	d := &doorNode{Node: n}
	d.refusals.Now = func() time.Time { return time.Unix(1, 0) }
	id := n.Standing(shut).ID
	d.refusals.Close(id, &tenancy.Receipt{Limit: 5, Remaining: 1, Reset: 1500 * time.Millisecond, Closed: time.Minute})
	for key := range uint64(1000) {
		_, _ = d.refusals.Check(id, key, &tenancy.Receipt{})
	}
	return d
}

func (d *doorNode) Quiet() bool { return d.open || d.refusals.Quiet() }

func (d *doorNode) Shut(t tenancy.ID, told *tenancy.Receipt) time.Duration {
	return d.refusals.Shut(t, told)
}

func (d *doorNode) Knock(_ context.Context, namespace string, request uint64, told *tenancy.Receipt) error {
	_, err := d.refusals.Check(d.Standing(namespace).ID, request, told)
	return err
}

func (d *doorNode) Told(uint64, time.Duration) {}

// unread is a body that must not be read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

// TestTurnedAwayIsToldTheSame compares the short way of a refusal with the long one, field by field and header by header.
func TestTurnedAwayIsToldTheSame(t *testing.T) {
	w := newTown(t)
	node := newDoorNode(w.node, acme)
	c := &client{t, newHandler(t, node, func(o *Options) { o.Auth = w.h.(*Handler).opts.Auth })}
	key := w.key(tenancy.RoleReader, acme)
	query := fmt.Sprintf(`{"namespace":%q,"topK":1,"vector":[1]}`, acme)
	for _, extras := range [][]string{
		nil, {"Accept: application/problem+json"}, {"X-Request-Id: mine"}, {"X-Pinecone-Api-Version: 1999-01"}, {"Authorization: Bearer " + key, "Api-Key: "},
	} {
		long := c.do("POST", "/query", query, append([]string{"X-Request-Id: id"}, extras...)...) // the tenant is in the body
		short := c.do("POST", "/query", query, append([]string{"X-Request-Id: id", "Api-Key: " + key}, extras...)...)
		require.Equal(t, 429, long.status, long.body)
		require.Equal(t, 429, short.status, short.body)
		require.Equal(t, long.body, short.body)
		for name := range long.header {
			if name == "X-Croft-Took-Ms" || name == "Retry-After" {
				require.NotEmpty(t, short.header.Get(name), name)
				continue
			}
			require.Equal(t, long.header[name], short.header[name], name)
		}
		require.Len(t, short.header, len(long.header))
	}
	a := c.do("POST", "/query", query, "Api-Key: "+key)
	require.Len(t, a.get(t, "request_id"), 32)
	require.Equal(t, a.header.Get("X-Request-Id"), a.get(t, "request_id"))
	require.True(t, json.Valid([]byte(a.body)))
}

// TestWhoIsTurnedAway: by the header alone only those that certainly would be refused, and no body is read for it.
func TestWhoIsTurnedAway(t *testing.T) {
	w := newTown(t)
	node := newDoorNode(w.node, acme)
	h := newHandler(t, node, func(o *Options) { o.Auth = w.h.(*Handler).opts.Auth })
	send := func(method, path, key string, body io.Reader, length int64) int {
		r := httptest.NewRequest(method, path, body)
		r.Host, r.ContentLength = "127.0.0.1:5080", length
		r.Header.Set("Api-Key", key)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		return rec.Code
	}
	reader := w.key(tenancy.RoleReader, acme)
	require.Equal(t, 429, send("POST", "/query", reader, unread{t}, 5))
	require.Equal(t, 429, send("POST", "/i/demo/query", reader, unread{t}, 5))
	require.Equal(t, 429, send("GET", "/vectors/fetch?ids=a&namespace="+acme, reader, nil, 0))
	query := fmt.Sprintf(`{"namespace":%q,"topK":1,"vector":[1]}`, other)
	require.Equal(t, 200, send("POST", "/query", w.key(tenancy.RoleReader, other), strings.NewReader(query), int64(len(query))))
	require.Equal(t, 200, send("GET", "/namespaces", reader, nil, 0), "what costs nothing")
	require.Equal(t, 403, send("POST", "/vectors/upsert", reader, unread{t}, 5), "a role that may not is told so")
	require.Equal(t, 401, send("POST", "/query", reader+"x", unread{t}, 5))
	require.Equal(t, 404, send("POST", "/nothing", reader, unread{t}, 5))
	require.Equal(t, 405, send("PUT", "/query", reader, unread{t}, 5))
	node.open = true
	query = fmt.Sprintf(`{"namespace":%q,"topK":1,"vector":[1]}`, acme)
	require.Equal(t, 200, send("POST", "/query", reader, strings.NewReader(query), int64(len(query))))
	require.Contains(t, (&client{t, h}).ok("GET", "/metrics", "").body, `croft_http_requests_total{code="429",op="query"} 2`)
}

// benchSetting is a number from the environment.
func benchSetting(b *testing.B, name string, def int) int {
	s := os.Getenv(name)
	if s == "" {
		return def
	}
	n, err := strconv.Atoi(s)
	require.NoError(b, err)
	return n
}

// benchTown is a tenant with records of 768 values, an answer to whose query can be asked for and refused. CROFT_BENCH_RECORDS says how
// many records, CROFT_BENCH_ROUNDS how often all is measured in turns.
func benchTown(b *testing.B) (node *doorNode, h *Handler, key string, query func() []byte) {
	n := benchSetting(b, "CROFT_BENCH_RECORDS", 2000)
	const dim = 768
	w := newTown(b)
	w.ok("DELETE", "/indexes/demo", "")
	w.index("demo", fmt.Sprintf(`"dimension":%d`, dim))
	rng := rand.New(rand.NewPCG(1, 2))
	vector := func(scale float64) []byte {
		values := make([]float32, dim)
		for j := range values {
			values[j] = float32(scale + rng.NormFloat64())
		}
		v, err := appendFloats32(nil, values)
		require.NoError(b, err)
		return v
	}
	for i := 0; i < n; i += 100 {
		body := []byte(`{"namespace":"` + acme + `","vectors":[`)
		for j := range 100 {
			body = fmt.Appendf(body, `{"id":"r%d","values":%s},`, i+j, vector(float64(rng.IntN(50))/50))
		}
		w.ok("POST", "/vectors/upsert", string(body[:len(body)-1])+`]}`)
	}
	key = w.key(tenancy.RoleReader, acme)
	node = newDoorNode(w.node, acme)
	h = newHandler(b, node, func(o *Options) { o.Auth = w.h.(*Handler).opts.Auth })
	node.open = true
	head, tail := fmt.Sprintf(`{"namespace":%q,"topK":10,"vector":[0.`, acme), fmt.Sprintf(",%s}", vector(0.5)[3:])
	tail = tail[strings.IndexByte(tail[1:], ',')+1:]
	text, asked := []byte(head+"1000000"+tail), 1_000_000
	return node, h, key, func() []byte { // each another, of the same length, which no cache has
		asked++
		strconv.AppendInt(text[:len(head)], int64(asked), 10)
		return text
	}
}

// settleGraph waits until queries are answered at their usual speed: until the graph is built.
func settleGraph(b *testing.B, node Node) {
	for {
		ix, _ := node.Index("demo")
		d, err := node.DescribeNamespace(b.Context(), ix, acme)
		require.NoError(b, err)
		if d.Stats.Indexed == d.Stats.Records {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// BenchmarkTurnAway is a query that is answered beside one that is refused, by its header and after its body was read, and what making
// the request takes.
func BenchmarkTurnAway(b *testing.B) {
	node, h, key, query := benchTown(b)
	settleGraph(b, node)
	run := func(name string, open bool, key string, handler http.Handler, want int) {
		b.Run(name, func(b *testing.B) {
			node.open = open
			b.ReportAllocs()
			w, r := &discard{header: http.Header{}}, httptest.NewRequest("POST", "/query", bytes.NewReader(query()))
			r.Host = "127.0.0.1:5080"
			r.Header.Set("Api-Key", key)
			body := &again{}
			r.Body = body
			for b.Loop() {
				body.text, body.at, w.code = query(), 0, want
				clear(w.header)
				handler.ServeHTTP(w, r)
				if w.code != want {
					b.Fatal(w.code)
				}
			}
		})
	}
	nothing := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	for range benchSetting(b, "CROFT_BENCH_ROUNDS", 1) {
		run("answered", true, key, h, 200)
		run("refused", false, key, h, 429)
		run("refused by body", false, testKey, h, 429)
		run("made", false, key, nothing, 429)
	}
}

// again is a body that is sent again and again.
type again struct {
	text []byte
	at   int
}

func (a *again) Read(p []byte) (n int, err error) {
	if a.at == len(a.text) {
		return 0, io.EOF
	}
	n = copy(p, a.text[a.at:])
	a.at += n
	return n, nil
}

func (a *again) Close() error { return nil }

// discard is a ResponseWriter that keeps nothing.
type discard struct {
	header http.Header
	code   int
}

func (d *discard) Header() http.Header              { return d.header }
func (d *discard) Write(p []byte) (int, error)      { return len(p), nil }
func (d *discard) WriteHeader(code int)             { d.code = code }
func (d *discard) SetReadDeadline(time.Time) error  { return nil }
func (d *discard) SetWriteDeadline(time.Time) error { return nil }

// BenchmarkTurnAwayHTTP is the same over one kept connection, beside what net/http takes for a handler that does nothing but answer so much.
func BenchmarkTurnAwayHTTP(b *testing.B) {
	node, h, key, query := benchTown(b)
	settleGraph(b, node)
	rec := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "/query", bytes.NewReader(query()))
	r.Header.Set("Api-Key", key)
	node.open = false
	h.ServeHTTP(rec, r)
	require.Equal(b, 429, rec.Code)
	body := rec.Body.Bytes()
	floor := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for name, v := range rec.Header() {
			w.Header()[name] = v
		}
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = w.Write(body)
	})
	plain := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) })
	run := func(name string, open bool, key string, handler http.Handler, want string) {
		b.Run(name, func(b *testing.B) {
			node.open = open
			srv := NewHTTPServer(h, ServerOptions{})
			srv.Handler = handler
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(b, err)
			go srv.Serve(l)
			defer srv.Close()
			conn, err := net.Dial("tcp", l.Addr().String())
			require.NoError(b, err)
			defer conn.Close()
			head := fmt.Sprintf("POST /query HTTP/1.1\r\nHost: 127.0.0.1\r\nApi-Key: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", key, len(query()))
			var request []byte
			in := bufio.NewReader(conn)
			for b.Loop() {
				request = append(append(request[:0], head...), query()...)
				if _, err := conn.Write(request); err != nil {
					b.Fatal(err)
				}
				skipAnswer(b, in, want)
			}
		})
	}
	for range benchSetting(b, "CROFT_BENCH_ROUNDS", 1) {
		run("answered", true, key, h, "200")
		run("refused", false, key, h, "429")
		run("refused by body", false, testKey, h, "429")
		run("same bytes by net-http", true, key, floor, "429")
		run("empty by net-http", true, key, plain, "429")
	}
}

// skipAnswer reads an answer to its end.
func skipAnswer(b *testing.B, in *bufio.Reader, want string) {
	length := 0
	for n := 0; ; n++ {
		line, err := in.ReadSlice('\n')
		if err != nil {
			b.Fatal(err)
		}
		if n == 0 && string(line[9:12]) != want {
			b.Fatalf("%s", line)
		}
		if len(line) == 2 {
			break
		}
		if rest, ok := strings.CutPrefix(string(line), "Content-Length: "); ok {
			if length, err = strconv.Atoi(strings.TrimSpace(rest)); err != nil {
				b.Fatal(err)
			}
		}
	}
	if _, err := in.Discard(length); err != nil {
		b.Fatal(err)
	}
}
