package raftlog

import (
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// newestConfiguration is the index of the newest configuration in a log, 0 if there is none, which raft does not tell
// (1.7.3: GetConfiguration().Index() is always 0). raft reads all entries behind its snapshot when it starts, and writes all
// others, so it is enough to look at what passes. Where entries were taken back it is too high rather than too low.
type newestConfiguration struct{ at atomic.Uint64 }

// seen notes an entry that was read or written.
func (c *newestConfiguration) seen(index uint64, typ raft.LogType) {
	if typ != raft.LogConfiguration {
		return
	}
	for old := c.at.Load(); index > old; old = c.at.Load() {
		if c.at.CompareAndSwap(old, index) {
			return
		}
	}
}

// takenBack notes that the log ends before entry from again.
func (c *newestConfiguration) takenBack(from uint64) {
	if from > 0 && c.at.Load() >= from {
		c.at.Store(from - 1)
	}
}
