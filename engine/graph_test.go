package engine

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/hnsw"
	"github.com/croftdb/croft/engine/filter"
	"github.com/croftdb/croft/engine/metadata"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

const graphDim = 8

func clustered(rng *rand.Rand) []float32 {
	v := make([]float32, graphDim)
	centre := rng.IntN(16)
	for i := range v {
		v[i] = float32((centre>>(i%4))&1) + 0.3*float32(rng.NormFloat64())
	}
	return v
}

// fillGraph stores n records and waits until they are all in the graph.
func fillGraph(s *subject, n int) {
	rng := rand.New(rand.NewPCG(5, 5))
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: graphDim, Metric: ann.Euclidean}})
	for i := 0; i < n; i += 100 {
		c := &Command{Op: OpUpsert, Key: testKey(1, 1)}
		for j := i; j < min(i+100, n); j++ {
			c.Records = append(c.Records, Record{ID: "id-" + strconv.Itoa(j), Values: clustered(rng)})
		}
		s.apply(c)
	}
	s.settle(testKey(1, 1))
}

// settle waits until the background work on a partition has caught up.
func (s *subject) settle(k Key) {
	require.Eventually(s.t, func() bool {
		p := s.shard.registry.find(k)
		sp := p.space.Load()
		if sp == nil {
			return false
		}
		s.shard.epochs.reclaim()
		v := sp.view.Load()
		sp.mu.Lock()
		buried := len(sp.buried)
		sp.mu.Unlock()
		if v.graph == nil {
			return !sp.wantsBuild()
		}
		live := int(sp.live.Load()) // a step under way keeps what has died from being buried
		return live >= s.engine.opts.FlatBelow && live == v.graph.Len() &&
			len(v.pending) == 0 && buried == 0 && v.graph.Dead() == 0
	}, 5*time.Minute, 5*time.Millisecond, "background work must end")
}

func queryAll(s *subject, k int) []Match {
	var res Result
	q := &Query{Vector: make([]float32, graphDim), K: k}
	require.NoError(s.t, s.shard.Query(context.Background(), testKey(1, 1), q, &res))
	return res.Matches
}

// loadBy loads a partition by a query.
func loadBy(s *subject, k Key, dim int) {
	var res Result
	q := &Query{Vector: make([]float32, dim), K: 1}
	q.Vector[0] = 1
	require.NoError(s.t, s.shard.Query(context.Background(), k, q, &res))
}

// recall compares the graph's answers with exact ones over the same records.
func (s *subject) recall(queries, k int) float64 {
	rng := rand.New(rand.NewPCG(6, 6))
	recs, _, err := s.shard.Scan(context.Background(), testKey(1, 1), "", "", nil, 1<<30)
	require.NoError(s.t, err)
	m := model{metric: ann.Euclidean, parts: map[Key]map[string]Record{testKey(1, 1): {}}}
	for _, r := range recs {
		m.parts[testKey(1, 1)][r.ID] = r
	}
	hits := 0
	for range queries {
		q := &Query{Vector: clustered(rng), K: k}
		want := m.search(testKey(1, 1), q)
		var res Result
		require.NoError(s.t, s.shard.Query(context.Background(), testKey(1, 1), q, &res))
		require.Equal(s.t, PlanGraph, res.Plan)
		got := map[string]bool{}
		for _, g := range res.Matches {
			got[g.ID] = true
		}
		for _, w := range want {
			if got[w.ID] {
				hits++
			}
		}
	}
	return float64(hits) / float64(queries*k)
}

// TestGraphSurvivesRestart shows that a partition above the threshold is answered by its graph, that the graph is
// loaded and not built after a restart, and that what was written after the checkpoint is found too.
func TestGraphSurvivesRestart(t *testing.T) {
	s := newSubject(t, Options{GraphAbove: 500, FlatBelow: 100, Logger: quiet()})
	fillGraph(s, 3000)
	require.GreaterOrEqual(t, s.recall(50, 10), 0.97)

	s.restart(false)
	queryAll(s, 1)
	sp := s.shard.registry.find(testKey(1, 1)).space.Load()
	require.Equal(t, 3000, sp.view.Load().graph.Len(), "all nodes come from the checkpoint")
	require.Empty(t, sp.view.Load().pending)
	require.GreaterOrEqual(t, s.recall(50, 10), 0.97)

	far := []float32{90, 90, 90, 90, 90, 90, 90, 90}
	s.apply(&Command{Op: OpUpsert, Key: testKey(1, 1), Records: []Record{{ID: "late", Values: far}}})
	s.apply(&Command{Op: OpDelete, Key: testKey(1, 1), Targets: []Target{{ID: "id-7"}}})
	s.restart(true)
	var res Result
	require.NoError(t, s.shard.Query(context.Background(), testKey(1, 1), &Query{Vector: far, K: 1}, &res))
	require.Equal(t, "late", res.Matches[0].ID)
	require.Len(t, queryAll(s, 5000), 3000)
}

