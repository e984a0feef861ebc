package hnsw_test

import (
	"context"
	"math"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/anntest"
	"github.com/croftdb/croft/ann/hnsw"
	"github.com/croftdb/croft/internal/errs"
)

func TestLevelFor(t *testing.T) {
	tests := []struct {
		hash uint64
		m    int
		want int
	}{
		{math.MaxUint64, 16, 0},
		{1 << 60, 16, 0},
		{1<<60 - 2, 16, 1},
		{1<<56 - 2, 16, 2},
		{0, 16, 15},
		{0, 2, 15},
		{1<<63 - 2, 2, 1},
		{1<<63 - 2, 0, 1}, // not below 2
	}
	for _, tt := range tests {
		require.Equal(t, tt.want, hnsw.LevelFor(tt.hash, tt.m), "%+v", tt)
	}
	var counts [16]int
	for slot := range uint32(160_000) {
		counts[hnsw.LevelFor(spread(slot), 16)]++
	}
	require.InDelta(t, 150_000, counts[0], 600)
	require.InDelta(t, 9_375, counts[1], 600)
}

func TestConfigValidate(t *testing.T) {
	cfg := hnsw.Config{Metric: 9, Dim: 0, M: 1, EfConstruction: -1}
	err := cfg.Validate()
	for _, fault := range []string{"metric", "dimension", "M 1", "EfConstruction"} {
		require.ErrorContains(t, err, fault)
	}
	cfg = hnsw.Config{Metric: ann.Cosine, Dim: 3}
	cfg.EnsureDefaults()
	require.NoError(t, cfg.Validate())
	require.Equal(t, 16, cfg.M)
	require.Equal(t, 200, cfg.EfConstruction)
	require.Panics(t, func() { hnsw.New(hnsw.Config{}, nil) })
}

func TestInsertRefuses(t *testing.T) {
	x, src := build(t, 10)
	require.Equal(t, errs.FailedPrecondition, errs.KindOf(x.Insert(3)), "in the graph already")
	x.Delete(3)
	require.Equal(t, errs.FailedPrecondition, errs.KindOf(x.Insert(3)), "not handed back yet")
	require.Equal(t, errs.Invalid, errs.KindOf(x.Insert(10)), "no vector")
	src.Set(11, make([]float32, dim-1))
	require.Equal(t, errs.Invalid, errs.KindOf(x.Insert(11)))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	src.Set(12, make([]float32, dim))
	require.ErrorIs(t, x.Graph.Insert(ctx, 12, 0), context.Canceled)
	require.False(t, x.Holds(12))
	require.Equal(t, 9, x.Len())
}

func TestDeleteReportsWhatWasThere(t *testing.T) {
	x, _ := build(t, 10)
	require.False(t, x.Graph.Delete(10), "never inserted")
	require.False(t, x.Graph.Delete(1<<30), "far beyond the arrays")
	require.True(t, x.Graph.Delete(4))
	require.False(t, x.Graph.Delete(4), "twice")
	require.False(t, x.Has(4))
	require.True(t, x.Holds(4))
	require.Equal(t, [2]int{9, 1}, [2]int{x.Len(), x.Dead()})
	freed, err := x.Reclaim()
	require.NoError(t, err)
	require.Equal(t, []uint32{4}, freed)
	require.False(t, x.Holds(4))
	require.Equal(t, [2]int{9, 0}, [2]int{x.Len(), x.Dead()})
}

func TestRepairStopsAtItsBudgetAndContext(t *testing.T) {
	x, _ := build(t, 3000)
	_, more, err := x.Repair(t.Context(), 100)
	require.NoError(t, err)
	require.False(t, more, "nothing to do")
	for slot := range uint32(1000) {
		x.Delete(slot)
	}
	freed, more, err := x.Repair(t.Context(), 0)
	require.NoError(t, err)
	require.Empty(t, freed)
	require.True(t, more)
	freed, more, err = x.Repair(t.Context(), 500)
	require.NoError(t, err)
	require.Empty(t, freed, "a sweep of 3,000 slots is not over yet")
	require.True(t, more)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, more, err = x.Repair(ctx, 1<<30)
	require.ErrorIs(t, err, context.Canceled)
	require.True(t, more)
	freed, err = x.Reclaim()
	require.NoError(t, err)
	require.Len(t, freed, 1000)
}

