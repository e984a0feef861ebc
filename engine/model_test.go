package engine

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine/filter"
	"github.com/croftdb/croft/engine/metadata"
)

// model is what a shard should hold: plain maps, searched exactly.
type model struct {
	metric ann.Metric
	parts  map[Key]map[string]Record
}

// subject is a shard with the log that a cluster would keep for it.
type subject struct {
	t      testing.TB
	dir    string
	opts   Options
	engine *Engine
	shard  *Shard
	log    [][]byte
}

func newSubject(t testing.TB, opts Options) *subject {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	s := &subject{t: t, dir: t.TempDir(), opts: opts}
	s.open()
	t.Cleanup(func() { require.NoError(t, s.engine.Close()) })
	return s
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(string(p))
	return len(p), nil
}

func (s *subject) open() {
	var err error
	s.engine, err = Open(s.opts)
	require.NoError(s.t, err)
	s.shard, err = s.engine.OpenShard(s.dir)
	require.NoError(s.t, err)
	for i := s.shard.AppliedIndex(); i < uint64(len(s.log)); i++ {
		_, err := s.shard.Apply(i+1, s.log[i])
		require.NoError(s.t, err)
	}
}

// restart closes the shard in order, or leaves it as kill -9 would, and opens it again.
func (s *subject) restart(crash bool) {
	if crash {
		s.crash()
	} else {
		require.NoError(s.t, s.engine.Close())
	}
	s.open()
}

// crash stops the goroutines and lets go of the files without writing anything.
func (s *subject) crash() {
	s.engine.cancel()
	s.engine.done.Wait()
	close(s.shard.closing)
	s.shard.done.Wait()
	s.shard.steps.Lock()
	defer s.shard.steps.Unlock()
	s.engine.remove(s.shard)
	require.NoError(s.t, s.shard.release())
}

func (s *subject) apply(c *Command) Applied {
	b := AppendCommand(nil, c)
	s.log = append(s.log, b)
	a, err := s.shard.Apply(uint64(len(s.log)), b)
	require.NoError(s.t, err)
	return a
}

func testKey(tenant byte, index IndexID) Key { return Key{Tenant: TenantID{tenant}, Index: index} }

// history drives a shard and its model with the same random operations.
type history struct {
	*subject
	rng    *rand.Rand
	model  model
	dim    int
	exact  bool // partitions stay flat, so answers must be equal
	steps  int
	checks int
}

func (h *history) record() Record {
	r := Record{ID: "id-" + strconv.Itoa(h.rng.IntN(200)), Values: h.vector()}
	if h.rng.IntN(3) > 0 {
		r.Metadata = h.metadata()
	}
	if h.model.metric == ann.DotProduct && h.rng.IntN(4) == 0 {
		r.Sparse = h.sparse()
	}
	return r
}

func (h *history) vector() []float32 {
	v := make([]float32, h.dim)
	for i := range v {
		v[i] = h.rng.Float32()*2 - 1
	}
	return v
}

func (h *history) sparse() Sparse {
	var s Sparse
	for i := uint32(0); i < 20; i++ {
		if h.rng.IntN(4) == 0 {
			s.Indices, s.Values = append(s.Indices, i*7), append(s.Values, h.rng.Float32())
		}
	}
	return s
}

var colours = []string{"red", "green", "blue", "grey"}

func (h *history) metadata() metadata.Map {
	fields := []metadata.Field{{Key: "n", Value: metadata.NumberValue(float64(h.rng.IntN(20)))}}
	if h.rng.IntN(2) == 0 {
		fields = append(fields, metadata.Field{Key: "colour", Value: metadata.StringValue(colours[h.rng.IntN(4)])})
	}
	if h.rng.IntN(4) == 0 {
		fields = append(fields, metadata.Field{Key: "tags", Value: metadata.StringsValue(colours[h.rng.IntN(4)], "x")})
	}
	if h.rng.IntN(4) == 0 {
		fields = append(fields, metadata.Field{Key: "ok", Value: metadata.BoolValue(h.rng.IntN(2) == 0)})
	}
	m, err := metadata.Make(fields...)
	require.NoError(h.t, err)
	return m
}

