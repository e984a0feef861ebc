package cluster

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/internal/errs"
)

func TestPolicies(t *testing.T) {
	for _, name := range []string{"ring", "least-loaded"} {
		p, err := ParsePolicy(name)
		require.NoError(t, err)
		require.Equal(t, name, p.String())
	}
	_, err := ParsePolicy("random")
	require.Equal(t, errs.Invalid, errs.KindOf(err))
	require.Equal(t, "unknown", Policy(9).String())
	require.Error(t, Rules{Policy: 2}.validate())
	require.Error(t, Rules{Growth: -1}.validate())
	require.NoError(t, Rules{}.validate())
	require.InDelta(t, 0.5, Rules{}.Utilisation(1000, 1_000_000), 1e-12)
	require.InDelta(t, 1.5, Rules{ShardTenants: 500, ShardVectors: 1_000_000}.Utilisation(1000, 1_000_000), 1e-12)
}

func TestLeastLoaded(t *testing.T) {
	rules := Rules{ShardTenants: 10, ShardVectors: 100, Growth: 10}
	for name, c := range map[string]struct {
		loads []shardLoad
		ring  uint16
		want  uint16
		full  bool
	}{
		"the ring's own where all are alike": {[]shardLoad{{0, 1, 5}, {1, 1, 5}, {2, 1, 5}}, 2, 2, false},
		"the lowest where the ring's is not": {[]shardLoad{{0, 1, 5}, {1, 1, 5}, {2, 1, 6}}, 2, 0, false},
		"the fewest vectors":                 {[]shardLoad{{0, 1, 30}, {1, 1, 20}, {2, 1, 40}}, 0, 1, false},
		"tenants count by what they bring":   {[]shardLoad{{0, 1, 20}, {1, 3, 5}}, 1, 0, false},
		"no room for another tenant":         {[]shardLoad{{0, 10, 0}, {1, 9, 89}}, 0, 1, false},
		"no room for what it brings":         {[]shardLoad{{0, 0, 91}, {1, 9, 80}}, 0, 1, false},
		"all are full":                       {[]shardLoad{{0, 10, 80}, {1, 20, 0}}, 0, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(c.loads)
			got, full := leastLoaded(c.loads, c.ring, &rules)
			require.Equal(t, c.want, got)
			require.Equal(t, c.full, full)
			require.Len(t, c.loads, before)
		})
	}
}

// TestBurstsAreSpread places many tenants at once: no shard gets one more than another whose load is as low, and none goes
// to a full shard while there is room.
func TestBurstsAreSpread(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := Rules{ShardTenants: rapid.IntRange(1, 50).Draw(t, "capacity"), ShardVectors: 1 << 20, Growth: 100}
		loads := make([]shardLoad, rapid.IntRange(1, 8).Draw(t, "shards"))
		for i := range loads {
			loads[i] = shardLoad{uint16(i), rapid.IntRange(0, 20).Draw(t, "tenants"), rapid.Uint64Range(0, 2000).Draw(t, "vectors")}
		}
		for range rapid.IntRange(1, 200).Draw(t, "new") {
			room, least := false, ^uint64(0)
			for i := range loads {
				room = room || !loads[i].full(&rules)
			}
			for i := range loads {
				if !room || !loads[i].full(&rules) {
					least = min(least, loads[i].expected(&rules))
				}
			}
			ring := uint16(rapid.IntRange(0, len(loads)-1).Draw(t, "ring"))
			shard, full := leastLoaded(loads, ring, &rules)
			require.Equal(t, !room, full)
			require.Equal(t, least, loads[shard].expected(&rules)-uint64(rules.Growth))
		}
	})
}
