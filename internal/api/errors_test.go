package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

// pineconeNames are the codes that clients know.
var pineconeNames = []string{
	"INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "FORBIDDEN", "PERMISSION_DENIED", "UNAUTHENTICATED",
	"FAILED_PRECONDITION", "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "UNKNOWN",
	"ABORTED", "OUT_OF_RANGE", "DATA_LOSS", "DEADLINE_EXCEEDED",
}

func TestEveryKindOfErrorHasItsRow(t *testing.T) {
	require.Len(t, errorRows, len(errs.Kinds()))
	slugs := map[string]errs.Kind{}
	for _, k := range errs.Kinds() {
		row, ok := errorRows[k]
		require.True(t, ok, "%s", k)
		require.Contains(t, pineconeNames, row.name)
		require.GreaterOrEqual(t, row.status, 400)
		require.NotEqual(t, 501, row.status, "clients repeat a 501")
		require.True(t, row.grpc >= 1 && row.grpc <= 16, "%s", k)
		require.NotEmpty(t, row.title)
		_, taken := slugs[row.slug]
		require.False(t, taken, "%s: slug %q is taken", k, row.slug)
		slugs[row.slug] = k
		if row.status == 429 || row.status == 503 || row.status == 504 || row.status == 507 {
			require.NotZero(t, row.retry, "%s: no Retry-After", k)
		}
	}
}

// faultyNode fails or panics where it is told to; all else is the node beneath.
type faultyNode struct {
	Node
	fail func() error
}

func (f *faultyNode) Query(context.Context, cluster.Index, string, *engine.Query, *engine.Result) (int, error) {
	return 0, f.fail()
}

func (f *faultyNode) Ready() []cluster.Check {
	return []cluster.Check{{Name: "stores"}, {Name: "shard 1 leader", Err: errors.New("no leader")}}
}

func newFaulty(t *testing.T, change ...func(*Options)) (*faultyNode, *client) {
	n := &faultyNode{Node: openNode(t)}
	c := &client{t, newHandler(t, n, change...)}
	c.index("demo", `"dimension":1`)
	return n, c
}

const oneQuery = `{"vector":[1],"topK":1}`

func TestErrorsOfEveryKind(t *testing.T) {
	n, c := newFaulty(t)
	for _, k := range errs.Kinds() {
		t.Run(k.String(), func(t *testing.T) {
			n.fail = func() error { return errs.New(k, "the %s message", k).WithHint("the hint") }
			a := c.do("POST", "/query", oneQuery)
			row := errorRows[k]
			requireError(t, a, row.status)
			require.Equal(t, row.name, a.get(t, "error.code"))
			require.Equal(t, float64(row.grpc), a.get(t, "code"))
			require.Equal(t, row.retry > 0, a.header.Get("Retry-After") != "")
			if k == errs.Internal {
				require.NotContains(t, a.body, "the internal message", "causes are for the log")
				require.Contains(t, a.body, a.header.Get("X-Request-Id"))
				return
			}
			require.Equal(t, "the "+k.String()+" message", a.get(t, "message"))
			require.Equal(t, "the hint", a.get(t, "hint"))
		})
	}
}

func TestErrorBodyIsGolden(t *testing.T) {
	n, c := newFaulty(t)
	n.fail = func() error {
		return errs.New(errs.RateLimited, "tenant %q is over 200 queries/s (now 311)", "t-42\n").
			WithHint("retry in 0.4 s").WithRetryAfter(1400 * time.Millisecond)
	}
	a := c.do("POST", "/query", oneQuery, "X-Request-Id: req-1")
	require.Contains(t, []string{"2", "3"}, a.header.Get("Retry-After"), "some later than told, and not for all alike")
	require.Equal(t, "application/json", a.header.Get("Content-Type"))
	require.Equal(t, `{"status":429,"error":{"code":"RESOURCE_EXHAUSTED","message":"tenant \"t-42\\n\" is over 200 queries/s (now 311)"},`+
		`"code":8,"message":"tenant \"t-42\\n\" is over 200 queries/s (now 311)","details":[],`+
		`"type":"https://github.com/croftdb/croft/blob/main/docs/errors.md#rate-limited","title":"Over a rate limit",`+
		`"detail":"tenant \"t-42\\n\" is over 200 queries/s (now 311)","hint":"retry in 0.4 s","request_id":"req-1"}`, a.body)

	a = c.do("POST", "/query", oneQuery, "Accept: text/html;q=0.1, application/problem+json;q=0.9")
	require.Equal(t, "application/problem+json", a.header.Get("Content-Type"))
	requireError(t, a, 429)
}

func TestErrorsWithoutAKindTellNothing(t *testing.T) {
	n, _ := newFaulty(t)
	var log bytes.Buffer
	c := &client{t, newHandler(t, n, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })}
	n.fail = func() error { return errors.New("open /secret/path: no such file") }
	a := c.do("POST", "/query", oneQuery)
	requireError(t, a, 500, "internal error")
	require.NotContains(t, a.body, "secret")
	require.Contains(t, log.String(), "/secret/path")
	require.Contains(t, log.String(), a.header.Get("X-Request-Id"))

	n.fail = func() error { return fmt.Errorf("shard 3: %w", context.DeadlineExceeded) }
	requireError(t, c.do("POST", "/query", oneQuery), 504)
}

