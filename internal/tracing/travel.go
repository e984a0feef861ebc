package tracing

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/croftdb/croft/internal/codec"
)

// What travels beside a request has three parts, which are named as W3C's headers are.
const (
	parentHeader  = "traceparent"
	stateHeader   = "tracestate"
	baggageHeader = "baggage"
)

// Members of the baggage that begin with ourPrefix are the store's own: what clients send under such a name is thrown away.
const (
	ourPrefix    = "croft."
	tenantMember = ourPrefix + "tenant"
)

// maxBaggage is W3C's bound in bytes; what is longer is left behind.
const maxBaggage = 8192

// Arrive takes in what an HTTP request brings along and begins the span of the whole request. Where the request brings nothing and
// the Tracer is nil, ctx comes back as it was.
func (t *Tracer) Arrive(ctx context.Context, h http.Header, name string) (context.Context, Span) {
	ctx = extract(ctx, first(h, "Traceparent"), first(h, "Tracestate"), strings.Join(h["Baggage"], ","))
	if b := baggage.FromContext(ctx); b.Len() > 0 {
		ctx = baggage.ContextWithBaggage(ctx, withoutOurs(b))
	}
	if t == nil {
		return ctx, Span{}
	}
	ctx, s := t.spans.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer))
	return ctx, Span{s}
}

func first(h http.Header, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// extract reads the three parts into ctx. What is not well-formed is as good as not sent.
func extract(ctx context.Context, parent, state, bags string) context.Context {
	if parent != "" {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{parentHeader: parent, stateHeader: state})
	}
	if bags == "" || len(bags) > maxBaggage {
		return ctx
	}
	b, _ := baggage.Parse(bags) // with an error, it is what could be read
	if b.Len() == 0 {
		return ctx
	}
	return baggage.ContextWithBaggage(ctx, b)
}

// Travels reports whether ctx has anything that travels.
func Travels(ctx context.Context) bool {
	return trace.SpanContextFromContext(ctx).IsValid() || baggage.FromContext(ctx).Len() > 0
}

// WithTenant puts the tenant that a request turned out to be about into its baggage, in the place of the one that was there.
func WithTenant(ctx context.Context, tenant string) context.Context {
	m, err := baggage.NewMemberRaw(tenantMember, tenant)
	if err != nil {
		return ctx // a name that is no UTF-8 is no tenant's
	}
	b := withoutOurs(baggage.FromContext(ctx))
	with, err := b.SetMember(m)
	if err != nil || len(with.String()) > maxBaggage { // it is full: the tenant is worth more than what clients sent
		with, _ = baggage.New(m)
	}
	return baggage.ContextWithBaggage(ctx, with)
}

// withoutOurs leaves out what has a name of the store's own.
func withoutOurs(b baggage.Baggage) baggage.Baggage {
	for _, m := range b.Members() {
		if strings.HasPrefix(m.Key(), ourPrefix) {
			b = b.DeleteMember(m.Key())
		}
	}
	return b
}

// Tenant is whose request ctx belongs to, as far as its baggage tells.
func Tenant(ctx context.Context) string { return Baggage(ctx, tenantMember) }

// Baggage is the value of a member of the baggage.
func Baggage(ctx context.Context, key string) string {
	return baggage.FromContext(ctx).Member(key).Value()
}

// ID is the id of the trace that ctx belongs to, empty if it belongs to none.
func ID(ctx context.Context) string {
	if s := trace.SpanContextFromContext(ctx); s.HasTraceID() {
		return s.TraceID().String()
	}
	return ""
}

// maxTravels bounds what Append appends, in bytes.
const maxTravels = 1<<16 - 1

// Append appends what travels with ctx to another node: at most 65,535 bytes, and nothing if it has nothing.
func Append(b []byte, ctx context.Context) []byte {
	if !Travels(ctx) {
		return b
	}
	parts := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, parts)
	start := len(b)
	b = codec.AppendString(b, parts[parentHeader])
	b = codec.AppendString(b, parts[stateHeader])
	b = codec.AppendString(b, baggage.FromContext(ctx).String())
	if len(b)-start > maxTravels {
		return b[:start]
	}
	return b
}

// Read puts what Append wrote back into a context. What it cannot read it passes over: a request is not refused for it.
func Read(ctx context.Context, b []byte) context.Context {
	if len(b) == 0 {
		return ctx
	}
	r := codec.NewReader(b)
	parent, state, bags := r.String(), r.String(), r.String()
	if r.Done() != nil {
		return ctx
	}
	return extract(ctx, parent, state, bags)
}

// LogHandler returns a handler that adds the id of the trace to what is logged with a context that belongs to one.
func LogHandler(h slog.Handler) slog.Handler { return logHandler{h} }

type logHandler struct{ slog.Handler }

// Handle implements slog.Handler.
func (h logHandler) Handle(ctx context.Context, r slog.Record) error {
	if id := ID(ctx); id != "" {
		r.AddAttrs(slog.String("trace", id))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return logHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h logHandler) WithGroup(name string) slog.Handler { return logHandler{h.Handler.WithGroup(name)} }
