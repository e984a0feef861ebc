package api

import (
	"bytes"
	"encoding/csv"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// usagePage is a report of what tenants have used.
type usagePage struct {
	From       time.Time    `json:"from"`
	To         time.Time    `json:"to"`
	By         string       `json:"by"`
	Currency   string       `json:"currency,omitzero"`
	Usage      []usageShown `json:"usage"`
	Pagination *nextPage    `json:"pagination,omitzero"`
}

// usageShown is a tenant's step.
type usageShown struct {
	usageOwner
	Time         time.Time    `json:"time"`
	Queries      uint64       `json:"queries"`
	Reads        uint64       `json:"reads"`
	Writes       uint64       `json:"writes"`
	Upserted     uint64       `json:"upserted"`
	Deleted      uint64       `json:"deleted"`
	ReadUnits    uint64       `json:"read_units"`
	WrittenBytes uint64       `json:"written_bytes"`
	ScannedBytes uint64       `json:"scanned_bytes"`
	Distances    uint64       `json:"distances"`
	Compute      float64      `json:"compute_seconds"`
	CacheHits    uint64       `json:"cache_hits"`
	Refused      uint64       `json:"refused"`
	Violations   uint64       `json:"violations"`
	Errors       uint64       `json:"errors"`
	Vectors      uint64       `json:"vectors"`
	VectorsPeak  uint64       `json:"vectors_peak"`
	Bytes        uint64       `json:"stored_bytes"`
	BytesPeak    uint64       `json:"stored_bytes_peak"`
	GiBHours     float64      `json:"gib_hours"`
	Latency      latencyShown `json:"latency_ms"`
	Cost         float64      `json:"cost"`
}

func (p usagePage) owners() []string {
	return namesOf(p.Usage, func(u *usageShown) string { return u.Tenant })
}

// usageOwner is whose figures a line of a report has. Several tenants may have had a name, one after the other.
type usageOwner struct {
	Tenant  string     `json:"tenant"` // empty: no tenant's, or that of all
	ID      string     `json:"tenant_id,omitzero"`
	Tier    string     `json:"tier,omitzero"`
	Deleted *time.Time `json:"deleted_at,omitzero"`
}

func showOwner(u *cluster.UsedBy) usageOwner {
	o := usageOwner{Tenant: u.Tenant, ID: u.ID, Tier: u.Tier}
	if !u.Deleted.IsZero() {
		o.Deleted = &u.Deleted
	}
	return o
}

// cells are the columns that end each line of a report.
func (o *usageOwner) cells() []string {
	if o.Deleted == nil {
		return []string{o.ID, ""}
	}
	return []string{o.ID, o.Deleted.Format(time.RFC3339)}
}

// latencyShown are percentiles of the time that requests took at the tenant's home, in milliseconds.
type latencyShown struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
}

func showLatency(u *tenancy.Usage) latencyShown {
	ms := func(share float64) float64 { return float64(u.Percentile(share).Microseconds()) / 1000 }
	return latencyShown{ms(0.5), ms(0.95), ms(0.99)}
}

func showUsed(by *cluster.UsedBy, u *cluster.Used, prices *tenancy.Prices) usageShown {
	n := &u.Counts
	return usageShown{
		usageOwner: showOwner(by), Time: u.Begin, Queries: n[tenancy.Queries], Reads: n[tenancy.Reads], Writes: n[tenancy.Writes],
		Upserted: n[tenancy.Upserted], Deleted: n[tenancy.Deleted], ReadUnits: n[tenancy.ReadUnits], WrittenBytes: n[tenancy.WrittenBytes],
		ScannedBytes: n[tenancy.ScannedBytes], Distances: n[tenancy.Distances], Compute: float64(n[tenancy.ComputeNanos]/1000) / 1e6,
		CacheHits: n[tenancy.CacheHits], Refused: n[tenancy.Refused], Violations: n[tenancy.Violations], Errors: n[tenancy.Errors],
		Vectors: u.End.Vectors, VectorsPeak: u.Peak.Vectors, Bytes: u.End.Bytes, BytesPeak: u.Peak.Bytes, GiBHours: u.ByteHours / (1 << 30),
		Latency: showLatency(&u.Usage), Cost: prices.Cost(&u.Usage, u.ByteHours),
	}
}

// usageSpan is the longest report, of what is kept.
const usageSpan = 31 * 24 * time.Hour

