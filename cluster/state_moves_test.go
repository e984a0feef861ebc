package cluster

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

// moveModel is a migration as plain values.
type moveModel struct {
	tenant   engine.TenantID
	from, to uint16
	attempt  uint64
	phase    movePhase
	toRing   bool
}

// movingModel is the migration of a tenant that is not at its end.
func (m *metaModel) movingModel(id engine.TenantID) *moveModel {
	for _, mv := range m.moves {
		if mv.tenant == id && mv.phase.running() {
			return mv
		}
	}
	return nil
}

// homeModel is where a tenant lives.
func (m *metaModel) homeModel(id engine.TenantID) uint16 {
	if p, pinned := m.pins[id]; pinned && p != noPin {
		return uint16(p)
	}
	return m.state.ring[slotOf(id)]
}

func (m *metaModel) planMoves(t *rapid.T) {
	c := moveCommand{toRing: rapid.Bool().Draw(t, "to ring"), at: time.Unix(1, int64(m.index))}
	next := len(m.moves)
	for range rapid.IntRange(1, 3).Draw(t, "moves") {
		id, tm := m.drawPlan(t)
		to := m.drawShard(t)
		c.moves = append(c.moves, wantedMove{id, uint16(to)})
		if tm == nil || tm.life == tenantPurged || !m.there(to) || m.movingModel(id) != nil || m.homeModel(id) == uint16(to) {
			continue
		}
		m.moves[uint64(len(m.moves)+1)] = &moveModel{tenant: id, from: m.homeModel(id), to: uint16(to), attempt: 1, phase: movePlanned, toRing: c.toRing}
	}
	err := m.apply(&metaCommand{op: metaPlanMoves, moveCommand: c}).err
	require.Equal(t, len(m.moves) == next, err != nil, "%v", err)
}

// phaseAfter is what a step makes of a migration, 0 where it is refused.
func (mv *moveModel) phaseAfter(step *moveStep) movePhase {
	anyAttempt := step.phase == moveAborting && step.attempt == 0
	if mv == nil || step.attempt != mv.attempt && !anyAttempt {
		return 0
	}
	if mv.phase == step.phase && step.phase != moveStaging {
		return step.phase
	}
	before := map[movePhase][]movePhase{
		moveStaging: {movePlanned, moveStaging, moveCopying, moveTailing, moveFenced}, moveCopying: {moveStaging},
		moveTailing: {moveCopying}, moveFenced: {moveTailing}, moveFlipped: {moveFenced}, moveSettled: {moveFlipped},
		moveCollected: {moveSettled}, moveAborting: {movePlanned, moveStaging, moveCopying, moveTailing, moveFenced}, moveAborted: {moveAborting},
	}
	for _, p := range before[step.phase] {
		if mv.phase != p {
			continue
		}
		if step.phase == moveAborting && p == movePlanned {
			return moveAborted
		}
		return step.phase
	}
	return 0
}

func (m *metaModel) stepMove(t *rapid.T) {
	id := uint64(rapid.IntRange(0, len(m.moves)+1).Draw(t, "id"))
	mv := m.moves[id]
	step := moveStep{id: id, at: time.Unix(2, int64(m.index)), phase: movePhase(rapid.IntRange(0, int(moveAborted)+1).Draw(t, "phase"))}
	if mv != nil {
		step.attempt = mv.attempt - rapid.SampledFrom([]uint64{0, 0, 0, 1}).Draw(t, "stale")
		if rapid.Bool().Draw(t, "on") {
			step.phase = mv.phase + 1
		}
	}
	good := rapid.IntRange(0, 3).Draw(t, "good") > 0
	step.limit, step.fence, step.source, step.target = 1000, 7, "d", "d"
	if !good {
		step.target = "other"
	}
	after := mv.phaseAfter(&step)
	if after == moveFlipped && mv.phase != moveFlipped && (!good || !m.there(int32(mv.to))) {
		after = 0
	}
	err := m.apply(&metaCommand{op: metaStepMove, moveCommand: moveCommand{step: step}}).err
	if after == 0 {
		require.Error(t, err)
		return
	}
	require.NoError(t, err)
	switch {
	case after == moveStaging && mv.phase != movePlanned:
		mv.attempt++
	case after == moveFlipped && mv.phase != moveFlipped:
		m.epochs[mv.tenant]++
		if m.pins[mv.tenant] = int32(mv.to); mv.toRing && m.state.ring[slotOf(mv.tenant)] == mv.to {
			m.pins[mv.tenant] = noPin
		}
	}
	mv.phase = after
}

