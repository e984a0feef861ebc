package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

var update = flag.Bool("update", false, "write golden files anew")

// metaModel is the metadata plane as plain maps.
type metaModel struct {
	state   *state
	index   uint64
	tenants map[string]engine.TenantID // that are not deleted
	pins    map[engine.TenantID]int32
	plans   map[engine.TenantID]*tenantModel
	tiers   map[string]map[tenancy.Limit]int64
	strict  bool
	indexes map[string]Index
	dropped map[engine.IndexID]bool
	nextID  engine.IndexID
	keys    map[string]tenancy.Key
	shards  int      // shared
	off     []uint16 // dedicated
	next    int
	rules   Rules
	moves   map[uint64]*moveModel
	epochs  map[engine.TenantID]uint64
}

func newMetaModel(shards int) *metaModel {
	m := &metaModel{
		state: newState(), tenants: map[string]engine.TenantID{}, indexes: map[string]Index{},
		pins: map[engine.TenantID]int32{}, plans: map[engine.TenantID]*tenantModel{}, tiers: map[string]map[tenancy.Limit]int64{},
		dropped: map[engine.IndexID]bool{}, nextID: 1, keys: map[string]tenancy.Key{}, shards: shards, next: shards,
		moves: map[uint64]*moveModel{}, epochs: map[engine.TenantID]uint64{},
	}
	for _, tier := range tenancy.ShippedTiers() {
		m.tiers[tier.Name] = map[tenancy.Limit]int64{}
		for l, v := range tier.Limits.All() {
			m.tiers[tier.Name][l] = v
		}
	}
	ids := shardIDs(shards)
	if res := m.apply(&metaCommand{op: metaInit, clusterID: "c", shards: ids, ring: newRing(ids)}); res.err != nil {
		panic(res.err)
	}
	return m
}

func (m *metaModel) apply(c *metaCommand) metaResult {
	m.index++
	var res metaResult
	m.state, res = executeMeta(m.state, m.index, appendMetaCommand(nil, c))
	return res
}

func (m *metaModel) createTenants(t *rapid.T) {
	c := &metaCommand{op: metaCreateTenants}
	tier := rapid.SampledFrom([]string{"", "gold", "bronze"}).Draw(t, "tier")
	if _, ok := m.tiers[tier]; !ok && tier != "" {
		c.tenants = []*tenant{{name: "refused", tier: tier}}
		require.Equal(t, errs.NotFound, errs.KindOf(m.apply(c).err))
		return
	}
	for range rapid.IntRange(1, 4).Draw(t, "tenants") {
		name := rapid.SampledFrom([]string{"a", "b", "", "ü\x00", "a/b", "long"}).Draw(t, "name")
		var id engine.TenantID
		binary.LittleEndian.PutUint64(id[:], m.index<<8|uint64(len(c.tenants)))
		pin := m.drawShard(t)
		tn := &tenant{name: name, id: id, pin: pin, tier: tier}
		if rapid.Bool().Draw(t, "limited") {
			tn.terms = new(terms)
			tn.terms.own.Set(tenancy.Rate, int64(m.index))
		}
		c.tenants = append(c.tenants, tn)
		if _, ok := m.tenants[name]; !ok {
			m.tenants[name] = id
			m.plans[id] = newTenantModel(tn)
			if m.there(pin) {
				m.pins[id] = pin
			}
		}
	}
	require.NoError(t, m.apply(c).err)
}

func (m *metaModel) createIndex(t *rapid.T) {
	ix := Index{
		Name: rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "index"), Dim: rapid.IntRange(1, 20000).Draw(t, "dim"),
		Metric: ann.DotProduct, Sparse: rapid.Bool().Draw(t, "sparse"), DeletionProtection: rapid.Bool().Draw(t, "protect"),
		Bits: rapid.SampledFrom(codeWidths).Draw(t, "bits"), TargetRecall: rapid.Float32Range(MinRecall, MaxRecall).Draw(t, "recall"),
		CreatedAt: time.Unix(0, int64(m.index)).UTC(),
	}
	res := m.apply(&metaCommand{op: metaCreateIndex, index: ix})
	if _, ok := m.indexes[ix.Name]; ok {
		require.Equal(t, errs.AlreadyExists, errs.KindOf(res.err))
		return
	}
	require.NoError(t, res.err)
	ix.ID, ix.Port = m.nextID, m.lowestPort()
	m.nextID++
	m.indexes[ix.Name] = ix
	require.Equal(t, ix, res.index)
}

