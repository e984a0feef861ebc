package anntest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
)

// Options says what to hold an index to.
type Options struct {
	// New makes an empty index.
	New func(t *testing.T, metric ann.Metric, dim int, src ann.Source) Index
	// Recall is the least share of the ten nearest that a search with Ef 64 finds; 1 for exact indexes.
	Recall float64
}

const (
	seed    = 42
	dim     = 24
	count   = 2000
	queries = 50
	k       = 10
	ef      = 64
)

// Run runs the kit.
func Run(t *testing.T, o Options) {
	for _, metric := range []ann.Metric{ann.Cosine, ann.DotProduct, ann.Euclidean} {
		if testing.Short() && metric != ann.Euclidean {
			continue // the race detector, for which short tests are, learns nothing from the others
		}
		t.Run(metric.String(), func(t *testing.T) {
			newBed := func(t *testing.T) *bed { return o.newBed(t, metric) }
			t.Run("recall", func(t *testing.T) { testRecall(newBed(t)) })
			t.Run("deterministic", func(t *testing.T) { testDeterministic(newBed(t), newBed(t)) })
			t.Run("edges of k", func(t *testing.T) { testEdges(newBed(t)) })
			t.Run("filter", func(t *testing.T) { testFilter(newBed(t)) })
			t.Run("correlated filter", func(t *testing.T) { testCorrelated(newBed(t)) })
			t.Run("filter and deletes", func(t *testing.T) { testFilterDeleted(newBed(t)) })
			t.Run("delete and insert again", func(t *testing.T) { testDelete(newBed(t)) })
			t.Run("delete all", func(t *testing.T) { testDeleteAll(newBed(t)) })
			t.Run("vectors gone", func(t *testing.T) { testGone(newBed(t)) })
			t.Run("concurrent", func(t *testing.T) { testConcurrent(newBed(t)) })
		})
	}
	t.Run("equal vectors", func(t *testing.T) { testEqual(t, o) })
	t.Run("wrong dimension", func(t *testing.T) {
		_, err := o.newBed(t, ann.Cosine).index.Search(t.Context(), &ann.Request{Vector: make([]float32, dim+1), K: 1}, nil)
		require.Error(t, err)
	})
	t.Run("cancelled", func(t *testing.T) { testCancelled(o.newBed(t, ann.Euclidean)) })
}

// bed is an index with the data that goes into it.
type bed struct {
	t       *testing.T
	metric  ann.Metric
	recall  float64
	src     *Vectors
	index   Index
	data    [][]float32 // count for the index, as many for replacing them
	queries [][]float32
}

func (o Options) newBed(t *testing.T, metric ann.Metric) *bed {
	all := Clustered(seed, 2*count+queries, dim)
	src := NewVectors(metric, 2*count)
	return &bed{
		t: t, metric: metric, recall: o.Recall, src: src, index: o.New(t, metric, dim, src),
		data: all[:2*count], queries: all[2*count:],
	}
}

// fill inserts the slots from one to another, each with the vector of its number.
func (b *bed) fill(from, to int) []uint32 {
	var slots []uint32
	for i := from; i < to; i++ {
		b.insert(uint32(i), b.data[i])
		slots = append(slots, uint32(i))
	}
	return slots
}

func (b *bed) insert(slot uint32, values []float32) {
	b.src.Set(slot, values)
	require.NoError(b.t, b.index.Insert(slot), "seed %d, slot %d", seed, slot)
}

func (b *bed) search(req ann.Request) []ann.Candidate {
	got, err := b.index.Search(b.t.Context(), &req, nil)
	require.NoError(b.t, err)
	require.True(b.t, slices.IsSortedFunc(got, ann.Compare), "nearest first")
	require.LessOrEqual(b.t, len(got), max(req.K, 0))
	return got
}

