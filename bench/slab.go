package bench

import (
	"context"

	"github.com/croftdb/croft/ann"
)

// slab is an ann.Source: vectors one behind the other, slot = row.
type slab struct {
	metric ann.Metric
	dim    int
	values []float32
	scales []float32
}

func newSlab(metric ann.Metric, n, dim int) *slab {
	return &slab{metric: metric, dim: dim, values: make([]float32, n*dim), scales: make([]float32, n)}
}

// Vector implements ann.Source.
func (s *slab) Vector(slot uint32) ([]float32, float32) { return s.row(int(slot)), s.scales[slot] }

func (s *slab) row(i int) []float32 { return s.values[i*s.dim : (i+1)*s.dim : (i+1)*s.dim] }

func (s *slab) set(i int, values []float32) {
	copy(s.row(i), values)
	s.scales[i] = ann.Scale(s.metric, values)
}

// next fills row i with the next of a file.
func (s *slab) next(i int, in *Vectors) error {
	if err := in.Next(s.row(i)); err != nil {
		return err
	}
	s.scales[i] = ann.Scale(s.metric, s.row(i))
	return nil
}

// bytes returns the memory of the vectors.
func (s *slab) bytes() int64 { return int64(4 * (len(s.values) + len(s.scales))) }

// readSlab reads all vectors of a file into memory.
func readSlab(ctx context.Context, metric ann.Metric, in *Vectors) (*slab, error) {
	s := newSlab(metric, in.Len(), in.Dim())
	for i := range in.Len() {
		if i%rowsPerStream == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err := s.next(i, in); err != nil {
			return nil, err
		}
	}
	return s, nil
}
