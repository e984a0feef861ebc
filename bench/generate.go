package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/internal/errs"
)

// neighboursKept is how many exact neighbours a made data set has of each query: gt100.ivecs.
const neighboursKept = 100

// DataOptions says which data set to make.
type DataOptions struct {
	Name     string   // of a recipe
	Out      string   // directory to be made
	Seed     uint64   // the same seed gives the same files on every machine
	Count    int      // base vectors; 0: as in the recipe
	Queries  int      // default 1,000
	Progress Progress // may be nil
}

// EnsureDefaults fills in what is zero, all but the seed.
func (o *DataOptions) EnsureDefaults() {
	if o.Queries == 0 {
		o.Queries = 1000
	}
	if r, ok := recipeOf(o.Name); ok && o.Count == 0 {
		o.Count = r.Count
	}
}

// Validate reports everything that is wrong with o.
func (o *DataOptions) Validate() error {
	var faults []error
	if _, ok := recipeOf(o.Name); !ok {
		faults = append(faults, fmt.Errorf("no recipe %q", o.Name))
	}
	if o.Out == "" {
		faults = append(faults, errors.New("no directory to write to"))
	}
	if o.Count < neighboursKept || o.Count > math.MaxInt32 {
		faults = append(faults, fmt.Errorf("count %d is outside %d to %d", o.Count, neighboursKept, math.MaxInt32))
	}
	if o.Queries < 1 || o.Queries > 1_000_000 {
		faults = append(faults, fmt.Errorf("queries %d is outside 1 to 1000000", o.Queries))
	}
	return errs.Wrap(errs.Invalid, errors.Join(faults...), "bench data")
}

func recipeOf(name string) (Recipe, bool) {
	for _, r := range Recipes() {
		if r.Name == name {
			return r, true
		}
	}
	return Recipe{}, false
}

// DataReport describes a data set that was made.
type DataReport struct {
	Path    string  `json:"path"`
	Metric  string  `json:"metric"`
	N       int     `json:"n"`
	Dim     int     `json:"dim"`
	Queries int     `json:"queries"`
	Seed    uint64  `json:"seed"`
	LID     float64 `json:"lid,omitzero"` // see LocalDimension; none under inner products
}

// Generate makes a data set from a recipe. Nothing is left behind if it fails.
func Generate(ctx context.Context, o DataOptions) (*DataReport, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	recipe, _ := recipeOf(o.Name)
	recipe.Count = o.Count
	return makeDataset(ctx, o.Out, o.Seed, func(s *staging) error {
		g := &generator{options: o, staging: s, mixture: newMixture(recipe, o.Seed)}
		return g.run(ctx)
	})
}

// makeDataset has the files of a data set written, checks them and publishes them.
func makeDataset(ctx context.Context, out string, seed uint64, write func(s *staging) error) (_ *DataReport, err error) {
	s, err := stage(out)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.discard()) }() // nothing is there any more once it is published
	if err := write(s); err != nil {
		return nil, err
	}
	d, err := OpenDataset(s.dir, neighboursKept)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	report := &DataReport{Path: s.out, Metric: metricName(d.Metric), N: d.Base.Len(), Dim: d.Base.Dim(), Queries: len(d.Queries), Seed: seed}
	if d.Metric != ann.DotProduct {
		if report.LID, err = LocalDimension(d); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return report, s.publish()
}

// generator writes the files of one data set.
type generator struct {
	options DataOptions
	staging *staging
	mixture *mixture
}

func (g *generator) run(ctx context.Context) error {
	if err := g.writeRows(ctx, "base.fvecs", baseStream, g.options.Count); err != nil {
		return err
	}
	if err := g.writeRows(ctx, "query.fvecs", queryStream, g.options.Queries); err != nil {
		return err
	}
	if err := os.WriteFile(g.staging.path("metric"), []byte(metricName(g.mixture.recipe.Metric)+"\n"), 0o644); err != nil {
		return err
	}
	return g.writeTruth(ctx)
}

// writeRows draws n rows, by several goroutines, and writes them in order.
func (g *generator) writeRows(ctx context.Context, file string, kind, n int) (err error) {
	w, err := createVectors(g.staging.path(file))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	dim := g.mixture.recipe.Dim
	rows := make([]float32, runtime.GOMAXPROCS(0)*rowsPerStream*dim)
	for first := 0; first < n; first += len(rows) / dim {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := rows[:min(len(rows), (n-first)*dim)]
		g.drawAll(kind, first/rowsPerStream, part)
		for i := 0; i < len(part); i += dim {
			if err := w.write(part[i : i+dim]); err != nil {
				return err
			}
		}
		g.options.Progress.tell(file, first+len(part)/dim, n)
	}
	return nil
}

// drawAll fills rows from consecutive streams.
func (g *generator) drawAll(kind, firstStream int, rows []float32) {
	var group errgroup.Group
	dim := g.mixture.recipe.Dim
	for n := 0; n*rowsPerStream*dim < len(rows); n++ {
		group.Go(func() error {
			part := rows[n*rowsPerStream*dim : min(len(rows), (n+1)*rowsPerStream*dim)]
			rng, room := stream(g.options.Seed, kind, firstStream+n), make([]float64, dim)
			for i := 0; i < len(part); i += dim {
				g.mixture.draw(rng, room, part[i:i+dim])
			}
			return nil
		})
	}
	_ = group.Wait() // drawing cannot fail
}

func (g *generator) writeTruth(ctx context.Context) (err error) {
	base, err := OpenVectors(g.staging.path("base.fvecs"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, base.Close()) }()
	queries, err := ReadVectors(g.staging.path("query.fvecs"))
	if err != nil {
		return err
	}
	job := &exactJob{metric: g.mixture.recipe.Metric, base: base, queries: queries, k: neighboursKept, progress: g.options.Progress}
	found, err := job.run(ctx)
	if err != nil {
		return err
	}
	return WriteNeighbours(g.staging.path("gt100.ivecs"), found[0])
}

// LocalDimension estimates the local intrinsic dimension of a data set around its queries, from the exact neighbours
// listed: the mean over the queries of the maximum-likelihood estimate (Levina & Bickel 2004; Amsaleg et al. 2015). It
// says how hard the set is: the number of dimensions in which neighbours thicken as they do around a query. Distances of
// 0 tell nothing and are left out. It means nothing under inner products.
func LocalDimension(d *Dataset) (float64, error) {
	var sum float64
	count := 0
	row := make([]float32, d.Base.Dim())
	for q, ids := range d.Neighbours {
		distances := make([]float64, 0, len(ids))
		for _, id := range ids {
			if err := d.Base.At(int(id), row); err != nil {
				return 0, err
			}
			distances = append(distances, distance64(d.Metric, d.Queries[q], row))
		}
		if dimension, ok := localDimension(distances); ok {
			sum += dimension
			count++
		}
	}
	return sum / float64(max(count, 1)), nil
}

// localDimension is the estimate for one query. Its distances are squares of lengths (under Cosine half of them).
func localDimension(distances []float64) (float64, bool) {
	farthest := distances[len(distances)-1]
	sum, count := 0.0, 0
	for _, d := range distances[:len(distances)-1] {
		if d > 0 {
			sum += math.Log(farthest/d) / 2
			count++
		}
	}
	return float64(count) / sum, sum > 0
}
