package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine/filter"
	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/errs"
)

// TestReadersSeeWholeEntries runs searches, fetches and lists beside entries that each replace every record of a
// partition, while buffers are flushed, segments rewritten, graphs built and partitions dropped from memory. A search
// must see exactly one entry: all its records carry the entry's number.
func TestReadersSeeWholeEntries(t *testing.T) {
	for _, graph := range []bool{false, true} {
		t.Run(fmt.Sprintf("graph=%v", graph), func(t *testing.T) {
			opts := Options{FlushBytes: 16 << 10, Logger: quiet()}
			if graph {
				opts.GraphAbove, opts.FlatBelow = 10, 5
			}
			s := newSubject(t, opts)
			s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: 4, Metric: ann.Euclidean}})
			replaceAll(s, 0)
			var stop atomic.Bool
			var wg sync.WaitGroup
			for i := range 3 {
				wg.Go(func() { readWhole(t, s, &stop, i) })
			}
			wg.Go(func() {
				for !stop.Load() {
					upkeep(s.shard)
					evictAll(s.shard)
				}
			})
			for n := 1; n <= 300 && !t.Failed(); n++ {
				replaceAll(s, n)
			}
			stop.Store(true)
			wg.Wait()
		})
	}
}

const wholeRecords = 40

func replaceAll(s *subject, n int) {
	c := &Command{Op: OpUpsert, Key: testKey(1, 1)}
	for i := range wholeRecords {
		m, err := metadata.Make(metadata.Field{Key: "n", Value: metadata.NumberValue(float64(n))})
		require.NoError(s.t, err)
		c.Records = append(c.Records, Record{
			ID: "id-" + strconv.Itoa(i), Values: []float32{float32(i), float32(n % 7), 1, float32(n)}, Metadata: m,
		})
	}
	require.NoError(s.t, s.apply(c).Err)
}

// evictAll drops all from memory, as the budget would what is saved.
func evictAll(s *Shard) {
	s.registry.all(func(p *partition) bool {
		evict(p)
		return true
	})
}

// evict drops a partition from memory, saved or not: an unsaved graph is lost as in a crash.
func evict(p *partition) {
	if sp := p.space.Load(); sp != nil {
		sp.builder.mu.Lock()
		defer sp.builder.mu.Unlock()
		p.space.CompareAndSwap(sp, nil)
	}
}

func readWhole(t *testing.T, s *subject, stop *atomic.Bool, seed int) {
	rng := rand.New(rand.NewPCG(uint64(seed), 9))
	all, err := filter.Parse([]byte(`{"n":{"$gte":0}}`))
	if err != nil {
		t.Error(err)
		return
	}
	var res Result
	for !stop.Load() {
		q := &Query{Vector: []float32{rng.Float32(), 0, 0, 0}, K: 100, Ef: 400, IncludeValues: rng.IntN(2) == 0}
		if rng.IntN(2) == 0 {
			q.Filter = all
		}
		if err := s.shard.Query(context.Background(), testKey(1, 1), q, &res); err != nil {
			t.Errorf("query: %v", err)
			return
		}
		if len(res.Matches) != wholeRecords {
			t.Errorf("plan %s: %d of %d records seen", res.Plan, len(res.Matches), wholeRecords)
			return
		}
		lo, hi := res.Matches[0].Version, res.Matches[0].Version
		for _, m := range res.Matches {
			lo, hi = min(lo, m.Version), max(hi, m.Version)
			if q.IncludeValues && "id-"+strconv.Itoa(int(m.Values[0])) != m.ID {
				t.Errorf("%s has the values of id-%v", m.ID, m.Values[0])
				return
			}
		}
		if hi-lo != wholeRecords-1 {
			t.Errorf("plan %s: versions %d to %d are of more than one entry", res.Plan, lo, hi)
			return
		}
		recs, err := s.shard.Fetch(context.Background(), testKey(1, 1), []string{"id-3", "id-17"})
		if err != nil || len(recs) != 2 || recs[0].Values[0] != 3 || recs[1].Values[0] != 17 {
			t.Errorf("fetch: %v %v", recs, err)
			return
		}
		if recs[1].Version-recs[0].Version != 14 {
			t.Errorf("fetch: versions %d and %d are of two entries", recs[0].Version, recs[1].Version)
			return
		}
		if err := scanWhole(s.shard); err != nil {
			t.Error(err)
			return
		}
	}
}

// scanWhole lists all records and checks that they are of one entry.
func scanWhole(s *Shard) error {
	recs, _, err := s.Scan(context.Background(), testKey(1, 1), "", "", nil, 100)
	if err != nil || len(recs) != wholeRecords {
		return fmt.Errorf("scan: %d of %d records: %w", len(recs), wholeRecords, err)
	}
	lo, hi := recs[0].Version, recs[0].Version
	for _, r := range recs {
		lo, hi = min(lo, r.Version), max(hi, r.Version)
	}
	if hi-lo != wholeRecords-1 {
		return fmt.Errorf("scan: versions %d to %d are of more than one entry", lo, hi)
	}
	return nil
}