func (m *metaModel) lowestPort() int {
	for p := 1; ; p++ {
		if !slices.ContainsFunc(sortedKeys(m.indexes), func(n string) bool { return m.indexes[n].Port == p }) {
			return p
		}
	}
}

func (m *metaModel) drawIndexID(t *rapid.T) (engine.IndexID, string) {
	id := engine.IndexID(rapid.IntRange(0, int(m.nextID)).Draw(t, "id"))
	for name, ix := range m.indexes {
		if ix.ID == id {
			return id, name
		}
	}
	return id, ""
}

func (m *metaModel) configureIndex(t *rapid.T) {
	id, name := m.drawIndexID(t)
	on := rapid.Bool().Draw(t, "protect")
	tag := rapid.SampledFrom([]string{"", "v"}).Draw(t, "tag")
	recall := rapid.SampledFrom([]float32{0, 0.5, 0.999}).Draw(t, "recall")
	res := m.apply(&metaCommand{op: metaConfigureIndex, indexID: id, patch: IndexPatch{
		DeletionProtection: &on, Tags: map[string]string{"t": tag}, Spec: []byte("{}"), TargetRecall: recall,
	}})
	if name == "" {
		require.Equal(t, errs.NotFound, errs.KindOf(res.err))
		return
	}
	ix := m.indexes[name]
	ix.DeletionProtection, ix.Spec, ix.Tags = on, []byte("{}"), nil
	if tag != "" {
		ix.Tags = map[string]string{"t": tag}
	}
	if recall != 0 {
		ix.TargetRecall = recall
	}
	m.indexes[name] = ix
	require.Equal(t, ix, res.index)
}

func (m *metaModel) deleteIndex(t *rapid.T) {
	id, name := m.drawIndexID(t)
	res := m.apply(&metaCommand{op: metaDeleteIndex, indexID: id})
	switch {
	case name == "":
		require.Equal(t, errs.NotFound, errs.KindOf(res.err))
	case m.indexes[name].DeletionProtection:
		require.Equal(t, errs.PermissionDenied, errs.KindOf(res.err))
		require.ErrorContains(t, res.err, "Deletion protection is enabled for this index")
	default:
		require.NoError(t, res.err)
		delete(m.indexes, name)
		m.dropped[id] = true
	}
}

func (m *metaModel) pin(t *rapid.T) {
	if len(m.tenants) == 0 {
		t.Skip("no tenants")
	}
	name := rapid.SampledFrom(sortedKeys(m.tenants)).Draw(t, "name")
	shard := m.drawShard(t)
	err := m.apply(&metaCommand{op: metaPin, tenantID: m.tenants[name], pin: shard}).err
	if shard != noPin && !m.there(shard) {
		require.Equal(t, errs.NotFound, errs.KindOf(err))
		return
	}
	if m.movingModel(m.tenants[name]) != nil {
		require.Equal(t, errs.FailedPrecondition, errs.KindOf(err))
		return
	}
	require.NoError(t, err)
	m.pins[m.tenants[name]] = shard
}

func (m *metaModel) addKey(t *rapid.T) {
	k := tenancy.Key{
		ID: m.drawKey(t), Hash: [32]byte{byte(m.index)}, Name: "n", Role: tenancy.RoleWriter, CreatedAt: time.Unix(0, int64(m.index)).UTC(),
	}
	if rapid.Bool().Draw(t, "expires") {
		k.Expires = time.Unix(1, 0).UTC()
	}
	if len(m.tenants) > 0 && rapid.Bool().Draw(t, "bound") {
		k.TenantID = tenancy.ID(m.tenants[rapid.SampledFrom(sortedKeys(m.tenants)).Draw(t, "tenant")])
	}
	err := m.apply(&metaCommand{op: metaAddKey, key: k}).err
	if _, ok := m.keys[k.ID]; ok {
		require.Equal(t, errs.AlreadyExists, errs.KindOf(err))
		return
	}
	require.NoError(t, err)
	m.keys[k.ID] = k
}

