package bench

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/errs"
)

func TestChurn(t *testing.T) {
	for _, metric := range []string{"l2", "cosine", "ip"} {
		t.Run(metric, func(t *testing.T) {
			r, err := Churn(t.Context(), ChurnOptions{
				Dataset: writeDataset(t, metric, 600), Efs: []int{20, 600}, M: 8, EfConstruction: 40, Threads: 2, Runs: 1, Lap: time.Nanosecond,
			})
			require.NoError(t, err)
			require.Equal(t, [3]int{600, 16, 3}, [3]int{r.N, r.Dim, r.Rounds})
			require.Len(t, r.Points, 2)
			require.Greater(t, r.Points[0].FreshRecall, 0.8)
			require.Greater(t, r.Points[0].Recall, 0.8)
			require.Equal(t, [2]float64{1, 1}, [2]float64{r.Points[1].FreshRecall, r.Points[1].Recall}, "as broad as the graph")
			require.Greater(t, r.Slots, 600)
			require.Less(t, r.Slots, 600*3, "slots are used again")
			require.Greater(t, r.MemoryRatio, 1.0)
			require.Positive(t, r.RepairSeconds)
			require.GreaterOrEqual(t, r.ChurnSeconds, r.RepairSeconds)
			require.LessOrEqual(t, r.QPSRatio, r.Points[0].Ratio)
		})
	}
}

// TestChurnReplacesEveryVector follows the vectors of all ids through the rounds.
func TestChurnReplacesEveryVector(t *testing.T) {
	d, err := OpenDataset(writeDataset(t, "l2", 700), 10)
	require.NoError(t, err)
	defer d.Close()
	rows, err := readSlab(t.Context(), d.Metric, d.Base)
	require.NoError(t, err)
	o := ChurnOptions{M: 8, EfConstruction: 20}
	o.EnsureDefaults()
	w := newWearable(&o, rows)
	require.NoError(t, w.fill(t.Context(), w.offset(0), "graph"))
	held := map[int]map[uint32]bool{}
	note := func() {
		for id, slot := range w.slotOf {
			if held[id] == nil {
				held[id] = map[uint32]bool{}
			}
			held[id][w.rowOf[slot]] = true
			require.True(t, w.graph.Has(slot))
		}
		require.Equal(t, 700, w.graph.Len())
	}
	note()
	seen := 0
	o.Progress = func(_ string, done, total int) {
		if seen = done; done%700 == 0 {
			note()
		}
	}
	require.NoError(t, w.wear(t.Context()))
	require.Equal(t, 3*700, seen)
	require.Zero(t, w.graph.Dead())
	for id, slot := range w.slotOf {
		require.EqualValues(t, id, w.rowOf[slot], "the last round gives each id its own row")
		require.Len(t, held[id], 4, "another row in each round")
	}
	require.Len(t, w.free, w.used-700)
}

func TestChurnOptions(t *testing.T) {
	_, err := Churn(t.Context(), ChurnOptions{K: 101, Efs: []int{0}, M: 1, EfConstruction: -1, Rounds: -1, Threads: -1, Runs: -1, Lap: -1})
	require.Equal(t, errs.Invalid, errs.KindOf(err))
	for _, fault := range []string{"no data set", "k 101", "ef 0", "M 1", "EfConstruction -1", "rounds -1", "threads -1", "runs -1", "lap -1ns"} {
		require.ErrorContains(t, err, fault)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = Churn(ctx, ChurnOptions{Dataset: writeDataset(t, "l2", 600), M: 4, EfConstruction: 10,
		Progress: func(stage string, _, _ int) {
			if stage == "replaced" {
				cancel()
			}
		}})
	require.ErrorIs(t, err, context.Canceled)
}

func TestLaps(t *testing.T) {
	var order []int
	asker := func(who int) func(int) error {
		return func(q int) error {
			order = append(order, 10*who+q)
			return nil
		}
	}
	rates, err := raceLaps(t.Context(), 3, 0, 2, asker(1), asker(2))
	require.NoError(t, err)
	require.Equal(t, []int{10, 20, 11, 21, 10, 20}, order, "in turns, each from where it was")
	require.Len(t, rates, 2)
	require.Positive(t, min(rates[0], rates[1]))

	broken := errors.New("broken")
	_, err = raceLaps(t.Context(), 1, time.Hour, 1, func(int) error { return broken })
	require.ErrorIs(t, err, broken)
	ctx, cancel := context.WithCancel(t.Context())
	_, err = raceLaps(ctx, 1, time.Hour, 1, func(int) error { cancel(); return nil })
	require.ErrorIs(t, err, context.Canceled)
}
