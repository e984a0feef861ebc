package api

import (
	"maps"
	"slices"
	"strconv"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/engine/filter"
	"github.com/croftdb/croft/internal/errs"
)

// fetched is the answer of both fetches: its body grows record by record while they are read, so that no more than a
// chunk of them is in memory at once.
type fetched struct {
	namespace string
	vectors   []byte // members of "vectors"
	count     int
	next      string
}

// fetchChunk is how many records are read at once; the largest, of 20,000 dimensions and full metadata, take 12 MB.
const fetchChunk = 100

func (f *fetched) add(rec *engine.Record) (err error) {
	b := f.vectors
	if f.count > 0 {
		b = append(b, ',')
	}
	b = append(appendQuoted(b, rec.ID), `:{"id":`...)
	if b, err = appendRecord(appendQuoted(b, rec.ID), rec); err != nil {
		return err
	}
	f.vectors = append(b, '}')
	f.count++
	return nil
}

func (f *fetched) appendJSON(b []byte) ([]byte, error) {
	b = append(b, `{"vectors":{`...)
	b = append(b, f.vectors...)
	b = append(b, `},"namespace":`...)
	b = appendQuoted(b, f.namespace)
	b = appendUsage(b, max(1, (f.count+9)/10)) // one read unit fetches ten records
	return append(appendNext(b, f.next), '}'), nil
}

func fetch(c *call) (reply, error) {
	ids, err := fetchIDs(c.params["ids"])
	if err != nil {
		return nil, err
	}
	f := &fetched{namespace: c.params.text("namespace")}
	ns, err := c.inNamespace(f.namespace)
	if err != nil {
		return nil, err
	}
	limit := c.h.opts.Limits.FetchBytes
	for len(ids) > 0 {
		n := min(len(ids), fetchChunk)
		recs, err := c.h.node.Fetch(c.ctx, c.ix, ns, ids[:n])
		if err != nil {
			return nil, err
		}
		for i := range recs {
			if err := f.add(&recs[i]); err != nil {
				return nil, err
			}
			if len(f.vectors) > limit {
				return nil, errs.New(errs.Invalid, "the answer is larger than %d bytes", limit).WithHint("fetch fewer ids at once")
			}
		}
		ids = ids[n:]
	}
	return f, nil
}

// fetchIDs checks ids and drops those that are repeated, since the answer has each once.
func fetchIDs(ids []string) ([]string, error) {
	if len(ids) == 0 || len(ids) > maxIDs {
		return nil, invalid("ids", "%d are given, 1 to %d are needed", len(ids), maxIDs)
	}
	if err := checkIDs(ids); err != nil {
		return nil, fieldFault(err, "ids")
	}
	seen := make(map[string]bool, len(ids))
	unique := make([]string, 0, len(ids))
	for _, id := range ids {
		if !seen[id] {
			seen[id] = true
			unique = append(unique, id)
		}
	}
	return unique, nil
}

// scanRequest is the body of fetch_by_metadata.
type scanRequest struct {
	namespace string
	filter    *filter.Expr
	limit     int
	token     string
}

var scanFields = []field[scanRequest]{
	textField("namespace", func(s *scanRequest) *string { return &s.namespace }),
	{"filter", func(s *scanRequest, r *reader) (err error) { s.filter, err = readFilter(r); return }},
	intField("limit", 1, maxScanned, func(s *scanRequest) *int { return &s.limit }),
	textField("paginationToken", func(s *scanRequest) *string { return &s.token }),
}

func fetchByMetadata(c *call) (reply, error) {
	req := scanRequest{limit: defaultListed}
	if err := decodeObject(c.body, &req, scanFields); err != nil {
		return nil, err
	}
	if req.filter == nil {
		return nil, invalid("filter", "is missing or empty; to read every record, list and fetch")
	}
	ns, err := c.inNamespace(req.namespace)
	if err != nil {
		return nil, err
	}
	page := c.listing(ns, req.filter.String())
	after, err := c.h.tokens.open(page, req.token)
	if err != nil {
		return nil, err
	}
	f := &fetched{namespace: req.namespace}
	last, more, err := c.scan(f, ns, after, &req)
	if err != nil {
		return nil, err
	}
	if more {
		f.next = c.h.tokens.seal(page, last)
	}
	return f, nil
}