func (m *metaModel) drawKey(t *rapid.T) string {
	return rapid.SampledFrom([]string{"k1", "k2", "k3"}).Draw(t, "key")
}

func (m *metaModel) revokeKey(t *rapid.T) {
	id := m.drawKey(t)
	err := m.apply(&metaCommand{op: metaRevokeKey, key: tenancy.Key{ID: id}}).err
	if _, ok := m.keys[id]; !ok {
		require.Equal(t, errs.NotFound, errs.KindOf(err))
		return
	}
	require.NoError(t, err)
	delete(m.keys, id)
}

func (m *metaModel) refuse(t *rapid.T) {
	m.index++
	before := m.state
	data := rapid.SampledFrom([][]byte{nil, {1}, {0, 1}, {5, 2}, {1, 200}, {1, 2, 200}, {2, 3}}).Draw(t, "data")
	next, res := executeMeta(m.state, m.index, data)
	require.Error(t, res.err)
	m.state = next
	want := *before
	want.index = m.index
	require.Equal(t, appendState(nil, &want), appendState(nil, next))
}

func (m *metaModel) check(t *rapid.T) {
	s := m.state
	require.Equal(t, m.index, s.index)
	require.Equal(t, len(m.tenants), s.byName.n)
	for name, id := range m.tenants {
		tn, ok := s.tenant(name)
		require.True(t, ok)
		require.Equal(t, id, tn.id)
		byID, _ := s.tenantByID(id)
		require.Same(t, tn, byID)
		home := s.ring[slotOf(id)]
		if p, pinned := m.pins[id]; pinned && p != noPin {
			home = uint16(p)
		}
		require.Equal(t, home, s.home(tn))
	}
	require.Equal(t, m.rules, s.rules)
	residents := map[uint16]int{}
	for tn := range s.byID.all() {
		residents[s.home(tn)]++
	}
	for id := range uint16(m.next + 1) {
		require.Equal(t, m.there(int32(id)), s.hasShard(id))
		require.Equal(t, !m.there(int32(id)) && int(id) < m.next, s.removedShard(id))
		require.Equal(t, residents[id], s.tenantsOn(id))
		_, off := s.dedicatedShard(id)
		require.Equal(t, slices.Contains(m.off, id), off)
		require.Equal(t, m.there(int32(id)), len(s.replicas(id)) > 0)
	}
	require.Equal(t, len(m.indexes), len(s.indexes))
	for name, ix := range m.indexes {
		got, ok := s.findIndex(name)
		require.True(t, ok)
		require.Equal(t, ix, got)
	}
	require.Equal(t, len(m.dropped), len(s.dropped))
	for id := range m.dropped {
		require.True(t, s.isDropped(id))
	}
	m.checkPlans(t)
	m.checkMoves(t)
	require.Equal(t, len(m.keys), s.keys.n)
	for id, k := range m.keys {
		got, ok := s.key(id)
		name, alive := m.nameOf(engine.TenantID(k.TenantID))
		k.Tenant = name
		require.Equal(t, !k.Bound() || alive, ok, "a deleted tenant's key is not there, and comes back with it")
		if ok {
			require.Equal(t, k, got)
		}
	}
}

// nameOf is the name of a tenant that is alive.
func (m *metaModel) nameOf(id engine.TenantID) (name string, alive bool) {
	for name, other := range m.tenants {
		if other == id {
			return name, true
		}
	}
	return "", false
}

