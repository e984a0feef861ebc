package api

import (
	"errors"
	"sync"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

// queryRequest is the body of a query together with its answer: both live in one pool, so that the path of a query
// reuses the memory of the one before.
type queryRequest struct {
	engine.Query
	namespace string
	id        string
	scan      float64
	limit     int // bytes of the answer
	units     int // of reading, that it took
	res       engine.Result
}

var queryRequests = sync.Pool{New: func() any { return new(queryRequest) }}

func getQuery() *queryRequest {
	q := queryRequests.Get().(*queryRequest)
	*q = queryRequest{Query: engine.Query{Vector: q.Vector[:0]}, res: engine.Result{Matches: q.res.Matches[:0]}}
	return q
}

func (q *queryRequest) release() { queryRequests.Put(q) }

var queryFields = []field[queryRequest]{
	textField("namespace", func(q *queryRequest) *string { return &q.namespace }),
	intField("topK", 1, maxTopK, func(q *queryRequest) *int { return &q.K }),
	{"vector", func(q *queryRequest, r *reader) (err error) { q.Vector, err = r.floats(q.Vector[:0]); return }},
	textField("id", func(q *queryRequest) *string { return &q.id }),
	{"sparseVector", func(q *queryRequest, r *reader) (err error) { q.Sparse, err = readSparse(r); return }},
	{"filter", func(q *queryRequest, r *reader) (err error) { q.Filter, err = readFilter(r); return }},
	boolField("includeValues", func(q *queryRequest) *bool { return &q.IncludeValues }),
	boolField("includeMetadata", func(q *queryRequest) *bool { return &q.IncludeMetadata }),
	{"scanFactor", (*queryRequest).readScanFactor},
	intField("maxCandidates", 1, 100_000, func(q *queryRequest) *int { return &q.Ef }),
	{"recall", func(q *queryRequest, r *reader) (err error) { q.Recall, err = r.recall(); return }},
	{"queries", func(*queryRequest, *reader) error {
		return faultf("the deprecated list of queries is not served; send one request per query")
	}},
}

func (q *queryRequest) readScanFactor(r *reader) (err error) {
	if q.scan, err = r.number(); err == nil && (q.scan < 0.5 || q.scan > 4) {
		err = faultf("%v is not between 0.5 and 4", q.scan)
	}
	return err
}

// decodeQuery reads and checks the body of a query for an index.
func decodeQuery(body []byte, ix *cluster.Index, q *queryRequest) error {
	if err := decodeObject(body, q, queryFields); err != nil {
		return err
	}
	return q.validate(ix)
}

func (q *queryRequest) validate(ix *cluster.Index) error {
	dense, sparse := len(q.Vector) > 0, len(q.Sparse.Indices) > 0
	switch {
	case q.K == 0:
		return invalid("topK", "is missing, a whole number from 1 to %d is needed", maxTopK)
	case q.Ef != 0 && q.Recall != 0:
		return errs.New(errs.Invalid, "maxCandidates and recall are both given: the first says how far to look, the second leaves it to the server")
	case q.id != "" && (dense || sparse):
		return errs.New(errs.Invalid, "id is given together with vector or sparseVector; it stands alone")
	case q.id != "":
		return fieldFault(checkID(q.id), "id")
	case !dense && !sparse:
		return errs.New(errs.Invalid, "one of vector, sparseVector and id is needed")
	case sparse && !ix.Sparse && ix.Metric != ann.DotProduct:
		return invalid("sparseVector", "an index with metric %s cannot be searched by sparse values, only one with dotproduct", ix.Metric)
	case dense && ix.Sparse:
		return invalid("vector", "a sparse index is searched by sparseVector")
	}
	if dense {
		return fieldFault(checkAsked(ix, q.Vector), "vector")
	}
	q.Vector = nil
	return nil
}

func query(c *call) (reply, error) {
	q := getQuery()
	if err := c.query(q); err != nil {
		q.release()
		return nil, err
	}
	return q, nil
}

func (c *call) query(q *queryRequest) error {
	if err := decodeQuery(c.body, &c.ix, q); err != nil {
		return err
	}
	ns, err := c.inNamespace(q.namespace)
	if err != nil {
		return err
	}
	if q.scan != 0 {
		c.warn("scanFactor has no effect here; maxCandidates has")
	}
	c.capTopK(q)
	q.limit = c.h.opts.Limits.ResultBytes
	q.MaxBytes = 2 * q.limit // a value takes 4 bytes in memory and at least 2 as text
	if err := c.checkResultSize(ns, q); err != nil {
		return err
	}
	if q.id != "" {
		if found, err := c.loadByID(ns, q); err != nil || !found {
			return err
		}
	}
	_, err = c.h.node.Query(c.ctx, c.ix, ns, &q.Query, &q.res)
	q.units = int(c.reading.Receipt.ReadUnits)
	if errors.Is(err, engine.ErrAnswerTooLarge) {
		return errResultTooLarge(q.limit)
	}
	if err == nil {
		c.read()
	}
	return err
}

// checkResultSize refuses a query whose values alone cannot fit its answer before any of them is read: a value
// takes at least two bytes. What slips through is bounded by it, and measured when encoded.
func (c *call) checkResultSize(ns string, q *queryRequest) error {
	if !q.IncludeValues || q.K*c.ix.Dim*2 <= q.limit {
		return nil
	}
	n, err := c.h.node.DescribeNamespace(c.ctx, c.ix, ns)
	if err != nil || min(uint64(q.K), n.Stats.Records)*uint64(c.ix.Dim)*2 <= uint64(q.limit) {
		return nil // a missing namespace has an empty answer
	}
	return errResultTooLarge(q.limit)
}

// loadByID puts a stored record's vector into the query. found is false if there is none, which has an empty answer.
// On a dense index the search is by the dense part alone.
func (c *call) loadByID(ns string, q *queryRequest) (found bool, err error) {
	recs, err := c.h.node.Fetch(c.ctx, c.ix, ns, []string{q.id})
	if err != nil || len(recs) == 0 {
		return false, err
	}
	if c.ix.Sparse {
		q.Sparse, q.Vector = recs[0].Sparse, nil
	} else {
		q.Vector = append(q.Vector[:0], recs[0].Values...)
	}
	return true, nil
}

func errResultTooLarge(limit int) error {
	return errs.New(errs.Invalid, "the answer is larger than %d bytes", limit).
		WithHint("lower topK, or leave out includeValues or includeMetadata")
}

func (q *queryRequest) appendJSON(b []byte) (_ []byte, err error) {
	b = append(b, `{"results":[],"matches":[`...)
	for i := range q.res.Matches {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendMatch(b, &q.res.Matches[i]); err != nil {
			return b, err
		}
		if len(b) > q.limit {
			return b, errResultTooLarge(q.limit)
		}
	}
	b = append(b, `],"namespace":`...)
	b = appendQuoted(b, q.namespace)
	return append(appendUsage(b, max(1, q.units)), '}'), nil
}

// appendScore appends a score. Searches keep products negated, and a zero's sign is nobody's affair.
func appendScore(b []byte, score float32) ([]byte, error) {
	if score == 0 {
		return append(b, '0'), nil
	}
	return appendFloat32(b, score)
}

func appendMatch(b []byte, m *engine.Match) ([]byte, error) {
	return appendMatchMembers(append(b, '{'), m)
}

// appendMatchMembers appends a match's members and the end of the object that they are in.
func appendMatchMembers(b []byte, m *engine.Match) (_ []byte, err error) {
	b = append(b, `"id":`...)
	b = appendQuoted(b, m.ID)
	b = append(b, `,"score":`...)
	if b, err = appendScore(b, m.Score); err != nil {
		return b, err
	}
	if b, err = appendRecord(b, &m.Record); err != nil {
		return b, err
	}
	return append(b, '}'), nil
}
