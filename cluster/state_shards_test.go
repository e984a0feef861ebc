package cluster

import (
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

// there reports whether there is a shard of that id.
func (m *metaModel) there(shard int32) bool {
	return shard >= 0 && (int(shard) < m.shards || slices.Contains(m.off, uint16(shard)))
}

// drawShard draws a shard that is there or not, or none.
func (m *metaModel) drawShard(t *rapid.T) int32 {
	return int32(rapid.IntRange(-1, m.next).Draw(t, "shard"))
}

// found registers the first node.
func (m *metaModel) found(node string) {
	if res := m.apply(&metaCommand{op: metaRegister, memberCommand: memberCommand{member: member{id: node}}}); res.err != nil {
		panic(res.err)
	}
}

func (m *metaModel) addShard(t *rapid.T) {
	founder := rapid.SampledFrom([]string{"n0", "n1"}).Draw(t, "founder")
	epoch := m.state.epoch
	res := m.apply(&metaCommand{op: metaAddShard, shardCommand: shardCommand{founder: founder}})
	if founder != "n0" {
		require.Equal(t, errs.FailedPrecondition, errs.KindOf(res.err))
		return
	}
	require.NoError(t, res.err)
	require.Equal(t, uint16(m.next), res.shard)
	require.Equal(t, epoch+1, m.state.epoch)
	m.off = append(m.off, res.shard)
	m.next++
}

func (m *metaModel) removeShard(t *rapid.T) {
	shard := rapid.IntRange(0, m.next).Draw(t, "shard")
	used := m.state.tenantsOn(uint16(shard)) > 0
	for _, mv := range m.moves {
		used = used || mv.phase.running() && (int(mv.from) == shard || int(mv.to) == shard)
	}
	err := m.apply(&metaCommand{op: metaRemoveShard, shardCommand: shardCommand{shard: uint16(shard)}}).err
	switch {
	case !m.there(int32(shard)):
		require.Equal(t, errs.NotFound, errs.KindOf(err))
	case shard < m.shards || used: // none is ever drained here, see TestRingChangesKeepHomes
		require.Equal(t, errs.FailedPrecondition, errs.KindOf(err))
	default:
		require.NoError(t, err)
		m.off = slices.DeleteFunc(m.off, func(id uint16) bool { return int(id) == shard })
	}
}

func (m *metaModel) setRules(t *rapid.T) {
	r := Rules{Policy: Policy(rapid.IntRange(0, 2).Draw(t, "policy")), ShardTenants: rapid.IntRange(0, maxRule+1).Draw(t, "tenants")}
	err := m.apply(&metaCommand{op: metaSetRules, shardCommand: shardCommand{rules: r}}).err
	if r.Policy > PolicyLeastLoaded || r.ShardTenants > maxRule {
		require.Equal(t, errs.Invalid, errs.KindOf(err))
		return
	}
	require.NoError(t, err)
	m.rules = r
}

// goldenShards adds two dedicated shards and takes one out, and sets rules.
func goldenShards() []*metaCommand {
	return []*metaCommand{
		{op: metaAddShard, shardCommand: shardCommand{name: "acme", founder: "n2"}},
		{op: metaAddShard, shardCommand: shardCommand{founder: "n1"}},
		{op: metaAddShard, shardCommand: shardCommand{founder: "n1"}},
		{op: metaRemoveShard, shardCommand: shardCommand{shard: 5}},
		{op: metaCreateTenants, tenants: []*tenant{{name: "big", id: engine.TenantID{9}, pin: 6}}},
		{op: metaSetRules, shardCommand: shardCommand{rules: Rules{Policy: PolicyLeastLoaded, ShardVectors: 5_000_000}}},
	}
}

// beforeShards takes back what came with version 4, and the tenant that was made for it.
func beforeShards(s *state) *state {
	s = beforeRecoveries(s)
	old := *s
	old.index, old.epoch = 18, s.epoch-4
	old.shards, old.nextShard = shardIDs(4), 4
	old.dedicated, old.rules = nil, Rules{}
	old.placed = slices.DeleteFunc(slices.Clone(s.placed), func(p placement) bool { return p.shard >= 4 })
	old.byName, old.byID = cowMap[*tenant]{}, cowMap[*tenant]{}
	for t := range s.byID.all() {
		if t.name != "big" {
			old.putTenant(t)
		}
	}
	return &old
}

// TestStateVersion3 reads what was written when all shards were on the ring.
func TestStateVersion3(t *testing.T) {
	b, err := os.ReadFile("testdata/state_v3.bin")
	require.NoError(t, err)
	s, err := decodeState(b)
	require.NoError(t, err)
	require.Equal(t, appendState(nil, beforeShards(goldenState())), appendState(nil, s), "written again, it is of the present version")
	require.Equal(t, Rules{}, s.rules)
	require.Equal(t, uint16(4), s.nextShard)
}
