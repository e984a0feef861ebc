//go:build !race

// Under the race detector sync.Pool drops values at random.

package cluster

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/engine"
)

// TestQueryAllocatesNothing is the way from a namespace's name to an answer.
func TestQueryAllocatesNothing(t *testing.T) {
	n := openNode(t, testOptions(t.TempDir()))
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
	require.Zero(t, testing.AllocsPerRun(200, run))
}