var filters = []string{
	`{"n":{"$lt":3}}`, `{"n":{"$gte":5,"$lte":9}}`, `{"colour":"red"}`, `{"colour":{"$ne":"red"}}`,
	`{"tags":{"$in":["blue","x"]}}`, `{"$or":[{"ok":true},{"n":{"$gt":15}}]}`, `{"ok":{"$exists":true}}`,
	`{"$and":[{"colour":{"$nin":["blue"]}},{"n":{"$ne":4}}]}`, `{"absent":1}`,
}

func (h *history) filter() *filter.Expr {
	e, err := filter.Parse([]byte(filters[h.rng.IntN(len(filters))]))
	require.NoError(h.t, err)
	return e
}

func (h *history) key() Key { return testKey(byte(1+h.rng.IntN(3)), 1) }

func (h *history) step() {
	h.steps++
	k := h.key()
	part := h.model.parts[k]
	switch n := h.rng.IntN(100); {
	case n < 40:
		h.upsert(k)
	case n < 50 && part != nil:
		h.update(k)
	case n < 58 && part != nil:
		h.delete(k)
	case n < 60 && part != nil:
		h.deleteWhere(k)
	case n < 61 && part != nil && h.rng.IntN(20) == 0:
		h.apply(&Command{Op: OpDeleteAll, Key: k})
		h.model.parts[k] = map[string]Record{}
	case n < 62 && part != nil && h.rng.IntN(20) == 0:
		h.apply(&Command{Op: OpDropPartition, Key: k})
		delete(h.model.parts, k)
	case n < 63 && h.rng.IntN(4) == 0:
		_, err := h.shard.Flush(context.Background())
		require.NoError(h.t, err)
	case n < 64 && h.rng.IntN(8) == 0:
		h.restart(h.rng.IntN(3) > 0)
	case n < 65:
		h.evict(k)
	case n < 85:
		h.query(k)
	case n < 92:
		h.fetch(k)
	case n < 96:
		h.list(k)
	default:
		h.stats(k)
	}
}

func (h *history) upsert(k Key) {
	recs := make([]Record, 1+h.rng.IntN(4))
	for i := range recs {
		recs[i] = h.record()
	}
	require.NoError(h.t, h.apply(&Command{Op: OpUpsert, Key: k, Records: recs}).Err)
	if h.model.parts[k] == nil {
		h.model.parts[k] = map[string]Record{}
	}
	for _, r := range recs {
		h.model.parts[k][r.ID] = r
	}
}

func (h *history) update(k Key) {
	id := "id-" + strconv.Itoa(h.rng.IntN(200))
	u := Update{Targets: []Target{{ID: id}}}
	old, there := h.model.parts[k][id]
	if h.rng.IntN(2) == 0 {
		u.Values = h.vector()
		old.Values = u.Values
	}
	if h.rng.IntN(2) == 0 {
		u.SetMetadata = h.metadata()
		old.Metadata = metadata.Merge(old.Metadata, u.SetMetadata)
	}
	a := h.apply(&Command{Op: OpUpdate, Key: k, Update: u})
	require.NoError(h.t, a.Err)
	if there {
		require.Equal(h.t, 1, a.Affected)
		h.model.parts[k][id] = old
	}
}

func (h *history) delete(k Key) {
	id := "id-" + strconv.Itoa(h.rng.IntN(200))
	h.apply(&Command{Op: OpDelete, Key: k, Targets: []Target{{ID: id}}})
	delete(h.model.parts[k], id)
}

func (h *history) deleteWhere(k Key) {
	e := h.filter()
	ts, err := h.shard.Resolve(context.Background(), k, e)
	require.NoError(h.t, err)
	want := 0
	for id, r := range h.model.parts[k] {
		if e.Match(r.Metadata) {
			want++
			delete(h.model.parts[k], id)
		}
	}
	require.Len(h.t, ts, want)
	require.Equal(h.t, want, h.apply(&Command{Op: OpDelete, Key: k, Targets: ts}).Affected)
}

