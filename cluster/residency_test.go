package cluster

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/cluster/balance"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

func TestZones(t *testing.T) {
	for _, c := range []struct {
		zones, others string
		within        bool
	}{
		{"eu-1", "eu-1", true}, {"eu-1", "eu-2", false}, {"eu-1", "eu-*", true}, {"eu-1 eu-2", "us-1 eu-*", true},
		{"eu-*", "eu-*", true}, {"eu-*", "eu-1", false}, {"eu-west-*", "eu-*", true}, {"eu-*", "eu-west-*", false},
		{"eu-1 us-1", "eu-*", false}, {"", "eu-*", false}, {"eu", "eu-*", false},
	} {
		require.Equal(t, c.within, zonesWithin(strings.Fields(c.zones), strings.Fields(c.others)), "%+v", c)
	}
	for _, bad := range []string{"", "*", "e*u", "**", "a b", strings.Repeat("z", 64), "\xff"} {
		r := Residency{Zones: []string{bad}}
		require.Equal(t, errs.Invalid, errs.KindOf(r.check()), "%q", bad)
	}
	require.Error(t, (&Residency{Apart: []string{"a", "a"}}).check())
	require.NoError(t, (&Residency{Zones: []string{"eu-*", "us-1"}, Apart: []string{"banks", "zürich"}}).check())
}

// places is a metadata plane with nodes in zones, and a steward that has all that it decides carried out at once.
type places struct {
	*metaModel
	zones  map[string]string
	nextID byte
}

func newPlaces(shards int, zones ...string) *places {
	p := &places{metaModel: newMetaModel(shards), zones: map[string]string{}}
	for i, zone := range zones {
		p.add(fmt.Sprint("n", i), zone)
	}
	return p
}

func (p *places) must(c *metaCommand) {
	if res := p.apply(c); res.err != nil {
		panic(res.err)
	}
}

// add lets a node in.
func (p *places) add(id, zone string) {
	m := member{id: id, zone: zone, address: id}
	p.zones[id] = zone
	at := time.Unix(1, 0)
	if len(p.state.members) == 0 {
		p.must(&metaCommand{op: metaRegister, memberCommand: memberCommand{member: m}})
		return
	}
	p.must(&metaCommand{op: metaAddToken, memberCommand: memberCommand{token: [32]byte{1}, expires: at, now: at}})
	p.must(&metaCommand{op: metaJoin, memberCommand: memberCommand{member: m, token: [32]byte{1}, now: at}})
	p.must(&metaCommand{op: metaSetMember, memberCommand: memberCommand{member: member{id: id, state: memberActive}}})
}

// layout is the steward's, of which some nodes have been silent for long.
func (p *places) layout(lost []string) *layout {
	l := &layout{placed: p.state.placed, wanted: p.state.wanted, bounds: p.state.bounds}
	for _, m := range p.state.members {
		gone := slices.Contains(lost, m.id)
		l.nodes = append(l.nodes, candidate{
			id: m.id, zone: zoneOf(m), takes: m.state == memberActive && !gone, leave: gone || m.state >= memberDraining, drop: m.state >= memberDraining,
		})
	}
	return l
}

// step has the steward take up to n steps.
func (p *places) step(n int, lost ...string) {
	for range n {
		next, ok := p.layout(lost).next()
		if !ok {
			break
		}
		p.must(&metaCommand{op: metaPlace, memberCommand: memberCommand{place: next, epoch: p.state.epoch}})
	}
	for _, b := range p.state.bounds {
		if !b.kept && p.state.inside(b.shard, b.zones) {
			p.must(bindCommand(b.shard, b.zones, p.state.epoch))
		}
	}
}

// bindCommand binds a shard; with an epoch it says that this is done.
func bindCommand(shard uint16, zones []string, epoch uint64) *metaCommand {
	return &metaCommand{op: metaBindShard, shardCommand: shardCommand{shard: shard, zones: zones, kept: epoch != 0, epoch: epoch}}
}

func (p *places) create(pin int32, r Residency) (engine.TenantID, error) {
	p.nextID++
	t := newTenant(fmt.Sprint("t", p.nextID))
	binary.LittleEndian.PutUint64(t.id[:], uint64(p.nextID)) // the same in every run of a seed
	t.slot, t.pin = slotOf(t.id), pin
	if !r.IsZero() {
		t.residency = &r
	}
	return t.id, p.apply(&metaCommand{op: metaCreateTenants, tenants: []*tenant{t}}).err
}

func (p *places) set(id engine.TenantID, r Residency) error {
	c := tenantCommand{residency: ResidencyChange{Zones: &r.Zones, Apart: &r.Apart}}
	return p.apply(&metaCommand{op: metaSetTenant, tenantID: id, tenantCommand: c}).err
}

