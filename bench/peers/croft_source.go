package main

import (
	"sync/atomic"

	"github.com/croftdb/croft/ann"
)

// source reads full vectors, which stay where they are: in memory while building, in the mapped file while searching.
type source struct {
	*rows
	scales []float32

	fetches atomic.Uint32
	cold    atomic.Int32 // looks to go until rows are taken to be in memory, if all find them there
}

var _ ann.Fetcher = (*source)(nil)

func newSource(r *rows) (*source, error) {
	scales, err := r.scales()
	s := &source{rows: r, scales: scales}
	s.cold.Store(coldLooks)
	return s, err
}

// Vector implements ann.Source.
func (s *source) Vector(slot uint32) ([]float32, float32) { return s.row(int(slot)), s.scales[slot] }

// The engine's figures: it looks at one row of every 16th fetch, and asks for rows for 64 looks after one was missing.
const (
	lookEvery = 16
	coldLooks = 64
)

// Fetch implements ann.Fetcher as the engine does: it asks for rows only while some are likely to be missing.
func (s *source) Fetch(slots []uint32) {
	n := s.fetches.Add(1)
	cold := s.cold.Load()
	if s.adviser == nil || len(slots) == 0 || cold == 0 && n%lookEvery != 0 {
		return
	}
	switch look := slots[n*0x9E3779B1>>16%uint32(len(slots))]; { // any one, and not always the nearest
	case !s.adviser.InMemory(s.offset(look)):
		s.cold.Store(coldLooks)
	case cold == 0:
		return
	default:
		s.cold.CompareAndSwap(cold, cold-1)
	}
	for _, slot := range slots {
		s.adviser.WillNeed(s.offset(slot), 4*s.dim)
	}
}

// offset is where the row of a slot begins in the file.
func (s *source) offset(slot uint32) int { return 4 * s.dim * int(slot) }