// TestGraphOfCodes gives a partition a graph with codes: they are centred on its first vectors and turned by a secret of
// its own, both of which come back with the checkpoint, and answers are measured in full.
func TestGraphOfCodes(t *testing.T) {
	const dim, n = 64, 700
	s := newSubject(t, Options{GraphAbove: 500, FlatBelow: 100, Logger: quiet()})
	rng := rand.New(rand.NewPCG(9, 9))
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: dim, Metric: ann.Cosine, Bits: 4}})
	var mean [dim]float64
	for key := range byte(2) {
		c := &Command{Op: OpUpsert, Key: testKey(1+key, 1)}
		for i := range n {
			v := make([]float32, dim)
			for j := range v {
				v[j] = (1 + float32(rng.NormFloat64())/4) * float32(1+i)
			}
			if i == 0 {
				clear(v)
				v[0] = 1e-40 // has no direction in float32, and must not spoil the centre
			}
			c.Records = append(c.Records, Record{ID: "id-" + strconv.Itoa(i), Values: v})
			for j := range v {
				if i > 0 && key == 0 {
					mean[j] += float64(v[j]) / ann.Norm(v) / (n - 1)
				}
			}
		}
		s.apply(c)
	}
	graph := func(key byte) *hnsw.Graph {
		return s.shard.registry.find(testKey(key, 1)).space.Load().view.Load().graph
	}
	s.settle(testKey(1, 1))
	s.settle(testKey(2, 1))
	cfg := graph(1).Config()
	require.Equal(t, 4, cfg.Bits)
	require.InDeltaSlice(t, mean[:], cfg.Centre, 1e-6)
	require.NotEqual(t, cfg.Seed, graph(2).Config().Seed)
	require.Greater(t, s.shard.registry.find(testKey(1, 1)).space.Load().bytes(), int64(n*dim/2), "codes are memory as well")

	check := func() {
		for i := range 20 {
			var res Result
			recs, err := s.shard.Fetch(t.Context(), testKey(1, 1), []string{"id-" + strconv.Itoa(1+i*30)})
			require.NoError(t, err)
			require.NoError(t, s.shard.Query(t.Context(), testKey(1, 1), &Query{Vector: recs[0].Values, K: 3}, &res))
			require.Equal(t, PlanGraph, res.Plan)
			require.Equal(t, recs[0].ID, res.Matches[0].ID)
			require.InDelta(t, 1, res.Matches[0].Score, 1e-6, "a code would not give that")
		}
	}
	check()
	s.restart(false)
	loadBy(s, testKey(1, 1), dim)
	require.Equal(t, cfg, graph(1).Config())
	check()
}

// TestCalibration shows that a graph's effort is measured once it has caught up, anew when it has doubled, and there
// after a restart.
func TestCalibration(t *testing.T) {
	s := newSubject(t, Options{GraphAbove: 200, FlatBelow: 100, Logger: quiet()})
	measured := func() (slots int) {
		require.Eventually(t, func() bool {
			g := s.shard.registry.find(testKey(1, 1)).space.Load().view.Load().graph
			e := g.Effort()
			if e != nil {
				slots = e.Slots
			}
			return e != nil && 2*e.Slots > g.Len()
		}, 5*time.Minute, time.Millisecond)
		return slots
	}
	fillGraph(s, 300)
	require.LessOrEqual(t, measured(), 300)
	fillGraph(s, 700)
	require.Greater(t, measured(), 350)
	s.restart(false)
	loadBy(s, testKey(1, 1), graphDim)
	require.Greater(t, measured(), 350)
	for _, recall := range []float32{0.5, 0.999} {
		var res Result
		q := &Query{Vector: make([]float32, graphDim), K: 10, Recall: recall}
		require.NoError(t, s.shard.Query(t.Context(), testKey(1, 1), q, &res))
		require.Equal(t, PlanGraph, res.Plan)
		require.Len(t, res.Matches, 10)
	}
}