// abortModel is what becomes of a migration when its tenant is deleted.
func (m *metaModel) abortModel(id engine.TenantID) {
	if mv := m.movingModel(id); mv != nil {
		mv.phase = max(mv.phaseAfter(&moveStep{phase: moveAborting}), mv.phase)
	}
}

// checkMoves compares migrations. A tenant has one at most that is not at its end.
func (m *metaModel) checkMoves(t *rapid.T) {
	require.Equal(t, len(m.moves), len(m.state.moves))
	for id, mv := range m.moves {
		got, ok := m.state.migration(id)
		require.True(t, ok)
		require.Equal(t, *mv, moveModel{got.tenant, got.from, got.to, got.attempt, got.phase, got.toRing})
		require.Equal(t, mv.phase.over(), got.ended() != 0)
		require.NotZero(t, got.changed())
	}
	for id := range m.plans {
		tn, _ := m.state.tenantByID(id)
		require.Equal(t, m.epochs[id], tn.epoch)
		if m.movingModel(id) == nil {
			require.Zero(t, tn.moving)
			continue
		}
		got, _ := m.state.migration(tn.moving)
		require.Equal(t, id, got.tenant)
		require.True(t, got.phase.running())
	}
}

// goldenMoves moves a tenant, gives up moving a second one, and begins to move a third anew.
func goldenMoves(at time.Time) []*metaCommand {
	c := &metaCommand{op: metaCreateTenants}
	plan := &metaCommand{op: metaPlanMoves, moveCommand: moveCommand{reason: "balance", by: "k", toRing: true, at: at}}
	for i := range byte(3) {
		id := engine.TenantID{30 + i}
		c.tenants = append(c.tenants, &tenant{name: "moved" + string('0'+rune(i)), id: id, pin: 0})
		plan.moves = append(plan.moves, wantedMove{id, 3})
	}
	all := []*metaCommand{c, plan}
	step := func(id, attempt uint64, phase movePhase, fault string) {
		s := moveStep{id: id, attempt: attempt, phase: phase, at: at.Add(time.Second), fault: fault, limit: 100}
		if phase == moveFlipped {
			s.fence, s.source, s.target, s.copied = 99, "digest", "digest", 1<<30
		}
		if phase == moveSettled {
			s.until, s.failed = at.Add(time.Hour), 2
		}
		all = append(all, &metaCommand{op: metaStepMove, moveCommand: moveCommand{step: s}})
	}
	for p := moveStaging; p <= moveSettled; p++ {
		step(1, 1, p, "")
	}
	step(2, 1, moveStaging, "")
	step(2, 1, moveCopying, "")
	step(2, 0, moveAborting, "it was cancelled")
	step(2, 1, moveAborted, "")
	step(3, 1, moveStaging, "")
	step(3, 1, moveStaging, "the log was trimmed")
	step(3, 2, moveCopying, "")
	return all
}

// beforeMoves takes back what came with version 7, and the tenants that were made for it.
func beforeMoves(s *state) *state {
	old := *s
	old.index, old.moves, old.nextMove = 42, nil, 0
	old.draining, old.runs, old.nextRun, old.balance = nil, nil, 0, BalanceRules{}
	old.ring, old.epoch = newRing(shardIDs(4)), s.epoch-2
	old.bounds, old.groups = nil, nil
	old.byName, old.byID = cowMap[*tenant]{}, cowMap[*tenant]{}
	for t := range s.byID.all() {
		if strings.HasPrefix(t.name, "moved") {
			continue
		}
		was := *t
		if t.homeward {
			was.pin, was.homeward = noPin, false
		}
		old.putTenant(&was)
	}
	return &old
}

