package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/tenancy"
)

const testKey = "key-of-the-tests-0123456789"

// openNode opens a real node in a directory of its own.
func openNode(t testing.TB, change ...func(*cluster.Options)) *cluster.Node {
	t.Helper()
	opts := cluster.Options{
		Dir: t.TempDir(), Shards: 2, SegmentSize: 256 << 10, RaftTick: 5 * time.Millisecond, DiskReserve: -1,
		Logger: slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&opts)
	}
	n, err := cluster.Open(context.Background(), opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n
}

// newHandler puts a Handler in front of a node.
func newHandler(t testing.TB, n Node, change ...func(*Options)) *Handler {
	t.Helper()
	admin, err := tenancy.AdminHash(testKey)
	require.NoError(t, err)
	reg := prometheus.NewRegistry()
	opts := Options{
		Node: n, Auth: &tenancy.Authenticator{Admin: admin}, Logger: slog.New(slog.DiscardHandler),
		Registerer: reg, Gatherer: reg, Version: "test", SlowLog: -1,
	}
	for _, f := range change {
		f(&opts)
	}
	h, err := New(opts)
	require.NoError(t, err)
	return h
}

// client sends requests to a handler without a network.
type client struct {
	t testing.TB
	h http.Handler
}

func newClient(t testing.TB, change ...func(*Options)) *client {
	return &client{t, newHandler(t, openNode(t), change...)}
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request with the tests' key; each extra is a header as "Name: value", or "Host: name".
func (c *client) do(method, path, body string, extras ...string) answer {
	c.t.Helper()
	var r *http.Request
	if body == "" {
		r = httptest.NewRequest(method, path, http.NoBody)
	} else {
		r = httptest.NewRequest(method, path, strings.NewReader(body))
	}
	r.Host = "127.0.0.1:5080"
	r.Header.Set("Api-Key", testKey)
	for _, e := range extras {
		name, value, _ := strings.Cut(e, ": ")
		if name == "Host" {
			r.Host = value
		} else {
			r.Header.Set(name, value)
		}
	}
	return c.send(r)
}

func (c *client) send(r *http.Request) answer {
	w := httptest.NewRecorder()
	c.h.ServeHTTP(w, r)
	b, err := io.ReadAll(w.Result().Body)
	require.NoError(c.t, err)
	return answer{w.Code, w.Header(), string(b)}
}

// ok sends a request that must succeed and returns its body.
func (c *client) ok(method, path, body string, extras ...string) answer {
	c.t.Helper()
	a := c.do(method, path, body, extras...)
	require.Less(c.t, a.status, 300, "%s %s: %s", method, path, a.body)
	return a
}

// index makes an index; spec may leave out what the tests do not care for.
func (c *client) index(name, fields string) {
	c.t.Helper()
	c.ok("POST", "/indexes", fmt.Sprintf(`{"name":%q,"spec":{"serverless":{"cloud":"aws","region":"us-east-1"}},%s}`, name, fields))
}

// get reads a member of a JSON body by its path, as in "error.message".
func (a answer) get(t testing.TB, path string) any {
	t.Helper()
	var v any
	require.NoError(t, json.Unmarshal([]byte(a.body), &v), a.body)
	for step := range strings.SplitSeq(path, ".") {
		if list, ok := v.([]any); ok {
			i, err := strconv.Atoi(step)
			require.NoError(t, err)
			v = list[i]
			continue
		}
		m, ok := v.(map[string]any)
		require.True(t, ok, "%s: no object at %s", a.body, step)
		v = m[step]
	}
	return v
}

// ids lists the ids of a query's matches or of a list, in order.
func (a answer) ids(t testing.TB) []string {
	t.Helper()
	var v struct {
		Matches, Vectors []struct{ ID string }
	}
	require.NoError(t, json.Unmarshal([]byte(a.body), &v), a.body)
	ids := []string{}
	for _, m := range append(v.Matches, v.Vectors...) {
		ids = append(ids, m.ID)
	}
	return ids
}

// requireError checks all readers' members of the one error body.
func requireError(t testing.TB, a answer, status int, parts ...string) {
	t.Helper()
	require.Equal(t, status, a.status, a.body)
	require.Contains(t, a.header.Get("Content-Type"), "json")
	message, _ := a.get(t, "message").(string)
	require.NotEmpty(t, message)
	for _, p := range parts {
		require.Contains(t, message, p)
	}
	require.Equal(t, float64(status), a.get(t, "status"))
	require.Equal(t, message, a.get(t, "error.message"))
	require.NotEmpty(t, a.get(t, "error.code"))
	require.Equal(t, message, a.get(t, "detail"))
	require.Equal(t, []any{}, a.get(t, "details"))
	require.NotNil(t, a.get(t, "code"))
	require.NotEmpty(t, a.get(t, "title"))
	require.Contains(t, a.get(t, "type"), "https://")
	require.Equal(t, a.header.Get("X-Request-Id"), a.get(t, "request_id"))
	require.True(t, json.Valid([]byte(a.body)))
}
