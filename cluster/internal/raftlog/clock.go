package raftlog

import (
	"sync/atomic"
	"time"
)

// Clock knows since when the calls of a log that have not returned have been under way. A log has at most one of
// each kind at a time.
type Clock struct{ since [callKinds]atomic.Int64 }

// Call is a kind of write.
type Call int

// The writes of a log.
const (
	Appending Call = iota
	Trimming
	Saving // term and vote
	callKinds
)

// Begin notes that a call is under way.
func (c *Clock) Begin(call Call) { c.since[call].Store(time.Now().UnixNano()) }

// End notes that it has returned.
func (c *Clock) End(call Call) { c.since[call].Store(0) }

// Stalled returns for how long the oldest call has been under way, 0 if there is none.
func (c *Clock) Stalled(now time.Time) (longest time.Duration) {
	for i := range c.since {
		if since := c.since[i].Load(); since != 0 {
			longest = max(longest, time.Duration(now.UnixNano()-since))
		}
	}
	return longest
}