func (p *places) plan(id engine.TenantID, to uint16) error {
	return p.apply(&metaCommand{op: metaPlanMoves, moveCommand: moveCommand{moves: []wantedMove{{id, to}}, at: time.Unix(5, 0)}}).err
}

// advance brings a migration to a phase that may follow.
func (p *places) advance(id uint64, phases ...movePhase) (err error) {
	for _, phase := range phases {
		m, _ := p.state.migration(id)
		step := moveStep{id: id, attempt: m.attempt, phase: phase, at: time.Unix(6, 0), limit: 100, fence: 1, source: "d", target: "d", until: time.Unix(1000, 0)}
		err = p.apply(&metaCommand{op: metaStepMove, moveCommand: moveCommand{step: step}}).err
	}
	return err
}

var wholeMove = []movePhase{moveStaging, moveCopying, moveTailing, moveFenced, moveFlipped, moveSettled}

// violations looks at all data by itself: who has a copy where, and where the replicas are.
func (p *places) violations() (found []string) {
	has := map[uint16][]*tenant{}
	for t := range p.state.byID.all() {
		has[p.state.home(t)] = append(has[p.state.home(t)], t)
	}
	for _, m := range p.state.moves {
		t, ok := p.state.tenantByID(m.tenant)
		if !ok || m.phase.over() || m.phase == moveSettled && m.kept == m.changed() { // that is being dropped
			continue
		}
		has[m.from], has[m.to] = append(has[m.from], t), append(has[m.to], t)
	}
	for shard, ts := range has {
		for _, t := range ts {
			r := t.resides()
			for _, node := range p.state.replicas(shard) {
				if zone := p.zones[node]; len(r.Zones) > 0 && !inZones(zone, r.Zones) {
					found = append(found, fmt.Sprintf("%s of %v in zone %s", t.name, r.Zones, zone))
				}
			}
			for _, o := range ts {
				if o.id != t.id && r.keptFrom(o.residency) {
					found = append(found, fmt.Sprintf("%s beside %s", t.name, o.name))
				}
			}
		}
	}
	return found
}

// TestResidencyRules: who may live where, and what is refused with which advice.
func TestResidencyRules(t *testing.T) {
	p := newPlaces(3, "eu-1", "eu-2", "us-1")
	p.step(100)
	eu := Residency{Zones: []string{"eu-*"}}
	refused := func(err error, text string) {
		t.Helper()
		require.Equal(t, errs.FailedPrecondition, errs.KindOf(err))
		require.ErrorContains(t, err, text)
	}
	_, err := p.create(1, eu)
	refused(err, "shard 1 is bound to none")
	refused(p.apply(bindCommand(1, []string{"as-*"}, 0)).err, "no active node is in zone as-*")
	p.must(bindCommand(1, []string{"eu-*"}, 0))
	_, err = p.create(1, eu)
	refused(err, "shard 1 has replicas elsewhere still")
	refused(p.apply(bindCommand(1, []string{"eu-*"}, p.state.epoch+1)).err, "it is")
	p.must(bindCommand(1, []string{"eu-*"}, p.state.epoch))
	require.False(t, p.state.boundOf(1).kept, "one replica is in us-1 still, whoever says what")
	p.step(100)
	require.ElementsMatch(t, []string{"n0", "n1"}, p.state.replicas(1))
	one, err := p.create(1, Residency{Zones: eu.Zones, Apart: []string{"banks"}})
	require.NoError(t, err)
	refused(p.apply(bindCommand(1, nil, 0)).err, `tenant "t3"`)
	refused(p.apply(bindCommand(1, []string{"us-1"}, 0)).err, `tenant "t3"`)
	require.NoError(t, p.apply(bindCommand(1, []string{"eu-1", "eu-2"}, 0)).err, "of eu-*, too")
	p.step(100)

	_, err = p.create(1, Residency{Apart: []string{"shops", "banks"}})
	refused(err, `kept apart from tenant "t3"`)
	two, err := p.create(2, Residency{Apart: []string{"banks"}})
	require.NoError(t, err)
	refused(p.plan(two, 1), "kept apart")
	refused(p.plan(one, 2), "bound to none")
	require.NoError(t, p.plan(two, 0))
	_, err = p.create(0, Residency{Apart: []string{"banks"}})
	refused(err, "until migration 1 is over")
	require.NoError(t, p.advance(1, wholeMove...))
	_, err = p.create(2, Residency{Apart: []string{"banks"}})
	refused(err, "until migration 1 is over")

	refused(p.set(two, eu), "shard 0 is bound to none")
	require.Contains(t, errs.HintOf(p.set(two, eu)), "allow it both places", "with its group, it may not be where t3 is")
	three, err := p.create(2, Residency{})
	require.NoError(t, err)
	require.Contains(t, errs.HintOf(p.set(three, eu)), "croft tenants move t8 --to 1")
	refused(p.set(two, Residency{Zones: []string{"us-1"}}), "bound to none")
	p.must(bindCommand(0, []string{"us-1"}, 0))
	p.step(100)
	require.NoError(t, p.set(two, Residency{Zones: []string{"us-1"}}))
	m, _ := p.state.migration(1)
	require.Equal(t, m.changed(), m.kept, "the copy on shard 2, which is not bound to us-1, is not kept")
	refused(p.apply(&metaCommand{op: metaPin, tenantID: two, pin: 2}).err, "bound to none")
	require.NoError(t, p.apply(&metaCommand{op: metaPin, tenantID: two, pin: 0}).err)
	require.Empty(t, p.violations())
	require.NoError(t, p.set(two, Residency{}))
	require.Nil(t, mustTenant(t, p.state, two).residency)
}

