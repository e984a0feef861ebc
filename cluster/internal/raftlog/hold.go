package raftlog

import "sync"

// holds are entries that must stay in a log, with all behind them, for replicas that are about to continue there.
type holds struct {
	mu   sync.Mutex
	next int
	from map[int]uint64
}

// Hold keeps the entries from index on until release is called, which may be done more than once.
func (l *Log) Hold(index uint64) (release func()) {
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

// Until returns the last entry that may go, if index is what retention asks for: none that is held.
func (l *Log) Until(index uint64) uint64 {
	h := &l.holds
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, from := range h.from {
		index = min(index, from-min(from, 1))
	}
	return index
}
