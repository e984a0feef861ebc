package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/bench"
	"github.com/croftdb/croft/cluster"
)

func TestBenchUsage(t *testing.T) {
	for name, tc := range map[string]struct{ args, want string }{
		"no name":           {"bench data --out x", "needs NAME"},
		"no directory":      {"bench data clustered-128", "needs --out"},
		"no rows":           {"bench data clustered-128 --out x --count 0", "at least 1"},
		"no queries":        {"bench data clustered-128 --out x --queries 0", "at least 1"},
		"nothing to rotate": {"bench data rotated --out x", "needs --from"},
		"rotated, smaller":  {"bench data rotated --from y --out x --count 5", "as many as its source"},
		"no filters' data":  {"bench filters", "needs --dataset"},
		"no churn's data":   {"bench churn", "needs --dataset"},
		"a breadth of 0":    {"bench filters --dataset x --ef 0", "--ef is 0"},
		"no rounds":         {"bench churn --dataset x --rounds 0", "--rounds is 0"},
		"no drawing":        {"bench plot x.json", "needs --out"},
		"from for another":  {"bench data clustered-128 --from y --out x", "--from is for rotated"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTestApp("", nil)
			require.Equal(t, exitUsage, a.run(t.Context(), strings.Fields(tc.args)), a.err.String())
			require.Contains(t, a.err.String(), tc.want)
			require.Empty(t, a.out.String(), "stdout is for data")
		})
	}
}

func TestBenchData(t *testing.T) {
	dir := t.TempDir()
	run := func(code int, args ...string) *testApp {
		a := newTestApp("", nil)
		require.Equal(t, code, a.run(t.Context(), append([]string{"bench", "data"}, args...)), a.err.String())
		return a
	}
	made, turned := filepath.Join(dir, "made"), filepath.Join(dir, "turned")
	var report bench.DataReport
	out := run(exitOK, "clustered-128", "--out", made, "--count", "300", "--queries", "7", "--json").out.String()
	require.NoError(t, json.Unmarshal([]byte(out), &report))
	require.Equal(t, bench.DataReport{Path: made, Metric: "l2", N: 300, Dim: 128, Queries: 7, Seed: 1, LID: report.LID}, report)
	require.Positive(t, report.LID)

	require.Contains(t, run(exitOK, "rotated", "--from", made, "--out", turned).out.String(), "128")
	require.Contains(t, run(exitConflict, "clustered-128", "--out", made).err.String(), made+" exists")
	require.Contains(t, run(exitFailure, "clustered-64", "--out", dir+"/x").err.String(), `no recipe "clustered-64"`)
	require.NoDirExists(t, filepath.Join(dir, "x"))
}

func TestBenchFiltersAndChurn(t *testing.T) {
	made := filepath.Join(t.TempDir(), "made")
	run := func(args ...string) *testApp {
		a := newTestApp("", nil)
		require.Equal(t, exitOK, a.run(t.Context(), append([]string{"bench"}, args...)), a.err.String())
		return a
	}
	run("data", "clustered-128", "--out", made, "--count", "400", "--queries", "20")
	for verb, column := range map[string]string{"filters": "UNFILTERED", "churn": "FRESH"} {
		args := []string{verb, "--dataset", made, "--runs", "1", "--lap", "1ms", "--m", "8", "--ef-construction", "40"}
		table := run(args...)
		require.Contains(t, table.out.String(), column)
		require.Contains(t, table.err.String(), "made  l2  400 x 128")
		var report struct {
			N      int                `json:"n"`
			Cases  []bench.FilterCase `json:"cases"`
			Points []bench.ChurnPoint `json:"points"`
			Other  map[string]any     `json:",inline"`
		}
		require.NoError(t, json.Unmarshal(run(append(args, "--json")...).out.Bytes(), &report))
		require.Equal(t, 400, report.N)
		require.NotEqual(t, len(report.Cases) == 0, len(report.Points) == 0)
	}
}

func TestBenchPlot(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "a.json"), filepath.Join(dir, "a.svg")
	require.NoError(t, os.WriteFile(from, []byte(`{"k":10,"peers":[{"name":"croft","points":[{"recall":0.9,"qps":100}]}]}`), 0o600))
	run := func(code int) string {
		a := newTestApp("", nil)
		require.Equal(t, code, a.run(t.Context(), []string{"bench", "plot", from, "--out", to, "--title", "one core"}))
		return a.err.String()
	}
	require.Contains(t, run(exitOK), to)
	svg, err := os.ReadFile(to)
	require.NoError(t, err)
	require.Contains(t, string(svg), ">one core</text>")

	require.NoError(t, os.WriteFile(from, []byte(`{}`), 0o600))
	require.Contains(t, run(exitFailure), "no peers")
	after, err := os.ReadFile(to)
	require.NoError(t, err)
	require.Equal(t, svg, after, "a refusal leaves the old drawing alone")
}

func TestBenchRing(t *testing.T) {
	run := func(code int, args ...string) *testApp {
		a := newTestApp("", nil)
		require.Equal(t, code, a.run(t.Context(), append([]string{"bench", "ring"}, args...)), a.err.String())
		return a
	}
	table := run(exitOK, "--shards", "5,64", "--tenants", "1000,20000")
	require.Equal(t, 1+4, strings.Count(table.out.String(), "\n"))
	require.Contains(t, table.err.String(), "4 of 4 rows within 3 sigma")
	var report struct {
		Slots int                  `json:"slots"`
		Rows  []cluster.RingSpread `json:"rows"`
	}
	require.NoError(t, json.Unmarshal(run(exitOK, "--shards", "5", "--tenants", "1000", "--json").out.Bytes(), &report))
	require.Equal(t, cluster.Slots, report.Slots)
	require.Equal(t, 5, report.Rows[0].Shards)
	require.InDelta(t, 1.0/6, report.Rows[0].MovedExpected, 1e-9)
	require.Contains(t, run(exitUsage, "--shards", "1").err.String(), "must be 2 to 8192")
	require.Contains(t, run(exitUsage, "--tenants", "0").err.String(), "at least 1")
}
