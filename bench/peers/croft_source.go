package main

import (
	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine/cold"
	"github.com/croftdb/croft/internal/vfs"
)

// source reads full vectors, which stay where they are: in memory while building, in the mapped file while searching. It
// reads them as the engine does.
type source struct {
	*rows
	scales []float32
	cold   cold.Reader
}

var (
	_ ann.Fetcher = (*source)(nil)
	_ cold.Rows   = (*source)(nil)
)

func newSource(r *rows) (*source, error) {
	scales, err := r.scales()
	return &source{rows: r, scales: scales}, err
}

// Vector implements ann.Source.
func (s *source) Vector(slot uint32) ([]float32, float32) { return s.row(int(slot)), s.scales[slot] }

// Fetch implements ann.Fetcher.
func (s *source) Fetch(slots []uint32) ann.Fetched { return s.cold.Fetch(s, s.dim, slots) }

// Where implements cold.Rows.
func (s *source) Where(slot uint32) (m vfs.Mapping, off int) { return s.mapping, 4 * s.dim * int(slot) }
