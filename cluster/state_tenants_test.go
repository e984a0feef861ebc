package cluster

import (
	"encoding/binary"
	"maps"
	"math"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// tenantModel is a tenant as plain values.
type tenantModel struct {
	name     string
	tier     string
	own      map[tenancy.Limit]int64
	override tenancy.Override
	life     tenantLife
	seen     *tenancy.Settings // at the last look
}

func newTenantModel(t *tenant) *tenantModel {
	m := &tenantModel{name: t.name, tier: t.tierName(), own: map[tenancy.Limit]int64{}}
	own := t.ownLimits()
	for l, v := range own.All() {
		m.own[l] = v
	}
	return m
}

func limitsOf(m map[tenancy.Limit]int64) (ls tenancy.Limits) {
	for l, v := range m {
		ls.Set(l, v)
	}
	return ls
}

// drawChange draws a change of a few limits, and changes m unless it is refused.
func drawChange(t *rapid.T, m map[tenancy.Limit]int64) (c tenancy.Change, good bool) {
	some := rapid.SampledFrom([]tenancy.Limit{tenancy.Rate, tenancy.TopK, tenancy.Overage})
	good = true
	if rapid.Bool().Draw(t, "set") {
		l, v := some.Draw(t, "limit"), rapid.Int64Range(0, 2).Draw(t, "value")
		c.Set.Set(l, v)
		good = l.Check(v) == nil
	}
	if rapid.Bool().Draw(t, "inherit") {
		c.Inherit = []tenancy.Limit{some.Draw(t, "inherited")}
	}
	if !good {
		return c, false
	}
	for _, l := range c.Inherit {
		delete(m, l)
	}
	for l, v := range c.Set.All() {
		m[l] = v
	}
	return c, true
}

func (m *metaModel) tenantCommand(op metaOp, id engine.TenantID, c tenantCommand) error {
	return m.apply(&metaCommand{op: op, tenantID: id, tenantCommand: c}).err
}

func (m *metaModel) drawTier(t *rapid.T) string {
	return rapid.SampledFrom([]string{"standard", "gold", "bronze", "Gold"}).Draw(t, "tier")
}

func (m *metaModel) setTier(t *rapid.T) {
	name, create := m.drawTier(t), rapid.Bool().Draw(t, "create")
	old, there := m.tiers[name]
	next := map[tenancy.Limit]int64{}
	for l, v := range old {
		next[l] = v
	}
	change, good := drawChange(t, next)
	err := m.tenantCommand(metaSetTier, engine.TenantID{}, tenantCommand{tier: name, create: create, limits: change})
	switch {
	case create && there:
		require.Equal(t, errs.AlreadyExists, errs.KindOf(err))
	case !create && !there:
		require.Equal(t, errs.NotFound, errs.KindOf(err))
	case !good || name == "Gold":
		require.Equal(t, errs.Invalid, errs.KindOf(err))
	default:
		require.NoError(t, err)
		m.tiers[name] = next
	}
}

func (m *metaModel) deleteTier(t *rapid.T) {
	name := m.drawTier(t)
	err := m.tenantCommand(metaDeleteTier, engine.TenantID{}, tenantCommand{tier: name})
	used := false
	for _, tm := range m.plans {
		used = used || tm.tier == name
	}
	switch _, there := m.tiers[name]; {
	case !there:
		require.Equal(t, errs.NotFound, errs.KindOf(err))
	case used || name == tenancy.DefaultTier:
		require.Equal(t, errs.FailedPrecondition, errs.KindOf(err))
	default:
		require.NoError(t, err)
		delete(m.tiers, name)
	}
}

// drawPlan draws a tenant by its id, which nobody may have.
func (m *metaModel) drawPlan(t *rapid.T) (engine.TenantID, *tenantModel) {
	ids := []engine.TenantID{{1}}
	for id := range m.plans {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b engine.TenantID) int { return slices.Compare(a[:], b[:]) })
	id := rapid.SampledFrom(ids).Draw(t, "tenant")
	return id, m.plans[id]
}

