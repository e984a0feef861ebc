//go:build unix

package api

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/tenancy"
)

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

// reportCPU begins to count the process's time on processors, which other programs hardly disturb; what it returns tells it for each
// operation. Over HTTP the client's is in it.
func reportCPU(b *testing.B) func() {
	used := func() time.Duration {
		var u syscall.Rusage
		require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	begun := used()
	return func() { b.ReportMetric(float64(used()-begun)/float64(b.N), "cpu-ns/op") }
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
		asked = max(1_000_000, (asked+1)%10_000_000)
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
			defer reportCPU(b)()
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
			defer reportCPU(b)()
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