func mustTenant(t require.TestingT, s *state, id engine.TenantID) *tenant {
	found, ok := s.tenantByID(id)
	require.True(t, ok)
	return found
}

// TestWayOut: a tenant leaves a shard that is drained for where the ring says, or for another shared shard where it may live.
func TestWayOut(t *testing.T) {
	p := newPlaces(3, "a")
	id, err := p.create(noPin, Residency{Apart: []string{"g"}})
	require.NoError(t, err)
	ring := p.state.home(mustTenant(t, p.state, id))
	home, other := (ring+1)%3, (ring+2)%3
	require.NoError(t, p.apply(&metaCommand{op: metaPin, tenantID: id, pin: int32(home)}).err)
	drained := func() (uint16, bool) {
		s := *p.state
		s.draining = []uint16{home}
		return s.wayOut(mustTenant(t, &s, id))
	}
	_, ok := p.state.wayOut(mustTenant(t, p.state, id))
	require.False(t, ok, "it was put there")
	to, ok := drained()
	require.True(t, ok)
	require.Equal(t, ring, to)
	_, err = p.create(int32(ring), Residency{Apart: []string{"g"}})
	require.NoError(t, err)
	to, ok = drained()
	require.True(t, ok)
	require.Equal(t, other, to)
	_, err = p.create(int32(other), Residency{Apart: []string{"g"}})
	require.NoError(t, err)
	to, ok = drained()
	require.True(t, ok)
	require.Equal(t, ring, to, "it is tried, and refused, so that somebody hears of it")
}

// TestFaultsOfResidency: a node that is started in another zone is told of, and heals.
func TestFaultsOfResidency(t *testing.T) {
	p := newPlaces(2, "eu-1", "eu-2")
	p.must(bindCommand(1, []string{"eu-1"}, 0))
	p.step(10)
	_, err := p.create(1, Residency{Zones: []string{"eu-1"}})
	require.NoError(t, err)
	shown := func() []ShardInfo {
		info := ShardInfo{ID: 1}
		for _, node := range p.state.replicas(1) {
			info.Replicas = append(info.Replicas, ReplicaInfo{Node: node, Role: RoleVoter})
		}
		return []ShardInfo{info}
	}
	require.Empty(t, p.state.residencyFaults(shown()))
	p.must(&metaCommand{op: metaRegister, memberCommand: memberCommand{member: member{id: "n0", zone: "us-1", address: "n0", starts: 1}}})
	faults := p.state.residencyFaults(shown())
	require.Len(t, faults, 1)
	require.Contains(t, faults[0].What, `a replica in "us-1"`)
	w := balance.Check(&balance.Figures{Misplaced: faults})
	require.Equal(t, balance.Residency, w[0].Type)
	require.Equal(t, balance.Critical, w[0].Severity)
	require.Equal(t, []string{"t1"}, w[0].Tenants)
	_, err = p.create(1, Residency{Zones: []string{"eu-1"}})
	require.ErrorContains(t, err, "replicas elsewhere")
	p.add("n2", "eu-1")
	p.step(10)
	require.Equal(t, []string{"n2"}, p.state.replicas(1))
	require.Empty(t, p.state.residencyFaults(shown()))
}

