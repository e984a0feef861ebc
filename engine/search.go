package engine

import (
	"cmp"
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/flat"
	"github.com/croftdb/croft/engine/filter"
	"github.com/croftdb/croft/internal/errs"
)

// Query searches a partition into res; a missing partition is an empty one. ErrStaged, ErrLeft: its tenant lives elsewhere. Without metadata and values it takes no
// lock and, once res and the pooled scratch have grown, allocates nothing.
func (s *Shard) Query(ctx context.Context, key Key, q *Query, res *Result) (err error) {
	res.reset()
	p, err := s.find(key)
	if p == nil {
		return err
	}
	if err := q.check(p.schema); err != nil {
		return err
	}
	defer catchFault(&err)
	pin := s.epochs.pin()
	defer s.epochs.unpin(pin)
	s.engine.queries.Add(1)
	sr := s.engine.searchers.Get().(*searcher)
	defer s.engine.searchers.Put(sr)
	// A record that is replaced between search and payload would be answered with the old score and the new
	// payload: such a search is done again. It is bounded, because a partition may be written to without end.
	for attempt := 0; ; attempt++ {
		sp, err := s.acquire(ctx, p)
		if err != nil {
			return err
		}
		if err := sr.search(ctx, sp, q, res); err != nil {
			return err
		}
		fresh, err := sr.attach(sp, q, res, attempt == 3)
		if err != nil || fresh {
			return err
		}
	}
}

func (r *Result) reset() {
	r.Matches, r.Plan, r.Scanned, r.Version = r.Matches[:0], PlanEmpty, 0, 0
	r.Distances, r.Read, r.Stored, r.Tenant = 0, 0, 0, TenantID{}
}

func (q *Query) check(sc *Schema) error {
	switch {
	case q.K < 1:
		return errs.New(errs.Invalid, "query: k is %d, must be at least 1", q.K)
	case len(q.Vector) > 0 && len(q.Vector) != sc.Dim:
		return errs.New(errs.Invalid, "query: the vector has dimension %d, the index has %d", len(q.Vector), sc.Dim)
	case len(q.Vector) == 0 && len(q.Sparse.Indices) == 0:
		return errs.New(errs.Invalid, "query: neither a vector nor a sparse vector is given")
	case len(q.Sparse.Indices) > 0 && sc.Metric != ann.DotProduct:
		return errs.New(errs.Invalid, "query: a sparse vector needs an index with metric dotproduct, this one has %s", sc.Metric)
	}
	return nil
}

// catchFault turns a fault in a mapped file - cut short under us, or an unreadable disk - into an error, where the
// default is the death of the process. Deferred first thing in whatever reads rows.
func catchFault(err *error) {
	r := recover()
	if r == nil {
		return
	}
	fault, ok := r.(interface {
		error
		Addr() uintptr
	})
	if !ok {
		panic(r)
	}
	*err = errs.New(errs.Corrupt, "a mapped file could not be read at %#x: %w", fault.Addr(), fault).
		WithHint("look for disk errors in the system's log")
}

// searcher is the scratch of one search, pooled.
type searcher struct {
	sp   *space
	view *view
	seen visibility

	set *roaring.Bitmap // what an exact scan was limited to; nil: the pending list

	query   ann.Query
	request ann.Request
	top     ann.TopK
	found   []ann.Candidate
	slots   []uint32
	sums    sums
}

func newSearcher() *searcher { return &searcher{slots: make([]uint32, scanBatch)} }

// scanBatch is how many slots are fetched, and read from a bitmap, at once.
const scanBatch = 1024

// visibility is the filter of a search: slots alive at its sequence and, if on is set, in a set.
type visibility struct {
	cols *columns
	seq  uint64
	bits ann.Set
	on   bool
}

// Allow implements ann.Filter.
func (v *visibility) Allow(slot uint32) bool {
	return (!v.on || v.bits.Has(slot)) && v.cols.visible(slot, v.seq)
}

// restrict limits v to a set.
func (v *visibility) restrict(set *roaring.Bitmap) {
	n := int(set.DenseSize())
	v.bits = slices.Grow(v.bits[:0], n)[:n]
	clear(v.bits)
	set.WriteDenseTo(v.bits)
	v.on = true
}

