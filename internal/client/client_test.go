package client

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/internal/errs"
)

// fixture is a client of a handler; its pauses are recorded instead of waited for.
type fixture struct {
	*Client
	srv    *httptest.Server
	pauses []time.Duration
}

func newFixture(t *testing.T, opts Options, h http.HandlerFunc) *fixture {
	t.Helper()
	f := &fixture{srv: httptest.NewServer(h)}
	t.Cleanup(f.srv.Close)
	if opts.URL == "" {
		opts.URL = f.srv.URL
	}
	c, err := New(opts)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	c.sleep = func(_ context.Context, d time.Duration) error {
		f.pauses = append(f.pauses, d)
		return nil
	}
	f.Client = c
	return f
}

func (f *fixture) index(host string) *Index {
	root := f.root.current()
	prefixed := root.JoinPath("i", "docs")
	u, err := parseBase(host)
	if err != nil {
		u = prefixed
	}
	return &Index{Model: IndexModel{Name: "docs"}, c: f.Client, addr: newAddress(u, prefixed)}
}

func answer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// hangUp closes the connection without an answer: the outcome is unknown.
func hangUp(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		conn.Close()
	}
}

func TestRetries(t *testing.T) {
	upsert := func(f *fixture) error {
		_, err := f.index(f.srv.URL).Upsert(t.Context(), "", []Vector{{ID: "a"}})
		return err
	}
	create := func(f *fixture) error {
		_, err := f.CreateIndex(t.Context(), CreateIndexRequest{Name: "docs"})
		return err
	}
	for name, tc := range map[string]struct {
		do    func(*fixture) error
		fail  func(w http.ResponseWriter)
		calls int32 // with every answer a failure
		kind  errs.Kind
	}{
		"upsert, rate limited":   {upsert, func(w http.ResponseWriter) { answer(w, 429, `{}`) }, 4, errs.RateLimited},
		"upsert, unavailable":    {upsert, func(w http.ResponseWriter) { answer(w, 503, `{}`) }, 4, errs.Unavailable},
		"upsert, broken off":     {upsert, hangUp, 4, errs.OutcomeUnknown},
		"upsert, invalid":        {upsert, func(w http.ResponseWriter) { answer(w, 400, `{}`) }, 1, errs.Invalid},
		"upsert, server defect":  {upsert, func(w http.ResponseWriter) { answer(w, 500, `{}`) }, 1, errs.Internal},
		"upsert, disk full":      {upsert, func(w http.ResponseWriter) { answer(w, 507, `{}`) }, 1, errs.StorageFull},
		"create, unavailable":    {create, func(w http.ResponseWriter) { answer(w, 503, `{}`) }, 4, errs.Unavailable},
		"create, broken off":     {create, hangUp, 1, errs.OutcomeUnknown},
		"create, exists already": {create, func(w http.ResponseWriter) { answer(w, 409, `{}`) }, 1, errs.AlreadyExists},
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			f := newFixture(t, Options{}, func(w http.ResponseWriter, _ *http.Request) {
				calls.Add(1)
				tc.fail(w)
			})
			err := tc.do(f)
			require.Error(t, err)
			require.Equal(t, tc.kind, errs.KindOf(err), "%v", err)
			require.Equal(t, tc.calls, calls.Load())
			require.Len(t, f.pauses, int(tc.calls)-1)
		})
	}
}

func TestRetrySucceedsWithTheSameBody(t *testing.T) {
	var bodies []string
	f := newFixture(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		bodies = append(bodies, string(b))
		if len(bodies) < 3 {
			w.Header().Set("Retry-After", "7")
			answer(w, 503, `{}`)
			return
		}
		answer(w, 200, `{"upsertedCount":1}`)
	})
	n, err := f.index(f.srv.URL).Upsert(t.Context(), "ns", []Vector{{ID: "a", Values: []float32{0.1, 2}}})
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, []time.Duration{7 * time.Second, 7 * time.Second}, f.pauses, "Retry-After is longer than the backoff")
	for _, b := range bodies {
		require.JSONEq(t, `{"vectors":[{"id":"a","values":[0.1,2]}],"namespace":"ns"}`, b)
	}
}

func TestLongRetryAfterIsNotWaitedFor(t *testing.T) {
	f := newFixture(t, Options{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		answer(w, 429, `{"error":{"message":"quota of the hour is used up"}}`)
	})
	_, err := f.ListIndexes(t.Context())
	var e *errs.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, time.Hour, e.RetryAfter)
	require.Empty(t, f.pauses)
}

func TestBackoffStaysInBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		attempt := rapid.IntRange(0, 1000).Draw(t, "attempt")
		d := backoff(attempt)
		require.GreaterOrEqual(t, d, firstPause/2)
		require.LessOrEqual(t, d, longestPause)
	})
}

func TestErrorBody(t *testing.T) {
	f := newFixture(t, Options{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Request-Id", "req-1")
		answer(w, 400, `{"status":400,"code":3,"message":"vector has 2 values, index docs takes 3","details":[],
			"error":{"code":"INVALID_ARGUMENT","message":"vector has 2 values, index docs takes 3"},"hint":"send 3"}`)
	})
	_, err := f.index(f.srv.URL).Query(t.Context(), QueryRequest{TopK: 1})
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, 400, e.Status)
	require.Equal(t, "INVALID_ARGUMENT", e.Code)
	require.Equal(t, "req-1", e.RequestID)
	require.Equal(t, "vector has 2 values, index docs takes 3", err.Error())
	require.Equal(t, "send 3", errs.HintOf(err))
	require.Equal(t, errs.Invalid, errs.KindOf(err))
}

