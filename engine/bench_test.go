package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkQuery searches partitions that are scanned exactly, as most tenants' are: one query at a time, warm.
func BenchmarkQuery(b *testing.B) {
	for _, c := range []struct{ n, dim int }{{100, 384}, {2000, 128}, {2000, 1536}} {
		b.Run(fmt.Sprintf("%dx%d", c.n, c.dim), func(b *testing.B) {
			s := newSubject(b, Options{Logger: quiet()})
			smallPartition(s, c.n, c.dim)
			q := &Query{Vector: make([]float32, c.dim), K: 10}
			for i := range q.Vector {
				q.Vector[i] = rand.Float32()
			}
			var res Result
			b.SetBytes(int64(4 * c.n * c.dim))
			b.ReportAllocs()
			for b.Loop() {
				if err := s.shard.Query(context.Background(), testKey(1, 1), q, &res); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkApply stores batches of 100 records of 128 values, without a log.
func BenchmarkApply(b *testing.B) {
	s := newSubject(b, Options{Logger: quiet(), GraphAbove: 1 << 30})
	smallPartition(s, 100, 128)
	entry := s.log[len(s.log)-1]
	index := uint64(len(s.log))
	b.SetBytes(100 * 128 * 4)
	for b.Loop() {
		index++
		if _, err := s.shard.Apply(index, entry); err != nil {
			b.Fatal(err)
		}
		if err := s.shard.Admit(context.Background(), len(entry)); err != nil {
			b.Fatal(err)
		}
	}
}
