package api

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/cluster"
)

func TestFilterMayNestAsDeepAsTheParserSays(t *testing.T) {
	c := newClient(t)
	c.index("demo", `"dimension":1`)
	nested := strings.Repeat(`{"$and":[`, 15) + `{"$or":[{"a":1},{"b":2}]}` + strings.Repeat(`]}`, 15)
	c.ok("POST", "/query", `{"topK":1,"vector":[1],"filter":`+nested+`}`)
}

func TestFaultOfAFilterNamesItOnce(t *testing.T) {
	c := newClient(t)
	c.index("demo", `"dimension":1`)
	for filter, want := range map[string]string{
		`{"a":{"$gt":"x"}}`: `filter: field "a": "$gt" wants a number, got a string; write {"a":{"$gt":2020}}`,
		`{"$or":[` + strings.TrimSuffix(strings.Repeat(`{"a":1},`, 1001), ",") + `]}`: "filter: has more than 1000 conditions; " +
			`many values of one field go into one condition, as {"genre":{"$in":["drama","comedy"]}}`,
	} {
		a := c.do("POST", "/query", `{"topK":1,"vector":[1],"filter":`+filter+`}`)
		require.Equal(t, 400, a.status)
		require.Equal(t, want, a.get(t, "message"))
	}
}

func TestScoreOfZeroHasNoSign(t *testing.T) {
	c := newClient(t)
	c.index("sp", `"vector_type":"sparse"`)
	c.ok("POST", "/vectors/upsert", `{"vectors":[{"id":"a","sparseValues":{"indices":[1],"values":[0]}}]}`)
	a := c.ok("POST", "/query", `{"topK":1,"sparseVector":{"indices":[1],"values":[1]}}`)
	require.Contains(t, a.body, `"score":0,`)
}

func TestServersOwnNameIsNoIndex(t *testing.T) {
	c := newClient(t, func(o *Options) { o.Advertise = "http://croft.internal:5080" })
	for _, name := range []string{"croft", "localhost", "docs"} {
		c.index(name, `"dimension":1`)
	}
	for _, host := range []string{"croft.internal:5080", "CROFT.internal", "localhost:5080"} {
		c.ok("GET", "/i/docs/describe_index_stats", "", "Host: "+host)
		requireError(t, c.do("GET", "/describe_index_stats", "", "Host: "+host), 400, "does not tell which of 3 indexes")
	}
}

func TestOptionsOfTheServerAreRefusedAsOthers(t *testing.T) {
	s := serve(t, newHandler(t, openNode(t)), ServerOptions{IndexPorts: -1})
	c := dial(t, s.Addr().String())
	fmt.Fprint(c, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, 404, resp.StatusCode)
	require.NotEmpty(t, resp.Header.Get("X-Request-Id"))
}

func TestConnectionOutlivesRefusals(t *testing.T) {
	h := newHandler(t, openNode(t))
	(&client{t, h}).index("demo", `"dimension":1`)
	s := serve(t, h, ServerOptions{IndexPorts: -1})
	c := dial(t, s.Addr().String())
	r := bufio.NewReader(c)
	for _, w := range []struct {
		method, path, key, body string
		status                  int
	}{
		{"POST", "/query", "wrong", strings.Repeat(" ", 10_000), 401}, // the body is drained, not read as a request
		{"POST", "/query", testKey, `{"topK":0}`, 400},
		{"GET", "/nowhere", testKey, "", 404},
		{"PUT", "/query", testKey, "{}", 405},
		{"POST", "/query", testKey, `{"topK":1,"vector":[1]}`, 200},
	} {
		fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: x\r\nApi-Key: %s\r\nContent-Length: %d\r\n\r\n%s", w.method, w.path, w.key, len(w.body), w.body)
		resp, err := http.ReadResponse(r, nil)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		require.Equal(t, w.status, resp.StatusCode)
		require.NotEmpty(t, resp.Header.Get("X-Request-Id"))
		require.False(t, resp.Close)
	}
}