// TestQueryAllocatesNothing holds the search path to its promise on a small partition.
func TestQueryAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	s := newSubject(t, Options{Logger: quiet()})
	smallPartition(s, 2000, 1536)
	q := &Query{Vector: make([]float32, 1536), K: 10}
	q.Vector[3] = 1
	var res Result
	run := func() {
		if err := s.shard.Query(context.Background(), testKey(1, 1), q, &res); err != nil {
			t.Fatal(err)
		}
	}
	run()
	require.Equal(t, PlanFlat, res.Plan)
	require.Len(t, res.Matches, 10)
	require.Zero(t, testing.AllocsPerRun(50, run))
}

// TestQueryTakesNoLock answers searches while every lock of the shard and the partition is held.
func TestQueryTakesNoLock(t *testing.T) {
	s := newSubject(t, Options{Logger: quiet()})
	smallPartition(s, 100, 16)
	sp := s.shard.registry.find(testKey(1, 1)).space.Load()
	s.shard.flushMu.Lock()
	s.shard.mu.Lock()
	sp.mu.Lock()
	s.shard.blocks.mu.Lock()
	s.shard.epochs.mu.Lock()
	defer s.shard.flushMu.Unlock()
	defer s.shard.mu.Unlock()
	defer sp.mu.Unlock()
	defer s.shard.blocks.mu.Unlock()
	defer s.shard.epochs.mu.Unlock()
	done := make(chan error, 1)
	go func() {
		var res Result
		done <- s.shard.Query(context.Background(), testKey(1, 1), &Query{Vector: make([]float32, 16), K: 3}, &res)
	}()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(30 * time.Second):
		t.Fatal("the search waits for a lock")
	}
}

func smallPartition(s *subject, n, dim int) {
	rng := rand.New(rand.NewPCG(1, 1))
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: dim, Metric: ann.Cosine}})
	for i := 0; i < n; i += 100 {
		c := &Command{Op: OpUpsert, Key: testKey(1, 1)}
		for j := i; j < min(n, i+100); j++ {
			v := make([]float32, dim)
			for d := range v {
				v[d] = rng.Float32() - 0.5
			}
			c.Records = append(c.Records, Record{ID: "id-" + strconv.Itoa(j), Values: v})
		}
		s.apply(c)
	}
}

// TestIdlePartitionsAreCheap measures what a thousand partitions cost that nobody uses.
func TestIdlePartitionsAreCheap(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector's memory is not the product's")
	}
	const partitions, limit = 1000, 4 << 10
	s := newSubject(t, Options{Logger: quiet()})
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: 16, Metric: ann.Cosine}})
	files, before := openFiles(t), heap()
	for i := range partitions {
		c := &Command{Op: OpUpsert, Key: Key{Tenant: TenantID{byte(i >> 8), byte(i)}, Index: 1}}
		for j := range 5 {
			c.Records = append(c.Records, Record{ID: strconv.Itoa(j), Values: make([]float32, 16)})
			c.Records[j].Values[j] = 1
		}
		require.NoError(t, s.apply(c).Err)
	}
	s.log = nil // the test's own copy
	loaded := (heap() - before) / partitions
	_, err := s.shard.Flush(context.Background())
	require.NoError(t, err)
	evictAll(s.shard)
	s.shard.epochs.reclaim()
	s.shard.epochs.reclaim()
	idle := (heap() - before) / partitions
	t.Logf("bytes of memory for each of %d partitions: %d unused, %d just written to", partitions, idle, loaded)
	require.Less(t, idle, int64(limit))
	require.LessOrEqual(t, openFiles(t), files, "no file is kept open for a partition")
	require.Equal(t, partitions, s.shard.Stats().Partitions)
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestAnswerIsBounded refuses an answer over the query's limit before it has been gathered.
func TestAnswerIsBounded(t *testing.T) {
	s := newSubject(t, Options{Logger: quiet()})
	smallPartition(s, 600, 16)
	q := &Query{Vector: make([]float32, 16), K: 600, IncludeValues: true, MaxBytes: 41_000} // 600 records have 38,400 bytes of values and 3,490 of ids
	q.Vector[0] = 1
	var res Result
	err := s.shard.Query(context.Background(), testKey(1, 1), q, &res)
	require.Equal(t, errs.Invalid, errs.KindOf(err), "%v", err)
	q.K = 500
	require.NoError(t, s.shard.Query(context.Background(), testKey(1, 1), q, &res))
}