// search fills res with ids and scores.
func (sr *searcher) search(ctx context.Context, sp *space, q *Query, res *Result) error {
	debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(false)
	sr.begin(sp, q, res)
	defer sr.end()
	var err error
	switch {
	case len(q.Sparse.Indices) > 0:
		err = sr.sparse(ctx, q, res)
	case !q.Filter.IsEmpty():
		err = sr.filtered(ctx, q, res)
	default:
		err = sr.all(ctx, q, res)
	}
	if err != nil {
		return err
	}
	sr.found = q.Bound.cut(sr.top.Sorted(sr.found[:0]))
	if err := sr.settle(ctx, q, res.Plan); err != nil {
		return err
	}
	sr.answer(res)
	res.Distances += res.Scanned
	res.Read += res.Scanned * 4 * sp.dim
	return nil
}

func (sr *searcher) begin(sp *space, q *Query, res *Result) {
	sr.sp, sr.view = sp, sp.view.Load()
	sr.seen.cols, sr.seen.seq, sr.seen.on = &sp.cols, sr.view.seq, false
	sr.query = ann.Bind(sp.part.schema.Metric, q.Vector)
	sr.top.Reset(min(q.K, int(sp.slots())) + 1) // one more than asked for tells whether the last place is tied
	if q.Bound != nil {
		sr.top.Within(q.Bound.distance())
	}
	sr.set = nil
	res.reset()
	res.Version, res.Stored, res.Tenant = sr.view.version, sr.view.stored, sp.part.key.Tenant
}

// end lets go of what the pool must not keep alive.
func (sr *searcher) end() {
	sr.sp, sr.view, sr.seen.cols, sr.set = nil, nil, nil, nil
	sr.query, sr.request = ann.Query{}, ann.Request{}
}

// all searches every record.
func (sr *searcher) all(ctx context.Context, q *Query, res *Result) error {
	res.Plan = PlanFlat
	if sr.view.graph != nil {
		res.Plan = PlanGraph
		if err := sr.walk(ctx, q, 0, res); err != nil {
			return err
		}
	}
	return sr.scan(ctx, sr.view.pending, res)
}

// scan measures slots exactly.
func (sr *searcher) scan(ctx context.Context, slots []uint32, res *Result) error {
	res.Scanned += len(slots)
	for len(slots) > 0 {
		batch := slots[:min(len(slots), scanBatch)]
		sr.sp.ahead(batch)
		if err := flat.Scan(ctx, &sr.query, sr.sp, batch, &sr.seen, &sr.top); err != nil {
			return err
		}
		slots = slots[len(batch):]
	}
	return nil
}

// walk searches the graph, among the slots that seen is restricted to, for as long as limit allows (0: no limit).
func (sr *searcher) walk(ctx context.Context, q *Query, limit int, res *Result) error {
	sr.request = ann.Request{Vector: q.Vector, K: q.K, Ef: sr.ef(q), Recall: q.Recall, Filter: &sr.seen, Limit: limit}
	if sr.seen.on {
		sr.request.Among = sr.seen.bits
	}
	var err error
	sr.found, err = sr.view.graph.Search(ctx, &sr.request, sr.found[:0])
	sr.worked(res)
	if err != nil {
		return err
	}
	if sr.request.Ef == 0 && sr.request.Among == nil {
		sr.sp.asked.note(&sr.request)
	}
	sr.offerFound()
	return nil
}

// worked counts what the graph has measured: codes, where it has them.
func (sr *searcher) worked(res *Result) {
	cfg := sr.view.graph.Config()
	res.Distances += sr.request.Work
	if cfg.Bits == NoCodes {
		res.Read += sr.request.Work * 4 * cfg.Dim
	} else {
		res.Read += sr.request.Work * cfg.Dim * cfg.Bits / 8
	}
}

// offerFound offers what was found in the graph, but for slots that are also in the view's pending list, where scan
// finds them.
func (sr *searcher) offerFound() {
	first := ^uint64(0)
	if len(sr.view.pending) > 0 {
		first = sr.sp.born(sr.view.pending[0])
	}
	for _, c := range sr.found {
		if sr.sp.born(c.Slot) < first {
			sr.top.Offer(c)
		}
	}
}

