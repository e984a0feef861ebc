package cluster

import "sync"

// logHolds are entries that must stay in a log, with all behind them, for replicas that are about to continue there.
type logHolds struct {
	mu   sync.Mutex
	next int
	from map[int]uint64
}

// hold keeps the entries from index on until release is called, which may be done more than once.
func (l *groupLog) hold(index uint64) (release func()) {
	h := &l.holds
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.from == nil {
		h.from = map[int]uint64{}
	}
	h.next++
	id := h.next
	h.from[id] = index
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.from, id)
	}
}

// before returns the last entry that may go, if index is what retention asks for.
func (h *logHolds) before(index uint64) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, from := range h.from {
		index = min(index, from-min(from, 1))
	}
	return index
}
