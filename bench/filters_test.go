package bench

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/anntest"
	"github.com/croftdb/croft/internal/errs"
)

func TestFilters(t *testing.T) {
	for _, metric := range []string{"l2", "cosine", "ip"} {
		t.Run(metric, func(t *testing.T) {
			r, err := Filters(t.Context(), FilterOptions{
				Dataset: writeDataset(t, metric, 800), Ef: 800, M: 8, EfConstruction: 100, Runs: 1, Lap: time.Nanosecond, graphAbove: 100,
			})
			require.NoError(t, err)
			require.Equal(t, [2]int{800, 16}, [2]int{r.N, r.Dim})
			require.Len(t, r.Cases, 15)
			plans := map[string]bool{}
			for _, c := range r.Cases {
				require.Equal(t, 1.0, c.Recall, "as broad as the graph: %+v", c)
				require.Equal(t, max(10, int(800*c.Percent/100)), c.Matches)
				require.Positive(t, min(c.QPS, c.Unfiltered, c.Exact))
				require.InEpsilon(t, c.QPS/max(c.Unfiltered, c.Exact), c.Ratio, 1e-9)
				require.GreaterOrEqual(t, c.Ratio, r.Ratio)
				plans[c.Plan] = true
			}
			require.True(t, plans["filter-scan"], "few matches are measured one by one")
			require.Equal(t, [2]float64{1, 1}, [2]float64{r.Recall, r.UnfilteredRecall})
		})
	}
}

// TestFiltersNoticeWrongAnswers asks with one filter and judges by another.
func TestFiltersNoticeWrongAnswers(t *testing.T) {
	o := FilterOptions{Dataset: writeDataset(t, "l2", 800), Lap: time.Nanosecond, graphAbove: 1 << 20}
	o.EnsureDefaults()
	d, err := OpenDataset(o.Dataset, 10)
	require.NoError(t, err)
	defer d.Close()
	f := &filterBench{opts: o, data: d}
	require.NoError(t, f.prepare(t.Context()))
	defer f.part.close()
	require.NoError(t, f.part.load(t.Context(), f.base, f.fields, nil))
	s := f.subsets[2]
	sub := &Dataset{Metric: d.Metric, Base: d.Base, Queries: d.Queries, Neighbours: f.truth[2]}
	expr, err := s.expr()
	require.NoError(t, err)
	recall, err := f.recall(t.Context(), sub, expr)
	require.NoError(t, err)
	require.Equal(t, 1.0, recall)
	other, err := f.subsets[7].expr()
	require.NoError(t, err)
	recall, err = f.recall(t.Context(), sub, other)
	require.NoError(t, err)
	require.Less(t, recall, 0.9, "answers of another filter")
}

func TestSubsets(t *testing.T) {
	const n = 5000
	rows := rankByHash(n, 7)
	require.Equal(t, upTo(n), slices.Sorted(slices.Values(rows)))
	require.NotEqual(t, rows, rankByHash(n, 8))
	all := subsetsOf(uncorrelated, rows, 10)
	for i, want := range []int{10, 50, 500, 2500, 4500} { // 0.1 % would be 5, fewer than k
		require.Len(t, all[i].rows, want)
		require.True(t, slices.IsSorted(all[i].rows))
		for _, row := range all[i].rows {
			require.True(t, all[i].mask[row])
		}
		marked := 0
		for _, on := range all[i].mask {
			if on {
				marked++
			}
		}
		require.Equal(t, want, marked)
	}
	low := 0
	for _, row := range all[3].rows {
		if row < n/2 {
			low++
		}
	}
	require.InDelta(t, n/4, low, 120, "half of the matches are in either half of the rows")
}

func TestCorrelatedSubsetsAreNeighbourhoods(t *testing.T) {
	const n = 1000
	src := newSlab(ann.Euclidean, n, 8)
	for i, v := range anntest.Clustered(3, n, 8) {
		src.set(i, v)
	}
	centre := src.row(17)
	ranking := rankByDistance(ann.Euclidean, centre, src, n)
	require.EqualValues(t, 17, ranking[0])
	s := subsetsOf(correlated, ranking, 10)[2]
	farthest, nearest := 0.0, 1e9
	for row := range n {
		if d := distance64(ann.Euclidean, centre, src.row(row)); s.mask[row] {
			farthest = max(farthest, d)
		} else {
			nearest = min(nearest, d)
		}
	}
	require.LessOrEqual(t, farthest, nearest+1e-6)
}

func TestFilterOptions(t *testing.T) {
	_, err := Filters(t.Context(), FilterOptions{K: 101, Ef: -1, M: -1, EfConstruction: -1, Runs: -1, Lap: -1})
	require.Equal(t, errs.Invalid, errs.KindOf(err))
	for _, fault := range []string{"no data set", "k 101", "ef -1", "M -1", "EfConstruction -1", "runs -1", "lap -1ns"} {
		require.ErrorContains(t, err, fault)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = Filters(ctx, FilterOptions{Dataset: writeDataset(t, "l2", 300), graphAbove: 100,
		Progress: func(stage string, _, _ int) {
			if stage == "records" {
				cancel()
			}
		}})
	require.ErrorIs(t, err, context.Canceled)
}

func TestFilterReportNames(t *testing.T) {
	b, err := json.Marshal(FilterReport{Cases: []FilterCase{{}}})
	require.NoError(t, err)
	require.JSONEq(t, `{"dataset":"","metric":"","kernel":"","n":0,"dim":0,"build_seconds":0,"unfiltered_recall":0,"recall":0,"ratio":0,"cases":[
	 {"filter":"","queries":"","percent":0,"matches":0,"plan":"","recall":0,"qps":0,"unfiltered_qps":0,"exact_qps":0,"ratio":0}]}`, string(b))
}
