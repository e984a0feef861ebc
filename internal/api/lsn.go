package api

import (
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/croftdb/croft/cluster"
)

// lsnTable keeps, per shard, the newest log index whose write this node has acknowledged. Since an acknowledged write
// is visible to the next query, that is what a reader may be told as indexed.
type lsnTable struct{ shards sync.Map } // int → *atomic.Uint64

// seed starts each shard at what it has applied, so that clients that wait for an index of before a restart go on.
func (t *lsnTable) seed(shards []cluster.ShardInfo) {
	for _, s := range shards {
		t.note(s.ID, s.Stats.AppliedIndex)
	}
}

func (t *lsnTable) of(shard int) *atomic.Uint64 {
	if v, ok := t.shards.Load(shard); ok {
		return v.(*atomic.Uint64)
	}
	v, _ := t.shards.LoadOrStore(shard, new(atomic.Uint64))
	return v.(*atomic.Uint64)
}

func (t *lsnTable) note(shard int, lsn uint64) {
	for v := t.of(shard); ; {
		old := v.Load()
		if lsn <= old || v.CompareAndSwap(old, lsn) {
			return
		}
	}
}

// wrote tells a client under which log index its write was committed.
func (c *call) wrote(w cluster.Written) {
	if w.Repeated {
		c.w.Header().Set("X-Croft-Repeated", "true")
	}
	if w.LSN == 0 {
		return // nothing had to be written
	}
	c.h.lsns.note(w.Shard, w.LSN)
	lsn := strconv.FormatUint(w.LSN, 10)
	c.w.Header().Set("X-Pinecone-Lsn-Committed", lsn)
	c.w.Header().Set("X-Pinecone-Request-Lsn", lsn)
}

// read tells a client up to which log index the shard that answered has its writes.
func (c *call) read(shard int) {
	if shard == cluster.NoShard {
		return // a missing namespace has no shard
	}
	lsn := c.h.lsns.of(shard).Load()
	c.w.Header().Set("X-Pinecone-Max-Indexed-Lsn", strconv.FormatUint(lsn, 10))
}
