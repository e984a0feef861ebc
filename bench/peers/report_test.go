package main

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// line makes an entry from recalls and rates, ef 1, 2, …
func line(name, params string, seconds float64, mem memory, spots ...spot) *entry {
	e := &entry{Name: name, Params: params, BuildSeconds: seconds, Memory: mem}
	for i, s := range spots {
		e.Points = append(e.Points, point{Ef: i + 1, Recall: s.recall, QPS: s.qps, P50: 1, P99: 2, ThreadsQPS: 2 * s.qps})
	}
	return e
}

func testReport() *report {
	p := &report{Dataset: "d", Threads: 1, recalls: []float64{0.9, 0.95, 0.99}, Peers: []*entry{
		line("hnswlib", "a", 100, memory{Resident: 1000}, spot{0.9, 100}, spot{0.95, 50}),
		line("hnswlib", "b", 200, memory{Resident: 2000}, spot{0.9, 90}, spot{0.95, 60}, spot{0.99, 20}),
		line("other", "c", 1, memory{Resident: 1}, spot{0.9, 400}),
		line("croft", "x", 40, memory{Resident: 500, File: 400}, spot{0.9, 800}, spot{0.95, 300}),
		line("croft", "y", 50, memory{Resident: 250, File: 150}, spot{0.9, 200}, spot{0.95, 150}),
	}}
	p.compare()
	return p
}

func TestRatios(t *testing.T) {
	p := testReport()
	require.InEpsilon(t, 2, *p.Ratio["0.90"], 1e-9, "the best other is not always hnswlib")
	require.InEpsilon(t, 5, *p.Ratio["0.95"], 1e-9, "each library's best settings")
	require.Nil(t, p.Ratio["0.99"], "croft does not reach it")
	require.Equal(t, map[string]string{"0.90": "other", "0.95": "hnswlib", "0.99": "hnswlib"}, p.Best)
	require.InEpsilon(t, 5, *p.BuildRatio, 1e-9, "b, the faster at 0.95, over x")
	require.InEpsilon(t, 4, *p.MemoryRatio, 1e-9)
	require.InEpsilon(t, 20, *p.AnonRatio, 1e-9)
	require.Nil(t, p.Scaling)
}

func TestScaling(t *testing.T) {
	p := testReport()
	p.Threads = 2
	p.compare()
	require.InEpsilon(t, 2, *p.Scaling["0.95"], 1e-9)
	require.Nil(t, p.Scaling["0.99"])
}

func TestRatiosOfOne(t *testing.T) {
	p := &report{Threads: 1, recalls: []float64{0.9}, Peers: []*entry{line("croft", "x", 1, memory{}, spot{0.9, 1})}}
	p.compare()
	require.Equal(t, map[string]*float64{"0.90": nil}, p.Ratio)
	require.Nil(t, p.BuildRatio)
	require.Empty(t, p.Best)
}

func TestJSON(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, testReport().writeJSON(&out))
	var got struct {
		Ratio       map[string]*float64
		BuildRatio  *float64 `json:"build_ratio"`
		MemoryRatio *float64 `json:"memory_ratio"`
		Peers       []struct {
			Name, Params string
			Points       []map[string]float64
		}
	}
	require.NoError(t, json.Unmarshal(out.Bytes(), &got))
	require.Contains(t, got.Ratio, "0.99")
	require.Nil(t, got.Ratio["0.99"])
	require.InEpsilon(t, 5, *got.Ratio["0.95"], 1e-9)
	require.InEpsilon(t, 5, *got.BuildRatio, 1e-9)
	require.InEpsilon(t, 4, *got.MemoryRatio, 1e-9)
	require.Len(t, got.Peers, 5)
	require.Equal(t, "hnswlib", got.Peers[0].Name)
	require.Equal(t, "a", got.Peers[0].Params)
	require.Equal(t, map[string]float64{"ef": 2, "recall": 0.95, "qps": 50, "p50_us": 1, "p99_us": 2, "threads_qps": 100}, got.Peers[0].Points[1])
	require.Contains(t, out.String(), `"0.99": null`)
}

func TestPrint(t *testing.T) {
	p := testReport()
	p.Threads = 2
	p.Limited = &limitReport{Limit: 5e6, Peak: 4e6, Hnswlib: 20e6, MajorFaults: 7}
	p.compare()
	var out bytes.Buffer
	require.NoError(t, p.print(&out))
	for _, want := range []string{"0.9500", "croft / best other", "5.00 x", "2.00 x", "limited to 5 MB, peak 4 MB, 7 major faults"} {
		require.Contains(t, out.String(), want)
	}
	require.Regexp(t, `croft / best other\s+2.00 x\s+5.00 x\s+-`, out.String())
}
