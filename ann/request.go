package ann

import "context"

// Request is one search. The zero Filter allows every slot.
type Request struct {
	Vector []float32
	K      int
	Ef     int // breadth of a graph walk, at least K; exact indexes ignore it
	Filter Filter
}

// Searcher is what every index offers. Search appends the up to K nearest allowed slots to dst, nearest first
// (order of Compare), and returns it; it stops early with ctx's error, polled every few hundred distances. It may be
// called from any number of goroutines, also while the index is written to, and allocates nothing in steady state
// when dst has room.
type Searcher interface {
	Search(ctx context.Context, req *Request, dst []Candidate) ([]Candidate, error)
}
