package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/tracing"
	"github.com/croftdb/croft/tenancy"
)

// spanSeen is a span as a collector gets it.
type spanSeen struct {
	instance, name, trace, id, parent string
	attributes                        map[string]string
	failed                            bool
}

// collected is an OpenTelemetry collector that keeps what it gets.
type collected struct {
	*httptest.Server
	mu    sync.Mutex
	spans []spanSeen
}

func newCollector(t testing.TB) *collected {
	c := &collected{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := c.take(r); err != nil {
			t.Error(err)
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collected) take(r *http.Request) error {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			return err
		}
		body = unzipped
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	var req collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(b, &req); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, from := range req.ResourceSpans {
		about := map[string]string{}
		for _, a := range from.Resource.Attributes {
			about[a.Key] = a.Value.GetStringValue()
		}
		for _, scope := range from.ScopeSpans {
			for _, s := range scope.Spans {
				seen := spanSeen{
					instance: about["service.instance.id"], name: s.Name, trace: hex.EncodeToString(s.TraceId), id: hex.EncodeToString(s.SpanId),
					parent: hex.EncodeToString(s.ParentSpanId), attributes: map[string]string{}, failed: s.Status.GetCode() == 2,
				}
				for _, a := range s.Attributes {
					seen.attributes[a.Key] = a.Value.GetStringValue()
				}
				c.spans = append(c.spans, seen)
			}
		}
	}
	return nil
}

func (c *collected) tracer(t testing.TB, instance string) *tracing.Tracer {
	tr, err := tracing.Open(t.Context(), tracing.Options{Endpoint: c.URL, Instance: instance, Baggage: []string{"shop"}, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	require.NotNil(t, tr)
	return tr
}

// openTraced opens a node of a cluster over TCP, with a gate.
func openTraced(t *testing.T, tracer *tracing.Tracer, change func(*cluster.Options)) *cluster.Node {
	t.Helper()
	o := cluster.Options{
		Dir: t.TempDir(), Shards: 1, Replicas: 1, SegmentSize: 256 << 10, RaftTick: 100 * time.Millisecond, DiskReserve: -1,
		PeerListen: "127.0.0.1:0", Tracer: tracer, Logger: slog.New(slog.DiscardHandler),
		Gate: func(o tenancy.AdmissionOptions) (tenancy.Gate, error) { return tenancy.NewAdmission(o) },
	}
	change(&o)
	n, err := cluster.Open(context.Background(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n
}

// TestTraceAcrossNodes has a node that holds nothing ask the home, and looks at what a collector gets: one trace, with the tenant and
// the client's baggage on both sides of the link.
func TestTraceAcrossNodes(t *testing.T) {
	seen := newCollector(t)
	homeTracer, awayTracer := seen.tracer(t, "home"), seen.tracer(t, "away")
	home := openTraced(t, homeTracer, func(*cluster.Options) {})
	token, err := home.NewJoinToken(t.Context(), time.Minute)
	require.NoError(t, err)
	away := openTraced(t, awayTracer, func(o *cluster.Options) {
		o.Join, o.JoinToken = home.PeerAddress(), token
	})
	c := &client{t, newHandler(t, away, func(o *Options) { o.Tracer = awayTracer })}
	c.index("demo", `"dimension":2`)
	c.ok("POST", "/vectors/upsert", `{"namespace":"acme","vectors":[{"id":"a","values":[1,2]}]}`)

	var lines bytes.Buffer
	c.h = newHandler(t, away, func(o *Options) {
		o.Tracer, o.SlowLog, o.Logger = awayTracer, time.Nanosecond, slog.New(tracing.LogHandler(slog.NewJSONHandler(&lines, nil)))
	})
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	a := c.ok("POST", "/query", `{"namespace":"acme","topK":1,"vector":[1,2]}`,
		"Traceparent: 00-"+trace+"-"+span+"-01", "Baggage: shop=n%C3%B6rd,secret=x,croft.tenant=other", "X-Request-Id: r-1")
	require.Equal(t, []string{"a"}, a.ids(t))
	require.NoError(t, awayTracer.Close())
	require.NoError(t, homeTracer.Close())

	seen.mu.Lock()
	defer seen.mu.Unlock()
	byID := map[string]spanSeen{}
	names := map[string][]string{}
	for _, s := range seen.spans {
		if s.trace == trace {
			byID[s.id] = s
			names[s.instance] = append(names[s.instance], s.name)
		}
	}
	slices.Sort(names["away"])
	slices.Sort(names["home"])
	require.Equal(t, map[string][]string{"away": {"ask", "call", "query"}, "home": {"gate", "query", "serve"}}, names)
	parents := map[string]string{}
	for _, s := range byID {
		require.Equal(t, "acme", s.attributes["croft.tenant"], "%+v", s)
		require.NotContains(t, s.attributes, "secret", "nobody asked for it")
		require.False(t, s.failed, "%+v", s)
		parents[s.instance+" "+s.name] = byID[s.parent].name
		if s.parent == span {
			parents[s.instance+" "+s.name] = "the client's"
		}
		if s.instance == "home" {
			require.Equal(t, "nörd", s.attributes["shop"], "%+v", s)
		}
	}
	require.Equal(t, map[string]string{
		"away query": "the client's", "away ask": "query", "away call": "ask", "home serve": "call", "home gate": "serve", "home query": "serve",
	}, parents)
	for _, s := range byID {
		switch s.instance + " " + s.name {
		case "away query":
			require.Subset(t, s.attributes, map[string]string{"croft.request": "r-1", "croft.tier": "standard", "croft.index": "demo", "http.route": "/query"})
		case "home gate":
			require.Subset(t, s.attributes, map[string]string{"croft.tier": "standard", "croft.class": "search"})
		case "home query":
			require.Subset(t, s.attributes, map[string]string{"croft.plan": "flat", "croft.index": "demo", "croft.cache": "miss"})
		}
	}
	require.Contains(t, lines.String(), `"request":"r-1"`)
	require.Contains(t, lines.String(), `"trace":"`+trace+`"`)
}

// TestNothingTravelsWhereNothingWasBrought: without tracer, trace or baggage a request's context stays as it came.
func TestNothingTravelsWhereNothingWasBrought(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	c := call{h: &Handler{}, r: r}
	require.Zero(t, testing.AllocsPerRun(100, c.trace))
	require.Same(t, r, c.r)
	require.False(t, c.travels)
}

// BenchmarkTracedQuery is BenchmarkQuery with all of it traced, and with no sample taken.
func BenchmarkTracedQuery(b *testing.B) {
	for _, sampler := range []string{"always_on", "always_off"} {
		b.Run(sampler, func(b *testing.B) {
			b.Setenv("OTEL_TRACES_SAMPLER", sampler)
			tracer := newCollector(b).tracer(b, "node")
			benchmarkQuery(b, func(o *Options) { o.Tracer = tracer })
			require.NoError(b, tracer.Close())
		})
	}
}