// TestRecoveryOutsideOfItsZone: a shard that goes on elsewhere after a loss takes no more tenants that may not be there.
func TestRecoveryOutsideOfItsZone(t *testing.T) {
	p := newPlaces(1, "eu-1", "us-1")
	p.must(bindCommand(0, []string{"eu-1"}, 0))
	p.step(10)
	require.True(t, p.state.boundOf(0).kept)
	p.must(&metaCommand{op: metaRecover, memberCommand: memberCommand{
		recovery: recovery{id: "r", node: "n1", at: time.Unix(9, 0), lost: []string{"n0"}}, places: []placement{{0, []string{"n1"}}},
	}})
	require.False(t, p.state.boundOf(0).kept)
	_, err := p.create(0, Residency{Zones: []string{"eu-1"}})
	require.ErrorContains(t, err, "replicas elsewhere")
}

// TestResidencyHolds: whatever is asked for, and whichever nodes come, go and are lost, no replica is where a tenant of its shard may
// not be, and no two tenants of a group are on one shard.
func TestResidencyHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		zones := []string{"eu-1", "eu-2", "us-1", ""}
		p := newPlaces(4, "eu-1", "us-1", "eu-2", "")
		p.step(20)
		some := func(of ...string) (all []string) {
			for _, s := range of {
				if rapid.IntRange(0, 2).Draw(t, s) == 0 {
					all = append(all, s)
				}
			}
			return all
		}
		residency := func() Residency { return Residency{some("eu-1", "eu-*", "us-*"), some("a", "b")} }
		shard := func() uint16 { return uint16(rapid.IntRange(0, 3).Draw(t, "shard")) }
		var lost []string
		drawn := func() *tenant {
			if p.nextID == 0 {
				t.Skip("no tenant")
			}
			var id engine.TenantID
			binary.LittleEndian.PutUint64(id[:], uint64(rapid.IntRange(1, int(p.nextID)).Draw(t, "tenant")))
			found, ok := p.state.tenantByID(id)
			if !ok {
				t.Skip("refused")
			}
			return found
		}
		node := func() string {
			return rapid.SampledFrom(p.state.members).Draw(t, "node").id
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				require.Empty(t, p.violations())
				require.True(t, slices.IsSortedFunc(p.state.groups, grouped.compare))
			},
			"create": func(*rapid.T) {
				if p.nextID < 200 {
					_, _ = p.create(int32(shard())-int32(rapid.IntRange(0, 1).Draw(t, "ring")*5), residency())
				}
			},
			"set":  func(*rapid.T) { _ = p.set(drawn().id, residency()) },
			"pin":  func(*rapid.T) { _ = p.apply(&metaCommand{op: metaPin, tenantID: drawn().id, pin: int32(shard())}) },
			"bind": func(*rapid.T) { _ = p.apply(bindCommand(shard(), some("eu-1", "eu-2", "eu-*", "us-1"), 0)) },
			"done": func(*rapid.T) { _ = p.apply(bindCommand(shard(), some("eu-1", "eu-2"), p.state.epoch)) },
			"move": func(*rapid.T) { _ = p.plan(drawn().id, shard()) },
			"migrate": func(t *rapid.T) {
				if m := drawn().moving; m != 0 {
					_ = p.advance(m, rapid.SampledFrom([][]movePhase{wholeMove, wholeMove[:3], {moveAborting}, {moveAborting, moveAborted}}).Draw(t, "phases")...)
				}
			},
			"delete": func(*rapid.T) {
				_ = p.apply(&metaCommand{op: metaDeleteTenant, tenantID: drawn().id, tenantCommand: tenantCommand{at: time.Unix(7, 0)}})
			},
			"undelete": func(*rapid.T) { _ = p.apply(&metaCommand{op: metaUndeleteTenant, tenantID: drawn().id}) },
			"purge": func(*rapid.T) {
				id := drawn().id
				_ = p.apply(&metaCommand{op: metaPurgeTenant, tenantID: id})
				_ = p.apply(&metaCommand{op: metaPurgeTenant, tenantID: id, tenantCommand: tenantCommand{done: true}})
			},
			"join": func(t *rapid.T) {
				if n := len(p.state.members); n < 9 {
					p.add(fmt.Sprint("n", n), rapid.SampledFrom(zones).Draw(t, "zone"))
				}
			},
			"lose": func(*rapid.T) { lost = append(lost, node()) },
			"find": func(*rapid.T) { lost = nil },
			"drain": func(*rapid.T) {
				_ = p.apply(&metaCommand{op: metaSetMember, memberCommand: memberCommand{member: member{id: node(), state: memberDraining}}})
			},
			"remove": func(*rapid.T) {
				_ = p.apply(&metaCommand{op: metaSetMember, memberCommand: memberCommand{member: member{id: node(), state: memberRemoved}, force: true}})
			},
			"place": func(*rapid.T) { // as a steward would that knows of no bounds
				place := placement{shard(), []string{node()}}
				if before := p.state.replicas(place.shard); !slices.Contains(before, place.replicas[0]) {
					place.replicas = append(place.replicas, before[0])
				}
				_ = p.apply(&metaCommand{op: metaPlace, memberCommand: memberCommand{place: place, epoch: p.state.epoch}})
			},
			"step":     func(t *rapid.T) { p.step(rapid.IntRange(1, 30).Draw(t, "steps"), lost...) },
			"snapshot": func(t *rapid.T) { p.metaModel.snapshot(t) },
		})
	})
}

