package cluster

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/engine"
)

// BenchmarkUpsert is a write of one record from 64 clients to one index, in tenants of 16 shards: proposed, synced,
// applied.
func BenchmarkUpsert(b *testing.B) {
	opts := testOptions(b.TempDir())
	opts.Shards, opts.SegmentSize = 16, 0
	n := openNode(b, opts)
	ix := createIndex(b, n, "i")
	var next atomic.Int64
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := int(next.Add(1))
			rec := record(b, i)
			if _, err := n.Upsert(b.Context(), ix, string(rune('a'+i%26)), []engine.Record{rec}); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkOpen is the restart of an idle node with 16 shards, without the wait for elections (tick 10 ms).
func BenchmarkOpen(b *testing.B) {
	opts := testOptions(b.TempDir())
	opts.Shards = 16
	for b.Loop() {
		n, err := Open(b.Context(), opts)
		require.NoError(b, err)
		b.StopTimer()
		require.NoError(b, n.Close())
		b.StartTimer()
	}
}
