package balance

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

var capacity = Capacity{Tenants: 2000, Vectors: 2_000_000}

// well is a shard about which there is nothing to say.
func well(id int, tenants, vectors float64) Shard {
	return Shard{ID: id, Load: Load{Tenants: tenants, Vectors: vectors}, P95: 10, Led: true, Voters: 3, Wanted: 3}
}

func fleet(change func(all []Shard)) *Figures {
	all := []Shard{well(0, 1000, 1_200_000), well(1, 1000, 1_200_000), well(2, 1000, 1_200_000), well(3, 1000, 1_200_000)}
	change(all)
	return &Figures{Shards: all, Capacity: capacity}
}

func TestCheck(t *testing.T) {
	type warning struct {
		kind, severity   string
		shard            int
		value, threshold float64
	}
	cases := map[string]struct {
		change func(all []Shard)
		want   []warning
	}{
		"well":                         {func([]Shard) {}, nil},
		"as many as may be":            {func(all []Shard) { all[1].Load[Tenants] = 1500; all[0].Load[Tenants] = 500 }, nil},
		"more tenants than others":     {func(all []Shard) { all[1].Load[Tenants] = 1560; all[0].Load[Tenants] = 440 }, []warning{{HotTenants, Warned, 1, 1560, 1500}}},
		"more vectors than others":     {func(all []Shard) { all[2].Load[Vectors] = 1_550_000; all[0].Load[Vectors] = 100_000 }, []warning{{HotVectors, Warned, 2, 1_550_000, 1_518_750}}},
		"off the ring, nobody's mean":  {func(all []Shard) { all[3].Dedicated = true; all[3].Load = Load{Tenants: 1, Vectors: 1_500_000} }, nil},
		"leaving":                      {func(all []Shard) { all[3].Draining = true; all[3].Load = Load{} }, nil},
		"slower than others":           {func(all []Shard) { all[0].P95 = 40 }, []warning{{HighLatency, Warned, 0, 40, 26.25}}},
		"slower and fast":              {func(all []Shard) { all[0].P95 = 19 }, nil},
		"nobody asked":                 {func(all []Shard) { all[0].P95, all[1].P95, all[2].P95, all[3].P95 = 0, 0, 0, 0 }, nil},
		"all nearly slow":              {func(all []Shard) { all[0].P95, all[1].P95, all[2].P95, all[3].P95 = 799, 799, 801, 799 }, []warning{{HighLatency, Warned, 2, 801, 800}}},
		"all but slow":                 {func(all []Shard) { all[0].P95, all[1].P95, all[2].P95, all[3].P95 = 800, 800, 1001, 800 }, []warning{{HighLatency, Critical, 2, 1001, 1000}}},
		"nearly full of tenants":       {func(all []Shard) { all[0].Load[Tenants], all[1].Load[Tenants], all[2].Load[Tenants] = 1600, 1599, 1500 }, []warning{{NearCapacity, Warned, 0, 1600, 1600}}},
		"full of vectors":              {func(all []Shard) { all[0].Load[Vectors] = 2_000_000; all[1].Load[Vectors] = 1_590_000 }, []warning{{NearCapacity, Critical, 0, 2_000_000, 1_600_000}}},
		"a dedicated one that is full": {func(all []Shard) { all[0].Dedicated = true; all[0].Load = Load{Tenants: 1, Vectors: 1_700_000} }, []warning{{NearCapacity, Warned, 0, 1_700_000, 1_600_000}}},
		"a replica missing":            {func(all []Shard) { all[2].Voters = 2 }, []warning{{UnderReplica, Warned, 2, 2, 3}}},
		"nobody leads":                 {func(all []Shard) { all[2].Led = false; all[2].Voters = 1 }, []warning{{NoLeader, Critical, 2, 0, 1}}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var got []warning
			for _, w := range Check(fleet(c.change)) {
				require.NotEmpty(t, w.Message)
				require.NotEmpty(t, w.Recommendation)
				require.Contains(t, Kinds(), w.Type)
				require.Len(t, w.Shards, 1)
				got = append(got, warning{w.Type, w.Severity, w.Shards[0], w.Value, w.Threshold})
			}
			require.Equal(t, c.want, got)
		})
	}
}

func TestCheckOfTheWhole(t *testing.T) {
	f := fleet(func(all []Shard) {
		for i := range all {
			all[i].Load = Load{Tenants: 900, Vectors: 800_000}
		}
		all[0].Load = Load{Tenants: 1200, Vectors: 1_000_000}
		all[3].P95 = 2000
	})
	all := Check(f)
	require.Equal(t, Critical, Worst(all))
	require.Equal(t, []string{HighLatency, UnderUtilised}, []string{all[0].Type, all[1].Type}, "the worst first")
	require.Equal(t, []int{1, 2, 3}, all[1].Shards)
	require.Equal(t, Healthy, Worst(all[1:]), "advice can wait")
	require.Empty(t, Check(&Figures{Shards: f.Shards[:1], Capacity: capacity}), "of one shard nothing can be taken away")
	require.Empty(t, Check(&Figures{Capacity: capacity}))
	full := fleet(func(all []Shard) {
		for i := range all {
			all[i].Load = Load{Tenants: 0.55 * float64(capacity.Tenants)}
		}
	})
	require.Empty(t, Check(full), "tenants are scarce, whatever room there is for vectors")

	f = fleet(func([]Shard) {})
	f.Silent = []string{"n2"}
	f.Astray = []Astray{{"acme", 2, "has a copy there"}, {"acme", 1, "x"}, {"b", 2, "y"}}
	all = Check(f)
	require.Equal(t, []string{Routing, SilentNode}, []string{all[0].Type, all[1].Type})
	require.Equal(t, []int{1, 2}, all[0].Shards)
	require.Equal(t, []string{"acme", "b"}, all[0].Tenants)
	require.Contains(t, all[0].Message, "tenant acme has a copy there")
	require.Equal(t, Warned, Worst(all[1:]))
	require.False(t, slices.Contains(Kinds(), ""))
}
