package tracing

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func arrive(h http.Header) context.Context {
	ctx, _ := (*Tracer)(nil).Arrive(context.Background(), h, "request")
	return ctx
}

func TestTravels(t *testing.T) {
	long := strings.Repeat("x", maxBaggage)
	for name, c := range map[string]struct {
		header      http.Header
		id, a, ours string
	}{
		"nothing":         {header: headers()},
		"all":             {headers("traceparent", parent, "tracestate", "v=1", "baggage", "a=1,b=2"), "0af7651916cd43dd8448eb211c80319c", "1", ""},
		"baggage alone":   {headers("baggage", "a=1"), "", "1", ""},
		"two headers":     {headers("baggage", "b=2", "baggage", "a=1"), "", "1", ""},
		"no such version": {headers("traceparent", "zz"+parent[2:]), "", "", ""},
		"zero trace":      {headers("traceparent", "00-00000000000000000000000000000000-b7ad6b7169203331-01"), "", "", ""},
		"too much":        {headers("traceparent", parent, "baggage", "a=1,b="+long), "0af7651916cd43dd8448eb211c80319c", "", ""},
		"not ours":        {headers("baggage", "a=1,croft.tenant=other,croft.x=y"), "", "1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := arrive(c.header)
			for range 2 { // as it came, and as it comes to another node
				require.Equal(t, c.id, ID(ctx))
				require.Equal(t, c.a, Baggage(ctx, "a"))
				require.Equal(t, c.ours, Tenant(ctx))
				require.Equal(t, c.id != "" || c.a != "", Travels(ctx))
				ctx = Read(context.Background(), Append(nil, ctx))
			}
		})
	}
}

func TestTenantTravels(t *testing.T) {
	for _, tenant := range []string{"acme", "zürich, nord;süd=\"1\"", strings.Repeat("ü", 256)} {
		full := "a=" + strings.Repeat("y", maxBaggage-10)
		for name, h := range map[string]http.Header{"alone": headers(), "beside others": headers("baggage", "a=1"), "in a full one": headers("baggage", full)} {
			ctx := WithTenant(WithTenant(arrive(h), "before"), tenant)
			require.Equal(t, tenant, Tenant(ctx), name)
			require.Equal(t, tenant, Tenant(Read(context.Background(), Append(nil, ctx))), name)
		}
	}
}

func TestOffCostsNothing(t *testing.T) {
	ctx := t.Context()
	var none *Tracer
	buf := make([]byte, 0, 100)
	failed := errors.New("failed")
	require.Zero(t, testing.AllocsPerRun(100, func() {
		inner, s := none.Start(ctx, "span")
		s.Text("key", "value")
		s.Int("key", 1000)
		s.End(failed)
		if inner != ctx || s.On() || len(Append(buf, inner)) > 0 {
			t.Fatal("something was recorded")
		}
	}))
	require.NoError(t, none.Close())
}

func TestSpansBeginAtTheDoor(t *testing.T) {
	kept := tracetest.NewSpanRecorder()
	tr := newTracer(sdk.WithSpanProcessor(kept), sdk.WithSpanProcessor(luggage{[]string{tenantMember}}))
	ctx, s := tr.Start(t.Context(), "nobody's")
	require.False(t, s.On(), "what the store does by itself is nobody's request")
	require.False(t, Travels(ctx))

	ctx, root := tr.Arrive(t.Context(), headers("traceparent", parent[:len(parent)-2]+"00"), "unsampled")
	_, s = tr.Start(ctx, "part")
	require.False(t, root.On() || s.On(), "who sent it takes no sample")

	ctx, root = tr.Arrive(t.Context(), headers("traceparent", parent), "request")
	_, s = tr.Start(WithTenant(ctx, "acme"), "part")
	require.True(t, s.On())
	s.End(errors.New("broken"))
	root.Rename("query")
	root.End(nil)
	ended := kept.Ended()
	require.Len(t, ended, 2)
	require.Equal(t, "part", ended[0].Name())
	require.Equal(t, ended[1].SpanContext().SpanID(), ended[0].Parent().SpanID())
	require.Equal(t, "broken", ended[0].Status().Description)
	require.Equal(t, "acme", ended[0].Attributes()[0].Value.AsString())
	require.Equal(t, "query", ended[1].Name())
	require.Equal(t, "b7ad6b7169203331", ended[1].Parent().SpanID().String())
}

func TestOpen(t *testing.T) {
	var log bytes.Buffer
	o := Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	open := func(endpoint string, env ...string) *Tracer {
		for i := 0; i < len(env); i += 2 {
			t.Setenv(env[i], env[i+1])
		}
		o.Endpoint = endpoint
		tr, err := Open(t.Context(), o)
		require.NoError(t, err)
		return tr
	}
	require.Nil(t, open(""), "off by default")
	tr := open("", "OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	require.NotNil(t, tr)
	require.NoError(t, tr.Close())
	require.Contains(t, log.String(), "http/protobuf alone")
	require.Nil(t, open("", "OTEL_TRACES_EXPORTER", "none"))
	require.Nil(t, open("http://127.0.0.1:1", "OTEL_TRACES_EXPORTER", "otlp", "OTEL_SDK_DISABLED", "true"))
}

func TestLogHandler(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(LogHandler(slog.NewTextHandler(&b, nil))).With("a", 1).WithGroup("g")
	log.Info("without")
	require.NotContains(t, b.String(), "trace")
	log.InfoContext(arrive(headers("traceparent", parent)), "with")
	require.Contains(t, b.String(), "trace=0af7651916cd43dd8448eb211c80319c")
}

func FuzzRead(f *testing.F) {
	f.Add(Append(nil, WithTenant(arrive(headers("traceparent", parent, "tracestate", "v=1", "baggage", "a=1;p=q,b=2")), "acme")))
	f.Add([]byte{0, 0, 3, 'a', '=', '1'})
	f.Fuzz(func(t *testing.T, b []byte) {
		ctx := Read(context.Background(), b)
		again := Read(context.Background(), Append(nil, ctx))
		require.Equal(t, ID(ctx), ID(again))
		require.Equal(t, Tenant(ctx), Tenant(again))
	})
}
