package bench

import (
	"cmp"
	"context"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/internal/errs"
)

func checksum(t *testing.T, path string) uint32 {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return crc32.ChecksumIEEE(b)
}

// TestGenerateIsTheSameEverywhere pins the files: whoever measures on another machine must have the same vectors.
func TestGenerateIsTheSameEverywhere(t *testing.T) {
	for _, tc := range []struct {
		name        string
		count       int
		base, query uint32
	}{
		{"clustered-1536", 150, 0x2b4c3008, 0x96d2ff48},
		{"clustered-128", 2*rowsPerStream + 7, 0x5ebc5199, 0xb0946565}, // more streams than one
	} {
		t.Run(tc.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "deep", "set")
			r, err := Generate(t.Context(), DataOptions{Name: tc.name, Out: out, Seed: 1, Count: tc.count, Queries: 5})
			require.NoError(t, err)
			require.Equal(t, out, r.Path)
			require.Equal(t, [3]int{tc.count, 5, 1}, [3]int{r.N, r.Queries, int(r.Seed)})
			require.Positive(t, r.LID)
			require.Equal(t, []uint32{tc.base, tc.query},
				[]uint32{checksum(t, filepath.Join(out, "base.fvecs")), checksum(t, filepath.Join(out, "query.fvecs"))})
		})
	}
}

func TestGenerateFollowsItsSeed(t *testing.T) {
	dir := t.TempDir()
	generate := func(name string, seed uint64, count int) string {
		out := filepath.Join(dir, name)
		_, err := Generate(t.Context(), DataOptions{Name: "clustered-128", Out: out, Seed: seed, Count: count, Queries: 3})
		require.NoError(t, err)
		return out
	}
	one, two, more := generate("one", 1, 200), generate("two", 2, 200), generate("more", 1, 300)
	require.NotEqual(t, checksum(t, filepath.Join(one, "base.fvecs")), checksum(t, filepath.Join(two, "base.fvecs")))
	short, err := os.ReadFile(filepath.Join(one, "base.fvecs"))
	require.NoError(t, err)
	long, err := os.ReadFile(filepath.Join(more, "base.fvecs"))
	require.NoError(t, err)
	require.Equal(t, short, long[:len(short)], "a larger set begins with the smaller one")
}

// TestGenerateHasTheShapeOfItsRecipe looks at rows: unit length under cosine, distinct, and near others of their cluster.
func TestGenerateHasTheShapeOfItsRecipe(t *testing.T) {
	out := filepath.Join(t.TempDir(), "set")
	_, err := Generate(t.Context(), DataOptions{Name: "clustered-1536", Out: out, Seed: 3, Count: 100, Queries: 4})
	require.NoError(t, err)
	rows, err := ReadVectors(filepath.Join(out, "base.fvecs"))
	require.NoError(t, err)
	for i, row := range rows {
		require.InDelta(t, 1, ann.Norm(row), 1e-6)
		require.NotEqual(t, rows[(i+1)%len(rows)], row)
	}
	metric, err := os.ReadFile(filepath.Join(out, "metric"))
	require.NoError(t, err)
	require.Equal(t, "cosine\n", string(metric))
}

func TestDataOptions(t *testing.T) {
	_, err := Generate(t.Context(), DataOptions{Name: "unheard-of", Count: 99, Queries: -1})
	require.Equal(t, errs.Invalid, errs.KindOf(err))
	for _, fault := range []string{`"unheard-of"`, "no directory", "count 99", "queries -1"} {
		require.ErrorContains(t, err, fault)
	}
}

func TestDataNeverReplacesAndNeverStaysHalfMade(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "set")
	require.NoError(t, os.Mkdir(out, 0o755))
	o := DataOptions{Name: "clustered-128", Out: out, Count: 5000, Queries: 10}
	_, err := Generate(t.Context(), o)
	require.Equal(t, errs.AlreadyExists, errs.KindOf(err))
	require.ErrorContains(t, err, out)

	require.NoError(t, os.Remove(out))
	for _, at := range []string{"base.fvecs", "query.fvecs", "exact neighbours"} {
		ctx, cancel := context.WithCancel(t.Context())
		o.Progress = func(stage string, _, _ int) {
			if stage == at {
				cancel()
			}
		}
		_, err := Generate(ctx, o)
		require.ErrorIs(t, err, context.Canceled, at)
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, left, at)
	}
	full := errs.New(errs.StorageFull, "no space")
	_, err = makeDataset(t.Context(), out, 1, func(*staging) error { return full })
	require.ErrorIs(t, err, full)
	require.NoDirExists(t, out)
}

