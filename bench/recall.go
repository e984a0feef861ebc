package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/hnsw"
	"github.com/croftdb/croft/internal/errs"
)

// RecallOptions says what to measure. Zero fields stand for their defaults.
type RecallOptions struct {
	Dataset        string // folder, see Dataset
	K              int    // neighbours a query, default 10
	Efs            []int  // breadths of the walk, default a series from K upward
	M              int    // links, default 16
	EfConstruction int    // default 200
	Bits           int    // width of the graph's codes, -1 for none; 0: the graph's default
	Runs           int    // rounds over all queries at each breadth, default 3
	Threads        int    // goroutines that build, default 1
}

// EnsureDefaults fills in what is zero.
func (o *RecallOptions) EnsureDefaults() {
	set := func(field *int, value int) {
		if *field == 0 {
			*field = value
		}
	}
	set(&o.K, 10)
	set(&o.M, 16)
	set(&o.EfConstruction, 200)
	set(&o.Runs, 3)
	set(&o.Threads, 1)
	if len(o.Efs) == 0 {
		o.Efs = []int{10, 16, 24, 32, 48, 64, 96, 128, 192, 256}
	}
}

// Validate reports everything that is wrong with o.
func (o *RecallOptions) Validate() error {
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
	check("runs", o.Runs, 1, 1000)
	check("threads", o.Threads, 1, 1024)
	for _, ef := range o.Efs {
		check("ef", ef, 1, 1<<16)
	}
	graph := hnsw.Config{Metric: ann.Euclidean, Dim: 1, M: o.M, EfConstruction: o.EfConstruction, Bits: o.Bits}
	graph.EnsureDefaults()
	if err := graph.Validate(); err != nil {
		faults = append(faults, err)
	}
	return errs.Wrap(errs.Invalid, errors.Join(faults...), "bench recall")
}

// RecallReport is what was measured.
type RecallReport struct {
	Dataset        string        `json:"dataset"`
	Metric         string        `json:"metric"` // l2, cosine or ip
	Kernel         string        `json:"kernel"`
	N              int           `json:"n"`
	Dim            int           `json:"dim"`
	BuildSeconds   float64       `json:"build_seconds"`
	BytesPerVector float64       `json:"bytes_per_vector"` // of memory in process: index and vectors
	Points         []RecallPoint `json:"points"`
}

// RecallPoint is what one breadth of the walk gives.
type RecallPoint struct {
	Ef     int     `json:"ef"`
	Recall float64 `json:"recall"`
	QPS    float64 `json:"qps"` // single thread, median of the runs
	P50    float64 `json:"p50_us"`
	P99    float64 `json:"p99_us"`
}

// Target is what is measured: an index in this process, or a server.
type Target interface {
	// Load indexes all of base, row number = id, and returns once every row can be found.
	Load(ctx context.Context, base *Vectors) error
	// Query returns the ids of the k nearest, nearest first; ef is a wish that a target may ignore. The result is
	// valid until the next call.
	Query(ctx context.Context, vector []float32, k, ef int) ([]uint32, error)
}

// Sizer is a Target that knows what a vector costs.
type Sizer interface {
	BytesPerVector() float64
}

// Recall measures an index in this process.
func Recall(ctx context.Context, o RecallOptions) (_ *RecallReport, err error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	d, err := OpenDataset(o.Dataset, o.K)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return Measure(ctx, d, newLocal(d.Metric, &o), o)
}

// Measure loads the data set into target and asks it all queries, one at a time.
func Measure(ctx context.Context, d *Dataset, target Target, o RecallOptions) (*RecallReport, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	truth, err := newTruth(d, o.K)
	if err != nil {
		return nil, err
	}
	report := &RecallReport{
		Dataset: d.Name, Metric: metricName(d.Metric), Kernel: ann.Kernel(), N: d.Base.Len(), Dim: d.Base.Dim(),
		Points: []RecallPoint{},
	}
	begin := time.Now()
	if err := target.Load(ctx, d.Base); err != nil {
		return nil, fmt.Errorf("load %s: %w", d.Name, err)
	}
	report.BuildSeconds = time.Since(begin).Seconds()
	if sizer, ok := target.(Sizer); ok {
		report.BytesPerVector = sizer.BytesPerVector()
	}
	for _, ef := range o.Efs {
		point, err := measurePoint(ctx, truth, target, o, ef)
		if err != nil {
			return nil, fmt.Errorf("query with ef %d: %w", ef, err)
		}
		report.Points = append(report.Points, point)
	}
	return report, nil
}

