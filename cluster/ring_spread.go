package cluster

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

// RingSpread tells how tenants with random ids lie on a ring, beside what theory says. Deviations are counted in
// standard deviations; Within is true if none is beyond 3 and no shard has more slots than the bound.
//
// Given the slots of each shard, tenants are a multinomial sample: Pearson's chi-squared says how far their spread is
// from it (Wilson and Hilferty's normal form, good from 4 degrees of freedom on). A shard's share of slots is
// Beta(V, (N-1)V) distributed by its V points on the circle, and slots fall into it at random; the bound cuts the
// upper tail, so that the spread of slots may lie below theory, not above.
type RingSpread struct {
	Shards  int `json:"shards"`
	Tenants int `json:"tenants"`

	Mean           float64 `json:"mean"` // tenants of a shard
	Min            int     `json:"min"`
	Max            int     `json:"max"`
	Stddev         float64 `json:"stddev"`
	StddevExpected float64 `json:"stddev_expected"` // from the slots of each shard
	SpreadSigmas   float64 `json:"spread_sigmas"`

	SlotsMin            int     `json:"slots_min"`
	SlotsMax            int     `json:"slots_max"`
	SlotsBound          int     `json:"slots_bound"`
	SlotsStddev         float64 `json:"slots_stddev"`
	SlotsStddevExpected float64 `json:"slots_stddev_expected"` // without the bound
	SlotsAtBound        int     `json:"slots_at_bound"`        // shards that have as many slots as they may

	Moved         float64 `json:"moved"`          // share of tenants that move when a shard is added
	MovedExpected float64 `json:"moved_expected"` // 1/(N+1)
	MovedSigmas   float64 `json:"moved_sigmas"`
	Astray        int     `json:"astray"` // tenants that moved elsewhere than to the new shard: never any

	Within bool `json:"within"`
}

// MeasureRing lays each number of shards out on a ring, puts each number of tenants on it, and adds a shard. The same
// seed draws the same tenants. Invalid: no shards, more than half the slots, or no tenants.
func MeasureRing(shards, tenants []int, seed uint64) ([]RingSpread, error) {
	for _, n := range shards {
		if n < 2 || n > Slots/2 {
			return nil, errs.New(errs.Invalid, "%d shards on a ring, must be 2 to %d", n, Slots/2)
		}
	}
	for _, n := range tenants {
		if n < 1 {
			return nil, errs.New(errs.Invalid, "%d tenants on a ring, must be at least 1", n)
		}
	}
	samples := make([][]int, len(tenants))
	for i, n := range tenants {
		samples[i] = sampleSlots(n, seed)
	}
	var rows []RingSpread
	for _, n := range shards {
		table := newRing(firstShards(n))
		grown := table.with(uint16(n))
		for i, slots := range samples {
			rows = append(rows, spreadOf(table, grown, slots, tenants[i]))
		}
	}
	return rows, nil
}

func firstShards(n int) []uint16 {
	ids := make([]uint16, n)
	for i := range ids {
		ids[i] = uint16(i)
	}
	return ids
}

// sampleSlots counts tenants with random ids by slot.
func sampleSlots(tenants int, seed uint64) []int {
	rng := rand.New(rand.NewPCG(seed, uint64(tenants)))
	slots := make([]int, Slots)
	var id engine.TenantID
	for range tenants {
		binary.LittleEndian.PutUint64(id[:8], rng.Uint64())
		binary.LittleEndian.PutUint64(id[8:], rng.Uint64())
		slots[slotOf(id)]++
	}
	return slots
}

// spreadOf measures tenants, given by slot, on a table and on the one that it becomes with another shard.
func spreadOf(table, grown ringTable, tenantsBySlot []int, tenants int) RingSpread {
	owned := table.loads(slices.Max(table))
	n := len(owned)
	held := make([]int, n)
	newcomer := slices.Max(grown)
	moved, astray := 0, 0
	for slot, count := range tenantsBySlot {
		held[table[slot]] += count
		switch grown[slot] {
		case table[slot]:
		case newcomer:
			moved += count
		default:
			astray += count
		}
	}
	r := RingSpread{
		Shards: n, Tenants: tenants, Mean: float64(tenants) / float64(n), Min: slices.Min(held), Max: slices.Max(held),
		Stddev: stddev(held), SlotsMin: slices.Min(owned), SlotsMax: slices.Max(owned), SlotsBound: loadBound(n),
		SlotsStddev: stddev(owned), SlotsStddevExpected: slotsSigma(n),
		Moved: float64(moved) / float64(tenants), MovedExpected: 1 / float64(n+1), Astray: astray,
	}
	for _, slots := range owned {
		if slots == r.SlotsBound {
			r.SlotsAtBound++
		}
	}
	r.StddevExpected, r.SpreadSigmas = sampling(held, owned, tenants)
	r.MovedSigmas = (r.Moved - r.MovedExpected) / movedSigma(n+1, tenants)
	r.Within = math.Abs(r.SpreadSigmas) <= 3 && math.Abs(r.MovedSigmas) <= 3 && r.Astray == 0 &&
		r.SlotsMax <= r.SlotsBound && r.slotsSigmas() <= 3
	return r
}

// slotsSigmas is how far the spread of slots is above theory.
func (r *RingSpread) slotsSigmas() float64 {
	ratio := r.SlotsStddev / r.SlotsStddevExpected
	return chiSquaredSigmas(float64(r.Shards-1)*ratio*ratio, float64(r.Shards-1))
}

// sampling returns the spread that tenants drawn at random have among shards with these slots, and how far the
// measured one is from it.
func sampling(held, owned []int, tenants int) (expected, sigmas float64) {
	t, mean := float64(tenants), float64(tenants)/float64(len(held))
	chi, squares := 0.0, 0.0
	for i, slots := range owned {
		p := float64(slots) / Slots
		d := float64(held[i]) - t*p
		chi += d * d / (t * p)
		squares += t*p*(1-p) + (t*p-mean)*(t*p-mean)
	}
	return math.Sqrt(squares / float64(len(held))), chiSquaredSigmas(chi, float64(len(held)-1))
}

// chiSquaredSigmas is a chi-squared value as a standard normal one.
func chiSquaredSigmas(x, freedom float64) float64 {
	v := 2 / (9 * freedom)
	return (math.Cbrt(x/freedom) - (1 - v)) / math.Sqrt(v)
}

// slotsSigma is the standard deviation of the slots of one of n shards, without a bound: its share of the circle is
// Beta distributed, and slots fall into it at random.
func slotsSigma(n int) float64 {
	p := 1 / float64(n)
	share := p * (1 - p) / (float64(n)*virtualNodes + 1)
	return math.Sqrt(Slots*p*(1-p) + Slots*Slots*share)
}

// movedSigma is the standard deviation of the share of tenants on one of n shards.
func movedSigma(n, tenants int) float64 {
	p := 1 / float64(n)
	return math.Hypot(slotsSigma(n)/Slots, math.Sqrt(p*(1-p)/float64(tenants)))
}

// RingSigmas are the standard deviations of the share of slots, and of the share of tenants, that one of n shards has.
func RingSigmas(n, tenants int) (ofSlots, ofTenants float64) {
	return slotsSigma(n) / Slots, movedSigma(n, tenants)
}

func stddev(counts []int) float64 {
	sum, squares := 0.0, 0.0
	for _, c := range counts {
		sum += float64(c)
	}
	mean := sum / float64(len(counts))
	for _, c := range counts {
		squares += (float64(c) - mean) * (float64(c) - mean)
	}
	return math.Sqrt(squares / float64(len(counts)))
}
