package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine/filter"
	"github.com/croftdb/croft/engine/internal/store"
	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/errs"
)

const (
	waitLimit = 2 * time.Minute
	pollEvery = 2 * time.Millisecond
)

// stop ends the engine's own goroutines, so that a test is the only one that acts. The shard stays usable.
func (s *subject) stop() {
	s.engine.cancel()
	s.engine.done.Wait()
}

func (s *subject) space(k Key) *space { return s.shard.registry.find(k).space.Load() }

// TestCheckpointOfACutBatch saves a graph in which an insert of a batch is missing, as a shutdown in the middle of a
// batch does: after the restart all records are found at once, not when the batch has been caught up with.
func TestCheckpointOfACutBatch(t *testing.T) {
	s := newSubject(t, Options{GraphAbove: 50, FlatBelow: 10, Logger: quiet()})
	s.stop()
	storeClustered(s, 300)
	sp := s.space(testKey(1, 1))
	sp.promote()
	pending := sp.view.Load().pending
	require.NoError(t, sp.insertAll(t.Context(), sp.view.Load().graph, append(append([]uint32(nil), pending[:100]...), pending[150:200]...), 1))
	sp.swap(func(v *view) { v.pending = v.pending[90:] })
	s.restart(false)
	s.stop()
	require.Len(t, queryAll(s, 300), 300)
	v := s.space(testKey(1, 1)).view.Load()
	require.Equal(t, 150, v.graph.Len())

	// A record of the graph that is still pending dies: its slot must not be used again before it has left the list.
	s.apply(&Command{Op: OpDelete, Key: testKey(1, 1), Targets: []Target{{ID: "id-160"}}})
	sp = s.space(testKey(1, 1))
	s.shard.epochs.reclaim()
	sp.builder.mu.Lock()
	sp.disown(v.graph)
	require.Len(t, sp.buried, 1)
	sp.builder.mu.Unlock()
	require.Len(t, queryAll(s, 300), 299)
}

func storeClustered(s *subject, n int) {
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: graphDim, Metric: ann.Euclidean}})
	c := &Command{Op: OpUpsert, Key: testKey(1, 1)}
	for i := range n {
		v := make([]float32, graphDim)
		v[i%graphDim], v[(i/graphDim)%graphDim] = float32(i), 1
		c.Records = append(c.Records, Record{ID: "id-" + strconv.Itoa(i), Values: v})
	}
	require.NoError(s.t, s.apply(c).Err)
}

// TestPayloadOfChangedRecords writes between a search and its payload. The search is done again; the last time, what
// is gone or matches no more is left out and what has changed is answered whole.
func TestPayloadOfChangedRecords(t *testing.T) {
	s := newSubject(t, Options{Logger: quiet()})
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: 1, Metric: ann.Euclidean}})
	tag := func(v string) metadata.Map {
		m, err := metadata.Make(metadata.Field{Key: "tag", Value: metadata.StringValue(v)})
		require.NoError(t, err)
		return m
	}
	upsert := func(id string, x float32, m metadata.Map) {
		s.apply(&Command{Op: OpUpsert, Key: testKey(1, 1), Records: []Record{{ID: id, Values: []float32{x}, Metadata: m}}})
	}
	for i, id := range []string{"same", "changed", "gone", "other"} {
		upsert(id, float32(i), tag("x"))
	}
	f, err := filter.Parse([]byte(`{"tag":"x"}`))
	require.NoError(t, err)
	q := &Query{Vector: []float32{0}, K: 10, Filter: f, IncludeMetadata: true, IncludeValues: true}
	sp, sr, res := s.space(testKey(1, 1)), newSearcher(), &Result{}
	pin := s.shard.epochs.pin()
	defer s.shard.epochs.unpin(pin)
	require.NoError(t, sr.search(t.Context(), sp, q, res))
	require.Len(t, res.Matches, 4)
	upsert("changed", 9, tag("x"))
	upsert("other", 3, tag("y"))
	s.apply(&Command{Op: OpDelete, Key: testKey(1, 1), Targets: []Target{{ID: "gone"}}})

	fresh, err := sr.attach(sp, q, res, false)
	require.NoError(t, err)
	require.False(t, fresh)
	fresh, err = sr.attach(sp, q, res, true)
	require.NoError(t, err)
	require.True(t, fresh)
	require.Len(t, res.Matches, 2)
	require.Equal(t, "same", res.Matches[0].ID)
	require.Equal(t, tag("x"), res.Matches[0].Metadata)
	require.Equal(t, "changed", res.Matches[1].ID)
	require.Equal(t, []float32{9}, res.Matches[1].Values)
	require.EqualValues(t, 5, res.Matches[1].Version)
}

