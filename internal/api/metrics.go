package api

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/croftdb/croft/tenancy"
)

// requestMetrics counts requests by operation. No label ever holds what a client chose: an unknown path is "unknown".
type requestMetrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	conns    prometheus.Gauge
	refused  *prometheus.CounterVec
	denied   *prometheus.CounterVec
	checked  prometheus.Counter
	strayed  prometheus.Counter
}

// durationBuckets are about x2 apart, with the edges that people agree on in service levels: 0.2, 0.5 and 1 s.
var durationBuckets = []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10}

func newRequestMetrics(reg prometheus.Registerer) (*requestMetrics, error) {
	m := &requestMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "croft_http_requests_total", Help: "Requests answered, by operation and status.",
		}, []string{"op", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "croft_http_request_duration_seconds", Help: "Time from a request's header to its answer, by operation.",
			Buckets: durationBuckets, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
		}, []string{"op"}),
		conns: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "croft_http_connections", Help: "Client connections open.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "croft_http_connections_refused_total", Help: "Client connections closed at once, by the cap that they met.",
		}, []string{"cap"}),
		denied: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "croft_access_denied_total", Help: "Requests refused for what they asked for or for their credential, by the reason.",
		}, []string{"reason"}),
		checked: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "croft_answers_checked_total", Help: "Answers to tenants' credentials that were checked to be their own before they were sent.",
		}),
		strayed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "croft_answers_foreign_total", Help: "Answers to tenants' credentials that were found to be another's, and were not sent.",
		}),
	}
	for _, why := range tenancy.Denials() {
		m.denied.WithLabelValues(why.String())
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.conns, m.refused, m.denied, m.checked, m.strayed} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *requestMetrics) observe(op string, status int, d time.Duration) {
	m.series(op, status).observe(d)
}

// series are what a request of an operation that ends with a status is counted in.
type series struct {
	requests prometheus.Counter
	duration prometheus.Observer
}

func (m *requestMetrics) series(op string, status int) series {
	return series{m.requests.WithLabelValues(op, strconv.Itoa(status)), m.duration.WithLabelValues(op)}
}

func (s series) observe(d time.Duration) {
	s.requests.Inc()
	s.duration.Observe(d.Seconds())
}

// figures are the pages at /metrics.
type figures struct{ all, nameless http.Handler }

func newFigures(g prometheus.Gatherer) figures {
	page := func(g prometheus.Gatherer) http.Handler {
		return promhttp.HandlerFor(g, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
	}
	return figures{page(g), page(prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return withoutTenants(g) }))}
}

// page is what a principal may see: tenants' names are for those who run the store.
func (f *figures) page(p *tenancy.Principal) http.Handler {
	if p.Tenant == "" && p.Role.May(tenancy.ReadCluster) {
		return f.all
	}
	return f.nameless
}

// tenantLabel is the label of series that name a tenant.
const tenantLabel = "tenant"

// withoutTenants leaves out what names a tenant.
func withoutTenants(g prometheus.Gatherer) ([]*dto.MetricFamily, error) {
	all, err := g.Gather()
	shown := make([]*dto.MetricFamily, 0, len(all))
	for _, family := range all {
		if !slices.ContainsFunc(family.Metric, namesTenant) {
			shown = append(shown, family)
		}
	}
	return shown, err
}

func namesTenant(m *dto.Metric) bool {
	return slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == tenantLabel })
}
