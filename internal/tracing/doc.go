// Package tracing owns what travels with a request for the eyes of people alone: W3C trace context and baggage, and the spans that
// tell where its time went.
//
// It promises that nothing is decided by it, that it costs nothing while it is off (a nil *Tracer starts no span and allocates
// nothing), that what strangers send is bounded, and that none of it leaves for anybody but the other nodes and the collector that
// the operator named. internal/api takes in what came over HTTP, cluster carries it to other nodes, both open spans. It never
// names a metric series: tenants are attributes of spans.
//
// Off unless an endpoint is given: by Options.Endpoint, or by OpenTelemetry's own OTEL_EXPORTER_OTLP_ENDPOINT. OTEL_TRACES_SAMPLER,
// OTEL_BSP_*, OTEL_RESOURCE_ATTRIBUTES and the other variables of its SDK mean what they mean everywhere.
package tracing