// checkRecall asks all queries and compares with an exact search of the slots that may be returned.
func (b *bed) checkRecall(slots []uint32, filter ann.Filter) {
	b.t.Helper()
	b.check(slots, ann.Request{Filter: filter})
}

// checkAmong is checkRecall for all ways to say which slots may be returned: a filter, a set, or a filter and a set of
// more than those.
func (b *bed) checkAmong(slots []uint32) {
	b.t.Helper()
	only := setOf(slots)
	more := slices.Clone(only)
	for i := range more {
		more[i] |= 0x1111111111111111
	}
	filter := filterFunc(only.Has)
	fewer := *b // there are many sets
	fewer.queries = b.queries[:queries/2]
	fewer.check(slots, ann.Request{Filter: filter}, ann.Request{Among: only}, ann.Request{Among: more, Filter: filter})
}

func setOf(slots []uint32) ann.Set {
	set := make(ann.Set, count/64+1)
	for _, slot := range slots {
		set[slot/64] |= 1 << (slot % 64)
	}
	return set
}

// check asks all queries of each request, for the k nearest.
func (b *bed) check(slots []uint32, reqs ...ann.Request) {
	b.t.Helper()
	returnable := map[uint32]bool{}
	for _, slot := range slots {
		returnable[slot] = true
	}
	hits, want := make([]int, len(reqs)), 0
	for _, query := range b.queries {
		exact := Exact(b.metric, b.src, slots, query, k)
		want += len(exact)
		for i, req := range reqs {
			req.Vector, req.K, req.Ef = query, k, ef
			got := b.search(req)
			require.Len(b.t, got, len(exact), "request %d", i)
			b.checkSlots(got, returnable)
			hits[i] += Hits(got, exact)
		}
	}
	for i := range reqs {
		require.GreaterOrEqual(b.t, float64(hits[i]), b.recall*float64(want), "seed %d, request %d: recall %d of %d", seed, i, hits[i], want)
	}
}

func (b *bed) checkSlots(got []ann.Candidate, returnable map[uint32]bool) {
	b.t.Helper()
	for i, c := range got {
		if !returnable[c.Slot] {
			b.t.Fatalf("seed %d: slot %d must not be returned", seed, c.Slot)
		}
		if slices.ContainsFunc(got[:i], func(o ann.Candidate) bool { return o.Slot == c.Slot }) {
			b.t.Fatalf("seed %d: slot %d is returned twice", seed, c.Slot)
		}
	}
}

func testRecall(b *bed) { b.checkRecall(b.fill(0, count), nil) }

func testDeterministic(a, b *bed) {
	a.fill(0, count)
	b.fill(0, count)
	for _, query := range a.queries {
		req := ann.Request{Vector: query, K: k, Ef: ef}
		require.Equal(a.t, a.search(req), b.search(req))
		require.Equal(a.t, a.search(req), a.search(req))
	}
}

func testEdges(b *bed) {
	query := b.queries[0]
	require.Empty(b.t, b.search(ann.Request{Vector: query, K: 10}), "empty index")
	b.fill(0, 1)
	require.Len(b.t, b.search(ann.Request{Vector: query, K: 10}), 1, "one slot")
	slots := b.fill(1, 20)
	require.Empty(b.t, b.search(ann.Request{Vector: query, K: 0, Ef: 10}))
	require.Empty(b.t, b.search(ann.Request{Vector: query, K: -1, Ef: 10}))
	require.Len(b.t, b.search(ann.Request{Vector: query, K: 7, Ef: 1}), 7, "Ef below K")
	require.Len(b.t, b.search(ann.Request{Vector: query, K: 100}), len(slots)+1, "K above the number of slots")

	prefix := []ann.Candidate{{Slot: 99, Distance: -1}}
	got, err := b.index.Search(b.t.Context(), &ann.Request{Vector: query, K: 3}, prefix)
	require.NoError(b.t, err)
	require.Len(b.t, got, 4, "appended to dst")
	require.Equal(b.t, prefix[0], got[0])
}

