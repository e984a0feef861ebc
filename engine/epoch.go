package engine

import (
	"sync"
	"sync/atomic"
)

// epochs lets readers use shared memory without a lock while writers take it away safely: a reader pins the epoch
// it started in, a writer retires a clean-up, and the clean-up runs once every reader that started before it has
// gone. It is what keeps a mapped segment mapped, and a slot from being reused, under a running search.
//
// A pin costs two atomic additions. Clean-ups run on the goroutine that calls reclaim, never on a reader's.
type epochs struct {
	current atomic.Pointer[epoch]
	wake    func() // tells the reclaiming goroutine that an old epoch may have emptied

	running sync.Mutex // held while clean-ups run; before mu
	mu      sync.Mutex
	oldest  *epoch
}

// epoch counts its readers. Once it is no longer current the count only falls, but for readers that pinned it an
// instant too late and step back at once.
type epoch struct {
	pins    atomic.Int64
	next    *epoch   // under epochs.mu
	cleanup []func() // under epochs.mu; run when this epoch and all older ones are empty
}

func newEpochs(wake func()) *epochs {
	e := &epochs{wake: wake, oldest: &epoch{}}
	e.current.Store(e.oldest)
	return e
}

// pin enters the current epoch.
func (e *epochs) pin() *epoch {
	for {
		g := e.current.Load()
		g.pins.Add(1)
		if e.current.Load() == g {
			return g
		}
		e.unpin(g) // g was closed in between; its clean-up may not have seen us
	}
}

// unpin leaves an epoch.
func (e *epochs) unpin(g *epoch) {
	if g.pins.Add(-1) == 0 && e.current.Load() != g {
		e.wake()
	}
}

// retire runs cleanup after every reader that is pinned now has gone.
func (e *epochs) retire(cleanup func()) {
	e.mu.Lock()
	g := e.current.Load()
	g.cleanup = append(g.cleanup, cleanup)
	g.next = &epoch{}
	e.current.Store(g.next)
	e.mu.Unlock()
	e.wake()
}

// reclaim runs the clean-ups that are due, in the order in which they were retired. Those that were due before have
// ended when it returns, whoever runs them.
func (e *epochs) reclaim() {
	e.running.Lock()
	defer e.running.Unlock()
	for _, f := range e.due() {
		f()
	}
}

func (e *epochs) due() []func() {
	e.mu.Lock()
	defer e.mu.Unlock()
	var due []func()
	for e.oldest != e.current.Load() && e.oldest.pins.Load() == 0 {
		due = append(due, e.oldest.cleanup...)
		e.oldest = e.oldest.next
	}
	return due
}
