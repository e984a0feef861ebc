package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/croftdb/croft/internal/errs"
)

// RotateOptions says which data set to turn.
type RotateOptions struct {
	From     string // data set with 100 exact neighbours a query
	Out      string // directory to be made
	Seed     uint64
	Progress Progress // may be nil
}

// Validate reports everything that is wrong with o.
func (o *RotateOptions) Validate() error {
	var faults []error
	if o.From == "" {
		faults = append(faults, errors.New("no data set to rotate"))
	}
	if o.Out == "" {
		faults = append(faults, errors.New("no directory to write to"))
	}
	return errs.Wrap(errs.Invalid, errors.Join(faults...), "bench data rotated")
}

// Rotate makes a data set whose vectors are those of another one, turned by one random orthogonal matrix. Distances and
// so the exact neighbours stay; they are verified for some queries. Nothing is left behind if it fails.
func Rotate(ctx context.Context, o RotateOptions) (_ *DataReport, err error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	d, err := OpenDataset(o.From, neighboursKept)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return makeDataset(ctx, o.Out, o.Seed, func(s *staging) error {
		r := &rotator{source: d, staging: s, rotation: newRotation(o.Seed, d.Base.Dim()), progress: o.Progress}
		return r.run(ctx)
	})
}

// rotation is an orthogonal matrix.
type rotation struct {
	dim  int
	rows []float64
}

// newRotation draws one, evenly among all: Gaussian rows, each freed of those before it. That is done twice, for once
// leaves a rest where a row is short (Giraud et al. 2005).
func newRotation(seed uint64, dim int) *rotation {
	r := &rotation{dim: dim, rows: make([]float64, dim*dim)}
	rng := stream(seed, matrixStream, 0)
	for i := range r.rows {
		r.rows[i] = rng.NormFloat64()
	}
	for i := range dim {
		row := r.row(i)
		for range 2 {
			for before := range i {
				addScaled(row, -inner(row, r.row(before)), r.row(before))
			}
		}
		norm := length(row)
		for j := range row {
			row[j] /= norm
		}
	}
	return r
}

func (r *rotation) row(i int) []float64 { return r.rows[i*r.dim : (i+1)*r.dim] }

// inner sums in four parts, each in the same order on every machine.
func inner(a, b []float64) float64 {
	var s [4]float64
	b = b[:len(a)]
	for len(a) >= 4 {
		s[0] += float64(a[0] * b[0])
		s[1] += float64(a[1] * b[1])
		s[2] += float64(a[2] * b[2])
		s[3] += float64(a[3] * b[3])
		a, b = a[4:], b[4:]
	}
	for i := range a {
		s[0] += float64(a[i] * b[i])
	}
	return (s[0] + s[1]) + (s[2] + s[3])
}

// turn rotates a vector in place; room has as many values.
func (r *rotation) turn(vector []float32, room []float64) {
	clear(room)
	for i, x := range vector {
		if x != 0 { // most of an image is black
			addScaled(room, float64(x), r.row(i))
		}
	}
	for i, x := range room {
		vector[i] = float32(x)
	}
}

// rotator writes the files of one data set.
type rotator struct {
	source   *Dataset
	staging  *staging
	rotation *rotation
	progress Progress
}

func (r *rotator) run(ctx context.Context) error {
	if err := r.writeBase(ctx); err != nil {
		return err
	}
	room := make([]float64, r.rotation.dim)
	for _, query := range r.source.Queries {
		r.rotation.turn(query, room)
	}
	if err := WriteVectors(r.staging.path("query.fvecs"), r.source.Queries); err != nil {
		return err
	}
	if err := os.WriteFile(r.staging.path("metric"), []byte(metricName(r.source.Metric)+"\n"), 0o644); err != nil {
		return err
	}
	if err := WriteNeighbours(r.staging.path("gt100.ivecs"), r.source.Neighbours); err != nil {
		return err
	}
	return r.verify(ctx)
}

func (r *rotator) writeBase(ctx context.Context) (err error) {
	w, err := createVectors(r.staging.path("base.fvecs"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	n, dim := r.source.Base.Len(), r.rotation.dim
	rows := make([]float32, runtime.GOMAXPROCS(0)*rowsPerStream*dim)
	for first := 0; first < n; first += len(rows) / dim {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := rows[:min(len(rows), (n-first)*dim)]
		if err := r.turnNext(part); err != nil {
			return err
		}
		for i := 0; i < len(part); i += dim {
			if err := w.write(part[i : i+dim]); err != nil {
				return err
			}
		}
		r.progress.tell("base.fvecs", first+len(part)/dim, n)
	}
	return nil
}

// turnNext reads the next rows of the source and rotates them, by several goroutines.
func (r *rotator) turnNext(rows []float32) error {
	var group errgroup.Group
	dim := r.rotation.dim
	for i := 0; i < len(rows); i += dim {
		if err := r.source.Base.Next(rows[i : i+dim]); err != nil {
			return err
		}
	}
	for first := 0; first < len(rows); first += rowsPerStream * dim {
		group.Go(func() error {
			room := make([]float64, dim)
			part := rows[first:min(len(rows), first+rowsPerStream*dim)]
			for i := 0; i < len(part); i += dim {
				r.rotation.turn(part[i:i+dim], room)
			}
			return nil
		})
	}
	return group.Wait()
}

const (
	verified  = 50   // queries whose neighbours are searched for again
	tolerance = 1e-5 // of a distance, for rotated values are rounded to float32
)

// verify compares the listed neighbours of some queries with those found among the rotated vectors, by distance: where
// two are equally far, rounding decides which comes first.
func (r *rotator) verify(ctx context.Context) (err error) {
	base, err := OpenVectors(r.staging.path("base.fvecs"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, base.Close()) }()
	var picked []int
	job := &exactJob{metric: r.source.Metric, base: base, k: neighboursKept, progress: r.progress}
	for q := 0; q < len(r.source.Queries); q += max(1, len(r.source.Queries)/verified) {
		picked = append(picked, q)
		job.queries = append(job.queries, r.source.Queries[q])
	}
	found, err := job.run(ctx)
	if err != nil {
		return err
	}
	for i, q := range picked {
		if err := job.compare(i, found[0][i], r.source.Neighbours[q]); err != nil {
			return fmt.Errorf("query %d: %w", q, err)
		}
	}
	return nil
}

// compare holds listed neighbours against those found.
func (j *exactJob) compare(query int, found, listed []int32) error {
	row := make([]float32, j.base.Dim())
	for i, id := range found {
		var distances [2]float64
		for n, id := range []int32{id, listed[i]} {
			if err := j.base.At(int(id), row); err != nil {
				return err
			}
			distances[n] = distance64(j.metric, j.queries[query], row)
		}
		if math.Abs(distances[1]-distances[0]) > tolerance*max(math.Abs(distances[0]), 1e-3) {
			return errs.New(errs.Invalid, "neighbour %d: row %d is listed, at distance %g; row %d is at %g",
				i, listed[i], distances[1], id, distances[0])
		}
	}
	return nil
}