// TestStateVersion6 reads what was written before tenants could move.
func TestStateVersion6(t *testing.T) {
	b, err := os.ReadFile("testdata/state_v6.bin")
	require.NoError(t, err)
	s, err := decodeState(b)
	require.NoError(t, err)
	require.Equal(t, appendState(nil, beforeMoves(goldenState())), appendState(nil, s), "written again, it is of the present version")
}

// TestMoveTimes tells when each phase of the present attempt began, and forgets those of the attempt before.
func TestMoveTimes(t *testing.T) {
	m := plannedMoves(t, 1)
	clock := int64(100)
	step := func(attempt uint64, phase movePhase, copied, failed uint64) *migration {
		clock++
		s := moveStep{id: 1, attempt: attempt, phase: phase, at: time.Unix(clock, 0), limit: 10, copied: copied, failed: failed, fence: 1, source: "d", target: "d"}
		require.NoError(t, m.apply(&metaCommand{op: metaStepMove, moveCommand: moveCommand{step: s}}).err)
		return m.state.moves[0]
	}
	step(1, moveStaging, 0, 0)
	step(1, moveCopying, 0, 0)
	require.Equal(t, uint64(77), step(1, moveTailing, 77, 0).copied)
	again := describeMove(step(1, moveStaging, 0, 0))
	require.Zero(t, again.Copied, "it begins anew")
	require.Len(t, again.Phases, 2)
	require.Equal(t, PhaseTime{PhaseStaging, time.Unix(104, 0).UTC()}, again.Phases[1])
	require.Equal(t, again.Changed, again.Phases[1].At)
	for p := moveCopying; p <= moveTailing; p++ {
		step(2, p, 50, 0)
	}
	step(2, moveFenced, 0, 0)
	step(2, moveFlipped, 60, 0)
	got := describeMove(step(2, moveSettled, 0, 3))
	require.Equal(t, uint64(60), got.Copied)
	require.Equal(t, uint64(3), got.Failed)
	require.Equal(t, "64", got.Digest)
	require.Zero(t, got.Ended, "its source keeps a copy")
	require.Equal(t, time.Unix(clock, 0).UTC(), got.Changed)
	require.Len(t, got.Phases, 7)
}

// planned returns a state with n tenants on shard 0, of which each is to move to shard 1.
func plannedMoves(t *testing.T, n int) *metaModel {
	m := newMetaModel(2)
	m.found("n0")
	create, plan := &metaCommand{op: metaCreateTenants}, &metaCommand{op: metaPlanMoves, moveCommand: moveCommand{at: time.Unix(1, 0)}}
	for i := range n {
		tn := newTenant("t" + string(rune('a'+i)))
		tn.pin = 0
		create.tenants = append(create.tenants, tn)
		plan.moves = append(plan.moves, wantedMove{tn.id, 1})
	}
	require.NoError(t, m.apply(create).err)
	require.NoError(t, m.apply(plan).err)
	require.Len(t, m.state.moves, n)
	return m
}

func (m *metaModel) takeStep(s moveStep) error {
	return m.apply(&metaCommand{op: metaStepMove, moveCommand: moveCommand{step: s}}).err
}

// TestMovesOfANodeAreBounded starts as many migrations as a node may have, and one more when the first has settled.
func TestMovesOfANodeAreBounded(t *testing.T) {
	m := plannedMoves(t, 3)
	start := func(id uint64) error { return m.takeStep(moveStep{id: id, attempt: 1, phase: moveStaging, limit: 2}) }
	require.NoError(t, start(1))
	require.NoError(t, start(2))
	require.Equal(t, errs.FailedPrecondition, errs.KindOf(start(3)))
	for p := moveCopying; p <= moveSettled; p++ {
		require.NoError(t, m.takeStep(moveStep{id: 1, attempt: 1, phase: p, fence: 3, source: "d", target: "d"}))
	}
	require.NoError(t, start(3))
}