// TestFilteredWalk compares walks among matches with scans of them, and takes one to its limit of work: it then has found
// nothing, so that a scan can begin.
func TestFilteredWalk(t *testing.T) {
	s := newSubject(t, Options{GraphAbove: 500, FlatBelow: 100, Logger: quiet()})
	rng := rand.New(rand.NewPCG(5, 5))
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: graphDim, Metric: ann.Euclidean}})
	for i := 0; i < 3000; i += 100 {
		c := &Command{Op: OpUpsert, Key: testKey(1, 1)}
		for j := i; j < i+100; j++ {
			m, err := metadata.Make(metadata.Field{Key: "n", Value: metadata.NumberValue(float64(j % 10))})
			require.NoError(t, err)
			c.Records = append(c.Records, Record{ID: "id-" + strconv.Itoa(j), Values: clustered(rng), Metadata: m})
		}
		s.apply(c)
	}
	s.settle(testKey(1, 1))
	expr, err := filter.Parse([]byte(`{"n":{"$lt":9}}`))
	require.NoError(t, err)
	sp := s.shard.registry.find(testKey(1, 1)).space.Load()
	sr := newSearcher()
	var res Result
	hits := 0
	for range 20 {
		q := &Query{Vector: clustered(rng), K: 10, Filter: expr}
		require.NoError(t, s.shard.Query(t.Context(), testKey(1, 1), q, &res))
		require.Equal(t, PlanFilterGraph, res.Plan)
		walked := map[string]bool{}
		for _, m := range res.Matches {
			walked[m.ID] = true
		}

		sr.begin(sp, q, &res)
		set, err := sr.match(t.Context(), expr)
		require.NoError(t, err)
		require.EqualValues(t, 2700, set.GetCardinality())
		sr.seen.restrict(set)
		require.ErrorIs(t, sr.walk(t.Context(), q, 1, new(Result)), ann.ErrLimit)
		require.NoError(t, sr.scanSet(t.Context(), set, &res))
		require.Equal(t, 2700, res.Scanned)
		for _, c := range sr.top.Sorted(nil)[:q.K] {
			if walked[sp.id(c.Slot)] {
				hits++
			}
		}
		sr.end()
	}
	require.GreaterOrEqual(t, hits, 195, "of 200")
}