// TestMovesAgreeWithModel drives a graph by random moves and compares it with a set of slots: it holds what the set
// holds, a search as broad as the graph finds every slot, and saving changes nothing.
func TestMovesAgreeWithModel(t *testing.T) {
	const slots = 60
	data := anntest.Clustered(6, 500, dim)
	rapid.Check(t, func(t *rapid.T) {
		src := anntest.NewVectors(config.Metric, slots)
		x := index{hnsw.New(config, src)}
		live, held := map[uint32]bool{}, map[uint32]bool{}
		free := func(freed []uint32, err error) {
			require.NoError(t, err)
			for _, slot := range freed {
				require.True(t, held[slot] && !live[slot], "slot %d handed back", slot)
				delete(held, slot)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"insert": func(t *rapid.T) {
				slot := rapid.Uint32Range(0, slots-1).Draw(t, "slot")
				if held[slot] {
					require.Error(t, x.Insert(slot))
					return
				}
				src.Set(slot, data[rapid.IntRange(0, len(data)-1).Draw(t, "vector")])
				level := rapid.IntRange(0, 3).Draw(t, "level")
				require.NoError(t, x.Graph.Insert(context.Background(), slot, level))
				live[slot], held[slot] = true, true
			},
			"delete": func(t *rapid.T) {
				slot := rapid.Uint32Range(0, slots-1).Draw(t, "slot")
				require.Equal(t, live[slot], x.Graph.Delete(slot))
				if live[slot] && rapid.Bool().Draw(t, "vector gone") {
					src.Set(slot, nil)
				}
				delete(live, slot)
			},
			"repair": func(t *rapid.T) {
				freed, _, err := x.Repair(context.Background(), rapid.IntRange(1, 2000).Draw(t, "budget"))
				free(freed, err)
			},
			"repair all": func(*rapid.T) {
				free(x.Reclaim())
				require.Len(t, held, len(live))
			},
			"": func(t *rapid.T) {
				require.Equal(t, [2]int{len(live), len(held) - len(live)}, [2]int{x.Len(), x.Dead()})
				req := ann.Request{Vector: data[0], K: slots, Ef: slots}
				got, err := x.Search(context.Background(), &req, nil)
				require.NoError(t, err)
				for _, c := range got {
					require.True(t, live[c.Slot], "slot %d found", c.Slot)
				}
				// Lists are bounded and pruned each for itself, so nothing promises each slot a place in another's: about one history in
				// four thousand leaves a slot out.
				require.GreaterOrEqual(t, len(got), len(live)-1, "slots can be reached")
			},
		})
	})
}

// TestConcurrentMoves inserts, deletes and repairs from several goroutines, slots being reused as they come back,
// and then looks at what is left.
func TestConcurrentMoves(t *testing.T) {
	const workers, each, rounds = 3, 150, 4
	src := anntest.NewVectors(config.Metric, workers*each)
	data := anntest.Clustered(8, workers*each*rounds, dim)
	x := index{hnsw.New(config, src)}
	var repair, writers sync.WaitGroup
	done := make(chan struct{})
	back := make([]chan uint32, workers)
	for w := range back {
		back[w] = make(chan uint32, each)
	}
	repair.Go(func() {
		for {
			freed, _, err := x.Repair(context.Background(), 100)
			if err != nil {
				t.Errorf("repair: %v", err)
			}
			for _, slot := range freed {
				back[slot/each] <- slot
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for w := range workers {
		for slot := range uint32(each) {
			back[w] <- uint32(w*each) + slot
		}
		writers.Go(func() {
			for round := range rounds {
				for i := range each {
					slot := <-back[w]
					src.Set(slot, data[(round*workers+w)*each+i])
					if err := x.Insert(slot); err != nil {
						t.Errorf("insert %d: %v", slot, err)
					}
					if round < rounds-1 {
						x.Delete(slot)
					}
				}
			}
		})
	}
	writers.Wait()
	close(done)
	repair.Wait()
	require.Equal(t, workers*each, x.Len())
	got, err := x.Search(t.Context(), &ann.Request{Vector: data[0], K: workers * each, Ef: workers * each}, nil)
	require.NoError(t, err)
	require.Greater(t, len(got), workers*each*99/100, "all but a straggler can be reached")
	g, err := hnsw.Load(newReader(t, x), config, src)
	require.NoError(t, err, "the graph is sound")
	require.Equal(t, x.Len(), g.Len())
}

func TestDefaultEf(t *testing.T) {
	require.Equal(t, 64, hnsw.DefaultEf(0))
	require.Equal(t, 64, hnsw.DefaultEf(10))
	require.Equal(t, 2000, hnsw.DefaultEf(1000))
}
