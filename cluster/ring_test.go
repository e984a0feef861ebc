package cluster

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
)

func shardIDs(n int) []uint16 {
	ids := make([]uint16, n)
	for i := range ids {
		ids[i] = uint16(i)
	}
	return ids
}

func requireBounded(t require.TestingT, table ringTable) {
	bound := loadBound(len(table.shards()))
	for shard, load := range table.loads(slices.Max(table)) {
		require.LessOrEqual(t, load, bound, "shard %d", shard)
	}
}

func movedSlots(a, b ringTable) []int {
	var moved []int
	for slot := range a {
		if a[slot] != b[slot] {
			moved = append(moved, slot)
		}
	}
	return moved
}

func TestRingMovesItsShare(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5, 16, 64, 255} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			table := newRing(shardIDs(n))
			added := table.with(uint16(n))
			require.InDelta(t, Slots/float64(n+1), len(movedSlots(table, added)), 3*slotsSigma(n+1), "slots moved by adding")
			if n > 1 {
				removed := table.without(0)
				require.InDelta(t, Slots/float64(n), len(movedSlots(table, removed)), 3*slotsSigma(n), "slots moved by removing")
			}
		})
	}
}

// TestRingChanges adds and removes shards at random: nothing moves but what must, and no shard gets too much.
func TestRingChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := newRing(shardIDs(rapid.IntRange(1, 12).Draw(t, "shards")))
		next := uint16(100)
		for range rapid.IntRange(1, 3).Draw(t, "changes") {
			shards := table.shards()
			if len(shards) > 1 && rapid.Bool().Draw(t, "remove") {
				gone := rapid.SampledFrom(shards).Draw(t, "gone")
				changed := table.without(gone)
				for slot := range table {
					if (table[slot] == gone) != (table[slot] != changed[slot]) {
						t.Fatalf("slot %d of shard %d is on shard %d after %d left", slot, table[slot], changed[slot], gone)
					}
				}
				require.NotContains(t, changed.shards(), gone)
				table = changed
			} else {
				changed := table.with(next)
				for _, slot := range movedSlots(table, changed) {
					if changed[slot] != next {
						t.Fatalf("slot %d moved to shard %d when %d joined", slot, changed[slot], next)
					}
				}
				require.Contains(t, changed.shards(), next)
				table, next = changed, next+1
			}
			requireBounded(t, table)
		}
	})
}

func TestRingIsDeterministic(t *testing.T) {
	table := newRing(shardIDs(16))
	requireBounded(t, table)
	require.Equal(t, table, newRing(shardIDs(16)))
	require.Equal(t, table.with(16), newRing(shardIDs(16)).with(16))
	require.Equal(t, shardIDs(16), table.shards())
	// The layout is stored, but a change of it would surprise whoever compares two versions.
	require.Equal(t, uint64(0x5a5371817e6638fc), codec.Hash(appendUint16s(nil, table)), "hash of the table of 16 shards")
}

func TestSlotOfTenantIsFixed(t *testing.T) {
	require.Equal(t, uint16(0x3c32), slotOf(engine.TenantID{}))
	counts := make([]int, Slots)
	for i := range 10 * Slots {
		counts[slotOf(engine.TenantID{byte(i), byte(i >> 8), byte(i >> 16)})]++
	}
	require.Less(t, slices.Max(counts), 40, "10 tenants a slot on average")
}