// evict drops a partition from memory, as the budget would.
func (h *history) evict(k Key) {
	if p := h.shard.registry.find(k); p != nil {
		evict(p)
	}
}

// bounded asks again, with a bound: all that it admits is answered as before, and nothing else.
func (h *history) bounded(k Key, q *Query, all *Result) {
	if len(all.Matches) == 0 {
		return
	}
	bound := NewBound(h.model.metric)
	bound.Tighten(all.Matches[h.rng.IntN(len(all.Matches))].Score)
	want := slices.DeleteFunc(slices.Clone(all.Matches), func(m Match) bool { return !bound.Admits(m.Score) })
	less := *q
	less.Bound = bound
	var res Result
	require.NoError(h.t, h.shard.Query(context.Background(), k, &less, &res))
	require.Equal(h.t, want, res.Matches, "%+v", q)
}

func (h *history) query(k Key) {
	q := &Query{Vector: h.vector(), K: 1 + h.rng.IntN(20), IncludeValues: h.rng.IntN(2) == 0, IncludeMetadata: h.rng.IntN(2) == 0}
	if h.rng.IntN(2) == 0 {
		q.Filter = h.filter()
	}
	if h.model.metric == ann.DotProduct && h.rng.IntN(3) == 0 {
		q.Sparse = h.sparse()
	}
	var res Result
	require.NoError(h.t, h.shard.Query(context.Background(), k, q, &res))
	h.checks++
	if h.exact {
		h.equal(q, h.model.search(k, q), &res)
		h.bounded(k, q, &res)
		return
	}
	for _, m := range res.Matches {
		r, ok := h.model.parts[k][m.ID]
		require.True(h.t, ok, "%s was deleted or never stored", m.ID)
		require.True(h.t, q.Filter.Match(r.Metadata))
	}
}

// search is the exact answer. Vectors are random, so there are no ties.
func (m *model) search(k Key, q *Query) []Match {
	var all []Match
	query := ann.Bind(m.metric, q.Vector)
	for _, r := range m.parts[k] {
		if !q.Filter.Match(r.Metadata) {
			continue
		}
		d := query.Distance(r.Values, ann.Scale(m.metric, r.Values)) - innerProduct(q.Sparse, r.Sparse)
		all = append(all, Match{Record: r, Score: m.metric.Score(d)})
	}
	sign := float32(-1)
	if m.metric == ann.Euclidean {
		sign = 1
	}
	slices.SortFunc(all, func(a, b Match) int {
		return cmp.Or(cmp.Compare(sign*a.Score, sign*b.Score), cmp.Compare(a.ID, b.ID))
	})
	return all[:min(q.K, len(all))]
}

func innerProduct(a, b Sparse) (sum float32) {
	for i, x := range a.Indices {
		if j, ok := slices.BinarySearch(b.Indices, x); ok {
			sum += a.Values[i] * b.Values[j]
		}
	}
	return sum
}

func (h *history) equal(q *Query, want []Match, got *Result) {
	require.Len(h.t, got.Matches, len(want), "plan %s", got.Plan)
	for i, w := range want {
		g := got.Matches[i]
		require.Equal(h.t, w.ID, g.ID, "match %d of plan %s", i, got.Plan)
		require.InDelta(h.t, w.Score, g.Score, 1e-5)
		if q.IncludeValues {
			require.Equal(h.t, w.Values, g.Values)
		}
		if q.IncludeMetadata {
			require.Equal(h.t, w.Metadata, g.Metadata)
		}
	}
}

func (h *history) fetch(k Key) {
	ids := []string{"id-" + strconv.Itoa(h.rng.IntN(200)), "id-" + strconv.Itoa(h.rng.IntN(200)), "never"}
	recs, err := h.shard.Fetch(context.Background(), k, ids)
	require.NoError(h.t, err)
	got := map[string]Record{}
	for _, r := range recs {
		got[r.ID] = r
	}
	for _, id := range ids {
		want, ok := h.model.parts[k][id]
		g, there := got[id]
		require.Equal(h.t, ok, there, "fetch %s", id)
		if ok {
			h.same(want, g)
		}
	}
}

