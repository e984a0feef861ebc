package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/flat"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/engine/filter"
	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/errs"
)

// FilterOptions says how filtered search is measured. Zero fields stand for their defaults.
type FilterOptions struct {
	Dataset        string
	K              int           // neighbours a query, default 10
	Ef             int           // breadth of graph walks; 0: what the engine chooses
	M              int           // links; 0: the engine's default
	EfConstruction int           // 0: the engine's default
	Runs           int           // laps of each way to search, default 3; the median counts
	Lap            time.Duration // least time of a lap, default 300 ms
	Seed           uint64        // of the filters
	Progress       Progress      // may be nil

	graphAbove int // records above which there is a graph; 0: the engine's default
}

// EnsureDefaults fills in what is zero.
func (o *FilterOptions) EnsureDefaults() {
	o.K = cmp.Or(o.K, 10)
	o.Runs = cmp.Or(o.Runs, 3)
	o.Lap = cmp.Or(o.Lap, 300*time.Millisecond)
}

// Validate reports everything that is wrong with o.
func (o *FilterOptions) Validate() error {
	var faults []error
	check := func(name string, value, low, high int) {
		if value < low || value > high {
			faults = append(faults, fmt.Errorf("%s %d is outside %d to %d", name, value, low, high))
		}
	}
	if o.Dataset == "" {
		faults = append(faults, errors.New("no data set given"))
	}
	check("k", o.K, 1, 100)
	check("ef", o.Ef, 0, 1<<16)
	check("M", o.M, 0, 256)
	check("EfConstruction", o.EfConstruction, 0, 1<<16)
	check("runs", o.Runs, 1, 1000)
	if o.Lap < 0 {
		faults = append(faults, fmt.Errorf("lap %v is negative", o.Lap))
	}
	return errs.Wrap(errs.Invalid, errors.Join(faults...), "bench filters")
}

// FilterReport is what was measured.
type FilterReport struct {
	Dataset          string       `json:"dataset"`
	Metric           string       `json:"metric"`
	Kernel           string       `json:"kernel"`
	N                int          `json:"n"`
	Dim              int          `json:"dim"`
	BuildSeconds     float64      `json:"build_seconds"`
	UnfilteredRecall float64      `json:"unfiltered_recall"` // of all queries
	Recall           float64      `json:"recall"`            // the least of all cases
	Ratio            float64      `json:"ratio"`             // the least of all cases
	Cases            []FilterCase `json:"cases"`
}

// FilterCase is a filter with some of the queries.
type FilterCase struct {
	Filter  string  `json:"filter"`  // uncorrelated or correlated
	Queries string  `json:"queries"` // all, or the tenth that is near to, or far from, the middle of a correlated filter
	Percent float64 `json:"percent"` // of the records that match
	Matches int     `json:"matches"`
	Plan    string  `json:"plan"` // of the first query
	Recall  float64 `json:"recall"`
	// Queries per second, all three of the same queries, measured in turns.
	QPS        float64 `json:"qps"`
	Unfiltered float64 `json:"unfiltered_qps"` // without the filter
	Exact      float64 `json:"exact_qps"`      // measuring every match
	Ratio      float64 `json:"ratio"`          // QPS over the better of the two others
}

// percents are the shares of records that filters let pass.
var percents = []float64{0.1, 1, 10, 50, 90}

// subset is a filter: the first rows of a ranking.
type subset struct {
	kind    string
	percent float64
	rows    []uint32 // ascending
	mask    []bool
}

func (s *subset) name() string { return s.kind + " " + strconv.FormatFloat(s.percent, 'g', -1, 64) }

// subsetsOf cuts a ranking of rows at each of percents, at k rows at least.
func subsetsOf(kind string, ranking []uint32, k int) []*subset {
	var all []*subset
	for _, percent := range percents {
		count := min(len(ranking), max(k, int(float64(len(ranking))*percent/100)))
		s := &subset{kind: kind, percent: percent, rows: slices.Sorted(slices.Values(ranking[:count])), mask: make([]bool, len(ranking))}
		for _, row := range s.rows {
			s.mask[row] = true
		}
		all = append(all, s)
	}
	return all
}

const (
	uncorrelated = "uncorrelated" // with the vectors: rows by a hash of their number
	correlated   = "correlated"   // rows by their distance from one of them
)