// TestDeleteEndsAMove: a tenant that is deleted before the flip does not move, and its data is dropped only when that is taken back.
func TestDeleteEndsAMove(t *testing.T) {
	m := plannedMoves(t, 1)
	id := m.state.moves[0].tenant
	require.NoError(t, m.takeStep(moveStep{id: 1, attempt: 1, phase: moveStaging, limit: 2}))
	require.NoError(t, m.tenantCommand(metaDeleteTenant, id, tenantCommand{at: time.Unix(2, 0)}))
	require.Equal(t, moveAborting, m.state.moves[0].phase)
	require.Equal(t, errs.FailedPrecondition, errs.KindOf(m.tenantCommand(metaPurgeTenant, id, tenantCommand{})))
	tn, _ := m.state.tenantByID(id)
	require.ElementsMatch(t, []uint16{0, 1}, m.state.shardsOf(tn))
	require.NoError(t, m.takeStep(moveStep{id: 1, attempt: 1, phase: moveAborted}))
	require.NoError(t, m.tenantCommand(metaPurgeTenant, id, tenantCommand{}))
}

// TestPurgeEndsWhatIsKept: nothing is left to be collected of a tenant whose data is dropped everywhere.
func TestPurgeEndsWhatIsKept(t *testing.T) {
	m := plannedMoves(t, 1)
	id := m.state.moves[0].tenant
	for p := moveStaging; p <= moveSettled; p++ {
		require.NoError(t, m.takeStep(moveStep{id: 1, attempt: 1, phase: p, limit: 2, fence: 3, source: "d", target: "d"}))
	}
	require.NoError(t, m.tenantCommand(metaDeleteTenant, id, tenantCommand{at: time.Unix(2, 0)}))
	tn, _ := m.state.tenantByID(id)
	require.Equal(t, []uint16{1, 0}, m.state.shardsOf(tn), "home first, and then the copy that is kept")
	for _, done := range []bool{false, true} {
		require.NoError(t, m.tenantCommand(metaPurgeTenant, id, tenantCommand{done: done}))
	}
	require.Equal(t, moveCollected, m.state.moves[0].phase)
}

// TestMovesAreForgotten keeps a bounded number of migrations that are over, and all that are not.
func TestMovesAreForgotten(t *testing.T) {
	m := plannedMoves(t, 2)
	id := m.state.moves[1].tenant
	for n := uint64(2); n < maxMoveHistory+10; n++ {
		require.NoError(t, m.takeStep(moveStep{id: n, phase: moveAborting}))
		plan := moveCommand{at: time.Unix(1, 0), moves: []wantedMove{{id, 1}}}
		require.NoError(t, m.apply(&metaCommand{op: metaPlanMoves, moveCommand: plan}).err)
	}
	require.Len(t, m.state.moves, maxMoveHistory+2)
	_, ok := m.state.migration(1)
	require.True(t, ok, "it is still planned")
	_, ok = m.state.migration(2)
	require.False(t, ok)
}

// TestDrainedNodesGetNoTenants: neither is a move planned to a shard with a replica on a node that is going, nor does it begin.
func TestDrainedNodesGetNoTenants(t *testing.T) {
	m := plannedMoves(t, 1)
	drain := func(to memberState) {
		c := &metaCommand{op: metaSetMember, memberCommand: memberCommand{member: member{id: "n0", state: to}}}
		require.NoError(t, m.apply(c).err)
	}
	drain(memberDraining)
	id := m.state.moves[0].tenant
	require.Equal(t, errs.FailedPrecondition, errs.KindOf(m.takeStep(moveStep{id: 1, attempt: 1, phase: moveStaging, limit: 2})))
	require.NoError(t, m.takeStep(moveStep{id: 1, phase: moveAborting}))
	require.Equal(t, errs.FailedPrecondition, errs.KindOf(m.state.checkMove(id, 1)))
	drain(memberActive)
	require.NoError(t, m.state.checkMove(id, 1))
}