func metricName(m ann.Metric) string {
	for name, metric := range metricNames {
		if metric == m {
			return name
		}
	}
	return m.String()
}

// measurePoint first asks every query once, to warm caches and count hits, and then runs against the clock.
func measurePoint(ctx context.Context, t *truth, target Target, o RecallOptions, ef int) (RecallPoint, error) {
	hits := 0
	for i, query := range t.data.Queries {
		ids, err := target.Query(ctx, query, o.K, ef)
		if err != nil {
			return RecallPoint{}, err
		}
		n, err := t.hits(i, ids)
		if err != nil {
			return RecallPoint{}, err
		}
		hits += n
	}
	var rates, micros []float64
	for range o.Runs {
		rate, err := timeQueries(ctx, t.data.Queries, target, o.K, ef, &micros)
		if err != nil {
			return RecallPoint{}, err
		}
		rates = append(rates, rate)
	}
	slices.Sort(rates)
	slices.Sort(micros)
	return RecallPoint{
		Ef:     ef,
		Recall: float64(hits) / float64(o.K*len(t.data.Queries)),
		QPS:    rates[len(rates)/2],
		P50:    micros[len(micros)/2],
		P99:    micros[len(micros)*99/100],
	}, nil
}

// timeQueries asks every query once, appends how long each took and returns queries per second.
func timeQueries(ctx context.Context, queries [][]float32, target Target, k, ef int, micros *[]float64) (float64, error) {
	begin := time.Now()
	last := begin
	for _, query := range queries {
		if _, err := target.Query(ctx, query, k, ef); err != nil {
			return 0, err
		}
		now := time.Now()
		*micros = append(*micros, float64(now.Sub(last))/float64(time.Microsecond))
		last = now
	}
	return float64(len(queries)) / last.Sub(begin).Seconds(), nil
}

// truth judges answers.
type truth struct {
	data   *Dataset
	k      int
	radius []float64 // per query, the distance of its k-th neighbour
	row    []float32
}

func newTruth(d *Dataset, k int) (*truth, error) {
	t := &truth{data: d, k: min(k, d.Base.Len()), radius: make([]float64, len(d.Queries)), row: make([]float32, d.Base.Dim())}
	for i, ids := range d.Neighbours {
		var err error
		if t.radius[i], err = t.distance(i, int(ids[t.k-1])); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// hits counts how many of the ids, each once, are among the k nearest of a query: those in the list of neighbours,
// and those as near as the last of them.
func (t *truth) hits(query int, ids []uint32) (int, error) {
	hits := 0
	for i, id := range ids[:min(len(ids), t.k)] {
		if slices.Contains(ids[:i], id) {
			continue
		}
		if slices.Contains(t.data.Neighbours[query][:t.k], int32(id)) {
			hits++
			continue
		}
		distance, err := t.distance(query, int(id))
		if err != nil {
			return 0, err
		}
		if distance <= t.radius[query] {
			hits++
		}
	}
	return hits, nil
}

// distance measures a query against a base vector in float64.
func (t *truth) distance(query, id int) (float64, error) {
	if err := t.data.Base.At(id, t.row); err != nil {
		return 0, err
	}
	return distance64(t.data.Metric, t.data.Queries[query], t.row), nil
}

// Print writes the report as a table for people.
func (r *RecallReport) Print(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s  %s  %d x %d  kernel %s  built in %.1f s  %.0f bytes per vector\n\n",
		r.Dataset, r.Metric, r.N, r.Dim, r.Kernel, r.BuildSeconds, r.BytesPerVector)
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "ef\trecall\tqueries/s\tp50 us\tp99 us\t")
	for _, p := range r.Points {
		fmt.Fprintf(t, "%d\t%.4f\t%.0f\t%.0f\t%.0f\t\n", p.Ef, p.Recall, p.QPS, p.P50, p.P99)
	}
	return t.Flush()
}