func TestProgressEndsAtTheTotal(t *testing.T) {
	last := map[string][2]int{}
	_, err := Generate(t.Context(), DataOptions{Name: "clustered-128", Out: filepath.Join(t.TempDir(), "set"), Count: 3000, Queries: 8,
		Progress: func(stage string, done, total int) {
			require.Greater(t, done, last[stage][0], stage)
			last[stage] = [2]int{done, total}
		}})
	require.NoError(t, err)
	require.Equal(t, map[string][2]int{"base.fvecs": {3000, 3000}, "query.fvecs": {8, 8}, "exact neighbours": {3000, 3000}}, last)
}

// TestExactNeighbours compares with sorting everything in float64.
func TestExactNeighbours(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		metric := rapid.SampledFrom([]ann.Metric{ann.Cosine, ann.DotProduct, ann.Euclidean}).Draw(rt, "metric")
		n, dim := rapid.IntRange(1, 700).Draw(rt, "n"), rapid.IntRange(1, 20).Draw(rt, "dim")
		k, masks := rapid.IntRange(1, 40).Draw(rt, "k"), rapid.IntRange(0, 3).Draw(rt, "masks")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
		all := make([][]float32, n+3)
		for i := range all {
			all[i] = make([]float32, dim)
			for j := range all[i] {
				all[i][j] = float32(rng.IntN(9)) - 3 // small whole numbers, so that there are ties
			}
		}
		path := filepath.Join(dir, "base.fvecs")
		require.NoError(rt, WriteVectors(path, all[:n]))
		base, err := OpenVectors(path)
		require.NoError(rt, err)
		defer base.Close()
		job := &exactJob{metric: metric, base: base, queries: all[n:], k: k}
		for range masks {
			mask := make([]bool, n)
			for i := range mask {
				mask[i] = rng.IntN(4) == 0
			}
			job.masks = append(job.masks, mask)
		}
		got, err := job.run(context.Background())
		require.NoError(rt, err)
		require.Len(rt, got, max(1, masks))
		for m := range got {
			for q, ids := range got[m] {
				checkNearest(rt, job, all[:n], m, q, ids)
			}
		}
	})
}

// checkNearest demands the right distances in order, each row once. Rows may differ where float32 cannot tell apart what
// is tied: more rows can be equally far than candidates are kept.
func checkNearest(t require.TestingT, j *exactJob, base [][]float32, mask, query int, ids []int32) {
	var want []float64
	for i, row := range base {
		if j.masks == nil || j.masks[mask][i] {
			want = append(want, distance64(j.metric, j.queries[query], row))
		}
	}
	slices.Sort(want)
	var got []float64
	for i, id := range ids {
		require.NotContains(t, ids[:i], id)
		require.True(t, j.masks == nil || j.masks[mask][id])
		got = append(got, distance64(j.metric, j.queries[query], base[id]))
	}
	require.True(t, slices.IsSortedFunc(got, cmp.Compare[float64]))
	require.Len(t, got, min(j.k, len(want)))
	require.InDeltaSlice(t, want[:len(got)], got, 1e-6)
}

func TestExactNeighboursOfADamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "base.fvecs")
	require.NoError(t, WriteVectors(path, [][]float32{{1, 2}, {3, float32(math.Inf(1))}}))
	base, err := OpenVectors(path)
	require.NoError(t, err)
	defer base.Close()
	_, err = (&exactJob{metric: ann.Euclidean, base: base, queries: [][]float32{{0, 0}}, k: 1}).run(t.Context())
	require.ErrorContains(t, err, "row 1")
}

