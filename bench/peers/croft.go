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

// croftLibrary is croft's graph in this process. All that depends on ann and ann/hnsw stands in this file. Settings are
// fields of hnsw.Config by name.
func croftLibrary() library {
	return library{name: "croft", version: croftVersion, build: buildCroft, open: openCroft}
}

func croftVersion() string { return "of this tree, kernel " + ann.Kernel() }

func croftConfig(r *rows, s settings) (hnsw.Config, error) {
	cfg := hnsw.Config{Metric: r.metric, Dim: r.dim}
	if err := s.apply(&cfg); err != nil {
		return cfg, err
	}
	cfg.EnsureDefaults()
	return cfg, cfg.Validate()
}

// source reads full vectors, which stay where they are: in memory while building, in the mapped file while searching.
type source struct {
	*rows
	scales []float32
}

func newSource(r *rows) (*source, error) {
	scales, err := r.scales()
	return &source{rows: r, scales: scales}, err
}

// Vector implements ann.Source.
func (s *source) Vector(slot uint32) ([]float32, float32) { return s.row(int(slot)), s.scales[slot] }

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
	g := hnsw.New(cfg, src)
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
	g, err := hnsw.Load(bufio.NewReader(f), cfg, src)
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