// snapshot replaces the state by what a snapshot makes of it.
func (m *metaModel) snapshot(t *rapid.T) {
	b := appendState(nil, m.state)
	restored, err := decodeState(b)
	require.NoError(t, err)
	require.Equal(t, b, appendState(nil, restored))
	m.state = restored
}

// TestMetaModel runs random commands, snapshots and restores against plain maps.
func TestMetaModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMetaModel(3)
		m.found("n0")
		t.Repeat(map[string]func(*rapid.T){
			"": m.check, "tenants": m.createTenants, "index": m.createIndex, "configure": m.configureIndex,
			"delete": m.deleteIndex, "pin": m.pin, "key": m.addKey, "revoke": m.revokeKey, "refuse": m.refuse, "snapshot": m.snapshot,
			"add shard": m.addShard, "remove shard": m.removeShard, "rules": m.setRules,
			"set tier": m.setTier, "delete tier": m.deleteTier, "set tenant": m.setTenant, "override": m.override, "strict": m.setStrict,
			"delete tenant": m.deleteTenant, "undelete tenant": m.undeleteTenant, "purge tenant": m.purgeTenant,
			"plan moves": m.planMoves, "step move": m.stepMove,
		})
	})
}

// goldenState is a state with something of everything.
func goldenState() *state {
	m := newMetaModel(4)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for i, name := range []string{DefaultNamespace, "zürich", "a/../b"} {
		m.apply(&metaCommand{op: metaCreateTenants, tenants: []*tenant{{name: name, id: engine.TenantID{byte(i + 1)}, pin: noPin}}})
	}
	m.apply(&metaCommand{op: metaPin, tenantID: engine.TenantID{2}, pin: 3})
	m.apply(&metaCommand{op: metaCreateIndex, index: Index{Name: "gone", Dim: 2, Metric: ann.Cosine, CreatedAt: at}})
	m.apply(&metaCommand{op: metaCreateIndex, index: Index{
		Name: "dense", Dim: 784, Metric: ann.Euclidean, M: 16, EfConstruction: 200, EfSearch: 64, Bits: 4, TargetRecall: 0.97, DeletionProtection: true,
		Tags: map[string]string{"b": "2", "a": "1"}, Spec: []byte(`{"serverless":{}}`), CreatedAt: at,
	}})
	m.apply(&metaCommand{op: metaCreateIndex, index: Index{Name: "sparse", Sparse: true, Metric: ann.DotProduct, CreatedAt: at}})
	m.apply(&metaCommand{op: metaDeleteIndex, indexID: 1})
	m.apply(&metaCommand{op: metaAddKey, key: tenancy.Key{ID: "k", Hash: [32]byte{7}, Name: "first", Role: tenancy.RoleAdmin, CreatedAt: at}})
	for _, c := range goldenMembers(at) {
		m.apply(c)
	}
	for _, c := range goldenShards() {
		m.apply(c)
	}
	for _, c := range slices.Concat(goldenRecovery(at), goldenTenants(at), goldenKeys(at), goldenMoves(at), goldenResidency()) {
		if res := m.apply(c); res.err != nil {
			panic(res.err)
		}
	}
	for _, c := range goldenBalance(m.state, at) {
		if res := m.apply(c); res.err != nil {
			panic(res.err)
		}
	}
	return m.state
}

// goldenKeys adds a tenant's key that ends, and one that is revoked.
func goldenKeys(at time.Time) []*metaCommand {
	return []*metaCommand{
		{op: metaAddKey, key: tenancy.Key{ID: "k2", Hash: [32]byte{8}, Name: "ci", Role: tenancy.RoleWriter, CreatedAt: at, Expires: at.Add(time.Hour), TenantID: tenancy.ID{2}}},
		{op: metaAddKey, key: tenancy.Key{ID: "k3", Role: tenancy.RoleReader, CreatedAt: at}},
		{op: metaRevokeKey, key: tenancy.Key{ID: "k3"}},
	}
}

