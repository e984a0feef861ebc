package main

import (
	"bufio"
	"context"
	"errors"
	"os"

	"github.com/coder/hnsw"

	"github.com/croftdb/croft/ann"
)

// coderLibrary is github.com/coder/hnsw, in Go. It builds with one thread, has no breadth of its own for building
// (EfSearch serves both) and no inner product; its levels are drawn by chance.
func coderLibrary() library {
	return library{
		name:    "coder-hnsw",
		version: func() string { return moduleVersion("github.com/coder/hnsw") },
		alone:   true,
		metrics: []ann.Metric{ann.Euclidean, ann.Cosine},
		build:   buildCoder,
		open:    openCoder,
	}
}

type coderIndex struct{ graph *hnsw.Graph[uint32] }

func buildCoder(ctx context.Context, r *rows, s settings, _ int) (index, error) {
	m, efConstruction, err := s.links()
	if err != nil {
		return nil, err
	}
	g := hnsw.NewGraph[uint32]()
	g.M, g.EfSearch = m, efConstruction
	g.Distance = hnsw.EuclideanDistance
	if r.metric == ann.Cosine {
		g.Distance = hnsw.CosineDistance
	}
	for i := range r.n {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		g.Add(hnsw.MakeNode(uint32(i), r.row(i)))
	}
	return &coderIndex{g}, nil
}

func openCoder(path string, _ *rows, _ settings) (index, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	g := hnsw.NewGraph[uint32]()
	return &coderIndex{g}, g.Import(bufio.NewReaderSize(f, 1<<20))
}

func (x *coderIndex) save(path string) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out := bufio.NewWriterSize(f, 1<<20)
	if err := x.graph.Export(out); err != nil {
		return err
	}
	return out.Flush()
}

func (x *coderIndex) searcher(ef int) (searcher, error) {
	x.graph.EfSearch = ef
	return x, nil
}

func (x *coderIndex) search(_ context.Context, query []float32, ids []uint32) (int, error) {
	found := x.graph.Search(query, len(ids))
	for i, node := range found {
		ids[i] = node.Key
	}
	return len(found), nil
}

func (x *coderIndex) close() {}
