package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine/cold"
	"github.com/croftdb/croft/engine/metadata"
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

// BenchmarkQueryGraph searches a graph of more records than caches hold, for another vector each time.
func BenchmarkQueryGraph(b *testing.B) {
	const n, dim, each = 100_000, 96, 1000
	s := newSubject(b, Options{Logger: quiet(), GraphAbove: 1000})
	key, rng := testKey(1, 1), rand.New(rand.NewPCG(5, 5))
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: dim, Metric: ann.Cosine}})
	for from := 0; from < n; from += each {
		c := &Command{Op: OpUpsert, Key: key}
		for i := range each {
			c.Records = append(c.Records, Record{ID: strconv.Itoa(from + i), Values: randomVector(rng, dim)})
		}
		s.apply(c)
	}
	s.settle(key)
	queries := make([]Query, 1000)
	for i := range queries {
		queries[i] = Query{Vector: randomVector(rng, dim), K: 10, Ef: 64}
	}
	var res Result
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		if err := s.shard.Query(context.Background(), key, &queries[i%len(queries)], &res); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// BenchmarkFetch asks for a dozen rows that are in memory: what every search of a graph pays.
func BenchmarkFetch(b *testing.B) {
	s := newSubject(b, Options{Logger: quiet(), GraphAbove: 1 << 30})
	smallPartition(s, 1000, 1536)
	sp := s.shard.registry.find(testKey(1, 1)).space.Load()
	if _, err := s.shard.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
	slots := rand.Perm(1000)
	dozen := make([]uint32, 12)
	for i := range dozen {
		dozen[i] = uint32(slots[i])
	}
	b.Run("warm", func(b *testing.B) {
		for range 100 {
			sp.Fetch(dozen)
		}
		b.ReportAllocs()
		for b.Loop() {
			sp.Fetch(dozen)
		}
	})
	b.Run("doubtful", func(b *testing.B) { // taken to be missing, but there
		for b.Loop() {
			sp.cold = cold.Reader{}
			sp.Fetch(dozen)
		}
	})
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

// BenchmarkResidence asks where a tenant lives, in a shard where nobody ever moved, and in one that many have left.
func BenchmarkResidence(b *testing.B) {
	for _, left := range []int{0, 1000} {
		b.Run(fmt.Sprintf("%d left", left), func(b *testing.B) {
			s := inMemory(b, Options{})
			for i := range left {
				t := TenantID{2, byte(i), byte(i >> 8)}
				for _, op := range []Op{OpFenceTenant, OpLeaveTenant} {
					if a := s.apply(&Command{Op: op, Key: Key{Tenant: t}, Move: Move{1, 1}}); a.Err != nil {
						b.Fatal(a.Err)
					}
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				if s.shard.away(TenantID{1}) != nil {
					b.Fatal("it lives here")
				}
			}
		})
	}
}

// BenchmarkMove copies a tenant from one shard on the disk into another, without logs and network. CROFT_MOVE_RECORDS sets how
// many records of 128 values it has.
func BenchmarkMove(b *testing.B) {
	n := 20_000
	if set, err := strconv.Atoi(os.Getenv("CROFT_MOVE_RECORDS")); err == nil {
		n = set
	}
	opts := Options{Logger: quiet(), GraphAbove: 1 << 30}
	from := newSubject(b, opts)
	smallPartition(from, n, 128)
	if _, err := from.shard.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(n * 128 * 4))
	for b.Loop() {
		to := newSubject(b, opts)
		stageAll(b, from, to, TenantID{1}, Move{1, 1}, 1<<20)
		if _, err := to.shard.Flush(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBound searches 200 partitions one after the other for the ten nearest of all, with metadata, and each by itself or with the
// bound of those before.
func BenchmarkBound(b *testing.B) {
	const partitions, records, dim, k = 200, 200, 64, 10
	s := newSubject(b, Options{Logger: quiet()})
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: dim, Metric: ann.Euclidean}})
	rng := rand.New(rand.NewPCG(1, 2))
	text, err := metadata.Make(metadata.Field{Key: "text", Value: metadata.StringValue(strings.Repeat("lorem ipsum ", 50))})
	if err != nil {
		b.Fatal(err)
	}
	for p := range partitions {
		recs := make([]Record, records)
		for i := range recs {
			recs[i] = Record{ID: strconv.Itoa(i), Values: make([]float32, dim), Metadata: text}
			for j := range recs[i].Values {
				recs[i].Values[j] = float32(rng.NormFloat64())
			}
		}
		s.apply(&Command{Op: OpUpsert, Key: testKey(byte(p), 1), Records: recs})
	}
	if _, err := s.shard.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
	for _, shared := range []bool{false, true} {
		b.Run(fmt.Sprintf("shared=%t", shared), func(b *testing.B) {
			var res Result
			for b.Loop() {
				q := &Query{Vector: make([]float32, dim), K: k, IncludeMetadata: true}
				for i := range q.Vector {
					q.Vector[i] = rng.Float32()
				}
				if shared {
					q.Bound = NewBound(ann.Euclidean)
				}
				var scores []float64
				for p := range partitions {
					if err := s.shard.Query(context.Background(), testKey(byte(p), 1), q, &res); err != nil {
						b.Fatal(err)
					}
					for _, m := range res.Matches {
						scores = append(scores, float64(m.Score))
					}
					if shared && len(scores) >= k {
						slices.Sort(scores)
						scores = scores[:k]
						q.Bound.Tighten(float32(scores[k-1]))
					}
				}
			}
		})
	}
}

// BenchmarkTenantDigest sums up a tenant that has used as many keys as are remembered: what a move's writes wait for, twice.
func BenchmarkTenantDigest(b *testing.B) {
	s := newSubject(b, Options{Logger: quiet()})
	smallPartition(s, 1000, 8)
	for i := range OnceLimit {
		o := &Once{Key: [16]byte{byte(i), byte(i >> 8)}, At: 1}
		if a := s.apply(&Command{Op: OpDelete, Key: testKey(1, 1), Once: o}); a.Err != nil {
			b.Fatal(a.Err)
		}
	}
	if _, err := s.shard.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.shard.TenantDigest(TenantID{1}); err != nil {
			b.Fatal(err)
		}
	}
}