// TestUnreadAnswersAreGivenUp asks for far more than the system's buffers hold and reads nothing: the server must end
// the connection by itself, and with it the memory of the answer.
func TestUnreadAnswersAreGivenUp(t *testing.T) {
	h := newHandler(t, openNode(t), func(o *Options) {
		o.Limits.AnswerGrace, o.Limits.AnswerRate = time.Millisecond, 1<<30
	})
	(&client{t, h}).index("demo", `"dimension":1`)
	s := serve(t, h, ServerOptions{IndexPorts: -1})
	raw := dial(t, s.Addr().String()).(*net.TCPConn)
	require.NoError(t, raw.SetReadBuffer(4<<10))
	connections := func(n int) func() bool {
		return func() bool {
			s.caps.mu.Lock()
			defer s.caps.mu.Unlock()
			return s.caps.open == n
		}
	}
	require.Eventually(t, connections(1), 20*time.Second, time.Millisecond)
	ask := []byte("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
	go func() {
		for { // ends when the server has closed
			if _, err := raw.Write(ask); err != nil {
				return
			}
		}
	}()
	require.Eventually(t, connections(0), 20*time.Second, time.Millisecond)
}

// TestNamesNeverBecomePaths takes odd names through their whole life. Each is either refused by every call or kept byte
// by byte, and none leaves a file behind that is called like it.
func TestNamesNeverBecomePaths(t *testing.T) {
	root := t.TempDir()
	n, err := cluster.Open(t.Context(), cluster.Options{
		Dir: filepath.Join(root, "data"), Shards: 2, SegmentSize: 256 << 10, RaftTick: 5 * time.Millisecond, DiskReserve: -1,
		Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	c := &client{t, newHandler(t, n)}
	c.index("demo", `"dimension":1`)
	before := filesBelow(t, root)
	names := map[string]bool{ // whether it is taken
		"..": true, ".": true, "/": true, "\\": true, "a/../../b": true, "../../../evil": true, "%2e%2e": true, "CON": true, "-x": true,
		"~": true, "$HOME": true, " ": true, "a\nb": true, "\x1b[31m": true, "\x7f": true, "*": true,
		"__DEFAULT__": true, "Tenant": true, "tenant": true, strings.Repeat("a", 512): true,
		strings.Repeat("a", 513): false, "a\x00b": false, "caf\u00e9": true, "cafe\u0301": true, "\u202ertl": true,
		"zero\u200bwidth": true, "\u0430dmin": true, "\xff": false,
	}
	for name, taken := range names {
		t.Run(strconv.QuoteToASCII(name), func(t *testing.T) {
			quoted, escaped := `"`+name+`"`, url.PathEscape(name)
			if utf8.ValidString(name) {
				quoted = string(appendQuoted(nil, name))
			}
			id := "id"
			if checkID(name) == nil { // an id is ASCII
				id = name
			}
			quotedID := string(appendQuoted(nil, id))
			for _, call := range [][3]string{
				{"POST", "/namespaces", `{"name":` + quoted + `}`},
				{"POST", "/vectors/upsert", `{"namespace":` + quoted + `,"vectors":[{"id":` + quotedID + `,"values":[1]}]}`},
				{"GET", "/vectors/list?namespace=" + url.QueryEscape(name), ""},
				{"GET", "/vectors/fetch?ids=" + url.QueryEscape(id) + "&namespace=" + url.QueryEscape(name), ""},
				{"GET", "/namespaces/" + escaped, ""},
				{"POST", "/vectors/delete", `{"namespace":` + quoted + `,"ids":[` + quotedID + `]}`},
				{"DELETE", "/namespaces/" + escaped, ""},
			} {
				a := c.do(call[0], call[1], call[2])
				if !taken {
					requireError(t, a, 400)
					continue
				}
				require.Equal(t, 200, a.status, "%s %s: %s", call[0], call[1], a.body)
				if call[0] == "GET" {
					require.Contains(t, a.body, quoted)
				}
			}
		})
	}
	require.Equal(t, before, filesBelow(t, root))
	page := c.ok("GET", "/namespaces", "")
	require.Equal(t, 0.0, page.get(t, "total_count"), page.body)
}

// filesBelow lists the directories and the kinds of files below root. Logs and segments come and go by number.
func filesBelow(t *testing.T, root string) (kinds []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		kind := path
		if err == nil && !d.IsDir() {
			kind = filepath.Join(filepath.Dir(path), strings.TrimLeft(d.Name(), "0123456789abcdef-"))
		}
		kinds = append(kinds, kind)
		return err
	}))
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

// stuckWriter is a client that reads nothing until it is let go.
type stuckWriter struct {
	*httptest.ResponseRecorder
	stuck chan<- struct{}
	free  <-chan struct{}
}

func (w stuckWriter) Write(b []byte) (int, error) {
	w.stuck <- struct{}{}
	<-w.free
	return w.ResponseRecorder.Write(b)
}

func TestMetricsAreServedBesideUnreadOnes(t *testing.T) {
	const readers = 10
	c := newClient(t)
	stuck, free := make(chan struct{}), make(chan struct{})
	var done sync.WaitGroup
	for range readers {
		done.Go(func() {
			c.h.ServeHTTP(stuckWriter{httptest.NewRecorder(), stuck, free}, httptest.NewRequest("GET", "/metrics", nil))
		})
	}
	for range readers {
		<-stuck
	}
	c.ok("GET", "/metrics", "")
	close(free)
	done.Wait()
}