// TestSearchesAreSampled shows that searches that were made are measured, that later ones heed it, and that it is told.
func TestSearchesAreSampled(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := newSubject(t, Options{GraphAbove: 200, FlatBelow: 100, Logger: quiet(), Registerer: reg})
	fillGraph(s, 600)
	rng := rand.New(rand.NewPCG(9, 9))
	query := func() {
		var res Result
		require.NoError(t, s.shard.Query(t.Context(), testKey(1, 1), &Query{Vector: clustered(rng), K: 10}, &res))
		require.Equal(t, PlanGraph, res.Plan)
	}
	sp := s.shard.registry.find(testKey(1, 1)).space.Load()
	for range askedEvery * askedEnough {
		query()
	}
	require.True(t, sp.asked.full())
	require.Eventually(t, func() bool {
		e := sp.view.Load().graph.Effort()
		return e != nil && e.Leashed()
	}, 5*time.Minute, time.Millisecond)
	query()

	st, ok, err := s.shard.Partition(testKey(1, 1))
	require.NoError(t, err)
	require.True(t, ok)
	require.GreaterOrEqual(t, st.SampledRecall, 0.95)
	require.LessOrEqual(t, st.SampledRecall, 1.0)
	require.GreaterOrEqual(t, st.Ef, 10)
	require.Equal(t, uint64(10*askedEnough), s.engine.sampled.wanted.Load())
	families, err := reg.Gather()
	require.NoError(t, err)
	values := map[string]float64{}
	for _, f := range families {
		if f.GetMetric()[0].GetCounter() != nil {
			values[f.GetName()] = f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	require.Equal(t, float64(10*askedEnough), values["croft_engine_recall_sampled_wanted_total"])
	require.Equal(t, float64(s.engine.sampled.found.Load()), values["croft_engine_recall_sampled_found_total"])
	require.Equal(t, float64(s.engine.graphInserts.Load()), values["croft_engine_graph_inserts_total"])
	require.Positive(t, s.engine.graphInserts.Load())
}

func TestAskedKeepsSome(t *testing.T) {
	var a asked
	values := []float32{0}
	for i := range askedEvery * askedEnough * 3 / 2 {
		values[0] = float32(i)
		a.note(&ann.Request{Vector: values, K: 7, Recall: 0.9})
	}
	require.True(t, a.full(), "and no more are kept")
	made := a.take()
	require.Len(t, made, askedEnough)
	require.False(t, a.full())
	for i, r := range made {
		require.Equal(t, ann.Request{Vector: []float32{float32(askedEvery*(i+1) - 1)}, K: 7, Recall: 0.9}, r)
	}
	require.Len(t, a.take(), askedEnough, "they serve until there are others")
	for range askedEvery * askedEnough {
		a.note(&ann.Request{Vector: []float32{-1}})
	}
	for _, r := range a.take() {
		require.Equal(t, []float32{-1}, r.Vector)
	}
	require.Equal(t, float32(askedEvery-1), made[0].Vector[0], "who has taken them keeps them")
}

func TestSaveDue(t *testing.T) {
	for name, c := range map[string]struct {
		n, changes   int
		more         bool
		quiet, pause int64
		want         bool
	}{
		"nothing new":                    {5000, 0, false, 99, 99, false},
		"little new":                     {5000, 1, false, saveQuiet - 1, 99, false},
		"little new, at rest":            {5000, 1, false, saveQuiet, 0, true},
		"at rest for others":             {5000, 1, true, saveQuiet, 99, false},
		"much new":                       {5000, 1024, false, 0, savePause, true},
		"much new again":                 {5000, 1024, false, 0, savePause - 1, false},
		"much new while growing":         {5000, 5000, true, 0, 99, false},
		"half new while growing":         {40_000, 20_000, true, 0, 0, true},
		"large, a twentieth new":         {1_000_000, 50_000, false, 0, savePause, true},
		"large, less new":                {1_000_000, 49_999, false, 0, savePause, false},
		"large, not half new, growing":   {1_000_000, 499_999, true, 0, 99, false},
		"caught up, half new, just then": {40_000, 20_000, false, 0, 0, true},
	} {
		require.Equal(t, c.want, saveDue(c.n, c.changes, c.more, c.quiet, c.pause), name)
	}
}

// TestChurn replaces every record three times: recall, slots and segments stay those of a fresh partition.
func TestChurn(t *testing.T) {
	s := newSubject(t, Options{GraphAbove: 200, FlatBelow: 100, FlushBytes: 64 << 10, Logger: quiet()})
	n := 2000
	if raceEnabled {
		n = 400
	}
	fillGraph(s, n)
	fresh := s.recall(50, 10)
	rng := rand.New(rand.NewPCG(7, 7))
	for range 3 {
		for i := 0; i < n; i += 50 {
			c := &Command{Op: OpUpsert, Key: testKey(1, 1)}
			for j := i; j < i+50; j++ {
				c.Records = append(c.Records, Record{ID: "id-" + strconv.Itoa(j), Values: clustered(rng)})
			}
			s.apply(c)
		}
		s.settle(testKey(1, 1))
	}
	require.GreaterOrEqual(t, s.recall(50, 10), fresh-0.02)
	require.Len(t, queryAll(s, 5000), n)
	sp := s.shard.registry.find(testKey(1, 1)).space.Load()
	require.LessOrEqual(t, int(sp.next), 3*n, "slots are used again: without, there were four for each record")

	upkeep(s.shard)
	st := s.shard.Stats()
	require.Less(t, st.SegmentBytes, uint64(8*n*graphDim*4), "dead rows are given back")
	readBack(t, s.shard)
}

// TestRepairKeepsUp overwrites records as fast as a step of the builder takes them in: dead nodes must not pile up, though
// there is always something to insert first.
func TestRepairKeepsUp(t *testing.T) {
	s := newSubject(t, Options{GraphAbove: 200, FlatBelow: 100, Logger: quiet()})
	n := 3000
	if raceEnabled {
		n = 1500
	}
	fillGraph(s, n)
	s.stop()
	sp := s.space(testKey(1, 1))
	rng := rand.New(rand.NewPCG(8, 8))
	most := 0
	for i := range 3 * n / buildBatch {
		c := &Command{Op: OpUpsert, Key: testKey(1, 1)}
		for j := range buildBatch {
			c.Records = append(c.Records, Record{ID: "id-" + strconv.Itoa((i*buildBatch+j)%n), Values: clustered(rng)})
		}
		s.apply(c)
		_, err := sp.maintain(t.Context(), 2)
		require.NoError(t, err)
		s.shard.epochs.reclaim()
		most = max(most, sp.view.Load().graph.Dead())
	}
	require.Less(t, most, n/2, "of %d nodes", n)
}

// TestBothWays grows a partition over the threshold and shrinks it below the other one.
func TestBothWays(t *testing.T) {
	s := newSubject(t, Options{GraphAbove: 200, FlatBelow: 100, Logger: quiet()})
	fillGraph(s, 400)
	hasGraph := func() bool { return s.shard.registry.find(testKey(1, 1)).space.Load().view.Load().graph != nil }
	require.True(t, hasGraph())
	c := &Command{Op: OpDelete, Key: testKey(1, 1)}
	for i := range 350 {
		c.Targets = append(c.Targets, Target{ID: "id-" + strconv.Itoa(i)})
	}
	require.Equal(t, 350, s.apply(c).Affected)
	s.settle(testKey(1, 1))
	require.False(t, hasGraph())
	require.Len(t, queryAll(s, 1000), 50)
	fillAgain := &Command{Op: OpUpsert, Key: testKey(1, 1)}
	rng := rand.New(rand.NewPCG(8, 8))
	for i := range 300 {
		fillAgain.Records = append(fillAgain.Records, Record{ID: "new-" + strconv.Itoa(i), Values: clustered(rng)})
	}
	s.apply(fillAgain)
	s.settle(testKey(1, 1))
	require.Len(t, queryAll(s, 1000), 350)
}
