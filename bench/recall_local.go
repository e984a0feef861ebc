package bench

import (
	"context"
	"encoding/binary"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/hnsw"
	"github.com/croftdb/croft/internal/codec"
)

// local is a graph in this process.
type local struct {
	metric  ann.Metric
	opts    *RecallOptions
	graph   *hnsw.Graph
	vectors *slab
	found   []ann.Candidate
	ids     []uint32
}

func newLocal(metric ann.Metric, o *RecallOptions) *local { return &local{metric: metric, opts: o} }

// Load implements Target.
func (l *local) Load(ctx context.Context, base *Vectors) error {
	var err error
	if l.vectors, err = readSlab(ctx, l.metric, base); err != nil {
		return err
	}
	l.graph = hnsw.New(hnsw.Config{
		Metric: l.metric, Dim: base.Dim(), M: l.opts.M, EfConstruction: l.opts.EfConstruction, Bits: l.opts.Bits,
	}, l.vectors)
	return l.insert(ctx, base.Len())
}

// insert builds the graph from all rows, by several goroutines.
func (l *local) insert(ctx context.Context, n int) error {
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range l.opts.Threads {
		group.Go(func() error {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				if err := l.graph.Insert(ctx, uint32(i), hnsw.LevelFor(rowHash(i), l.opts.M)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// rowHash stands for the keyed hash of an id.
func rowHash(row int64) uint64 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(row))
	return codec.Hash(b[:])
}

// Query implements Target.
func (l *local) Query(ctx context.Context, vector []float32, k, ef int) ([]uint32, error) {
	var err error
	l.found, err = l.graph.Search(ctx, &ann.Request{Vector: vector, K: k, Ef: ef}, l.found[:0])
	l.ids = l.ids[:0]
	for _, c := range l.found {
		l.ids = append(l.ids, c.Slot)
	}
	return l.ids, err
}

// BytesPerVector implements Sizer: index arrays and vectors.
func (l *local) BytesPerVector() float64 {
	return float64(l.graph.Bytes()+l.vectors.bytes()) / float64(len(l.vectors.scales))
}
