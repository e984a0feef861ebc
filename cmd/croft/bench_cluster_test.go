package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
)

func TestParseMetrics(t *testing.T) {
	values, err := parseMetrics(strings.NewReader("# HELP a b\n# TYPE a counter\na 1.5\nb{peer=\"x y\"} 2\nb{peer=\"z\"} 3e+06\n\n"))
	require.NoError(t, err)
	require.Equal(t, map[string]float64{"a": 1.5, "b": 3_000_002}, values)
	_, err = parseMetrics(strings.NewReader("a much\n"))
	require.Error(t, err)
}

func TestParseTimes(t *testing.T) {
	const stat = "42 (a ) b) S 1 42 42 0 -1 4194560 100 0 0 0 123 27 0 0 20 0 9 0 500 1000000 300 18446744073709551615 1 1"
	times, err := parseTimes(stat, 4096)
	require.NoError(t, err)
	require.Equal(t, processTimes{1500 * time.Millisecond, 300 * 4096}, times)
	for _, bad := range []string{"", "42 (x) S 1", strings.Replace(stat, "123", "?", 1)} {
		_, err := parseTimes(bad, 4096)
		require.Error(t, err, bad)
	}
	if _, err := os.Stat("/proc/self/stat"); err == nil {
		own, err := timesOf(os.Getpid())
		require.NoError(t, err)
		require.Positive(t, own.resident)
	}
}

func TestPhasesAreSummedUp(t *testing.T) {
	n := &askedNode{number: 2}
	for i := range 100 {
		n.note(phaseBefore, time.Duration(100-i)*time.Millisecond, nil)
	}
	n.note(phaseRestoring, time.Second, nil)
	n.note(phaseRestoring, time.Second, os.ErrClosed)
	n.note(phaseLosing, time.Hour, os.ErrClosed)
	s := &asking{nodes: []*askedNode{n}}
	require.Equal(t, []replicaPhase{
		{Phase: "before", Node: 2, Queries: 100, P50: 51, P95: 96},
		{Phase: "restoring", Node: 2, Queries: 1, P50: 1000, P95: 1000, Failed: 1},
		{Phase: "after", Node: 2},
	}, s.report())
}

func TestClusterBenchUsage(t *testing.T) {
	for args, want := range map[string]string{
		"bench idle --seconds 0":            "--seconds is 0",
		"bench idle --shards 300":           "--shards is 300",
		"bench idle --warmup -1":            "--warmup is -1",
		"bench replica --vectors 0":         "--vectors is 0",
		"bench tenants --rounds 0":          "--rounds is 0",
		"bench replica --listen 0.0.0.0:80": "is not loopback",
	} {
		a := newTestApp("", nil)
		require.Equal(t, exitUsage, a.run(t.Context(), strings.Fields(args)), args)
		require.Contains(t, a.err.String(), want, args)
	}
}

// TestBenchIdle measures a small server for a moment.
func TestBenchIdle(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		return // the verb says so itself
	}
	w := newWorld(t)
	out := w.must("bench", "idle", "--shards", "2", "--seconds", "1", "--warmup", "0", "--listen", demoAddress(t), "-o", "json")
	var r idleReport
	require.NoError(t, json.Unmarshal([]byte(out), &r))
	require.Len(t, r.Nodes, 1)
	require.Equal(t, 3, r.Nodes[0].Groups)
	require.Positive(t, r.Nodes[0].Resident)
	require.Positive(t, r.Nodes[0].Goroutines)
	require.Positive(t, r.Nodes[0].Heap)
}

// TestBenchReplica has a node of a small cluster lose its disk, for real.
func TestBenchReplica(t *testing.T) {
	w := newWorld(t)
	out := w.must("bench", "replica", "--vectors", "300", "--dim", "8", "--seconds", "1", "--rate", "20", "--listen", demoAddress(t), "-o", "json")
	var r replicaReport
	require.NoError(t, json.Unmarshal([]byte(out), &r))
	require.Equal(t, 300, r.Vectors)
	require.Positive(t, r.RestoreSeconds)
	require.NotEmpty(t, r.Digest)
	require.Len(t, r.Phases, 6)
	require.Equal(t, 1.0, r.SameAnswers, "so few are scanned")
}