// usage reports what tenants have used: all that the principal reaches, or one.
func usage(c *call) (reply, error) {
	q, by, err := c.readReport()
	if err != nil {
		return nil, err
	}
	switch kind := c.params.text("report"); kind {
	case "sla":
		return c.slaReport(q, by)
	case "isolation":
		return c.isolationReport(q, by)
	case "", "usage":
	default:
		return nil, invalid("report", "%q is none of usage, sla, isolation", clip(kind))
	}
	if by, err = readStep(&q, by); err != nil {
		return nil, err
	}
	found, next, err := c.usagePage(&q, by)
	if err != nil {
		return nil, err
	}
	prices := c.h.node.Prices()
	page := usagePage{From: q.From, To: q.To, By: by, Currency: prices.Currency, Usage: []usageShown{}, Pagination: next}
	for i := range found {
		for j := range found[i].Steps {
			page.Usage = append(page.Usage, showUsed(&found[i], &found[i].Steps[j], &prices))
		}
	}
	if c.wantsCSV() {
		return c.usageCSV(&page)
	}
	return document{page}, nil
}

// usagePage looks up the page of a report that is asked for, and where the next one begins.
func (c *call) usagePage(q *cluster.UsageReport, by string) ([]cluster.UsedBy, *nextPage, error) {
	at := c.listing(q.Tenant, q.Prefix+q.From.String()+q.To.String()+by)
	after, err := c.h.tokens.open(at, c.params.text("paginationToken"))
	if err != nil {
		return nil, nil, err
	}
	q.After.Tenant, q.After.ID, _ = strings.Cut(after, "\x00")
	found, more, err := c.h.node.Usage(c.ctx, *q)
	if err != nil || !more || len(found) == 0 {
		return found, nil, err
	}
	last := found[len(found)-1].UsagePlace
	return found, &nextPage{c.h.tokens.seal(at, last.Tenant+"\x00"+last.ID)}, nil
}

// eachUsed visits all that a report is about.
func (c *call) eachUsed(q cluster.UsageReport, visit func(*cluster.UsedBy)) error {
	for q.Limit = maxListed; ; {
		found, more, err := c.h.node.Usage(c.ctx, q)
		if err != nil {
			return err
		}
		for i := range found {
			visit(&found[i])
		}
		if !more || len(found) == 0 {
			return nil
		}
		q.After = found[len(found)-1].UsagePlace
	}
}

func (c *call) wantsCSV() bool {
	format := c.params.text("format")
	return format == "csv" || format == "" && accepts(c.r.Header, "text/csv")
}

// readReport reads what is asked for, and by what. Without a time it is the last day.
func (c *call) readReport() (q cluster.UsageReport, by string, err error) {
	own, all := c.sight()
	if q.Tenant = c.params.text("tenant"); !all {
		if q.Tenant != "" {
			err = c.reach(q.Tenant)
		}
		q.Tenant, q.Live = own, true
	}
	if err != nil {
		return q, "", err
	}
	if f := c.params.text("format"); f != "" && f != "json" && f != "csv" {
		return q, "", invalid("format", "%q is neither json nor csv", clip(f))
	}
	q.Prefix = c.params.text("prefix")
	if q.Limit, err = c.params.integer("limit", defaultListed, 1, maxListed); err != nil {
		return q, "", err
	}
	if q.To, err = c.time("to", c.start); err != nil {
		return q, "", err
	}
	if q.From, err = c.time("from", q.To.Add(-24*time.Hour)); err != nil {
		return q, "", err
	}
	q.From, q.To = q.From.Truncate(time.Hour), q.To.Add(time.Hour-1).Truncate(time.Hour)
	if span := q.To.Sub(q.From); span <= 0 || span > usageSpan {
		return q, "", invalid("to", "is %s after from; a report is of an hour to %d days", span, usageSpan/(24*time.Hour))
	}
	return q, c.params.text("by"), nil
}

// readStep reads the step of a report: an hour, and a day of one over more than two days, unless by says otherwise.
func readStep(q *cluster.UsageReport, by string) (string, error) {
	switch {
	case by == "day" || by == "" && q.To.Sub(q.From) > 48*time.Hour:
		by, q.Step = "day", 24*time.Hour
	case by == "hour" || by == "":
		by, q.Step = "hour", time.Hour
	default:
		return "", invalid("by", "%q is neither hour nor day", clip(by))
	}
	return by, nil
}