// rankByHash puts n rows in an order that has nothing to do with their vectors.
func rankByHash(n int, seed uint64) []uint32 {
	rows := upTo(n)
	slices.SortFunc(rows, func(a, b uint32) int {
		return cmp.Or(cmp.Compare(scramble(seed^uint64(a)<<1), scramble(seed^uint64(b)<<1)), cmp.Compare(a, b))
	})
	return rows
}

// rankByDistance orders vectors by their distance from another one.
func rankByDistance(metric ann.Metric, from []float32, src ann.Source, n int) []uint32 {
	rows, distances := upTo(n), make([]float32, n)
	q := ann.Bind(metric, from)
	q.Measure(src, rows, distances)
	slices.SortFunc(rows, func(a, b uint32) int {
		return ann.Compare(ann.Candidate{Slot: a, Distance: distances[a]}, ann.Candidate{Slot: b, Distance: distances[b]})
	})
	return rows
}

// Filters measures filtered search in a partition of an engine in this process, as servers run it: the engine decides
// how each query is executed.
func Filters(ctx context.Context, o FilterOptions) (_ *FilterReport, err error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	d, err := OpenDataset(o.Dataset, 10)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	f := &filterBench{opts: o, data: d}
	if err := f.prepare(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.part.close()) }()
	begin := time.Now()
	if err := f.part.load(ctx, f.base, f.fields, o.Progress); err != nil {
		return nil, err
	}
	report := &FilterReport{Dataset: d.Name, Metric: metricName(d.Metric), Kernel: ann.Kernel(), N: d.Base.Len(), Dim: d.Base.Dim(),
		BuildSeconds: time.Since(begin).Seconds()}
	return report, f.measure(ctx, report)
}

// filterBench is one run.
type filterBench struct {
	opts    FilterOptions
	data    *Dataset
	base    *slab
	subsets []*subset
	truth   [][][]int32 // by subset and query
	parts   []queryPart // of the correlated subsets
	part    *partition

	top  ann.TopK
	rows []uint32
}

// queryPart is some of the queries.
type queryPart struct {
	name    string
	queries []uint32
}

// prepare makes filters with their exact answers, and an empty partition.
func (f *filterBench) prepare(ctx context.Context) (err error) {
	n := f.data.Base.Len()
	if f.base, err = readSlab(ctx, f.data.Metric, f.data.Base); err != nil {
		return err
	}
	centre, _ := f.base.Vector(uint32(scramble(f.opts.Seed) % uint64(n)))
	f.subsets = append(subsetsOf(uncorrelated, rankByHash(n, f.opts.Seed), f.opts.K),
		subsetsOf(correlated, rankByDistance(f.data.Metric, centre, f.base, n), f.opts.K)...)
	f.parts = f.split(centre)
	if err := f.data.Base.rewind(); err != nil {
		return err
	}
	job := &exactJob{metric: f.data.Metric, base: f.data.Base, queries: f.data.Queries, k: f.opts.K, progress: f.opts.Progress}
	for _, s := range f.subsets {
		job.masks = append(job.masks, s.mask)
	}
	if f.truth, err = job.run(ctx); err != nil {
		return err
	}
	f.part, err = openPartition(engine.Schema{
		Dim: f.data.Base.Dim(), Metric: f.data.Metric, M: f.opts.M, EfConstruction: f.opts.EfConstruction,
	}, f.opts.graphAbove)
	return err
}

// split picks the tenth of the queries nearest to centre, and the tenth farthest from it.
func (f *filterBench) split(centre []float32) []queryPart {
	queries := newSlab(f.data.Metric, len(f.data.Queries), len(centre))
	for i, q := range f.data.Queries {
		queries.set(i, q)
	}
	order := rankByDistance(f.data.Metric, centre, queries, len(f.data.Queries))
	count := max(1, len(order)/10)
	return []queryPart{{"near", order[:count]}, {"far", order[len(order)-count:]}}
}

const groupsField = "groups"

// fields names the subsets that a row is in.
func (f *filterBench) fields(row int) metadata.Map {
	var groups []string
	for _, s := range f.subsets {
		if s.mask[row] {
			groups = append(groups, s.name())
		}
	}
	if groups == nil {
		return nil
	}
	return metadata.Map{{Key: groupsField, Value: metadata.StringsValue(groups...)}}
}

