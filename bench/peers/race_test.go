package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/anntest"
	"github.com/croftdb/croft/bench"
)

// TestMain lets this program be its own child, as the real one is.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == childCommand {
		if err := run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// writeDataset makes a data set with exact neighbours.
func writeDataset(t *testing.T, name string, m ann.Metric, n, dim int) string {
	const queries, k = 50, 10
	dir := filepath.Join(t.TempDir(), "tiny-"+name)
	require.NoError(t, os.Mkdir(dir, 0o755))
	all := anntest.Clustered(5, n+queries, dim)
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
	require.NoError(t, bench.WriteVectors(filepath.Join(dir, "base.fvecs"), all[:n]))
	require.NoError(t, bench.WriteVectors(filepath.Join(dir, "query.fvecs"), all[n:]))
	require.NoError(t, bench.WriteNeighbours(filepath.Join(dir, "gt10.ivecs"), truth))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "metric"), []byte(name), 0o644))
	return dir
}

// raceReport runs the command and returns its report and notes.
func raceReport(t *testing.T, args ...string) (*report, string) {
	var out, notes bytes.Buffer
	require.NoError(t, run(t.Context(), append(args, "--json", "--lap", "1ms"), strings.NewReader(""), &out, &notes), notes.String())
	var p report
	require.NoError(t, json.Unmarshal(out.Bytes(), &p))
	return &p, notes.String()
}

// needNative skips a test where the C++ libraries are not built in.
func needNative(t *testing.T) {
	if len(nativeLibraries()) == 0 {
		t.Skip("the C++ peers are not in this build (CGO_ENABLED=0); they need: " + strings.Join(strings.Fields(packages), " "))
	}
}

func TestRace(t *testing.T) {
	needNative(t)
	for name, metric := range map[string]ann.Metric{"l2": ann.Euclidean, "cosine": ann.Cosine, "ip": ann.DotProduct} { // any order: independent
		t.Run(name, func(t *testing.T) {
			dataset := writeDataset(t, name, metric, 2000, 32)
			cache := t.TempDir()
			p, notes := raceReport(t, "--dataset", dataset, "--cache", cache, "--grid", "small", "--rounds", "2", "--efs", "1,400")
			want := names(libraries())
			if metric == ann.DotProduct {
				want = []string{"hnswlib", "faiss-hnswflat", "faiss-hnswsq8", "croft"}
				require.Contains(t, notes, "coder-hnsw is left out")
			}
			require.Equal(t, want, p.names())
			for _, e := range p.Peers {
				require.Len(t, e.Points, 2)
				if e.Name == "hnswlib" { // others are too small here to tell from the noise of a heap
					require.Greater(t, e.Memory.Resident, int64(2000*32*4))
				}
				require.NotContains(t, e.Version, "unknown", e.Name)
				for _, q := range e.Points {
					require.Positive(t, q.QPS)
					require.GreaterOrEqual(t, q.P99, q.P50)
				}
				if e.Name != "coder-hnsw" { // which prunes by cosine whatever the metric
					require.GreaterOrEqual(t, e.Points[1].Recall, 0.95, "%s as broad as a fifth of the graph", e.Name)
					require.Greater(t, e.Points[1].Recall, e.Points[0].Recall, "%s heeds ef", e.Name)
				}
			}
			require.NotNil(t, p.Ratio["0.95"])
			require.NotNil(t, p.BuildRatio)

			again, _ := raceReport(t, "--dataset", dataset, "--cache", cache, "--grid", "small", "--rounds", "1", "--efs", "1,400")
			for i, e := range again.Peers {
				require.Equal(t, p.Peers[i].BuildSeconds, e.BuildSeconds, "taken from the cache")
				for j, q := range e.Points {
					require.Equal(t, p.Peers[i].Points[j].Recall, q.Recall, "a saved index answers as before: %s", e.Name)
				}
			}
		})
	}
}

