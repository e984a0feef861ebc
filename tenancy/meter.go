package tenancy

import (
	"sync"
	"time"
)

// Hour numbers an hour since 1970.
type Hour uint32

// HourOf returns the hour that a time is in.
func HourOf(t time.Time) Hour { return Hour(t.Unix() / 3600) }

// Time is when the hour begins.
func (h Hour) Time() time.Time { return time.Unix(int64(h)*3600, 0).UTC() }

// Slot is a tenant's hour.
type Slot struct {
	Tenant ID
	Hour   Hour
}

// Meter counts what is used of one shard on one node until it is written down. Its memory is bounded by the tenants that were
// active since then.
type Meter struct {
	mu      sync.Mutex
	pending map[Slot]*Usage
	dropped uint64
}

// maxPending bounds the tenants' hours of a meter that cannot be written down.
const maxPending = 200_000

// Note counts a request.
func (m *Meter) Note(t ID, at time.Time, e *Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if u := m.slot(Slot{t, HourOf(at)}); u != nil {
		u.note(e)
	}
}

// Count counts one of a figure that is no request's at its home.
func (m *Meter) Count(t ID, at time.Time, f Figure) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if u := m.slot(Slot{t, HourOf(at)}); u != nil {
		u.Counts[f]++
	}
}

// slot returns where to count; nil if there is no room. The caller holds mu.
func (m *Meter) slot(s Slot) *Usage {
	u := m.pending[s]
	if u != nil {
		return u
	}
	if len(m.pending) >= maxPending {
		m.dropped++
		return nil
	}
	if m.pending == nil {
		m.pending = map[Slot]*Usage{}
	}
	u = new(Usage)
	m.pending[s] = u
	return u
}

// Pending returns of how many tenants' hours something is counted.
func (m *Meter) Pending() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.pending)
}

// Take returns what was counted and begins anew.
func (m *Meter) Take() map[Slot]*Usage {
	m.mu.Lock()
	defer m.mu.Unlock()
	taken := m.pending
	m.pending = nil
	return taken
}

// Add counts what another node has counted, or what was taken and could not be written down.
func (m *Meter) Add(counted map[Slot]*Usage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for s, o := range counted {
		u := m.slot(s)
		if u == nil {
			continue
		}
		u.Count(o)
		u.Peak = u.Peak.atLeast(o.Peak)
	}
}

// Dropped is how many requests and tenants' hours were not counted for want of room.
func (m *Meter) Dropped() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dropped
}