// goldenRecovery starts a node again and gives two up.
func goldenRecovery(at time.Time) []*metaCommand {
	again := member{id: "n1", address: "10.0.0.1:5180", url: "http://10.0.0.1:5080", zone: "a", starts: 300, life: 1 << 60}
	return []*metaCommand{
		{op: metaRegister, memberCommand: memberCommand{member: again}},
		{op: metaRecover, memberCommand: memberCommand{
			recovery: recovery{id: "r", node: "n1", at: at, lost: []string{"n0", "n7"}}, places: []placement{{3, []string{"n1", "n2"}}},
		}},
	}
}

// goldenMembers lets nodes in, takes one out again and places a shard on two of them.
func goldenMembers(at time.Time) []*metaCommand {
	one := member{id: "n1", address: "10.0.0.1:5180", url: "http://10.0.0.1:5080", zone: "a"}
	two := member{id: "n2", address: "10.0.0.2:5180", zone: "b"}
	gone := member{id: "n0", address: "10.0.0.3:5180"}
	token := [32]byte{9}
	return []*metaCommand{
		{op: metaRegister, memberCommand: memberCommand{member: one}},
		{op: metaAddToken, memberCommand: memberCommand{token: token, expires: at.Add(time.Hour), now: at}},
		{op: metaJoin, memberCommand: memberCommand{member: two, token: token, now: at}},
		{op: metaJoin, memberCommand: memberCommand{member: gone, token: token, now: at}},
		{op: metaSetMember, memberCommand: memberCommand{member: member{id: "n2", state: memberActive}}},
		{op: metaSetMember, memberCommand: memberCommand{member: member{id: "n0", state: memberRemoved}}},
		{op: metaReplication, memberCommand: memberCommand{wanted: 3}},
		{op: metaPlace, memberCommand: memberCommand{place: placement{2, []string{"n2", "n1"}}, epoch: 5}},
	}
}

// TestStateGolden keeps the snapshot's format.
func TestStateGolden(t *testing.T) {
	const path = "testdata/state_v7.bin"
	b := appendState(nil, goldenState())
	if *update {
		require.NoError(t, os.WriteFile(path, b, 0o644))
	}
	golden, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, golden, b)
	s, err := decodeState(golden)
	require.NoError(t, err)
	require.Equal(t, golden, appendState(nil, s))
	require.Equal(t, "metadata at entry 66: 6 shards, 2 indexes, 9 tenants", s.String())
}

// TestStateVersion1 reads what was written before indexes had a width of codes and a target recall.
func TestStateVersion1(t *testing.T) {
	old, err := os.ReadFile("testdata/state_v1.bin")
	require.NoError(t, err)
	s, err := decodeState(old)
	require.NoError(t, err)
	want := beforeMembers(goldenState())
	i := slices.IndexFunc(want.indexes, func(ix Index) bool { return ix.Name == "dense" })
	want.indexes[i].Bits, want.indexes[i].TargetRecall = 0, engine.DefaultRecall
	require.Equal(t, want.indexes, s.indexes)
	require.Equal(t, appendState(nil, want), appendState(nil, s), "written again, it is of the present version")
}

// beforeMembers takes back what came with version 3.
func beforeMembers(s *state) *state {
	old := *beforeShards(s)
	old.index, old.epoch = 10, 1
	old.members, old.placed, old.tokens, old.wanted = nil, nil, nil, 0
	return &old
}

// beforeRecoveries takes back what came with version 5.
func beforeRecoveries(s *state) *state {
	s = beforeTenants(s)
	old := *s
	old.index, old.epoch, old.recoveries = 24, s.epoch-2, nil
	old.placed = slices.Clone(s.placed)
	old.placed[3].replicas = []string{"n1"}
	old.members = slices.Clone(s.members)
	for i := range old.members {
		old.members[i].starts, old.members[i].life = 0, 0
	}
	return &old
}

// TestStateVersion4 reads what was written before starts were counted and nodes given up.
func TestStateVersion4(t *testing.T) {
	b, err := os.ReadFile("testdata/state_v4.bin")
	require.NoError(t, err)
	s, err := decodeState(b)
	require.NoError(t, err)
	require.Equal(t, appendState(nil, beforeRecoveries(goldenState())), appendState(nil, s), "written again, it is of the present version")
}