func TestRaceWithThreadsAndRebuilds(t *testing.T) {
	needNative(t)
	use, err := cores()
	require.NoError(t, err)
	if len(use) < 2 {
		t.Skip("one core only")
	}
	dataset := writeDataset(t, "l2", ann.Euclidean, 500, 8)
	p, notes := raceReport(t, "--dataset", dataset, "--cache", t.TempDir(), "--grid", "small", "--peers", "hnswlib,croft", "--efs", "200",
		"--threads", "2", "--build-rounds", "2", "--rounds", "1")
	require.Equal(t, 4, strings.Count(notes, "rebuilt in"))
	require.Positive(t, *p.Scaling["0.95"])
	for _, e := range p.Peers {
		require.Positive(t, e.Points[0].ThreadsQPS)
	}
}

func TestRaceOfCroftAlone(t *testing.T) {
	dataset := writeDataset(t, "cosine", ann.Cosine, 300, 8)
	cache := t.TempDir()
	p, _ := raceReport(t, "--dataset", dataset, "--cache", cache, "--peers", "croft", "--efs", "10,100", "--rounds", "1",
		"--croft", "M=8,EfConstruction=40", "--croft", "M=4")
	require.Len(t, p.Peers, 2)
	require.Equal(t, "M=8,EfConstruction=40", p.Peers[0].Params)
	require.Equal(t, map[string]*float64{"0.90": nil, "0.95": nil, "0.99": nil}, p.Ratio)
}

// The other build is this one; its index is built for itself all the same.
func TestRaceAgainstAnotherBuild(t *testing.T) {
	program, err := os.Executable()
	require.NoError(t, err)
	dataset := writeDataset(t, "l2", ann.Euclidean, 300, 8)
	p, _ := raceReport(t, "--dataset", dataset, "--cache", t.TempDir(), "--grid", "small", "--peers", "croft", "--efs", "10,100",
		"--rounds", "1", "--clock", "cpu", "--best", "--before", program)
	require.Equal(t, []string{"croft", "croft-before"}, p.names())
	require.Greater(t, p.Peers[1].Points[0].Recall, 0.9)
	require.Positive(t, *p.Before["0.95"])
	require.Nil(t, p.Ratio["0.95"], "it is no peer")
}

func TestFaultsOfChildren(t *testing.T) {
	dataset := writeDataset(t, "l2", ann.Euclidean, 50, 4)
	err := run(t.Context(), []string{"--dataset", dataset, "--cache", t.TempDir(), "--peers", "croft", "--croft", "M=1"},
		strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{})
	require.ErrorContains(t, err, "build croft M=1")
	require.ErrorContains(t, err, "M 1 is outside", "the child's own words")

	cache := t.TempDir()
	raceReport(t, "--dataset", dataset, "--cache", cache, "--peers", "croft", "--grid", "small", "--rounds", "1")
	saved, err := filepath.Glob(filepath.Join(cache, "*", "croft-*.json"))
	require.NoError(t, err)
	require.Len(t, saved, 1)
	require.NoError(t, os.WriteFile(strings.TrimSuffix(saved[0], ".json"), []byte("rubbish"), 0o644))
	err = run(t.Context(), []string{"--dataset", dataset, "--cache", cache, "--peers", "croft", "--grid", "small"},
		strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{})
	require.ErrorContains(t, err, "croft M=16,EfConstruction=200: open ")
}

// A changed data set of the same name has indexes of its own.
func TestStoreKnowsItsDataset(t *testing.T) {
	dir := writeDataset(t, "l2", ann.Euclidean, 50, 4)
	before, err := markOf(dir)
	require.NoError(t, err)
	require.NoError(t, bench.WriteVectors(filepath.Join(dir, "base.fvecs"), [][]float32{{1, 2, 3, 4}}))
	after, err := markOf(dir)
	require.NoError(t, err)
	require.NotEqual(t, before, after)
}
