package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/hnsw"
	"github.com/croftdb/croft/internal/codec"
)

// croftLibrary is croft's graph in this process. All that depends on ann and ann/hnsw stands in this file, and in
// croft_source.go how its vectors are read.
func croftLibrary() library {
	return library{name: croftName, version: croftVersion, build: buildCroft, open: openCroft}
}

func croftVersion() string { return "of this tree, kernel " + ann.Kernel() }

// croftSettings are the fields of hnsw.Config by name, and Mean.
type croftSettings struct {
	hnsw.Config
	Mean int // rows, the first, whose mean becomes the centre of codes when a graph is built; 0 leaves it at the origin
}

func croftConfig(r *rows, s settings) (croftSettings, error) {
	c := croftSettings{Config: hnsw.Config{Metric: r.metric, Dim: r.dim}}
	if err := s.apply(&c); err != nil {
		return c, err
	}
	c.EnsureDefaults()
	return c, c.Validate()
}

// meanOf returns the mean of the first n rows, as they are compared.
func meanOf(r *rows, n int) []float32 {
	sums := make([]float64, r.dim)
	n = min(n, r.n)
	for i := range n {
		scale := ann.Scale(r.metric, r.row(i))
		for j, x := range r.row(i) {
			sums[j] += float64(x * scale)
		}
	}
	mean := make([]float32, r.dim)
	for j, sum := range sums {
		mean[j] = float32(sum / float64(n))
	}
	return mean
}

type croftIndex struct{ graph *hnsw.Graph }

func buildCroft(ctx context.Context, r *rows, s settings, threads int) (index, error) {
	cfg, err := croftConfig(r, s)
	if err != nil {
		return nil, err
	}
	src, err := newSource(r)
	if err != nil {
		return nil, err
	}
	if cfg.Mean > 0 {
		cfg.Centre = meanOf(r, cfg.Mean)
	}
	g := hnsw.New(cfg.Config, src)
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range threads {
		group.Go(func() error {
			for i := next.Add(1) - 1; i < int64(r.n); i = next.Add(1) - 1 {
				if err := g.Insert(ctx, uint32(i), hnsw.LevelFor(hashOf(i), cfg.M)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return &croftIndex{g}, group.Wait()
}

// hashOf stands for the keyed hash of an id.
func hashOf(row int64) uint64 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(row))
	return codec.Hash(b[:])
}

func openCroft(path string, r *rows, s settings) (index, error) {
	cfg, err := croftConfig(r, s)
	if err != nil {
		return nil, err
	}
	src, err := newSource(r)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	g, err := hnsw.Load(bufio.NewReader(f), cfg.Config, src)
	return &croftIndex{g}, err
}

func (x *croftIndex) save(path string) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out := bufio.NewWriterSize(f, 1<<20)
	if err := x.graph.Save(out); err != nil {
		return err
	}
	return out.Flush()
}

func (x *croftIndex) close() {}

func (x *croftIndex) searcher(ef int) (searcher, error) {
	return &croftSearcher{graph: x.graph, req: ann.Request{Ef: ef}}, nil
}

type croftSearcher struct {
	graph *hnsw.Graph
	req   ann.Request
	found []ann.Candidate
}

func (s *croftSearcher) search(ctx context.Context, query []float32, ids []uint32) (int, error) {
	s.req.Vector, s.req.K = query, len(ids)
	var err error
	s.found, err = s.graph.Search(ctx, &s.req, s.found[:0])
	for i, c := range s.found {
		ids[i] = c.Slot
	}
	return len(s.found), err
}

func (s *croftSearcher) close() {}
