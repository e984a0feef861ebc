package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/anntest"
	"github.com/croftdb/croft/internal/errs"
)

// writeDataset makes a small data set with exact neighbours.
func writeDataset(t *testing.T, metric string, n int) string {
	const dim, queries, k = 16, 30, 10
	dir := filepath.Join(t.TempDir(), "small")
	require.NoError(t, os.Mkdir(dir, 0o755))
	all := anntest.Clustered(11, n+queries, dim)
	m := metricNames[metric]
	src := anntest.NewVectors(m, n)
	slots := make([]uint32, n)
	for i := range slots {
		slots[i] = uint32(i)
		src.Set(uint32(i), all[i])
	}
	var truth [][]int32
	for _, query := range all[n:] {
		var ids []int32
		for _, c := range anntest.Exact(m, src, slots, query, k) {
			ids = append(ids, int32(c.Slot))
		}
		truth = append(truth, ids)
	}
	require.NoError(t, WriteVectors(filepath.Join(dir, "base.fvecs"), all[:n]))
	require.NoError(t, WriteVectors(filepath.Join(dir, "query.fvecs"), all[n:]))
	require.NoError(t, WriteNeighbours(filepath.Join(dir, "gt10.ivecs"), truth))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "metric"), []byte(metric+"\n"), 0o644))
	return dir
}

func TestRecall(t *testing.T) {
	for _, metric := range []string{"l2", "cosine", "ip"} {
		t.Run(metric, func(t *testing.T) {
			r, err := Recall(t.Context(), RecallOptions{
				Dataset: writeDataset(t, metric, 800), Efs: []int{10, 800}, M: 8, EfConstruction: 40, Runs: 2, Threads: 2,
			})
			require.NoError(t, err)
			require.Equal(t, "small", r.Dataset)
			require.Equal(t, metric, r.Metric)
			require.Equal(t, ann.Kernel(), r.Kernel)
			require.Equal(t, [2]int{800, 16}, [2]int{r.N, r.Dim})
			require.Greater(t, r.BytesPerVector, 16*4.0)
			require.Len(t, r.Points, 2)
			require.Greater(t, r.Points[0].Recall, 0.6)
			require.Equal(t, 1.0, r.Points[1].Recall, "as broad as the graph")
			for _, p := range r.Points {
				require.Positive(t, p.QPS)
				require.Positive(t, p.P50)
				require.GreaterOrEqual(t, p.P99, p.P50)
			}
		})
	}
}

func TestReportNames(t *testing.T) {
	r := RecallReport{Dataset: "d", Metric: "l2", Kernel: "avx2", N: 1, Dim: 2, BuildSeconds: 3, BytesPerVector: 4,
		Points: []RecallPoint{{Ef: 5, Recall: 0.5, QPS: 6, P50: 7, P99: 8}}}
	b, err := json.Marshal(r)
	require.NoError(t, err)
	require.Equal(t, `{"dataset":"d","metric":"l2","kernel":"avx2","n":1,"dim":2,"build_seconds":3,"bytes_per_vector":4,`+
		`"points":[{"ef":5,"recall":0.5,"qps":6,"p50_us":7,"p99_us":8}]}`, string(b))
	var out bytes.Buffer
	require.NoError(t, r.Print(&out))
	require.Contains(t, out.String(), "0.5000")
	require.Contains(t, out.String(), "p99 us")
}

// fixed is a Target with set answers.
type fixed [][]uint32

func (f *fixed) Load(context.Context, *Vectors) error { return nil }

func (f *fixed) Query(context.Context, []float32, int, int) ([]uint32, error) {
	next := (*f)[0]
	*f = append((*f)[1:], next)
	return next, nil
}

