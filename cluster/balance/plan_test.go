package balance

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func load(vectors, bytes, queries, compute float64) Load {
	return Load{Tenants: 1, Vectors: vectors, Bytes: bytes, Queries: queries, Compute: compute}
}

func emptyShards(n int) []Shard {
	all := make([]Shard, n)
	for i := range all {
		all[i].ID = i
	}
	return all
}

// carryOut puts the tenants where a plan wants them.
func carryOut(tenants []Tenant, moves []Move) {
	for _, m := range moves {
		tenants[m.Tenant].Shard = m.To
	}
}

func TestPlanOfAHotShard(t *testing.T) {
	in := &Input{Shards: emptyShards(4), Capacity: capacity, Parallel: 2, Rate: 1 << 20}
	for s := range 4 {
		for range 10 {
			in.Tenants = append(in.Tenants, Tenant{Shard: s, Load: load(10_000, 10<<20, 1, 0.01)})
		}
	}
	require.Empty(t, NewPlan(in).Moves, "all carry the same")
	for range 6 {
		in.Tenants = append(in.Tenants, Tenant{Shard: 1, Load: load(10_000, 10<<20, 1, 0.01)})
	}
	p := NewPlan(in)
	require.Len(t, p.Moves, 4, "46/4 = 11.5: at 12 it is relieved, at 13 not yet")
	for _, m := range p.Moves {
		require.Equal(t, 1, m.From)
		require.Equal(t, uint64(10_000), m.Vectors)
	}
	require.Equal(t, uint64(40<<20), p.Bytes)
	require.InDelta(t, 4*11/2.0, p.Seconds, 0.01)
	require.InDelta(t, 16/11.5, p.Before[1].Ratios[Vectors], 1e-9)
	require.InDelta(t, 12/11.5, p.After[1].Ratios[Vectors], 1e-9)
	require.Empty(t, p.Stuck)
	in.May = func(_, shard int) bool { return shard == 3 }
	for _, m := range NewPlan(in).Moves {
		require.Equal(t, 3, m.To, "they may be nowhere else")
	}
	in.May = func(int, int) bool { return false }
	require.Empty(t, NewPlan(in).Moves)
	in.May = nil
	carryOut(in.Tenants, p.Moves)
	require.Empty(t, NewPlan(in).Moves)
}

// TestPlanMovesFewBytes has two tenants ask as much as all others: the one that brings few bytes along goes.
func TestPlanMovesFewBytes(t *testing.T) {
	in := &Input{Shards: emptyShards(3), Capacity: capacity, Parallel: 1}
	for s := range 3 {
		for range 20 {
			in.Tenants = append(in.Tenants, Tenant{Shard: s, Load: load(5_000, 5<<20, 1, 0.01)})
		}
	}
	large, small := len(in.Tenants), len(in.Tenants)+1
	in.Tenants = append(in.Tenants, Tenant{Shard: 0, Load: load(4_000, 10<<20, 6, 0.06)}, Tenant{Shard: 0, Load: load(500, 1<<20, 6, 0.06)})
	p := NewPlan(in)
	require.Len(t, p.Moves, 1)
	require.Equal(t, small, p.Moves[0].Tenant)
	require.Contains(t, []Measure{Queries, Compute}, p.Moves[0].Why)
	in.Tenants[small].Fixed = true
	p = NewPlan(in)
	require.Len(t, p.Moves, 1)
	require.Equal(t, large, p.Moves[0].Tenant)
}

// TestPlanLeavesAlone what cannot be helped, and says so.
func TestPlanLeavesAlone(t *testing.T) {
	in := &Input{Shards: emptyShards(3), Capacity: capacity, Parallel: 1}
	for s := range 3 {
		for range 20 {
			in.Tenants = append(in.Tenants, Tenant{Shard: s, Load: load(1_000, 1<<20, 0, 0)})
		}
	}
	in.Tenants = append(in.Tenants, Tenant{Shard: 2, Load: load(200_000, 200<<20, 0, 0)})
	p := NewPlan(in)
	require.Len(t, p.Stuck, 1)
	require.Equal(t, 60, p.Stuck[0].Tenant, "it is more than a shard's share by itself")
	for _, m := range p.Moves {
		require.NotEqual(t, 60, m.Tenant)
	}
	in.Shards[2].Dedicated = true
	require.Empty(t, NewPlan(in).Moves)
	in.Shards[2].Dedicated, in.Shards[2].Draining = false, true
	require.Empty(t, NewPlan(in).Moves)
	require.Empty(t, NewPlan(&Input{Capacity: capacity}).Moves)
	require.Empty(t, NewPlan(&Input{Shards: emptyShards(2), Capacity: capacity, Tenants: []Tenant{{Load: load(900, 1<<19, 0.5, 0.01)}}}).Moves, "too little to move anybody for")
}

