package engine

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/croftdb/croft/ann"
)

const (
	// askedEvery is how many searches of a graph lie between two that are kept.
	askedEvery = 4
	// askedEnough is how many are kept, and how many new ones are worth measuring anew: 1.5 MiB of 1,536 values each. Of
	// half as many, the few that are hard decide too much.
	askedEnough = 256
	// recalibratePause is how long, in seconds, a graph's effort is left alone at least when all that is new are searches.
	recalibratePause = 60
	// recalibrateShare is how many times as long as measuring took it is left alone: that is 2 % of a processor.
	recalibrateShare = 50
)

// asked is a sample of the searches that were made of a graph, to measure with: they tell more than the graph's own
// vectors do, of which a search may never ask the like. It is in memory only.
type asked struct {
	turn  atomic.Uint32
	fresh atomic.Int32 // of those kept, since they were last taken

	mu   sync.Mutex
	kept []ann.Request
	next int // to be replaced
}

// note keeps one in askedEvery requests, until there are enough new ones. It does not wait.
func (a *asked) note(req *ann.Request) {
	if a.turn.Add(1)%askedEvery != 0 || a.full() || !a.mu.TryLock() {
		return
	}
	defer a.mu.Unlock()
	kept := ann.Request{Vector: slices.Clone(req.Vector), K: req.K, Recall: req.Recall}
	if len(a.kept) < askedEnough {
		a.kept = append(a.kept, kept)
	} else {
		a.kept[a.next] = kept
		a.next = (a.next + 1) % askedEnough
	}
	a.fresh.Add(1)
}

func (a *asked) full() bool { return a.fresh.Load() >= askedEnough }

// take returns the searches kept, nil while they are too few.
func (a *asked) take() []ann.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.kept) < askedEnough {
		return nil
	}
	a.fresh.Store(0)
	return slices.Clone(a.kept)
}

// bytes is about the memory that a sample of searches takes.
func (a *asked) bytes(dim int) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return int64(len(a.kept)) * int64(4*dim+64)
}