func TestAnswersThatAreNotTheAPI(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		body   string
		want   string
	}{
		"error page":    {http.StatusBadGateway, "<html>bad gateway</html>", "bad gateway"},
		"plain 401":     {http.StatusUnauthorized, "Unauthorized", "Unauthorized"},
		"success, html": {http.StatusOK, "<html>", "not croft's API"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, Options{Retries: -1}, func(w http.ResponseWriter, _ *http.Request) { answer(w, tc.status, tc.body) })
			_, err := f.ListIndexes(t.Context())
			require.ErrorContains(t, err, tc.want)
		})
	}
}

// TestKindOf has the statuses that stand for several kinds, and one that nobody sends.
func TestKindOf(t *testing.T) {
	require.Equal(t, errs.QuotaExceeded, kindOf(403, "QUOTA_EXCEEDED"))
	require.Equal(t, errs.PermissionDenied, kindOf(403, "FORBIDDEN"))
	require.Equal(t, errs.Corrupt, kindOf(500, "DATA_LOSS"))
	require.Equal(t, errs.Internal, kindOf(599, ""))
}

// closedPort is an address that nothing listens at.
func closedPort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return "http://" + l.Addr().String()
}

func TestServerThatIsNotThere(t *testing.T) {
	c, err := New(Options{URL: closedPort(t), Retries: -1})
	require.NoError(t, err)
	_, err = c.ListIndexes(t.Context())
	require.True(t, Refused(err))
	require.Equal(t, errs.Unavailable, errs.KindOf(err))
	require.ErrorContains(t, err, "no server answers at")
}

func TestIndexFallsBackToThePathPrefix(t *testing.T) {
	var paths []string
	dead := closedPort(t)
	f := newFixture(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.Path)
		if r.URL.Path == "/indexes/docs" {
			body, _ := json.Marshal(IndexModel{Name: "docs", Host: dead})
			answer(w, 200, string(body))
			return
		}
		answer(w, 200, `{"namespaces":{},"totalVectorCount":7}`)
	})
	ix, err := f.Index(t.Context(), "docs")
	require.NoError(t, err)
	require.Equal(t, dead, ix.Host())
	for range 2 {
		stats, err := ix.Stats(t.Context())
		require.NoError(t, err)
		require.Equal(t, 7, stats.TotalVectorCount)
	}
	require.Equal(t, []string{"/indexes/docs", "/i/docs/describe_index_stats", "/i/docs/describe_index_stats"}, paths)
	require.Empty(t, f.pauses, "falling back costs no pause")
	require.Equal(t, f.srv.URL+"/i/docs", ix.Host())
}

func TestCanceledCallIsNotRepeated(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := newFixture(t, Options{}, func(w http.ResponseWriter, _ *http.Request) {
		cancel()
		answer(w, 503, `{}`)
	})
	_, err := f.ListIndexes(ctx)
	require.Error(t, err)
	require.Empty(t, f.pauses)
}

func TestHeaders(t *testing.T) {
	f := newFixture(t, Options{APIKey: "secret", UserAgent: "croft/test"}, func(w http.ResponseWriter, r *http.Request) {
		h := r.Header
		answer(w, 200, `{"matches":[{"id":"`+strings.Join([]string{h.Get("Api-Key"), h.Get("User-Agent"), h.Get("Content-Type")}, " ")+`","score":0.5}]}`)
	})
	res, err := f.index(f.srv.URL).Query(t.Context(), QueryRequest{ID: "a", TopK: 1})
	require.NoError(t, err)
	require.Equal(t, "secret croft/test application/json", res.Matches[0].ID)
}

// TestUpsertEncoded checks the hand-made body against the encoder's.
func TestUpsertEncoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ns := rapid.String().Draw(t, "namespace")
		vectors := []jsontext.Value{}
		for range rapid.IntRange(0, 5).Draw(t, "n") {
			vectors = append(vectors, jsontext.Value(`{"id":"x","values":[1,0.5]}`))
		}
		body := appendUpsert(nil, ns, vectors)
		require.True(t, jsontext.Value(body).IsValid(), "%s", body)
		size := UpsertOverhead(ns)
		for _, v := range vectors {
			size += len(v) + 1
		}
		require.LessOrEqual(t, len(body), size)
		var got struct {
			Vectors   []jsontext.Value
			Namespace string
		}
		require.NoError(t, json.Unmarshal(body, &got))
		require.Len(t, got.Vectors, len(vectors))
		require.Equal(t, ns, got.Namespace)
	})
}

func TestParseBase(t *testing.T) {
	for in, want := range map[string]string{
		"http://127.0.0.1:5080/":    "http://127.0.0.1:5080",
		"docs.vectors.example.com":  "https://docs.vectors.example.com",
		"https://example.com/croft": "https://example.com/croft",
	} {
		u, err := parseBase(in)
		require.NoError(t, err)
		require.Equal(t, want, u.String())
	}
	for _, bad := range []string{"", "ftp://x", "http://", "://"} {
		_, err := New(Options{URL: bad})
		require.Error(t, err, bad)
	}
}