func TestPlanKeepsToCapacity(t *testing.T) {
	in := &Input{Shards: emptyShards(2), Capacity: Capacity{Tenants: 8, Vectors: 1 << 30}, Parallel: 1}
	for i := range 16 {
		in.Tenants = append(in.Tenants, Tenant{Shard: 0, Load: load(1_000+float64(i), 1<<20, 0, 0)})
	}
	p := NewPlan(in)
	require.LessOrEqual(t, len(p.Moves), 8)
	in.MaxMoves = 2
	require.Len(t, NewPlan(in).Moves, 2)
}

// TestPlansEnd carries out plans until there is nothing more to do. Hot shards are relieved, nobody is ever moved twice, and no
// shard becomes hot by what it is given.
func TestPlansEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "shards")
		in := &Input{Shards: emptyShards(n), Capacity: Capacity{Tenants: rapid.IntRange(5, 500).Draw(t, "capacity"), Vectors: 1 << 30}, Parallel: 1,
			MaxMoves: rapid.IntRange(0, 20).Draw(t, "moves")}
		for i := range in.Shards {
			in.Shards[i].Dedicated = rapid.IntRange(0, 9).Draw(t, "dedicated") == 0
		}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		skew := rapid.Float64Range(0, 3).Draw(t, "skew")
		for range rapid.IntRange(0, 200).Draw(t, "tenants") {
			size := math.Pow(rng.Float64()+1e-3, -skew/2)
			shard := int(math.Pow(rng.Float64(), 1+skew) * float64(n))
			in.Tenants = append(in.Tenants, Tenant{Shard: min(shard, n-1), Fixed: rng.IntN(20) == 0,
				Load: load(1000*size, 1e6*size*(0.5+rng.Float64()), rng.ExpFloat64(), rng.ExpFloat64()/20)})
		}
		moved := map[int]bool{}
		total := NewPlan(in).Before
		for round := 0; ; round++ {
			p := NewPlan(in)
			if len(p.Moves) == 0 {
				return
			}
			require.Less(t, round, 250)
			for _, m := range p.Moves {
				require.False(t, moved[m.Tenant], "it was moved before")
				require.False(t, in.Tenants[m.Tenant].Fixed)
				require.Equal(t, m.From, in.Tenants[m.Tenant].Shard)
				moved[m.Tenant] = true
			}
			for i := range p.After {
				_, before := worst(&p.Before[i].Ratios)
				_, after := worst(&p.After[i].Ratios)
				require.LessOrEqual(t, after, max(before, relief)+1e-6, "none becomes hot")
			}
			require.Less(t, unevenness(p.After), unevenness(p.Before))
			carryOut(in.Tenants, p.Moves)
			require.InDelta(t, sumOf(total), sumOf(p.After), 1e-6*sumOf(total)+1e-6)
		}
	})
}

func unevenness(all []Spread) (sum float64) {
	for i := range all {
		for m, r := range all[i].Ratios {
			sum += weights[m] * r * r
		}
	}
	return sum
}

func sumOf(all []Spread) (sum float64) {
	for i := range all {
		sum += all[i].Load[Bytes]
	}
	return sum
}

// cluster100 is 100,000 tenants of Zipf sizes and traffic over 100 shards, on all of them or on few.
func cluster100(shardsUsed int) *Input {
	rng := rand.New(rand.NewPCG(1, 2))
	in := &Input{Shards: emptyShards(100), Capacity: Capacity{Tenants: 2000, Vectors: 40_000_000}, Parallel: 8, Rate: 64 << 20}
	sizes, traffic := rand.NewZipf(rng, 1.1, 8, 1_000_000), rand.NewZipf(rng, 1.1, 4, 1000)
	for range 100_000 {
		v, q := float64(sizes.Uint64()), float64(traffic.Uint64())/10
		in.Tenants = append(in.Tenants, Tenant{Shard: rng.IntN(shardsUsed), Load: load(v, 600*v, q, q/1000)})
	}
	return in
}

func BenchmarkPlan(b *testing.B) {
	for _, used := range []int{100, 50, 1} {
		b.Run(fmt.Sprintf("100000 tenants on %d of 100 shards", used), func(b *testing.B) {
			in := cluster100(used)
			for b.Loop() {
				p := NewPlan(in)
				b.ReportMetric(float64(len(p.Moves)), "moves")
				b.ReportMetric(float64(len(p.Stuck)), "stuck")
			}
		})
	}
}

// TestPlanIsLarge plans for 100,000 tenants. How long that takes is for BenchmarkPlan to say.
func TestPlanIsLarge(t *testing.T) {
	begun := time.Now()
	in := cluster100(50)
	p := NewPlan(in)
	t.Logf("%d moves of %d bytes in %s, %d shards stay hot", len(p.Moves), p.Bytes, time.Since(begun), len(p.Stuck))
	require.Greater(t, len(p.Moves), 1000)
	carryOut(in.Tenants, p.Moves)
	require.Empty(t, NewPlan(in).Moves, "what can be done is done at once")
}