// ef is the breadth of the walk where one is asked for, else 0: the graph finds out what q.Recall takes.
func (sr *searcher) ef(q *Query) int {
	if ef := cmp.Or(q.Ef, sr.sp.part.schema.EfSearch); ef > 0 {
		return max(ef, q.K)
	}
	return 0
}

// filtered searches the records that match q.Filter: by a walk among them where many match, else, or when the walk turns
// out to be dearer, by measuring the code or the vector of each.
func (sr *searcher) filtered(ctx context.Context, q *Query, res *Result) error {
	set, err := sr.match(ctx, q.Filter)
	if err != nil {
		return err
	}
	choice := sr.choose(set, q)
	if choice.Strategy == filter.Graph {
		res.Plan = PlanFilterGraph
		sr.seen.restrict(set)
		err := sr.walk(ctx, q, choice.Limit, res)
		if err == nil {
			return sr.scan(ctx, sr.view.pending, res)
		}
		if !errors.Is(err, ann.ErrLimit) {
			return err
		}
		choice.Strategy = choice.Fallback
	}
	if choice.Strategy == filter.Codes {
		res.Plan = PlanFilterCodes
		return sr.scanCodes(ctx, q, set, res)
	}
	res.Plan, sr.set = PlanFilterScan, set
	return sr.scanSet(ctx, set, res)
}

func (sr *searcher) choose(set *roaring.Bitmap, q *Query) filter.Choice {
	g := sr.view.graph
	if g == nil {
		return filter.Choice{Strategy: filter.Scan}
	}
	cfg := g.Config()
	t := filter.Terms{
		Matches: int(set.GetCardinality()), Total: g.Len(), M: cfg.M, RowBytes: 4 * cfg.Dim,
		Ef: cmp.Or(sr.ef(q), g.EfFor(q.K, q.Recall)),
	}
	if t.CodeBytes = t.RowBytes; cfg.Bits != NoCodes {
		t.CodeBytes = cfg.Dim * cfg.Bits / 8
	}
	return filter.Choose(t)
}

// scanCodes measures those slots of a set that are in the graph by their codes, and those that are pending by their
// vectors.
func (sr *searcher) scanCodes(ctx context.Context, q *Query, set *roaring.Bitmap, res *Result) error {
	sr.request = ann.Request{Vector: q.Vector, K: q.K, Filter: &sr.seen}
	var err error
	sr.found, err = sr.view.graph.Scan(ctx, &sr.request, set.ManyIterator(), sr.found[:0])
	sr.worked(res)
	if err != nil {
		return err
	}
	sr.offerFound()
	if len(sr.view.pending) == 0 {
		return nil
	}
	sr.seen.restrict(set)
	return sr.scan(ctx, sr.view.pending, res)
}

// match returns the slots that match a filter. Those in which only a part of the filter could be looked up are
// checked against the stored metadata.
func (sr *searcher) match(ctx context.Context, e *filter.Expr) (*roaring.Bitmap, error) {
	set, exact := sr.sp.filter.Eval(e)
	if exact {
		return set, nil
	}
	return sr.recheck(ctx, set, e)
}

// scanSet measures every visible slot of a set.
func (sr *searcher) scanSet(ctx context.Context, set *roaring.Bitmap, res *Result) error {
	for it := set.ManyIterator(); ; {
		n := it.NextMany(sr.slots)
		if n == 0 {
			return nil
		}
		if err := sr.scan(ctx, sr.slots[:n], res); err != nil {
			return err
		}
	}
}

// sparse adds the inner product of the sparse vectors to that of the dense ones, if asked for. Without dense vectors,
// records that share no index with the query are not answered.
func (sr *searcher) sparse(ctx context.Context, q *Query, res *Result) error {
	res.Plan = PlanSparse
	if !q.Filter.IsEmpty() {
		set, err := sr.match(ctx, q.Filter)
		if err != nil {
			return err
		}
		sr.seen.restrict(set)
	}
	sr.sums.reset()
	sr.sp.sparse.accumulate(q.Sparse, &sr.sums)
	if len(q.Vector) == 0 {
		sr.offerSums(res)
		return nil
	}
	return sr.hybrid(ctx, res)
}

func (sr *searcher) offerSums(res *Result) {
	res.Scanned += len(sr.sums.touched)
	for _, slot := range sr.sums.touched {
		if sr.seen.Allow(slot) {
			sr.top.Offer(ann.Candidate{Slot: slot, Distance: -sr.sums.at(slot)})
		}
	}
}