// modulo allows one slot in so many.
type modulo uint32

func (m modulo) Allow(slot uint32) bool { return m != 0 && slot%uint32(m) == 0 }

func testFilter(b *bed) {
	b.fill(0, count)
	for _, m := range []modulo{0, 1, 2, 10, 100, count, 5 * count} {
		var allowed []uint32
		for slot := range uint32(count) {
			if m.Allow(slot) {
				allowed = append(allowed, slot)
			}
		}
		b.checkAmong(allowed)
	}
}

// testCorrelated allows the slots nearest to one of them, and those farthest from it: most queries come from where
// nothing is allowed, or only little.
func testCorrelated(b *bed) {
	slots := b.fill(0, count)
	ranked := Exact(b.metric, b.src, slots, b.data[0], count)
	for _, n := range []int{1, count / 50, count / 2} {
		near, far := slots[:0:0], slots[:0:0]
		for i := range n {
			near, far = append(near, ranked[i].Slot), append(far, ranked[count-1-i].Slot)
		}
		b.checkAmong(near)
		b.checkAmong(far)
	}
}

// testFilterDeleted allows slots of which half are deleted, repaired away, and inserted again elsewhere.
func testFilterDeleted(b *bed) {
	b.fill(0, count)
	var third, kept, gone []uint32
	for slot := uint32(0); slot < count; slot += 3 {
		third = append(third, slot)
		if slot%2 == 0 {
			gone = append(gone, slot)
			b.index.Delete(slot)
		} else {
			kept = append(kept, slot)
		}
	}
	among := ann.Request{Among: setOf(third)}
	b.check(kept, among)
	freed, err := b.index.Reclaim()
	require.NoError(b.t, err)
	require.ElementsMatch(b.t, gone, freed)
	b.check(kept, among)
	for _, slot := range freed {
		b.insert(slot, b.data[slot+count])
	}
	b.check(third, among)
}

func testDelete(b *bed) {
	slots := b.fill(0, count)
	r := rand.New(rand.NewPCG(seed, 2))
	for round := range 3 {
		r.Shuffle(len(slots), func(i, j int) { slots[i], slots[j] = slots[j], slots[i] })
		gone, kept := slots[:count/3], slots[count/3:]
		for _, slot := range gone {
			b.index.Delete(slot)
		}
		b.checkRecall(kept, nil)
		for _, slot := range gone { // repair must do without them
			b.src.Set(slot, nil)
		}
		freed, err := b.index.Reclaim()
		require.NoError(b.t, err)
		require.ElementsMatch(b.t, gone, freed, "round %d", round)
		b.checkRecall(kept, nil)
		for _, slot := range freed {
			b.insert(slot, b.data[(int(slot)+(round+1)*count/2)%len(b.data)])
		}
		b.checkRecall(slots, nil)
	}
}

func testDeleteAll(b *bed) {
	slots := b.fill(0, 300)
	for _, slot := range slots {
		b.index.Delete(slot)
	}
	require.Empty(b.t, b.search(ann.Request{Vector: b.queries[0], K: k, Ef: ef}))
	slots = append(slots, b.fill(300, 310)...) // among dead ones only
	b.checkRecall(slots[300:], nil)
	freed, err := b.index.Reclaim()
	require.NoError(b.t, err)
	require.ElementsMatch(b.t, slots[:300], freed)
	b.checkRecall(slots[300:], nil)
	for _, slot := range slots[300:] {
		b.index.Delete(slot)
	}
	freed, err = b.index.Reclaim()
	require.NoError(b.t, err)
	require.ElementsMatch(b.t, slots[300:], freed)
	require.Empty(b.t, b.search(ann.Request{Vector: b.queries[0], K: k, Ef: ef}))
	b.checkRecall(b.fill(0, 100), nil)
}