func (m *metaModel) setTenant(t *rapid.T) {
	id, tm := m.drawPlan(t)
	tier := rapid.SampledFrom([]string{"", "standard", "gold", "bronze"}).Draw(t, "tier")
	next := map[tenancy.Limit]int64{}
	if tm != nil {
		for l, v := range tm.own {
			next[l] = v
		}
	}
	change, good := drawChange(t, next)
	err := m.tenantCommand(metaSetTenant, id, tenantCommand{tier: tier, limits: change})
	switch _, known := m.tiers[tier]; {
	case tm == nil || tm.life != tenantLive:
		require.Equal(t, errs.NotFound, errs.KindOf(err))
	case !good:
		require.Equal(t, errs.Invalid, errs.KindOf(err))
	case tier != "" && !known:
		require.Equal(t, errs.NotFound, errs.KindOf(err))
	default:
		require.NoError(t, err)
		tm.own = next
		if tier != "" {
			tm.tier = tier
		}
	}
}

func (m *metaModel) override(t *rapid.T) {
	id, tm := m.drawPlan(t)
	o := tenancy.Override{
		Factor: rapid.SampledFrom([]float64{0, 0.5, 10, -1, 1001, math.NaN()}).Draw(t, "factor"),
		Until:  time.Date(rapid.SampledFrom([]int{2000, 2100}).Draw(t, "year"), 1, 1, 0, 0, 0, 0, time.UTC),
	}
	err := m.tenantCommand(metaOverride, id, tenantCommand{override: o})
	switch {
	case tm == nil || tm.life != tenantLive:
		require.Equal(t, errs.NotFound, errs.KindOf(err))
	case o.Check() != nil:
		require.Equal(t, errs.Invalid, errs.KindOf(err))
	default:
		require.NoError(t, err)
		tm.override = o
	}
}

func (m *metaModel) deleteTenant(t *rapid.T) {
	id, tm := m.drawPlan(t)
	err := m.tenantCommand(metaDeleteTenant, id, tenantCommand{at: time.Unix(1, int64(m.index))})
	if tm == nil || tm.life != tenantLive {
		require.Equal(t, errs.NotFound, errs.KindOf(err))
		return
	}
	require.NoError(t, err)
	tm.life = tenantDeleted
	delete(m.tenants, tm.name)
	m.abortModel(id)
}

func (m *metaModel) undeleteTenant(t *rapid.T) {
	id, tm := m.drawPlan(t)
	as := rapid.SampledFrom([]string{"", "a", "other"}).Draw(t, "as")
	err := m.tenantCommand(metaUndeleteTenant, id, tenantCommand{as: as})
	switch {
	case tm == nil || tm.life == tenantPurged:
		require.Equal(t, errs.NotFound, errs.KindOf(err))
		return
	case tm.life == tenantLive:
		require.Equal(t, errs.FailedPrecondition, errs.KindOf(err))
		return
	case as == "":
		as = tm.name
	}
	if _, taken := m.tenants[as]; taken {
		require.Equal(t, errs.AlreadyExists, errs.KindOf(err))
		return
	}
	require.NoError(t, err)
	tm.name, tm.life = as, tenantLive
	m.tenants[as] = id
}

func (m *metaModel) purgeTenant(t *rapid.T) {
	id, tm := m.drawPlan(t)
	done := rapid.Bool().Draw(t, "done")
	err := m.tenantCommand(metaPurgeTenant, id, tenantCommand{done: done})
	switch {
	case tm == nil:
		require.NoError(t, err)
	case tm.life == tenantLive || done && tm.life == tenantDeleted:
		require.Equal(t, errs.FailedPrecondition, errs.KindOf(err))
	case m.movingModel(id) != nil:
		require.Equal(t, errs.FailedPrecondition, errs.KindOf(err))
	case done:
		require.NoError(t, err)
		for _, mv := range m.moves {
			if mv.tenant == id && mv.phase == moveSettled {
				mv.phase = moveCollected
			}
		}
		delete(m.plans, id)
		delete(m.pins, id)
		maps.DeleteFunc(m.keys, func(_ string, k tenancy.Key) bool { return engine.TenantID(k.TenantID) == id })
	default:
		require.NoError(t, err)
		tm.life = tenantPurged
	}
}