// TestStateVersion2 reads what was written before there were nodes.
func TestStateVersion2(t *testing.T) {
	old, err := os.ReadFile("testdata/state_v2.bin")
	require.NoError(t, err)
	s, err := decodeState(old)
	require.NoError(t, err)
	require.Equal(t, appendState(nil, beforeMembers(goldenState())), appendState(nil, s), "written again, it is of the present version")
	require.True(t, s.alone())
	require.Nil(t, s.replicas(0))
}

// TestMetaCommandVersion1 executes commands of logs that were written then.
func TestMetaCommandVersion1(t *testing.T) {
	create := "\x01\x03" + "\x00\x01i" + "\x02\x03\x00\x00\x00\x00" + "\x00\x00" + "\x00" + "\x00" + strings.Repeat("\x00", 8)
	s, res := executeMeta(newState(), 1, []byte(create))
	require.NoError(t, res.err)
	require.Equal(t, Index{ID: 1, Name: "i", Dim: 2, Metric: ann.Euclidean, M: 16, EfConstruction: 200,
		TargetRecall: engine.DefaultRecall, Port: 1, CreatedAt: time.Unix(0, 0).UTC()}, res.index)
	s, res = executeMeta(s, 2, []byte("\x01\x04\x01\x03\x00\x00"))
	require.NoError(t, res.err)
	require.True(t, s.indexes[0].DeletionProtection)
}

func TestStateRefusesDamage(t *testing.T) {
	good := appendState(nil, goldenState())
	for at := 0; at < len(good); at += 1 + at/64 {
		bad := bytes.Clone(good)
		bad[at] ^= 0x10
		_, err := decodeState(bad)
		require.Error(t, err, "byte %d", at)
	}
	newer := bytes.Clone(good)
	newer[4] = stateVersion + 1
	_, err := decodeState(newer)
	require.Equal(t, errs.Corrupt, errs.KindOf(err))
	_, err = decodeState(sealed(newer[:len(newer)-4]))
	require.Equal(t, errs.FailedPrecondition, errs.KindOf(err), "a newer version is not called damage")
	_, err = decodeState(good[:len(good)-1])
	require.Equal(t, errs.Corrupt, errs.KindOf(err))
}

// FuzzMetaApply feeds the state machine arbitrary entries: it must neither panic nor reach a state that a snapshot
// cannot carry.
func FuzzMetaApply(f *testing.F) {
	ids := shardIDs(2)
	on := true
	for _, c := range []*metaCommand{
		{op: metaInit, clusterID: "c", shards: ids, ring: newRing(ids)},
		{op: metaCreateTenants, tenants: []*tenant{{name: "t", pin: 1}}},
		{op: metaCreateIndex, index: Index{Name: "i", Tags: map[string]string{"a": "b"}, CreatedAt: time.Unix(1, 0)}},
		{op: metaConfigureIndex, indexID: 1, patch: IndexPatch{DeletionProtection: &on, TargetRecall: 0.9}},
		{op: metaDeleteIndex, indexID: 1},
		{op: metaPin, pin: 1},
		{op: metaHeal, healCommand: healCommand{to: 1, flip: true}},
		{op: metaAddKey, key: tenancy.Key{ID: "k", CreatedAt: time.Unix(1, 0), TenantID: tenancy.ID{1}, Expires: time.Unix(2, 0)}},
		{op: metaRevokeKey, key: tenancy.Key{ID: "k"}},
		goldenPrices(),
	} {
		f.Add(appendMetaCommand(nil, c))
	}
	for _, c := range slices.Concat(goldenMembers(time.Unix(1, 0)), goldenShards(), goldenTenants(time.Unix(1, 0)), goldenMoves(time.Unix(1, 0)), goldenResidency(), goldenBalance(newMetaModel(2).state, time.Unix(1, 0))) {
		f.Add(appendMetaCommand(nil, c))
	}
	bases := []*state{newState(), newMetaModel(2).state, goldenState()}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, s := range bases {
			next, _ := executeMeta(s, s.index+1, data)
			again, _ := executeMeta(s, s.index+1, data)
			b := appendState(nil, next)
			require.Equal(t, b, appendState(nil, again))
			restored, err := decodeState(b)
			require.NoError(t, err)
			require.Equal(t, b, appendState(nil, restored))
		}
	})
}