func testGone(b *bed) {
	slots := b.fill(0, count)
	for _, slot := range slots[:count/2] {
		b.src.Set(slot, nil)
	}
	b.checkRecall(slots[count/2:], nil)
}

// testEqual fills an index with copies of few vectors: nothing but slots tells them apart, and none may get lost.
func testEqual(t *testing.T, o Options) {
	for _, copies := range []int{count, count / 4, 7} {
		t.Run(fmt.Sprintf("%d copies", copies), func(t *testing.T) {
			b := o.newBed(t, ann.Euclidean)
			for slot := range count {
				b.insert(uint32(slot), b.data[slot/copies])
			}
			got := b.search(ann.Request{Vector: b.data[0], K: copies, Ef: 2 * copies})
			require.Len(t, got, copies)
			for i, c := range got {
				require.Equal(t, ann.Candidate{Slot: uint32(i)}, c, "all copies, in the order of slots")
			}
			for slot := range copies - 1 {
				b.index.Delete(uint32(slot))
			}
			got = b.search(ann.Request{Vector: b.data[0], K: 1, Ef: ef})
			require.Equal(t, []ann.Candidate{{Slot: uint32(copies - 1)}}, got, "the last copy left")
		})
	}
}

func testCancelled(b *bed) {
	b.fill(0, count)
	ctx, cancel := context.WithCancel(b.t.Context())
	calls := 0
	filter := filterFunc(func(uint32) bool {
		if calls++; calls == 10 {
			cancel()
		}
		return true
	})
	_, err := b.index.Search(ctx, &ann.Request{Vector: b.queries[0], K: count, Ef: count, Filter: filter}, nil)
	require.ErrorIs(b.t, err, context.Canceled, "noticed within a walk")
	require.Less(b.t, calls, count)
	_, err = b.index.Search(ctx, &ann.Request{Vector: b.queries[0], K: 1}, nil)
	require.ErrorIs(b.t, err, context.Canceled, "noticed before it")
}

type filterFunc func(slot uint32) bool

func (f filterFunc) Allow(slot uint32) bool { return f(slot) }

// testConcurrent has two goroutines insert, one delete and reclaim, and two search, and then judges the outcome.
func testConcurrent(b *bed) {
	stable := b.fill(0, count/4)
	var writers, readers sync.WaitGroup
	done := make(chan struct{})
	for w := range 2 {
		writers.Go(func() {
			for i := count/4 + w; i < count; i += 2 {
				b.src.Set(uint32(i), b.data[i])
				if err := b.index.Insert(uint32(i)); err != nil {
					b.t.Errorf("insert %d: %v", i, err)
				}
			}
		})
	}
	deleted := count / 8
	writers.Go(func() {
		for i := range deleted {
			b.index.Delete(stable[i])
			if i%50 == 0 {
				if _, err := b.index.Reclaim(); err != nil {
					b.t.Errorf("reclaim: %v", err)
				}
			}
		}
	})
	for range 2 {
		readers.Go(func() { b.searchUntil(done) })
	}
	writers.Wait()
	close(done)
	readers.Wait()
	_, err := b.index.Reclaim()
	require.NoError(b.t, err)
	slots := stable[deleted:]
	for i := count / 4; i < count; i++ {
		slots = append(slots, uint32(i))
	}
	b.checkRecall(slots, nil)
}

func (b *bed) searchUntil(done chan struct{}) {
	half := make(ann.Set, count/64+1)
	for i := range half {
		half[i] = 0x5555555555555555
	}
	for i := 0; ; i++ {
		select {
		case <-done:
			return
		default:
		}
		req := &ann.Request{Vector: b.queries[i%queries], K: k, Ef: ef}
		if i%2 == 0 {
			req.Among = half
		}
		got, err := b.index.Search(context.Background(), req, nil)
		if err != nil || len(got) != k {
			b.t.Errorf("search beside writes: %d found, %v", len(got), err)
			return
		}
	}
}