func TestTiesAreHits(t *testing.T) {
	dir := t.TempDir()
	// Rows 0 to 2 are equally far from the query; the list of neighbours happens to name 0 and 1.
	require.NoError(t, WriteVectors(filepath.Join(dir, "base.bvecs"), [][]float32{{0, 1}, {1, 0}, {2, 1}, {9, 9}}))
	require.NoError(t, WriteVectors(filepath.Join(dir, "query.bvecs"), [][]float32{{1, 1}}))
	require.NoError(t, WriteNeighbours(filepath.Join(dir, "gt10.ivecs"), [][]int32{{0, 1}}))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "metric"), []byte("l2"), 0o644))
	tests := []struct {
		name   string
		answer []uint32
		want   float64
	}{
		{"as listed", []uint32{0, 1}, 1},
		{"a tie in its place", []uint32{2, 0}, 1},
		{"one too far", []uint32{0, 3}, 0.5},
		{"twice the same", []uint32{0, 0}, 0.5},
		{"too few", []uint32{2}, 0.5},
		{"no more than k count", []uint32{3, 3, 0, 1}, 0},
		{"none", nil, 0},
	}
	for _, tt := range tests {
		d, err := OpenDataset(dir, 2)
		require.NoError(t, err)
		r, err := Measure(t.Context(), d, &fixed{tt.answer}, RecallOptions{Dataset: dir, K: 2, Efs: []int{2}})
		require.NoError(t, err)
		require.Equal(t, tt.want, r.Points[0].Recall, tt.name)
		require.NoError(t, d.Close())
	}
}

func TestRecallOptions(t *testing.T) {
	_, err := Recall(t.Context(), RecallOptions{K: 101, Runs: -1, Threads: -1, Efs: []int{0}, M: 1})
	require.Equal(t, errs.Invalid, errs.KindOf(err))
	for _, fault := range []string{"no data set", "k 101", "runs -1", "threads -1", "ef 0", "M 1"} {
		require.ErrorContains(t, err, fault)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Recall(ctx, RecallOptions{Dataset: writeDataset(t, "l2", 20)})
	require.ErrorIs(t, err, context.Canceled)
}

func TestVectorsRoundTrip(t *testing.T) {
	all := [][]float32{{0, 1, 255}, {7, 8, 9}}
	for _, name := range []string{"a.fvecs", "a.bvecs"} {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, WriteVectors(path, all))
		got, err := ReadVectors(path)
		require.NoError(t, err)
		require.Equal(t, all, got)

		v, err := OpenVectors(path)
		require.NoError(t, err)
		require.Equal(t, [2]int{2, 3}, [2]int{v.Len(), v.Dim()})
		row := make([]float32, 3)
		require.NoError(t, v.At(1, row))
		require.Equal(t, all[1], row)
		require.NoError(t, v.Next(row), "At does not move Next")
		require.Equal(t, all[0], row)
		require.NoError(t, v.Next(row))
		require.Equal(t, io.EOF, v.Next(row))
		require.ErrorContains(t, v.At(2, row), "row 2")
		require.NoError(t, v.Close())
	}
	ids := [][]int32{{1, 2}, {-3, 4}}
	path := filepath.Join(t.TempDir(), "a.ivecs")
	require.NoError(t, WriteNeighbours(path, ids))
	got, err := ReadNeighbours(path)
	require.NoError(t, err)
	require.Equal(t, ids, got)
}