func (h *history) same(want, got Record) {
	require.Equal(h.t, want.ID, got.ID)
	require.Equal(h.t, want.Values, got.Values)
	require.Equal(h.t, want.Metadata, got.Metadata)
	require.Equal(h.t, want.Sparse, got.Sparse)
}

func (h *history) list(k Key) {
	want := make([]string, 0, len(h.model.parts[k]))
	for id := range h.model.parts[k] {
		want = append(want, id)
	}
	slices.Sort(want)
	after := "id-" + strconv.Itoa(h.rng.IntN(200))
	at, found := slices.BinarySearch(want, after)
	if found {
		at++
	}
	want = want[at:]
	limit := 1 + h.rng.IntN(50)
	ids, more, err := h.shard.ScanIDs(context.Background(), k, "id-", after, limit)
	require.NoError(h.t, err)
	require.Equal(h.t, len(want) > limit, more)
	require.Equal(h.t, append([]string{}, want[:min(limit, len(want))]...), append([]string{}, ids...))
	recs, _, err := h.shard.Scan(context.Background(), k, "", after, nil, limit)
	require.NoError(h.t, err)
	for i, r := range recs {
		h.same(h.model.parts[k][ids[i]], r)
	}
}

func (h *history) stats(k Key) {
	st, ok, err := h.shard.Partition(k)
	require.NoError(h.t, err)
	_, want := h.model.parts[k]
	require.Equal(h.t, want, ok)
	require.EqualValues(h.t, len(h.model.parts[k]), st.Records)
}

// audit recounts what is kept as running figures.
func (h *history) audit() {
	recount(h.t, h.shard)
	for k, part := range h.model.parts {
		recs, _, err := h.shard.Scan(context.Background(), k, "", "", nil, 1<<30)
		require.NoError(h.t, err)
		require.Len(h.t, recs, len(part))
		var sum digest
		var bytes uint64
		for _, r := range recs {
			h.same(part[r.ID], r)
			var meta []byte
			if r.Metadata != nil {
				meta = metadata.AppendBinary(nil, r.Metadata)
			}
			sum.add(digestRecord(r.ID, r.Version, r.Values, r.Sparse, meta))
			bytes += logicalSize(r.ID, h.dim, true, r.Sparse, meta)
		}
		head := h.shard.registry.find(k).head
		require.Equal(h.t, sum, head.Digest, "digest of %s", k)
		require.Equal(h.t, bytes, head.Bytes, "bytes of %s", k)
	}
}

func modelSteps() int {
	if n, err := strconv.Atoi(os.Getenv("CROFT_MODEL_STEPS")); err == nil {
		return n
	}
	return 4000
}

func testSeed(t testing.TB) uint64 {
	seed := rand.Uint64()
	if n, err := strconv.ParseUint(os.Getenv("CROFT_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("CROFT_SEED=%d", seed)
	return seed
}

// TestModel compares a shard with plain maps under random writes, reads, flushes, evictions, restarts and crashes.
// Where search is exact, so is the comparison; CROFT_MODEL_STEPS sets the number of operations of each case.
func TestModel(t *testing.T) {
	for _, metric := range []ann.Metric{ann.Cosine, ann.DotProduct, ann.Euclidean} {
		for _, graph := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/graph=%v", metric, graph), func(t *testing.T) {
				t.Parallel()
				opts := Options{FlushBytes: 64 << 10}
				if graph {
					opts.GraphAbove, opts.FlatBelow = 60, 30
				}
				h := &history{
					subject: newSubject(t, opts), rng: rand.New(rand.NewPCG(testSeed(t), 1)), dim: 5, exact: !graph,
					model: model{metric: metric, parts: map[Key]map[string]Record{}},
				}
				h.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: h.dim, Metric: metric}})
				for range modelSteps() {
					h.step()
				}
				h.audit()
				h.restart(true)
				h.audit()
				require.Positive(t, h.checks)
			})
		}
	}
}