// TestVersionIsOfTheView ties the version that a result tells to what it has seen, for caches.
func TestVersionIsOfTheView(t *testing.T) {
	s := newSubject(t, Options{Logger: quiet()})
	smallPartition(s, 100, 4)
	p := s.shard.registry.find(testKey(1, 1))
	s.shard.mu.Lock()
	p.head.Version++ // an entry that is under way
	s.shard.mu.Unlock()
	var res Result
	require.NoError(t, s.shard.Query(t.Context(), testKey(1, 1), &Query{Vector: make([]float32, 4), K: 1}, &res))
	require.EqualValues(t, 1, res.Version)
	evict(p)
	require.NoError(t, s.shard.Query(t.Context(), testKey(1, 1), &Query{Vector: make([]float32, 4), K: 1}, &res))
	require.EqualValues(t, 2, res.Version)
}

// TestTruncatedSegment cuts a mapped segment short under a loaded partition. Searches, fetches, the builder, an update
// that keeps a row and a rewrite tell it as an error; none takes the process down.
func TestTruncatedSegment(t *testing.T) {
	for _, what := range []string{"query", "fetch", "build", "update", "rewrite"} {
		t.Run(what, func(t *testing.T) {
			s := newSubject(t, Options{GraphAbove: 5000, FlatBelow: 10, Logger: quiet()})
			s.stop()
			storeClustered(s, 4000)
			_, err := s.shard.Flush(t.Context())
			require.NoError(t, err)
			evictAll(s.shard)
			queryAll(s, 1) // loads, and so verifies every block
			names, err := filepath.Glob(filepath.Join(s.dir, segmentsDir, "*"))
			require.NoError(t, err)
			require.Len(t, names, 1)
			require.NoError(t, os.Truncate(names[0], 4096))
			var res Result
			sp := s.space(testKey(1, 1))
			switch what {
			case "query":
				err = s.shard.Query(t.Context(), testKey(1, 1), &Query{Vector: make([]float32, graphDim), K: 3}, &res)
			case "fetch":
				_, err = s.shard.Fetch(t.Context(), testKey(1, 1), []string{"id-3999"})
			case "build":
				sp.promote()
				_, err = sp.maintain(t.Context(), 2)
				require.Nil(t, sp.view.Load().graph, "a graph with a slot that was cut off is given up")
			case "update":
				b := AppendCommand(nil, &Command{Op: OpUpdate, Key: testKey(1, 1), Update: Update{
					Targets: []Target{{ID: "id-999"}}, Sparse: &Sparse{},
				}})
				_, err = s.shard.Apply(uint64(len(s.log)+1), b)
				require.Equal(t, errs.Internal, errs.KindOf(err))
				err = errs.Wrap(errs.Corrupt, err, "apply")
			case "rewrite":
				err = s.shard.rewriteSegments([]uint64{1})
				err = errs.Wrap(errs.Corrupt, err, "rewrite")
			}
			require.Equal(t, errs.Corrupt, errs.KindOf(err), "%v", err)
			if what == "update" || what == "rewrite" {
				s.crash() // it is poisoned
			}
		})
	}
}

// TestDropIndex drops all partitions of an index, refuses late writes, and gives back records, files and memory.
func TestDropIndex(t *testing.T) {
	s := newSubject(t, Options{Logger: quiet(), GraphAbove: 100, FlatBelow: 10})
	fillGraph(s, 300)
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 2, Dim: 1, Metric: ann.Euclidean}})
	for _, k := range []Key{testKey(2, 1), testKey(1, 2)} {
		v := make([]float32, map[IndexID]int{1: graphDim, 2: 1}[k.Index])
		require.NoError(t, s.apply(&Command{Op: OpUpsert, Key: k, Records: []Record{{ID: "a", Values: v}}}).Err)
	}
	upkeep(s.shard)
	require.Equal(t, 301, s.apply(&Command{Op: OpDropIndex, Key: Key{Index: 1}}).Affected)
	late := s.apply(&Command{Op: OpUpsert, Key: testKey(1, 1), Records: []Record{{ID: "a", Values: make([]float32, graphDim)}}})
	require.Equal(t, errs.NotFound, errs.KindOf(late.Err))
	again := s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: graphDim, Metric: ann.Euclidean}})
	require.Equal(t, errs.NotFound, errs.KindOf(again.Err))
	for range 3 {
		upkeep(s.shard)
	}
	check := func() {
		require.Equal(t, 1, s.shard.Stats().Partitions)
		defined, dropped := s.shard.Schemas()
		require.Len(t, defined, 1)
		require.Equal(t, []IndexID{1}, dropped)
		records, garbage := countStored(t, s.shard)
		require.Equal(t, 1, records)
		require.Zero(t, garbage)
		require.Equal(t, s.shard.Stats().Segments, countFiles(t, s, segmentsDir))
		require.Zero(t, countFiles(t, s, graphsDir))
		recount(t, s.shard)
	}
	check()
	s.restart(true)
	check()
}