func TestFilesAreReadStrictly(t *testing.T) {
	good := []byte{2, 0, 0, 0, 5, 6, 2, 0, 0, 0, 7, 8}
	tests := []struct {
		name string
		file string
		data []byte
		want string
	}{
		{"cut in a row", "a.bvecs", good[:11], "row 1: 5 bytes where a row of 2 values takes 6"},
		{"cut in the first length", "a.bvecs", good[:3], "row 0: it ends within the length"},
		{"other length", "a.bvecs", append(slices.Clone(good[:6]), 3, 0, 0, 0, 7, 8), "row 1: length 3, the rows before have 2"},
		{"length 0", "a.bvecs", make([]byte, 8), "row 0: length 0"},
		{"negative length", "a.bvecs", []byte{255, 255, 255, 255, 1}, "row 0: length -1"},
		{"not a number", "a.fvecs", []byte{1, 0, 0, 0, 0, 0, 0xc0, 0x7f}, "row 0: value 0 is NaN"},
		{"infinite", "a.fvecs", []byte{1, 0, 0, 0, 0, 0, 0x80, 0x7f}, "row 0: value 0 is +Inf"},
		{"wrong name", "a.ivecs", good, "ends in none of"},
	}
	for _, tt := range tests {
		path := filepath.Join(t.TempDir(), tt.file)
		require.NoError(t, os.WriteFile(path, tt.data, 0o644))
		_, err := ReadVectors(path)
		require.ErrorContains(t, err, tt.want, tt.name)
		require.ErrorContains(t, err, path, tt.name)
		require.Equal(t, errs.Invalid, errs.KindOf(err), tt.name)
	}
	empty := filepath.Join(t.TempDir(), "empty.fvecs")
	require.NoError(t, os.WriteFile(empty, nil, 0o644))
	got, err := ReadVectors(empty)
	require.NoError(t, err)
	require.Empty(t, got)
}

func TestWritersRefuse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.bvecs")
	require.ErrorContains(t, WriteVectors(path, [][]float32{{1, 2}, {1}}), "row 1: length 1")
	for _, x := range []float32{-1, 0.5, 256} {
		require.ErrorContains(t, WriteVectors(path, [][]float32{{x}}), "row 0: value 0")
	}
	require.Error(t, WriteVectors("a.ivecs", nil))
	require.Error(t, WriteNeighbours("a.fvecs", nil))
}

func TestDatasetsAreChecked(t *testing.T) {
	write := func(name string, data []byte) func(dir string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), data, 0o644) }
	}
	neighbours := func(rows ...[]int32) func(dir string) error {
		return func(dir string) error { return WriteNeighbours(filepath.Join(dir, "gt10.ivecs"), rows) }
	}
	row := make([]int32, 10)
	full := slices.Repeat([][]int32{row}, 30)
	tests := []struct {
		name string
		edit func(dir string) error
		want string
	}{
		{"metric", write("metric", []byte("hamming")), `metric "hamming"`},
		{"no base", func(dir string) error { return os.Remove(filepath.Join(dir, "base.fvecs")) }, "none of base.fvecs, base.bvecs"},
		{"no truth", func(dir string) error { return os.Remove(filepath.Join(dir, "gt10.ivecs")) }, "none of gt10.ivecs"},
		{"empty base", write("base.fvecs", nil), "0 base vectors"},
		{"other dimension", write("base.fvecs", []byte{1, 0, 0, 0, 0, 0, 0, 0}), "queries have 16 values, base vectors 1"},
		{"too few neighbours", neighbours(row[:9]), "9 neighbours a query, 10 are needed"},
		{"neighbours of other queries", neighbours(row), "neighbours of 1 queries, there are 30"},
		{"neighbour out of range", neighbours(append(full[1:], append(row[1:], 20))...), "no base vector 20"},
	}
	for _, tt := range tests {
		dir := writeDataset(t, "l2", 20)
		require.NoError(t, tt.edit(dir))
		_, err := OpenDataset(dir, 10)
		require.ErrorContains(t, err, tt.want, tt.name)
	}
}

// FuzzVectors reads damaged files: rows or an error, never a panic.
func FuzzVectors(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 5, 6, 2, 0, 0, 0, 7, 8})
	f.Add([]byte{255, 255, 255, 127})
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, name := range []string{"a.bvecs", "a.fvecs"} {
			path := filepath.Join(t.TempDir(), name)
			require.NoError(t, os.WriteFile(path, data, 0o644))
			all, err := ReadVectors(path)
			if err != nil || len(all) == 0 {
				continue
			}
			require.NoError(t, WriteVectors(path, all))
			again, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, data, again)
		}
	})
}