func (m *metaModel) setStrict(t *rapid.T) {
	m.strict = rapid.Bool().Draw(t, "strict")
	require.NoError(t, m.tenantCommand(metaSetStrict, engine.TenantID{}, tenantCommand{strict: m.strict}))
}

// checkPlans compares tiers and settings. Settings of one version are the same, and versions only grow.
func (m *metaModel) checkPlans(t *rapid.T) {
	s := m.state
	require.Equal(t, m.strict, s.strict)
	for _, name := range []string{"standard", "gold", "bronze"} {
		tr, ok := s.tier(name)
		limits, there := m.tiers[name]
		require.Equal(t, there, ok)
		if ok {
			require.Equal(t, limitsOf(limits), tr.Limits)
		}
	}
	require.Equal(t, len(m.plans), s.byID.n)
	for id, tm := range m.plans {
		tn, ok := s.tenantByID(id)
		require.True(t, ok)
		require.Equal(t, tm.life, tn.life)
		require.Equal(t, tm.name, tn.name)
		got := s.settings(tn)
		own := limitsOf(tm.own)
		want := tenancy.Resolve(&tenancy.Tier{Name: tm.tier, Limits: limitsOf(m.tiers[tm.tier])}, &own, &tm.override, got.Version, time.Now())
		require.Equal(t, want, *got)
		require.Same(t, got, s.settings(tn), "resolved once")
		if tm.seen != nil {
			require.GreaterOrEqual(t, got.Version, tm.seen.Version)
			require.True(t, got.Version > tm.seen.Version || *got == *tm.seen)
		}
		tm.seen = got
	}
}

// goldenTenants makes and deletes tiers and tenants.
func goldenTenants(at time.Time) []*metaCommand {
	var set tenancy.Limits
	set.Set(tenancy.Rate, 300)
	set.Set(tenancy.Overage, tenancy.OverageDegrade)
	two, big := engine.TenantID{2}, engine.TenantID{9}
	gone := func(id byte) *tenant {
		return &tenant{name: "gone", id: engine.TenantID{id}, pin: noPin, tier: "silver"}
	}
	command := func(op metaOp, id engine.TenantID, c tenantCommand) *metaCommand {
		return &metaCommand{op: op, tenantID: id, tenantCommand: c}
	}
	return []*metaCommand{
		command(metaSetTier, engine.TenantID{}, tenantCommand{tier: "bronze", create: true, limits: tenancy.Change{Set: set}}),
		command(metaSetTier, engine.TenantID{}, tenantCommand{tier: "gold", limits: tenancy.Change{Set: set, Inherit: []tenancy.Limit{tenancy.Deadline}}}),
		command(metaDeleteTier, engine.TenantID{}, tenantCommand{tier: "platinum"}),
		command(metaSetTenant, two, tenantCommand{tier: "bronze", limits: tenancy.Change{Set: set}}),
		command(metaOverride, big, tenantCommand{override: tenancy.Override{Factor: 2.5, Until: at.Add(time.Hour), Reason: "launch", By: "k"}}),
		{op: metaCreateTenants, tenants: []*tenant{gone(20)}},
		command(metaDeleteTenant, engine.TenantID{20}, tenantCommand{at: at}),
		{op: metaCreateTenants, tenants: []*tenant{gone(21)}},
		command(metaDeleteTenant, engine.TenantID{21}, tenantCommand{at: at}),
		command(metaPurgeTenant, engine.TenantID{21}, tenantCommand{}),
		{op: metaCreateTenants, tenants: []*tenant{{name: "gone", id: engine.TenantID{22}, pin: 1, tier: "bronze", terms: &terms{own: set}}}},
		command(metaSetStrict, engine.TenantID{}, tenantCommand{strict: true}),
		goldenPrices(),
	}
}

func goldenPrices() *metaCommand {
	p := tenancy.Prices{Currency: "EUR"}
	p.Of[tenancy.PerMillionQueries], p.Of[tenancy.PerComputeHour] = 2.5, 0.125
	return &metaCommand{op: metaSetPrices, prices: p}
}