func countFiles(t testing.TB, s *subject, dir string) int {
	names, err := os.ReadDir(filepath.Join(s.dir, dir))
	require.NoError(t, err)
	return len(names)
}

func countStored(t testing.TB, s *Shard) (records, garbage int) {
	require.NoError(t, s.kv.View(func(tx store.Tx) error {
		keys, err := keysOf(tx, bucketGarbage)
		garbage = len(keys)
		if err != nil {
			return err
		}
		return tx.Ascend(bucketRecords, nil, func(_, _ []byte) (bool, error) {
			records++
			return true, nil
		})
	}))
	return records, garbage
}

// recount compares the segments' figures with the rows that records of partitions that are there really name. Records of
// dropped partitions count as long as they have not been swept.
func recount(t testing.TB, s *Shard) {
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	live := map[uint64]uint64{}
	require.NoError(t, s.kv.View(func(tx store.Tx) error {
		return tx.Ascend(bucketRecords, nil, func(k, v []byte) (bool, error) {
			r, err := decodeStoredRecord(v)
			if err != nil || r.Segment == 0 {
				return err == nil, err
			}
			units, err := s.unitsAt(r.Segment, r.Offset)
			live[r.Segment] += units
			return true, err
		})
	}))
	uses, err := s.segmentUses()
	require.NoError(t, err)
	for _, u := range uses {
		require.Equal(t, live[u.id], u.live(), "segment %x", u.id)
		delete(live, u.id)
	}
	for id := range live {
		_, known := (*s.segments.Load())[id]
		require.False(t, known, "records name segment %x, which has no figures", id)
	}
}

// TestTinyFlushes flushes one record at a time: segments stay few, and all of them are on disk once.
func TestTinyFlushes(t *testing.T) {
	s := newSubject(t, Options{Logger: quiet()})
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: 4, Metric: ann.Euclidean}})
	for i := range 120 {
		s.apply(&Command{Op: OpUpsert, Key: testKey(1, 1), Records: []Record{{ID: strconv.Itoa(i), Values: []float32{1, 2, 3, float32(i)}}}})
		upkeep(s.shard)
		require.LessOrEqual(t, s.shard.Stats().Segments, 2*tierFan)
	}
	s.shard.epochs.reclaim()
	s.shard.epochs.reclaim()
	require.Less(t, countFiles(t, s, segmentsDir), 2*tierFan)
	recount(t, s.shard)
	readBack(t, s.shard)
}

// TestSweepIsBatched sweeps a large partition and many empty ones.
func TestSweepIsBatched(t *testing.T) {
	s := newSubject(t, Options{Logger: quiet()})
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: 1, Metric: ann.Euclidean}})
	c := &Command{Op: OpUpsert, Key: testKey(1, 1)}
	for i := range sweepBatch + 10 {
		c.Records = append(c.Records, Record{ID: strconv.Itoa(i), Values: []float32{1}})
	}
	s.apply(c)
	for i := range byte(50) {
		s.apply(&Command{Op: OpCreatePartition, Key: testKey(i+2, 1)})
	}
	s.apply(&Command{Op: OpDropIndex, Key: Key{Index: 1}})
	_, err := s.shard.Flush(t.Context())
	require.NoError(t, err)
	// The janitor sweeps as well, without waiting for the next flush.
	require.Eventually(t, func() bool {
		s.shard.wake()
		records, garbage := countStored(t, s.shard)
		return records == 0 && garbage == 0
	}, waitLimit, pollEvery)
}

// TestBudget drops the partitions that were used longest ago from memory until the rest fits, and keeps what it answers.
func TestBudget(t *testing.T) {
	s := newSubject(t, Options{Logger: quiet(), MemoryBudget: 1 << 20})
	s.stop()
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: 1, Metric: ann.Euclidean}})
	for p := range byte(20) {
		s.engine.clock.Store(int64(p))
		c := &Command{Op: OpUpsert, Key: testKey(p, 1)}
		for i := range 1000 {
			c.Records = append(c.Records, Record{ID: strings.Repeat("x", 50) + strconv.Itoa(i), Values: []float32{float32(i)}})
		}
		require.NoError(t, s.apply(c).Err)
	}
	require.Greater(t, s.shard.Stats().ResidentBytes, uint64(s.engine.opts.MemoryBudget))
	s.engine.dropUnused()
	st := s.shard.Stats()
	require.LessOrEqual(t, st.ResidentBytes, uint64(s.engine.opts.MemoryBudget))
	require.Positive(t, st.Loaded)
	require.Nil(t, s.space(testKey(0, 1)))
	require.NotNil(t, s.space(testKey(19, 1)))

	sp := s.space(testKey(19, 1))
	sp.builder.mu.Lock() // a step is under way
	require.False(t, sp.drop())
	sp.builder.mu.Unlock()
	sp.builder.unsaved.Store(true)
	require.False(t, sp.drop())
	sp.builder.unsaved.Store(false)

	s.engine.clock.Store(1 << 20)
	s.engine.dropUnused()
	require.Zero(t, s.shard.Stats().Loaded)
	for p := range byte(20) {
		var res Result
		require.NoError(t, s.shard.Query(t.Context(), testKey(p, 1), &Query{Vector: []float32{0}, K: 10_000}, &res))
		require.Len(t, res.Matches, 1000)
	}
}