// scan adds records to f chunk by chunk until there are enough, or so many that the page is cut short; a page holds
// one record at least.
func (c *call) scan(f *fetched, ns, after string, req *scanRequest) (last string, more bool, err error) {
	last, more = after, true
	for more && f.count < req.limit && len(f.vectors) < c.h.opts.Limits.ResultBytes {
		var recs []engine.Record
		recs, more, err = c.h.node.Scan(c.ctx, c.ix, ns, "", last, req.filter, min(fetchChunk, req.limit-f.count))
		if err != nil {
			return "", false, err
		}
		for i := range recs {
			if err := f.add(&recs[i]); err != nil {
				return "", false, err
			}
			last = recs[i].ID
		}
	}
	return last, more, nil
}

// listed is a page of ids.
type listed struct {
	namespace string
	ids       []string
	next      string
}

func (l *listed) appendJSON(b []byte) ([]byte, error) {
	b = append(b, `{"vectors":[`...)
	for i, id := range l.ids {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendQuoted(append(b, `{"id":`...), id), '}')
	}
	b = append(b, ']')
	b = appendNext(b, l.next)
	b = append(b, `,"namespace":`...)
	b = appendQuoted(b, l.namespace)
	return append(appendUsage(b, 1), '}'), nil
}

func list(c *call) (reply, error) {
	l := &listed{namespace: c.params.text("namespace")}
	ns, err := c.inNamespace(l.namespace)
	if err != nil {
		return nil, err
	}
	limit, err := c.params.integer("limit", defaultListed, 1, maxListed)
	if err != nil {
		return nil, err
	}
	prefix, err := c.prefix()
	if err != nil {
		return nil, err
	}
	page := c.listing(ns, prefix)
	after, err := c.h.tokens.open(page, c.params.text("paginationToken"))
	if err != nil {
		return nil, err
	}
	ids, more, err := c.h.node.ScanIDs(c.ctx, c.ix, ns, prefix, after, limit)
	if err != nil {
		return nil, err
	}
	l.ids = ids
	if more && len(ids) > 0 {
		l.next = c.h.tokens.seal(page, ids[len(ids)-1])
	}
	return l, nil
}

// prefix is the query parameter of that name, the begin of an id; empty means all.
func (c *call) prefix() (string, error) {
	p := c.params.text("prefix")
	if p == "" {
		return "", nil
	}
	return p, fieldFault(checkASCII(p, maxIDLen), "prefix")
}

// stats is the answer of describe_index_stats.
type stats struct {
	Namespaces map[string]namespaceCount `json:"namespaces"`
	Dimension  int                       `json:"dimension,omitzero"`
	Fullness   float64                   `json:"indexFullness"`
	Total      uint64                    `json:"totalVectorCount"`
	Metric     string                    `json:"metric"`
	VectorType string                    `json:"vectorType"`
}

type namespaceCount struct {
	VectorCount uint64 `json:"vectorCount"`
}

func (s stats) owners() []string { return slices.Collect(maps.Keys(s.Namespaces)) }

// statsRequest is the body of describe_index_stats; an empty body is {}.
type statsRequest struct{ filter *filter.Expr }

var statsFields = []field[statsRequest]{
	{"filter", func(s *statsRequest, r *reader) (err error) { s.filter, err = readFilter(r); return }},
}

func describeIndexStats(c *call) (reply, error) {
	var req statsRequest
	if len(c.body) > 0 {
		if err := decodeObject(c.body, &req, statsFields); err != nil {
			return nil, err
		}
	}
	if req.filter != nil {
		return nil, invalid("filter", "stats count whole namespaces; a filter is not supported")
	}
	s := stats{
		Namespaces: map[string]namespaceCount{}, Dimension: c.ix.Dim, Metric: c.ix.Metric.String(),
		VectorType: vectorType(c.ix.Sparse),
	}
	all, err := c.indexStats()
	if err != nil {
		return nil, err
	}
	for _, n := range all {
		s.Namespaces[n.Name] = namespaceCount{n.Stats.Records}
		s.Total += n.Stats.Records
	}
	return document{s}, nil
}

// indexStats counts the namespaces with records that the principal reaches.
func (c *call) indexStats() ([]cluster.Namespace, error) {
	own, all := c.sight()
	if all {
		return c.h.node.IndexStats(c.ctx, c.ix)
	}
	found, err := c.ownNamespace(own)
	return slices.DeleteFunc(found, func(n cluster.Namespace) bool { return n.Stats.Records == 0 }), err
}

func vectorType(sparse bool) string {
	if sparse {
		return "sparse"
	}
	return "dense"
}

func formatCount(n uint64) string { return strconv.FormatUint(n, 10) }