// time reads a time as RFC 3339, or a date of UTC.
func (c *call) time(name string, def time.Time) (time.Time, error) {
	text := c.params.text(name)
	if text == "" {
		return def.UTC(), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, invalid(name, "%q is no time as 2026-01-31T15:00:00Z, and no date", clip(text))
}

var usageHeader = []string{
	"tenant", "tier", "time", "queries", "reads", "writes", "upserted", "deleted", "read_units", "written_bytes", "scanned_bytes", "distances",
	"compute_seconds", "cache_hits", "refused", "violations", "errors", "vectors", "vectors_peak", "stored_bytes", "stored_bytes_peak", "gib_hours",
	"p50_ms", "p95_ms", "p99_ms", "cost", "currency", "tenant_id", "deleted_at",
}

// usageCSV sends a report as comma-separated values (RFC 4180); a page that is not the last one names the next in Link.
func (c *call) usageCSV(p *usagePage) (reply, error) {
	rows := [][]string{usageHeader}
	count := func(n uint64) string { return strconv.FormatUint(n, 10) }
	for i := range p.Usage {
		u := &p.Usage[i]
		row := []string{cell(u.Tenant), u.Tier, u.Time.Format(time.RFC3339)}
		for _, n := range []uint64{u.Queries, u.Reads, u.Writes, u.Upserted, u.Deleted, u.ReadUnits, u.WrittenBytes, u.ScannedBytes, u.Distances} {
			row = append(row, count(n))
		}
		row = append(row, decimal(u.Compute))
		for _, n := range []uint64{u.CacheHits, u.Refused, u.Violations, u.Errors, u.Vectors, u.VectorsPeak, u.Bytes, u.BytesPeak} {
			row = append(row, count(n))
		}
		row = append(row, decimal(u.GiBHours), decimal(u.Latency.P50), decimal(u.Latency.P95), decimal(u.Latency.P99), decimal(u.Cost), cell(p.Currency))
		rows = append(rows, append(row, u.cells()...))
	}
	return c.csv(rows, p.Pagination)
}

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// csv sends rows as comma-separated values.
func (c *call) csv(rows [][]string, next *nextPage) (reply, error) {
	var b bytes.Buffer
	if err := csv.NewWriter(&b).WriteAll(rows); err != nil {
		return nil, err
	}
	h := c.w.Header()
	h.Set("Content-Type", "text/csv; charset=utf-8")
	if next != nil {
		h.Set("X-Croft-Next", next.Next)
	}
	return &page{header: h, code: 200, body: b.Bytes()}, nil
}

// cell keeps a text that tenants choose from being taken for a formula by a spreadsheet.
func cell(text string) string {
	if text != "" && bytes.IndexByte([]byte("=+-@\t\r"), text[0]) >= 0 {
		return "'" + text
	}
	return text
}

// pricesShown is the cost model: prices by name, in some currency.
type pricesShown struct {
	Currency string             `json:"currency"`
	Prices   map[string]float64 `json:"prices"`
}

func showPrices(p *tenancy.Prices) pricesShown {
	s := pricesShown{p.Currency, map[string]float64{}}
	for _, name := range tenancy.AllPrices() {
		s.Prices[name.String()] = p.Of[name]
	}
	return s
}

func getPrices(c *call) (reply, error) {
	p := c.h.node.Prices()
	return document{showPrices(&p)}, nil
}

var pricesFields = []field[pricesShown]{
	textField("currency", func(p *pricesShown) *string { return &p.Currency }),
	{"prices", func(p *pricesShown, r *reader) error { return object(r, p, priceFields) }},
}

var priceFields = func() (fields []field[pricesShown]) {
	for _, name := range tenancy.AllPrices() {
		fields = append(fields, field[pricesShown]{name.String(), func(p *pricesShown, r *reader) (err error) {
			p.Prices[name.String()], err = r.number()
			return err
		}})
	}
	return fields
}()

// setPrices changes prices; what the body leaves out stays.
func setPrices(c *call) (reply, error) {
	p := c.h.node.Prices()
	s := showPrices(&p)
	if err := decodeObject(c.body, &s, pricesFields); err != nil {
		return nil, err
	}
	p.Currency = s.Currency
	for _, name := range tenancy.AllPrices() {
		p.Of[name] = s.Prices[name.String()]
	}
	if err := c.h.node.SetPrices(c.ctx, p); err != nil {
		return nil, err
	}
	return getPrices(c)
}

// cacheShown is what the nodes keep of a tenant's results.
type cacheShown struct {
	tenancy.CacheStats
	HitRate float64                       `json:"hit_rate"`
	Nodes   map[string]tenancy.CacheStats `json:"nodes"`
	Silent  []string                      `json:"silent,omitzero"` // nodes that did not answer
}

func tenantCache(c *call) (reply, error) { return c.cache(false) }

func invalidateCache(c *call) (reply, error) { return c.cache(true) }

func (c *call) cache(invalidate bool) (reply, error) {
	nodes, silent, err := c.h.node.TenantCache(c.ctx, c.args[0], invalidate)
	if err != nil {
		return nil, err
	}
	if invalidate && len(silent) > 0 {
		return nil, errs.New(errs.Unavailable, "%d of the nodes did not answer, and may still have results: %v", len(silent), silent).
			WithHint("ask again; what they have is of the state that they serve, and never older")
	}
	s := cacheShown{Nodes: nodes, Silent: silent}
	s.Off = len(nodes) > 0
	for _, node := range slices.Sorted(maps.Keys(nodes)) {
		s.Add(nodes[node])
	}
	if n := s.Hits + s.Misses; n > 0 {
		s.HitRate = float64(s.Hits) / float64(n)
	}
	return document{s}, nil
}