// FuzzDecodeState feeds the snapshot decoder bodies with a good checksum.
func FuzzDecodeState(f *testing.F) {
	f.Add(appendState(nil, goldenState()))
	f.Add(appendState(nil, newState()))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 4 {
			return
		}
		s, err := decodeState(sealed(data[:len(data)-4]))
		if err != nil {
			return
		}
		for tn := range s.byName.all() {
			if s.clusterID != "" {
				s.home(tn)
			}
		}
	})
}

// TestMetaOpsAreNumbered keeps the numbers that are on disk.
func TestMetaOpsAreNumbered(t *testing.T) {
	ops := []metaOp{metaInit, metaCreateTenants, metaCreateIndex, metaConfigureIndex, metaDeleteIndex, metaPin, metaAddKey,
		metaRegister, metaJoin, metaSetMember, metaPlace, metaAddToken, metaReplication, metaAddShard, metaRemoveShard, metaSetRules, metaRecover,
		metaSetTier, metaDeleteTier, metaSetTenant, metaOverride, metaDeleteTenant, metaUndeleteTenant, metaPurgeTenant, metaSetStrict, metaRevokeKey, metaSetPrices,
		metaPlanMoves, metaStepMove, metaJoinRing, metaDrainShard, metaStartRun, metaEndRun, metaSetBalance, metaHeal, metaBindShard}
	require.Equal(t, "[1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36]", fmt.Sprint(ops))
	_, err := decodeMetaCommand([]byte{metaCommandVersion, 37})
	require.Equal(t, errs.FailedPrecondition, errs.KindOf(err), "number 37 is taken: add it here")
	require.False(t, errors.Is(err, os.ErrNotExist))
}

func TestPortsRunOut(t *testing.T) {
	m := newMetaModel(1)
	for i := range maxPort + 1 {
		res := m.apply(&metaCommand{op: metaCreateIndex, index: Index{Name: fmt.Sprint("i", i), CreatedAt: time.Unix(0, 1)}})
		require.Equal(t, (i+1)%(maxPort+1), res.index.Port)
	}
	require.NoError(t, m.apply(&metaCommand{op: metaDeleteIndex, indexID: 7}).err)
	require.Equal(t, 7, m.state.freePort())
}

// BenchmarkTenantLookup is the lookup of T8: a tenant and its home, among 100,000.
func BenchmarkTenantLookup(b *testing.B) {
	m := newMetaModel(16)
	names := make([]string, 100_000)
	c := &metaCommand{op: metaCreateTenants}
	for i := range names {
		names[i] = fmt.Sprintf("tenant-%07d", i)
		c.tenants = append(c.tenants, newTenant(names[i]))
	}
	m.apply(c)
	b.ReportAllocs()
	i, shards := 0, 0
	for b.Loop() {
		tn, _ := m.state.tenant(names[i])
		shards += int(m.state.home(tn))
		if i += 7919; i >= len(names) {
			i -= len(names)
		}
	}
}

// BenchmarkCreateTenants creates 100,000 tenants one by one.
func BenchmarkCreateTenants(b *testing.B) {
	for b.Loop() {
		m := newMetaModel(16)
		for i := range 100_000 {
			m.apply(&metaCommand{op: metaCreateTenants, tenants: []*tenant{newTenant(fmt.Sprint(i))}})
		}
	}
}

func TestTenantLookupAllocatesNothing(t *testing.T) {
	s := goldenState()
	require.Zero(t, testing.AllocsPerRun(100, func() {
		tn, _ := s.tenant("zürich")
		if s.home(tn) != 3 {
			t.Fatal("pin ignored")
		}
	}))
}