func TestPanicIsOneRequestsEnd(t *testing.T) {
	n, _ := newFaulty(t)
	var log bytes.Buffer
	c := &client{t, newHandler(t, n, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })}
	n.fail = func() error { panic("secret of the house") }
	a := c.do("POST", "/query", oneQuery)
	requireError(t, a, 500, "internal error", a.header.Get("X-Request-Id"))
	require.NotContains(t, a.body, "secret of")
	require.Contains(t, log.String(), "secret of the house")
	require.Contains(t, log.String(), "errors_test.go", "the stack is logged")
	require.Contains(t, c.ok("GET", "/metrics", "").body, `croft_http_requests_total{code="500",op="query"} 1`)

	n.fail = func() error { panic(http.ErrAbortHandler) }
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { c.do("POST", "/query", oneQuery) })
}

func TestNotReady(t *testing.T) {
	_, c := newFaulty(t)
	a := c.do("GET", "/readyz", "")
	require.Equal(t, 503, a.status)
	require.Equal(t, "1", a.header.Get("Retry-After"))
	require.Equal(t, `{"status":"not ready","checks":[{"name":"shard 1 leader","ok":false,"error":"no leader"}]}`, a.body)
	a = c.do("GET", "/readyz?verbose", "")
	require.Equal(t, `{"status":"not ready","checks":[{"name":"stores","ok":true},{"name":"shard 1 leader","ok":false,"error":"no leader"}]}`, a.body)
}

func TestBusyNodeRefuses(t *testing.T) {
	n, c := newFaulty(t, func(o *Options) {
		o.Limits.Search.InFlight = 1
		o.Limits.QueueWait = time.Millisecond
	})
	inside, leave := make(chan bool), make(chan bool)
	n.fail = func() error { inside <- true; <-leave; return nil }
	done := make(chan answer)
	go func() { done <- c.do("POST", "/query", oneQuery) }()
	<-inside
	a := c.do("POST", "/query", oneQuery)
	requireError(t, a, 503, "busy")
	require.NotEmpty(t, a.header.Get("Retry-After"))
	c.ok("GET", "/indexes", "") // other classes go on
	close(leave)
	require.Equal(t, 200, (<-done).status)
}

func TestDeadlineReachesTheNode(t *testing.T) {
	n := &deadlineNode{Node: openNode(t)}
	c := &client{t, newHandler(t, n, func(o *Options) { o.Limits.Search.Deadline = time.Millisecond })}
	c.index("demo", `"dimension":1`)
	a := c.do("POST", "/query", oneQuery)
	requireError(t, a, 504)
	require.NotEmpty(t, a.header.Get("Retry-After"))
}

type deadlineNode struct{ Node }

func (deadlineNode) Query(ctx context.Context, _ cluster.Index, _ string, _ *engine.Query, _ *engine.Result) (int, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := New(Options{Advertise: "croft.internal:5080", Limits: Limits{BodyBytes: -1}})
	require.True(t, errs.Is(err, errs.Invalid))
	for _, part := range []string{"no Node", "no Auth", "http://", "limit is negative"} {
		require.ErrorContains(t, err, part)
	}
}

func TestRequestIDs(t *testing.T) {
	c := newClient(t)
	for sent, echoed := range map[string]bool{
		"abc-1.2_3:4": true, "": false, "a b": false, "a\tb": false, "é": false, string(bytes.Repeat([]byte("x"), 129)): false,
		string(bytes.Repeat([]byte("x"), 128)): true, `"><script>`: false,
	} {
		r := httptest.NewRequest("GET", "/healthz", http.NoBody)
		r.Header["X-Request-Id"] = []string{sent}
		a := c.send(r)
		id := a.header.Get("X-Request-Id")
		require.Equal(t, echoed, id == sent, "%q became %q", sent, id)
		require.True(t, saneID(id))
		require.Equal(t, id, a.header.Get("X-Pinecone-Request-Id"))
	}
	require.NotEqual(t, c.ok("GET", "/healthz", "").header.Get("X-Request-Id"), c.ok("GET", "/healthz", "").header.Get("X-Request-Id"))
}

func TestSlowLogIsSampled(t *testing.T) {
	var log bytes.Buffer
	s := slowLog{threshold: 0, logger: slog.New(slog.NewTextHandler(&log, nil))}
	start := time.Unix(1700000000, 0)
	omitted, ok := s.admit(start)
	require.True(t, ok)
	require.Zero(t, omitted)
	for range 5 {
		_, ok = s.admit(start.Add(999 * time.Millisecond))
		require.False(t, ok)
	}
	omitted, ok = s.admit(start.Add(time.Second))
	require.True(t, ok)
	require.Equal(t, 5, omitted)
}

func TestSlowLogLine(t *testing.T) {
	var log bytes.Buffer
	n, _ := newFaulty(t)
	c := &client{t, newHandler(t, n, func(o *Options) {
		o.SlowLog, o.Logger = 1, slog.New(slog.NewTextHandler(&log, nil))
	})}
	n.fail = func() error { return nil }
	c.ok("POST", "/query", `{"vector":[1],"topK":1,"namespace":"n\ns"}`)
	require.Contains(t, log.String(), `op=query code=200`)
	require.Contains(t, log.String(), `index=demo tenant="n\ns"`)
}