// beforeTenants takes back what came with version 6, and the tenants that were made for it.
func beforeTenants(s *state) *state {
	s = beforeMoves(s)
	old := *s
	old.index, old.strict, old.prices = 26, false, tenancy.Prices{}
	_ = old.revokeKey("k2")
	old.tiers, old.byName, old.byID = shippedTiers(), cowMap[*tenant]{}, cowMap[*tenant]{}
	for t := range s.byID.all() {
		if t.name != "gone" {
			old.putTenant(&tenant{id: t.id, name: t.name, slot: t.slot, pin: t.pin})
		}
	}
	return &old
}

// TestStateVersion5 reads what was written before tenants had tiers.
func TestStateVersion5(t *testing.T) {
	b, err := os.ReadFile("testdata/state_v5.bin")
	require.NoError(t, err)
	s, err := decodeState(b)
	require.NoError(t, err)
	require.Equal(t, appendState(nil, beforeTenants(goldenState())), appendState(nil, s), "written again, it is of the present version")
	tn, _ := s.tenant(DefaultNamespace)
	require.Equal(t, tenancy.DefaultTier, s.settings(tn).Tier)
}

// TestMetaCommandVersion5 makes a tenant by a command of logs that were written then.
func TestMetaCommandVersion5(t *testing.T) {
	s := newMetaModel(2).state
	b := append([]byte{5, byte(metaCreateTenants), 1, 1, 'a'}, make([]byte, 17)...)
	s, res := executeMeta(s, s.index+1, b)
	require.NoError(t, res.err)
	tn, ok := s.tenant("a")
	require.True(t, ok)
	require.Equal(t, noPin, tn.pin)
	require.Nil(t, tn.terms)
}

// TestOverrideEnds: settings are resolved anew when the clock has passed an override's end.
func TestOverrideEnds(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMetaModel(1)
		id := engine.TenantID{1}
		m.apply(&metaCommand{op: metaCreateTenants, tenants: []*tenant{{name: "a", id: id, pin: noPin, tier: "free"}}})
		o := tenancy.Override{Factor: 10, Until: time.Now().Add(30 * time.Minute)}
		require.NoError(t, m.tenantCommand(metaOverride, id, tenantCommand{override: o}))
		tn, _ := m.state.tenant("a")
		under := m.state.settings(tn)
		require.Equal(t, int64(1000), under.Get(tenancy.PerHour))
		require.True(t, o.Until.Equal(under.Until))
		time.Sleep(30*time.Minute - time.Nanosecond)
		require.Same(t, under, m.state.settings(tn))
		time.Sleep(time.Nanosecond)
		after := m.state.settings(tn)
		require.Equal(t, int64(100), after.Get(tenancy.PerHour))
		require.Greater(t, after.Version, under.Version)
	})
}

// TestLookUpOfSettingsAllocatesNothing: of a tenant with nothing of its own, and of one under an override.
func TestLookUpOfSettingsAllocatesNothing(t *testing.T) {
	s := goldenState()
	for _, name := range []string{DefaultNamespace, "zürich", "big"} {
		require.Zero(t, testing.AllocsPerRun(100, func() {
			tn, _ := s.tenant(name)
			s.settings(tn)
		}), name)
	}
}

// BenchmarkTenantSettings is the lookup of T8: a tenant's home and its settings, among 100,000 of which every other one has
// limits of its own.
func BenchmarkTenantSettings(b *testing.B) {
	m := newMetaModel(16)
	names := make([]string, 100_000)
	c := &metaCommand{op: metaCreateTenants}
	var own tenancy.Limits
	own.Set(tenancy.Rate, 7)
	for i := range names {
		names[i] = "tenant-" + string(binary.BigEndian.AppendUint32(nil, uint32(i)))
		t := newTenant(names[i])
		if t.tier = "gold"; i%2 == 0 {
			t.terms = &terms{own: own}
		}
		c.tenants = append(c.tenants, t)
	}
	m.apply(c)
	for _, name := range names {
		tn, _ := m.state.tenant(name)
		m.state.settings(tn)
	}
	b.ReportAllocs()
	i, sum := 0, int64(0)
	for b.Loop() {
		tn, _ := m.state.tenant(names[i])
		sum += int64(m.state.home(tn)) + m.state.settings(tn).Get(tenancy.Rate)
		if i += 7919; i >= len(names) {
			i -= len(names)
		}
	}
}