// TestTiesAcrossRestart gives the last place of a tied answer to the smallest ids, whatever slots they have.
func TestTiesAcrossRestart(t *testing.T) {
	s := newSubject(t, Options{Logger: quiet()})
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: 2, Metric: ann.Euclidean}})
	for i := range 40 {
		id := fmt.Sprintf("%02d", (i*17)%40)
		s.apply(&Command{Op: OpUpsert, Key: testKey(1, 1), Records: []Record{{ID: id, Values: []float32{1, float32(i % 2)}}}})
	}
	var evens []string
	for i := 0; i < 40; i += 2 {
		evens = append(evens, fmt.Sprintf("%02d", (i*17)%40))
	}
	ids := func() (ids []string) {
		var res Result
		require.NoError(t, s.shard.Query(t.Context(), testKey(1, 1), &Query{Vector: []float32{1, 0}, K: 7}, &res))
		for _, m := range res.Matches {
			require.Contains(t, evens, m.ID)
			ids = append(ids, m.ID)
		}
		return ids
	}
	want := []string{"00", "02", "04", "06", "08", "10", "12"}
	require.Equal(t, want, ids())
	s.restart(false)
	require.Equal(t, want, ids())
}

// TestSparseIndex answers by inner products of sparse vectors alone; records that share nothing are not answered.
func TestSparseIndex(t *testing.T) {
	s := newSubject(t, Options{Logger: quiet()})
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Metric: ann.DotProduct}})
	s.apply(&Command{Op: OpUpsert, Key: testKey(1, 1), Records: []Record{
		{ID: "one", Sparse: sparseOf([]float32{1}, 1)}, {ID: "both", Sparse: sparseOf([]float32{1, 1}, 1, 2)}, {ID: "none", Sparse: sparseOf([]float32{1}, 3)},
	}})
	for range 2 {
		var res Result
		q := &Query{Sparse: sparseOf([]float32{2, 3}, 1, 2), K: 10, IncludeValues: true}
		require.NoError(t, s.shard.Query(t.Context(), testKey(1, 1), q, &res))
		require.Equal(t, PlanSparse, res.Plan)
		require.Len(t, res.Matches, 2)
		require.Equal(t, "both", res.Matches[0].ID)
		require.EqualValues(t, 5, res.Matches[0].Score)
		require.Equal(t, []uint32{1, 2}, res.Matches[0].Sparse.Indices)
		s.restart(false)
	}
}

// TestAdmit waits for room only when a flush will make it, and ends with the context or the shard.
func TestAdmit(t *testing.T) {
	s := newSubject(t, Options{FlushBytes: 1 << 10, Logger: quiet()})
	require.NoError(t, s.shard.Admit(t.Context(), 1<<30), "nothing is held: waiting would not help")
	s.shard.flushMu.Lock() // no flush ends
	s.shard.buffered.Store(1 << 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.shard.Admit(ctx, 1<<20) }()
	cancel()
	err := <-done
	require.Equal(t, errs.Unavailable, errs.KindOf(err), "%v", err)
	s.shard.buffered.Store(0)
	s.shard.flushMu.Unlock()

	require.NoError(t, s.shard.Close())
	require.NoError(t, s.shard.Close(), "closing twice is nothing")
	s.shard.buffered.Store(1 << 20)
	require.Equal(t, errs.Unavailable, errs.KindOf(s.shard.Admit(t.Context(), 1<<20)))
	_ = s.shard.fail("test", os.ErrInvalid)
	require.Equal(t, errs.Unavailable, errs.KindOf(s.shard.Admit(t.Context(), 1)))
	s.shard.buffered.Store(0)
}

// TestMetrics holds the metrics to Prometheus' rules, and to there being none per tenant.
func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := newSubject(t, Options{Registerer: reg, Logger: quiet()})
	smallPartition(s, 100, 4)
	families, err := reg.Gather()
	require.NoError(t, err)
	require.Len(t, families, len(gauges)+5)
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
	for _, f := range families {
		require.Len(t, f.GetMetric(), 1)
		if f.GetName() == "croft_engine_records" {
			require.EqualValues(t, 100, f.GetMetric()[0].GetGauge().GetValue())
		}
	}
}