func TestLocalDimension(t *testing.T) {
	for _, dimension := range []float64{2, 12.4, 30} {
		var distances []float64
		for i := range 10_000 { // as many as lie within radius r where their number grows with r to the dimension
			distances = append(distances, math.Pow(float64(i+1)/10_000, 2/dimension))
		}
		got, ok := localDimension(distances)
		require.True(t, ok)
		require.InEpsilon(t, dimension, got, 0.01)
	}
	got, ok := localDimension([]float64{0, 1, 4})
	require.True(t, ok)
	require.InEpsilon(t, 1/math.Log(2), got, 1e-12, "a distance of 0 does not count")
	_, ok = localDimension([]float64{0, 0, 0})
	require.False(t, ok, "copies have no dimension")
	_, ok = localDimension([]float64{3, 3})
	require.False(t, ok)
}

// writeSource makes a data set with 100 neighbours a query.
func writeSource(t *testing.T, metric string, wrong bool) string {
	t.Helper()
	dir := writeDataset(t, metric, 150)
	base, err := OpenVectors(filepath.Join(dir, "base.fvecs"))
	require.NoError(t, err)
	defer base.Close()
	queries, err := ReadVectors(filepath.Join(dir, "query.fvecs"))
	require.NoError(t, err)
	found, err := (&exactJob{metric: metricNames[metric], base: base, queries: queries, k: 100}).run(t.Context())
	require.NoError(t, err)
	if wrong {
		found[0][4][0], found[0][4][99] = found[0][4][99], found[0][4][0]
	}
	require.NoError(t, WriteNeighbours(filepath.Join(dir, "gt100.ivecs"), found[0]))
	return dir
}

func TestRotate(t *testing.T) {
	for _, metric := range []string{"l2", "cosine", "ip"} {
		t.Run(metric, func(t *testing.T) {
			from, out := writeSource(t, metric, false), filepath.Join(t.TempDir(), "turned")
			r, err := Rotate(t.Context(), RotateOptions{From: from, Out: out, Seed: 5})
			require.NoError(t, err)
			require.Equal(t, metric, r.Metric)
			require.Equal(t, metric == "ip", r.LID == 0)
			require.Equal(t, checksum(t, filepath.Join(from, "gt100.ivecs")), checksum(t, filepath.Join(out, "gt100.ivecs")))
			before, after := openPair(t, from, out)
			for q := range before.Queries {
				require.NotEqual(t, before.Queries[q], after.Queries[q])
				for _, id := range before.Neighbours[q] {
					want := distance64(before.Metric, before.Queries[q], rowOf(t, before, id))
					require.InDelta(t, want, distance64(after.Metric, after.Queries[q], rowOf(t, after, id)), 1e-5*max(1, want))
				}
			}
		})
	}
}

func openPair(t *testing.T, a, b string) (*Dataset, *Dataset) {
	t.Helper()
	var opened []*Dataset
	for _, dir := range []string{a, b} {
		d, err := OpenDataset(dir, 100)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, d.Close()) })
		opened = append(opened, d)
	}
	return opened[0], opened[1]
}

func rowOf(t *testing.T, d *Dataset, id int32) []float32 {
	t.Helper()
	row := make([]float32, d.Base.Dim())
	require.NoError(t, d.Base.At(int(id), row))
	return row
}

func TestRotateRefuses(t *testing.T) {
	out := filepath.Join(t.TempDir(), "turned")
	_, err := Rotate(t.Context(), RotateOptions{From: writeSource(t, "l2", true), Out: out})
	require.ErrorContains(t, err, "query 4: neighbour 0")
	require.NoDirExists(t, out)
	_, err = Rotate(t.Context(), RotateOptions{From: writeDataset(t, "l2", 120), Out: out})
	require.ErrorContains(t, err, "gt100.ivecs")
	_, err = Rotate(t.Context(), RotateOptions{})
	require.ErrorContains(t, err, "no data set to rotate")
	require.ErrorContains(t, err, "no directory")
}

func TestRotationIsOrthogonal(t *testing.T) {
	for _, dim := range []int{1, 2, 7, 130} {
		r := newRotation(9, dim)
		for i := range dim {
			for j := range i + 1 {
				want := 0.0
				if i == j {
					want = 1
				}
				require.InDelta(t, want, inner(r.row(i), r.row(j)), 1e-13, fmt.Sprint(dim, i, j))
			}
		}
	}
}
