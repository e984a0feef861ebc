package engine

import (
	"context"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine/filter"
	"github.com/croftdb/croft/engine/metadata"
)

// TestScanOfCodes searches a third of a partition, first when all of it is in the graph and then when some matches have
// been deleted, replaced and added a moment ago: the answers are those of an exact search, wherever a record is, but for one
// in a hundred, whose code may seem to be too far: codes depend on which records came first to the graph.
func TestScanOfCodes(t *testing.T) {
	const dim, n = 64, 3000
	s := newSubject(t, Options{GraphAbove: 500, FlatBelow: 100, Logger: quiet()})
	rng := rand.New(rand.NewPCG(11, 11))
	key := testKey(1, 1)
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: dim, Metric: ann.Cosine, Bits: 4}})
	m := model{metric: ann.Cosine, parts: map[Key]map[string]Record{key: {}}}
	upsert := func(from, to int) {
		c := &Command{Op: OpUpsert, Key: key}
		for i := from; i < to; i++ {
			meta, err := metadata.Make(metadata.Field{Key: "n", Value: metadata.NumberValue(float64(i % 3))})
			require.NoError(t, err)
			r := Record{ID: "id-" + strconv.Itoa(i), Values: randomVector(rng, dim), Metadata: meta}
			c.Records = append(c.Records, r)
			m.parts[key][r.ID] = r
		}
		s.apply(c)
	}
	for i := 0; i < n; i += 500 {
		upsert(i, i+500)
	}
	s.settle(key)
	expr, err := filter.Parse([]byte(`{"n":0}`))
	require.NoError(t, err)
	check := func() {
		missed := 0
		for range 20 {
			q := &Query{Vector: randomVector(rng, dim), K: 10, Filter: expr}
			var res Result
			require.NoError(t, s.shard.Query(context.Background(), key, q, &res))
			require.Equal(t, PlanFilterCodes, res.Plan)
			missed += misses(t, m.search(key, q), res.Matches)
		}
		require.LessOrEqual(t, missed, 2, "of 200")
	}
	check()

	upsert(n, n+100) // new
	upsert(0, 50)    // replaced
	gone := &Command{Op: OpDelete, Key: key}
	for i := 600; i < 700; i++ {
		gone.Targets = append(gone.Targets, Target{ID: "id-" + strconv.Itoa(i)})
		delete(m.parts[key], "id-"+strconv.Itoa(i))
	}
	s.apply(gone)
	check()
}

// misses returns how many of the records that were to be found were not.
func misses(t *testing.T, want, got []Match) (n int) {
	t.Helper()
	require.Len(t, got, len(want))
	found := map[string]float32{}
	for _, m := range got {
		found[m.ID] = m.Score
	}
	for _, m := range want {
		score, ok := found[m.ID]
		if !ok {
			n++
			continue
		}
		require.InDelta(t, m.Score, score, 1e-5, m.ID)
	}
	return n
}

func randomVector(rng *rand.Rand, dim int) []float32 {
	v := make([]float32, dim)
	for i := range v {
		v[i] = float32(rng.NormFloat64())
	}
	return v
}