// expr is a subset as a filter of the API.
func (s *subset) expr() (*filter.Expr, error) {
	return filter.Parse(fmt.Appendf(nil, `{%q:{"$in":[%q]}}`, groupsField, s.name()))
}

func (f *filterBench) measure(ctx context.Context, r *FilterReport) (err error) {
	if f.opts.Ef == 0 {
		if err := f.part.getUsedTo(ctx, f.data.Queries, f.opts.K); err != nil {
			return err
		}
	}
	if r.UnfilteredRecall, err = f.recall(ctx, f.data, nil); err != nil {
		return err
	}
	for i, s := range f.subsets {
		parts := f.parts
		if s.kind == uncorrelated {
			parts = []queryPart{{"all", upTo(len(f.data.Queries))}}
		}
		for _, part := range parts {
			c, err := f.measureCase(ctx, s, f.truth[i], part)
			if err != nil {
				return fmt.Errorf("filter %s, %s queries: %w", s.name(), part.name, err)
			}
			r.Cases = append(r.Cases, c)
			f.opts.Progress.tell("cases", len(r.Cases), len(percents)*(1+len(f.parts)))
		}
	}
	r.Recall = slices.MinFunc(r.Cases, func(a, b FilterCase) int { return cmp.Compare(a.Recall, b.Recall) }).Recall
	r.Ratio = slices.MinFunc(r.Cases, func(a, b FilterCase) int { return cmp.Compare(a.Ratio, b.Ratio) }).Ratio
	return nil
}

func (f *filterBench) measureCase(ctx context.Context, s *subset, truth [][]int32, part queryPart) (FilterCase, error) {
	c := FilterCase{Filter: s.kind, Queries: part.name, Percent: s.percent, Matches: len(s.rows)}
	expr, err := s.expr()
	if err != nil {
		return c, err
	}
	sub := &Dataset{Metric: f.data.Metric, Base: f.data.Base}
	for _, q := range part.queries {
		sub.Queries = append(sub.Queries, f.data.Queries[q])
		sub.Neighbours = append(sub.Neighbours, truth[q])
	}
	if c.Recall, err = f.recall(ctx, sub, expr); err != nil {
		return c, err
	}
	c.Plan = string(f.part.result.Plan)
	ask := func(e *filter.Expr) func(int) error {
		return func(q int) error { _, err := f.ask(ctx, sub.Queries[q], e); return err }
	}
	scan := func(q int) error { return f.scan(ctx, sub.Queries[q], s.rows) }
	rates, err := raceLaps(ctx, f.opts.Runs, f.opts.Lap, len(sub.Queries), ask(expr), ask(nil), scan)
	if err != nil {
		return c, err
	}
	c.QPS, c.Unfiltered, c.Exact = rates[0], rates[1], rates[2]
	c.Ratio = c.QPS / max(c.Unfiltered, c.Exact)
	return c, nil
}

// recall asks each query once.
func (f *filterBench) recall(ctx context.Context, sub *Dataset, expr *filter.Expr) (float64, error) {
	t, err := newTruth(sub, f.opts.K)
	if err != nil {
		return 0, err
	}
	sum := 0
	for i, query := range sub.Queries {
		matches, err := f.ask(ctx, query, expr)
		if err != nil {
			return 0, err
		}
		if f.rows, err = rowsOf(f.rows[:0], matches); err != nil {
			return 0, err
		}
		hits, err := t.hits(i, f.rows)
		if err != nil {
			return 0, err
		}
		sum += hits
	}
	return float64(sum) / float64(f.opts.K*len(sub.Queries)), nil
}

func (f *filterBench) ask(ctx context.Context, query []float32, expr *filter.Expr) ([]engine.Match, error) {
	return f.part.query(ctx, &engine.Query{Vector: query, K: f.opts.K, Ef: f.opts.Ef, Filter: expr})
}

// scan measures all rows of a subset, in memory and with nothing around it.
func (f *filterBench) scan(ctx context.Context, query []float32, rows []uint32) error {
	f.top.Reset(f.opts.K)
	q := ann.Bind(f.data.Metric, query)
	return flat.Scan(ctx, &q, f.base, rows, nil, &f.top)
}