// TestLostNodeOfAZone binds a shard to one of three zones and takes its node away for good: the shard stays there, on another node.
func TestLostNodeOfAZone(t *testing.T) {
	zones := map[string]string{"http://node0": "a", "http://node1": "b", "http://node2": "c", "http://node3": "b", "http://node4": "b"}
	inClusterWith(t, 5, func(o *Options) { o.Zone, o.ReplaceAfter = zones[o.URL], 20*time.Second }, func(c *simCluster) {
		t, n := c.t, c.nodes[0]
		ix := createIndex(t, n, "dense")
		id, err := n.AddShard(t.Context(), "b", "b")
		require.NoError(t, err)
		c.settle()
		of := func(node int) string { return c.nodes[node].id.NodeID }
		b := []string{of(1), of(3), of(4)}
		slices.Sort(b)
		require.Equal(t, b, slices.Sorted(slices.Values(n.meta.state().replicas(uint16(id)))))
		plan := Plan{Residency: Residency{Zones: []string{"b"}, Apart: []string{"banks"}}}
		_, err = n.CreateTenant(t.Context(), "acme", AnyShard, plan)
		require.Equal(t, errs.FailedPrecondition, errs.KindOf(err))
		require.Contains(t, errs.HintOf(err), fmt.Sprint("--shard ", id))
		_, err = n.CreateTenant(t.Context(), "acme", id, plan)
		require.NoError(t, err)
		require.Equal(t, id, upsert(t, n, ix, "acme", 1).Shard)
		_, err = c.nodes[2].CreateTenant(t.Context(), "other", id, plan)
		require.ErrorContains(t, err, `kept apart from tenant "acme"`)
		_, err = n.SetTenant(t.Context(), "acme", TenantChange{Residency: ResidencyChange{Zones: &[]string{"a"}}})
		require.Equal(t, errs.FailedPrecondition, errs.KindOf(err))
		require.NoError(t, n.BindShard(t.Context(), 1, []string{"a", "b"}))
		c.until("shard 1 is where it is bound to", func() bool { return n.meta.state().boundOf(1).kept })

		gone := of(1)
		c.kill(1)
		c.until("nothing is left to be done without the node", func() bool {
			s := c.nodes[0].meta.state()
			return !slices.ContainsFunc(s.placed, func(p placement) bool { return p.shard != uint16(id) && slices.Contains(p.replicas, gone) })
		})
		s := c.nodes[0].meta.state()
		require.Equal(t, b, slices.Sorted(slices.Values(s.replicas(uint16(id)))), "the third stays wanted on the lost node: there is no other in the zone")
		require.Equal(t, id, upsert(t, c.nodes[0], ix, "acme", 2).Shard)
		for _, node := range s.replicas(1) {
			m, _ := s.member(node)
			require.Contains(t, []string{"a", "b"}, m.zone)
		}
		zones["http://node5"] = "b"
		c.start(5)
		c.until("the new node of the zone takes its place", func() bool {
			return slices.Contains(c.nodes[0].meta.state().replicas(uint16(id)), of(5)) && !slices.Contains(c.nodes[0].meta.state().replicas(uint16(id)), gone)
		})
		c.until("it can be removed", func() bool { return c.nodes[0].RemoveNode(t.Context(), gone, true) == nil })
		c.settle()
		require.Empty(t, c.nodes[0].meta.state().residencyFaults(c.nodes[0].Info(t.Context()).Shards))
	})
}

// goldenResidency binds a shard to a zone, and a tenant to it that is kept apart; and then changes that.
func goldenResidency() []*metaCommand {
	apart := []string{"banks"}
	return []*metaCommand{
		bindCommand(6, []string{"a", "eu-*"}, 0),
		{op: metaCreateTenants, tenants: []*tenant{{name: "moved-not", id: engine.TenantID{42}, pin: 4, residency: &Residency{Apart: []string{"shops"}}}}},
		{op: metaSetTenant, tenantID: engine.TenantID{42}, tenantCommand: tenantCommand{residency: ResidencyChange{Apart: &apart}}},
	}
}
