package balance

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// estate has shards that share tenants and vectors evenly.
func estate(shards, tenants int, vectors uint64) *Estate {
	e := &Estate{Capacity: capacity, Nodes: 3}
	for i := range shards {
		e.Shards = append(e.Shards, Shard{ID: i, Load: Load{Tenants: float64(tenants) / float64(shards), Vectors: float64(vectors) / float64(shards), Bytes: float64(100 - i)}})
	}
	for i := range tenants {
		e.Tenants = append(e.Tenants, Holding{fmt.Sprintf("t%05d", i), i % shards, vectors / uint64(tenants)})
	}
	return e
}

func kinds(r *Report) (all []string) {
	for _, a := range r.Advice {
		all = append(all, a.Type)
	}
	return all
}

func TestAdvise(t *testing.T) {
	cases := map[string]struct {
		estate          *Estate
		shards, atLeast int
		scarce          string
		advice          []string
	}{
		"fits":                         {estate(5, 2000, 7_000_000), 5, 5, "vectors", nil},
		"of many small ones":           {estate(5, 7000, 1_400_000), 5, 5, "tenants", nil},
		"too few":                      {estate(3, 2000, 7_000_000), 5, 5, "vectors", []string{AddShards}},
		"too many":                     {estate(16, 2000, 7_000_000), 5, 5, "vectors", []string{MergeShards}},
		"few tenants":                  {estate(4, 79, 1_500_000), 2, 1, "vectors", []string{DoNotShard, MergeShards}},
		"few tenants that are large":   {estate(40, 40, 60_000_000), 43, 38, "vectors", nil},
		"few vectors":                  {estate(2, 900, 900_000), 1, 1, "vectors", []string{DoNotShard, MergeShards}},
		"few vectors, one shard":       {estate(1, 900, 900_000), 1, 1, "vectors", nil},
		"nothing":                      {estate(1, 1, 0), 1, 1, "tenants", nil},
		"a few more than seven in ten": {estate(5, 2000, 7_000_010), 6, 5, "vectors", nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := Advise(c.estate)
			require.Equal(t, c.shards, r.Needed.Shards)
			require.Equal(t, c.atLeast, r.Needed.AtLeast)
			require.Equal(t, c.scarce, r.Needed.ScarceFor)
			require.Equal(t, c.advice, kinds(&r))
			require.Len(t, r.Merges, max(0, len(c.estate.Shards)-c.shards))
		})
	}
}

func TestAdviseOnCost(t *testing.T) {
	e := estate(10, 2000, 7_000_000)
	e.ShardCost, e.NodeCost = 40, 100
	r := Advise(e)
	require.Equal(t, Cost{Month: 700, Shard: 70, Tenant: 0.35, Million: 100, Wasted: 350, WastedOnes: 5}, r.Cost)
	require.Equal(t, []int{9, 8, 7, 6, 5}, []int{r.Merges[0].Shard, r.Merges[1].Shard, r.Merges[2].Shard, r.Merges[3].Shard, r.Merges[4].Shard}, "the fewest bytes first")
	require.Equal(t, "croft shards drain 9", r.Advice[0].Command)
	require.InDelta(t, 0.35, r.Utilisation, 1e-9)
	require.Equal(t, 0.35, r.Top[0].Cost)
	e.ExpectedTenants, e.ExpectedVectors = 4000, 28_000_000
	r = Advise(e)
	require.Equal(t, 20, r.Needed.Shards)
	require.Equal(t, []string{AddShards}, kinds(&r))
	require.Zero(t, r.Cost.Wasted)
}

func TestAdviseOnTenants(t *testing.T) {
	e := estate(5, 1000, 7_000_000)
	for i := range 10 {
		e.Tenants[i].Vectors = 2_000_000
	}
	r := Advise(e)
	require.InDelta(t, 20./26.93, r.TopShare, 1e-3)
	require.Equal(t, []string{Dedicate}, kinds(&r))
	require.Len(t, r.Top, 10)
	e = estate(5, 1000, 7_000_000)
	e.Shards[0].Load[Queries], e.CrossRate = 79, 21
	r = Advise(e)
	require.Equal(t, 0.21, r.CrossShare)
	require.Equal(t, []string{CrossTenant}, kinds(&r))
	e.CrossRate = 10
	e.Shards[0].Load[Vectors], e.Shards[1].Load[Vectors] = 1_700_000, 1_100_000
	r = Advise(e)
	require.Equal(t, []string{RebalanceMore}, kinds(&r))
	e.Shards[0].Draining = true
	r = Advise(e)
	require.Equal(t, 4, r.Shared)
	require.Equal(t, 5, r.Needed.Shards, "what is leaving needs room elsewhere")
	require.Equal(t, []string{AddShards}, kinds(&r))
	e.Shards[0].Dedicated = true
	r = Advise(e)
	require.Equal(t, 1, r.Dedicated)
	require.Equal(t, 4, r.Needed.AtLeast)
}
