package tracing

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/croftdb/croft/internal/errs"
)

// scope names this program's spans among those of others.
const scope = "github.com/croftdb/croft"

// Options of a Tracer.
type Options struct {
	Endpoint string   // base address of an OTLP/HTTP collector, as in http://127.0.0.1:4318; empty: as the environment says
	Baggage  []string // members of the clients' baggage that spans take over
	Instance string   // which node this is, among others
	Version  string   // of the program
	Logger   *slog.Logger
}

// Tracer makes spans and sends them away, in the background and in batches; what the collector does not take in time is dropped,
// and no request waits for it. A nil Tracer makes none.
type Tracer struct {
	provider *sdk.TracerProvider
	spans    trace.Tracer
}

// Open returns a Tracer, nil if nobody wants spans. Invalid: the endpoint is no address.
func Open(ctx context.Context, o Options) (*Tracer, error) {
	if !o.wanted() {
		return nil, nil
	}
	if p := firstSet("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"); p != "" && p != "http/protobuf" {
		o.Logger.Warn("spans are sent as http/protobuf alone", "asked", p)
	}
	var to []otlptracehttp.Option
	if o.Endpoint != "" {
		to = append(to, otlptracehttp.WithEndpointURL(strings.TrimSuffix(o.Endpoint, "/")+"/v1/traces"))
	}
	exporter, err := otlptracehttp.New(ctx, to...)
	if err != nil {
		return nil, errs.Wrap(errs.Invalid, err, "send spans")
	}
	about, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", "croft"), attribute.String("service.version", o.Version), attribute.String("service.instance.id", o.Instance),
	), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, errs.Wrap(errs.Invalid, err, "OTEL_RESOURCE_ATTRIBUTES")
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { o.Logger.Warn("spans could not be sent", "err", err) }))
	return newTracer(sdk.WithBatcher(exporter), sdk.WithResource(about), sdk.WithSpanProcessor(luggage{append(slices.Clone(o.Baggage), tenantMember)})), nil
}

func newTracer(o ...sdk.TracerProviderOption) *Tracer {
	p := sdk.NewTracerProvider(o...)
	return &Tracer{p, p.Tracer(scope)}
}

// wanted reports whether anybody has named a place for spans and not switched them off.
func (o *Options) wanted() bool {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	return o.Endpoint != "" || firstSet("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT") != ""
}

func firstSet(names ...string) string {
	for _, name := range names {
		if v := os.Getenv(name); v != "" {
			return v
		}
	}
	return ""
}

// closePatience bounds the sending of the last spans.
const closePatience = 5 * time.Second

// Close sends what is left.
func (t *Tracer) Close() error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closePatience)
	defer cancel()
	return errs.Wrap(errs.Unavailable, t.provider.Shutdown(ctx), "send the last spans")
}

// Start begins a span within the one that ctx has. Where there is none that is recorded, it does nothing.
func (t *Tracer) Start(ctx context.Context, name string) (context.Context, Span) {
	return t.start(ctx, name, trace.SpanKindInternal)
}

// Call begins the span of a call to another node.
func (t *Tracer) Call(ctx context.Context, name string) (context.Context, Span) {
	return t.start(ctx, name, trace.SpanKindClient)
}

// Serve begins the span of what another node asked for.
func (t *Tracer) Serve(ctx context.Context, name string) (context.Context, Span) {
	return t.start(ctx, name, trace.SpanKindServer)
}

func (t *Tracer) start(ctx context.Context, name string, kind trace.SpanKind) (context.Context, Span) {
	if t == nil || !trace.SpanContextFromContext(ctx).IsSampled() {
		return ctx, Span{}
	}
	ctx, s := t.spans.Start(ctx, name, trace.WithSpanKind(kind))
	return ctx, Span{s}
}

// Span is a part of a request's way. The zero Span is none, and does nothing.
type Span struct{ span trace.Span }

// On reports whether anything is recorded, so that it is worth finding out.
func (s Span) On() bool { return s.span != nil && s.span.IsRecording() }

// Rename gives the span another name.
func (s Span) Rename(name string) {
	if s.span != nil {
		s.span.SetName(name)
	}
}

// Text notes something about the span, unless it is empty.
func (s Span) Text(key, value string) {
	if s.span != nil && value != "" {
		s.span.SetAttributes(attribute.String(key, value))
	}
}

// Int notes a number about the span.
func (s Span) Int(key string, value int) {
	if s.span != nil {
		s.span.SetAttributes(attribute.Int(key, value))
	}
}

// End ends the span with what came of it.
func (s Span) End(err error) {
	if s.span == nil {
		return
	}
	if err != nil {
		s.span.SetStatus(codes.Error, err.Error())
	}
	s.span.End()
}

// luggage has each span take over members of the baggage.
type luggage struct{ members []string }

// OnStart implements sdk.SpanProcessor.
func (l luggage) OnStart(ctx context.Context, s sdk.ReadWriteSpan) {
	b := baggage.FromContext(ctx)
	for _, key := range l.members {
		if m := b.Member(key); m.Value() != "" {
			s.SetAttributes(attribute.String(key, m.Value()))
		}
	}
}

// OnEnd implements sdk.SpanProcessor.
func (luggage) OnEnd(sdk.ReadOnlySpan) {}

// Shutdown implements sdk.SpanProcessor.
func (luggage) Shutdown(context.Context) error { return nil }

// ForceFlush implements sdk.SpanProcessor.
func (luggage) ForceFlush(context.Context) error { return nil }