// hybrid measures every record: no index knows the sum.
func (sr *searcher) hybrid(ctx context.Context, res *Result) error {
	var distances [scanBatch]float32
	limit := sr.sp.slots()
	for from := uint32(0); from < limit; from += scanBatch {
		if err := ctx.Err(); err != nil {
			return err
		}
		batch := sr.slots[:0]
		for slot := from; slot < min(from+scanBatch, limit); slot++ {
			if sr.seen.Allow(slot) {
				batch = append(batch, slot)
			}
		}
		sr.query.Measure(sr.sp, batch, distances[:len(batch)])
		for i, slot := range batch {
			sr.top.Offer(ann.Candidate{Slot: slot, Distance: distances[i] - sr.sums.at(slot)})
		}
		res.Scanned += len(batch)
	}
	return nil
}

// slots returns a bound of the slots that are visible to any search that has loaded its view before.
func (sp *space) slots() uint32 {
	dir := sp.cols.dir.Load()
	if dir == nil {
		return 0
	}
	n := 0
	for _, c := range *dir {
		n += len(c.id)
	}
	return uint32(n)
}

// settle cuts the candidates to K. If the last place is tied, an exact plan gives it to the smaller ids, so that the
// answer does not depend on slots, which differ between replicas and after a restart. A graph walk or a sum of sparse
// products promises no such thing.
func (sr *searcher) settle(ctx context.Context, q *Query, plan Plan) error {
	if len(sr.found) <= q.K {
		return nil
	}
	last := sr.found[q.K-1].Distance
	tied := sr.found[q.K].Distance == last
	sr.found = sr.found[:q.K]
	if !tied || (plan != PlanFlat && plan != PlanFilterScan) {
		return nil
	}
	for len(sr.found) > 0 && sr.found[len(sr.found)-1].Distance == last {
		sr.found = sr.found[:len(sr.found)-1]
	}
	rivals, err := sr.at(ctx, last)
	if err != nil {
		return err
	}
	for _, slot := range rivals[:min(len(rivals), q.K-len(sr.found))] {
		sr.found = append(sr.found, ann.Candidate{Slot: slot, Distance: last})
	}
	return nil
}

// at returns the slots that are exactly at a distance, by id.
func (sr *searcher) at(ctx context.Context, distance float32) ([]uint32, error) {
	slots := sr.view.pending
	if sr.set != nil {
		slots = sr.set.ToArray()
	}
	var rivals []uint32
	var one [1]float32
	for i, slot := range slots {
		if i%scanBatch == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !sr.seen.Allow(slot) {
			continue
		}
		sr.query.Measure(sr.sp, slots[i:i+1], one[:])
		if one[0] == distance {
			rivals = append(rivals, slot)
		}
	}
	slices.SortFunc(rivals, func(a, b uint32) int { return strings.Compare(sr.sp.id(a), sr.sp.id(b)) })
	return rivals, nil
}

// answer turns candidates into matches, best first, equal ones by id.
func (sr *searcher) answer(res *Result) {
	n := len(sr.found)
	res.Matches = slices.Grow(res.Matches[:0], n)[:n]
	metric := sr.sp.part.schema.Metric
	for i, c := range sr.found {
		col, at := sr.sp.cols.at(c.Slot)
		m := &res.Matches[i]
		m.ID, m.Version = col.id[at], col.born[at].Load()
		m.Score = metric.Score(c.Distance)
		m.Values, m.Metadata, m.Sparse = m.Values[:0], nil, Sparse{}
	}
	sr.orderTies(res.Matches)
}

// orderTies sorts runs of equal distance by id. found is sorted by distance and slot; it follows.
func (sr *searcher) orderTies(ms []Match) {
	for from := 0; from < len(ms); {
		to := from + 1
		for to < len(ms) && sr.found[to].Distance == sr.found[from].Distance {
			to++
		}
		for i := from + 1; i < to; i++ {
			for j := i; j > from && strings.Compare(ms[j].ID, ms[j-1].ID) < 0; j-- {
				ms[j], ms[j-1] = ms[j-1], ms[j]
				sr.found[j], sr.found[j-1] = sr.found[j-1], sr.found[j]
			}
		}
		from = to
	}
}
