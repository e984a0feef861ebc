package ann

import (
	"context"

	"github.com/croftdb/croft/internal/errs"
)

// Request is one search. The zero Filter allows every slot.
type Request struct {
	Vector []float32
	K      int
	Ef     int // breadth of a graph walk, at least K; exact indexes ignore it. 0: what Recall takes
	// Recall is the share of the true nearest that a graph walk without Ef is to find, below 1; 0 stands for 0.99.
	Recall float32
	Filter Filter
	// Among is the set of slots to search, nil for all. It is asked about every slot that a walk comes by, where Filter
	// is asked only about those that are near enough to be returned: what few slots pass is told by Among.
	Among Set
	// Limit is how much work a graph walk may do before it gives up with ErrLimit, as the number of distances measured
	// and lists of links read; 0 stands for no limit. One that is likely to come to it gives up at once. Exact indexes
	// ignore it.
	Limit int
	// Work is what a search of a graph has done: the distances that it measured and the lists of links that it read, about.
	Work int
}

// ErrLimit is returned by a walk that has come to its Limit. Whoever set it knows another way to the answer.
var ErrLimit error = errs.New(errs.Internal, "search: the walk has come to its limit of work")

// Searcher is what every index offers. Search appends the up to K nearest allowed slots to dst, nearest first
// (order of Compare), and returns it; it stops early with ctx's error, polled every few hundred distances. It may be
// called from any number of goroutines, also while the index is written to, and allocates nothing in steady state
// when dst has room.
type Searcher interface {
	Search(ctx context.Context, req *Request, dst []Candidate) ([]Candidate, error)
}
