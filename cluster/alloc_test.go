//go:build !race

// Under the race detector sync.Pool drops values at random.

package cluster

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/engine"
)

// TestQueryAllocatesNothing is the way from a namespace's name to an answer, which is searched for each time, with a gate to pass
// or without, or is in the cache and then costs the memory of its ids.
func TestQueryAllocatesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		cache  int64
		gate   bool
		allocs float64
	}{"searched": {-1, false, 0}, "searched behind a gate": {-1, true, 0}, "cached": {0, false, 1}} {
		t.Run(name, func(t *testing.T) {
			o := testOptions(t.TempDir())
			o.CacheBytes = c.cache
			if c.gate {
				withGate(&o)
			}
			require.Equal(t, c.allocs, queryAllocs(t, openNode(t, o)))
		})
	}
}

func queryAllocs(t *testing.T, n *Node) float64 {
	ix := createIndex(t, n, "i")
	upsert(t, n, ix, "ns", 1, 2, 3)
	q := engine.Query{Vector: []float32{1, 0}, K: 2}
	var res engine.Result
	run := func() {
		if _, err := n.Query(t.Context(), ix, "ns", &q, &res); err != nil || len(res.Matches) != 2 {
			t.Fatal(err, res)
		}
	}
	run()
	return testing.AllocsPerRun(200, run)
}

// TestForwardedQueryAllocatesItsIDs: asking another node over TCP costs, on both sides together, the memory of the ids.
func TestForwardedQueryAllocatesItsIDs(t *testing.T) {
	link := tcpLink(t, nil)
	home := openUnmanaged(t)
	plugIn(t, home, link(home.id.NodeID))
	ix := createIndex(t, home, "i")
	away := gateway(t, home, link)
	upsert(t, away, ix, "ns", 1, 2, 3)
	q := engine.Query{Vector: []float32{1, 0}, K: 2}
	var res engine.Result
	run := func() {
		if _, err := away.Query(t.Context(), ix, "ns", &q, &res); err != nil || len(res.Matches) != 2 {
			t.Fatal(err, res)
		}
	}
	run()
	require.LessOrEqual(t, testing.AllocsPerRun(500, run), 2.0, "elections and timers of the nodes may add to it")
}
