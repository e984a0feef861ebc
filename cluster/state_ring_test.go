package cluster

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

// goldenBalance drains a shard on the ring and one off it, and has a run behind it and another under way.
func goldenBalance(s *state, at time.Time) []*metaCommand {
	shard := s.ring[slotOf(engine.TenantID{1})]
	ended := runEnd{ended: at.Add(time.Hour).UnixNano(), moved: 1, failed: 1, after: 1.1, fault: "no room"}
	moves := []runMove{{engine.TenantID{1}, shard, 0}, {engine.TenantID{2}, 3, 0}}
	return []*metaCommand{
		{op: metaDrainShard, ringCommand: ringCommand{of: shard, basis: s.epoch, next: s.ring.without(shard)}},
		{op: metaDrainShard, ringCommand: ringCommand{of: 6, basis: s.epoch + 1}},
		{op: metaSetBalance, runCommand: runCommand{balance: BalanceRules{Auto: true, Parallel: 3, Cooldown: time.Minute, Windows: []Window{{0, 60, 120}, {1 << 6, 1380, 240}}}}},
		{op: metaStartRun, runCommand: runCommand{run: run{by: "k", moves: moves, bytes: 99, seconds: 1.5, before: 2.5, began: at.UnixNano()}}},
		{op: metaEndRun, runCommand: runCommand{run: run{id: 1, state: runDone, runEnd: ended}}},
		{op: metaStartRun, runCommand: runCommand{run: run{by: "automatic", windowed: true, moves: moves[:1], began: at.UnixNano()}}},
	}
}

// ringWorld is a metadata plane in which the ring changes.
type ringWorld struct {
	*metaModel
	homes map[engine.TenantID]uint16 // where tenants live
	made  uint64
}

func newRingWorld(shards int) *ringWorld {
	w := &ringWorld{metaModel: newMetaModel(shards), homes: map[engine.TenantID]uint16{}}
	w.metaModel.found("n0")
	return w
}

func (w *ringWorld) create(n int) {
	c := &metaCommand{op: metaCreateTenants}
	for range n {
		w.made++
		var id engine.TenantID
		binary.BigEndian.PutUint64(id[:], w.made)
		c.tenants = append(c.tenants, &tenant{id: id, name: id.String(), pin: noPin})
		w.homes[id] = w.state.ring[slotOf(id)]
	}
	if res := w.apply(c); res.err != nil {
		panic(res.err)
	}
}

func (w *ringWorld) change(op metaOp, of uint16, next ringTable) error {
	return w.apply(&metaCommand{op: op, ringCommand: ringCommand{of: of, basis: w.state.epoch, next: next}}).err
}

// grow adds a shard and gives it part of the ring.
func (w *ringWorld) grow() (uint16, error) {
	res := w.apply(&metaCommand{op: metaAddShard, shardCommand: shardCommand{founder: "n0"}})
	if res.err != nil {
		return 0, res.err
	}
	return res.shard, w.change(metaJoinRing, res.shard, w.state.ring.with(res.shard))
}

// bringHome moves a tenant that is to follow the ring, as a migration does.
func (w *ringWorld) bringHome(id engine.TenantID) error {
	t, _ := w.state.tenantByID(id)
	to := w.state.ring[t.slot]
	plan := moveCommand{toRing: true, moves: []wantedMove{{id, to}}, at: time.Unix(1, 0)}
	if err := w.apply(&metaCommand{op: metaPlanMoves, moveCommand: plan}).err; err != nil {
		return err
	}
	for p := moveStaging; p <= moveSettled; p++ {
		step := moveStep{id: w.state.nextMove, attempt: 1, phase: p, at: time.Unix(2, 0), until: time.Unix(3, 0), limit: 1000, fence: 1, source: "d", target: "d"}
		if err := w.takeStep(step); err != nil {
			return err
		}
	}
	w.homes[id] = to
	return nil
}

// TestRingChangesKeepHomes: shards join and leave the ring in any order, and no tenant's home changes but by a move. Tenants are
// homeward exactly if the ring says otherwise since a change, new ones live where it says, and a shard that nobody
// lives on any more can be taken out.
func TestRingChangesKeepHomes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newRingWorld(rapid.IntRange(1, 4).Draw(t, "shards"))
		w.create(40)
		draw := func() uint16 { return rapid.SampledFrom(w.state.shards).Draw(t, "shard") }
		t.Repeat(map[string]func(*rapid.T){
			"create": func(*rapid.T) { w.create(3) },
			"grow": func(t *rapid.T) {
				if len(w.state.shards) > 8 {
					t.Skip("enough")
				}
				id, err := w.grow()
				require.NoError(t, err)
				require.Contains(t, w.state.ring, id)
			},
			"drain": func(t *rapid.T) {
				id := draw()
				if len(w.state.ring.shards()) == 1 {
					t.Skip("the last one")
				}
				err := w.change(metaDrainShard, id, w.state.ring.without(id))
				if w.state.ring.loads(w.state.nextShard)[id] > 0 {
					t.Fatalf("shard %d is on the ring still: %v", id, err)
				}
			},
			"keep": func(t *rapid.T) {
				id := draw()
				drained := w.state.isDraining(id)
				err := w.change(metaJoinRing, id, w.state.ring.with(id))
				require.Equal(t, drained, err == nil, "%v", err)
			},
			"stale": func(t *rapid.T) {
				res := w.apply(&metaCommand{op: metaDrainShard, ringCommand: ringCommand{of: draw(), basis: w.state.epoch - 1, next: w.state.ring}})
				require.Equal(t, errs.Unavailable, errs.KindOf(res.err), "it is computed anew")
			},
			"move": func(t *rapid.T) {
				for id := range w.homes {
					if tn, _ := w.state.tenantByID(id); w.state.leaves(tn) {
						require.NoError(t, w.bringHome(id))
						tn, _ = w.state.tenantByID(id)
						require.Equal(t, noPin, tn.pin)
						return
					}
				}
			},
			"remove": func(t *rapid.T) {
				id := draw()
				fine := w.state.isDraining(id) && w.state.tenantsOn(id) == 0
				err := w.apply(&metaCommand{op: metaRemoveShard, shardCommand: shardCommand{shard: id}}).err
				require.Equal(t, fine, err == nil, "%v", err)
			},
			"": func(t *rapid.T) {
				s := w.state
				for id, home := range w.homes {
					tn, ok := s.tenantByID(id)
					require.True(t, ok)
					require.Equal(t, home, s.home(tn))
					require.Equal(t, home != s.ring[tn.slot], s.leaves(tn))
				}
			},
			"snapshot": func(t *rapid.T) {
				b := appendState(nil, w.state)
				again, err := decodeState(b)
				require.NoError(t, err)
				require.Equal(t, b, appendState(nil, again))
			},
		})
	})
}

// TestRingIsChecked refuses tables that do more than they may.
func TestRingIsChecked(t *testing.T) {
	w := newRingWorld(3)
	w.create(10)
	res := w.apply(&metaCommand{op: metaAddShard, shardCommand: shardCommand{founder: "n0"}})
	require.NoError(t, res.err)
	astray := w.state.ring.with(3)
	for slot := range astray {
		if astray[slot] == 1 {
			astray[slot] = 2
			break
		}
	}
	for name, c := range map[string]ringCommand{
		"moves others":  {of: 3, next: astray},
		"too short":     {of: 3, next: make(ringTable, 5)},
		"gives nothing": {of: 3, next: w.state.ring},
		"not there":     {of: 9, next: w.state.ring.with(9)},
		"there already": {of: 1, next: w.state.ring},
		"names a shard": {of: 3, next: w.state.ring.with(7)},
		"is none":       {of: 3},
	} {
		c.basis = w.state.epoch
		require.Error(t, w.apply(&metaCommand{op: metaJoinRing, ringCommand: c}).err, name)
	}
	require.NoError(t, w.change(metaJoinRing, 3, w.state.ring.with(3)))
	_, off := w.state.dedicatedShard(3)
	require.False(t, off)
	require.NoError(t, w.change(metaDrainShard, 0, w.state.ring.without(0)))
	require.Error(t, w.change(metaDrainShard, 0, w.state.ring), "twice")
	require.Equal(t, errs.FailedPrecondition, errs.KindOf(w.state.checkTarget(0)))
	res = w.apply(&metaCommand{op: metaCreateTenants, tenants: []*tenant{{name: "late", id: engine.TenantID{200}, pin: 0}}})
	require.NoError(t, res.err)
	late, _ := w.state.tenant("late")
	require.Equal(t, noPin, late.pin, "nobody is put on a shard that is going")
}

func TestRuns(t *testing.T) {
	w := newRingWorld(3)
	start := func(moves int) error {
		return w.apply(&metaCommand{op: metaStartRun, runCommand: runCommand{run: run{by: "k", moves: make([]runMove, moves)}}}).err
	}
	end := func(id uint64, as runState) error {
		return w.apply(&metaCommand{op: metaEndRun, runCommand: runCommand{run: run{id: id, state: as, runEnd: runEnd{moved: 2, total: 9}}}}).err
	}
	require.Nil(t, w.state.running())
	require.Error(t, end(1, runDone))
	require.Error(t, start(maxRunMoves+1))
	require.NoError(t, start(3))
	require.Equal(t, errs.AlreadyExists, errs.KindOf(start(0)))
	require.Error(t, end(2, runDone))
	require.NoError(t, end(1, runRunning))
	require.Equal(t, runAborted, w.state.runs[0].state, "over is over")
	require.Equal(t, 3, w.state.runs[0].total)
	require.Empty(t, w.state.runs[0].moves)
	for range maxRuns {
		require.NoError(t, start(0))
		require.NoError(t, end(w.state.nextRun, runDone))
	}
	require.Len(t, w.state.runs, maxRuns)
	require.Equal(t, uint64(2), w.state.runs[0].id)
}

func TestWindows(t *testing.T) {
	at := func(text string) time.Time {
		when, err := time.Parse("Mon 2006-01-02 15:04", text)
		require.NoError(t, err)
		return when
	}
	night := BalanceRules{Windows: []Window{{0, 22 * 60, 6 * 60}}}
	weekend := BalanceRules{Windows: []Window{{1<<0 | 1<<6, 0, dayMinutes}, {1 << 5, 23 * 60, 60}}}
	for text, want := range map[string][2]bool{
		"Wed 2026-01-07 21:59": {false, false},
		"Wed 2026-01-07 22:00": {true, false},
		"Thu 2026-01-08 05:59": {true, false},
		"Thu 2026-01-08 06:00": {false, false},
		"Fri 2026-01-09 23:30": {true, true},
		"Sat 2026-01-10 00:30": {true, true},
		"Sat 2026-01-10 12:00": {false, true},
		"Sun 2026-01-11 23:59": {true, true},
		"Mon 2026-01-12 00:00": {true, false},
	} {
		require.Equal(t, want, [2]bool{night.open(at(text)), weekend.open(at(text))}, text)
	}
	require.True(t, (&BalanceRules{}).open(time.Now()))
	for _, w := range []Window{{1 << 7, 0, 1}, {0, 5, 5}, {0, dayMinutes, 1}, {0, 1, dayMinutes + 1}} {
		require.Error(t, (&BalanceRules{Windows: []Window{w}}).validate())
	}
	require.NoError(t, weekend.validate())
	require.Error(t, (&BalanceRules{Windows: make([]Window, maxWindows+1)}).validate())
	require.Error(t, (&BalanceRules{Parallel: -1}).validate())
}

// TestSixthShard adds a shard to five with 500 tenants: about a sixth of them are to move, to it alone, and nobody else's home
// or slot changes.
func TestSixthShard(t *testing.T) {
	w := newRingWorld(5)
	w.create(500)
	before := w.state
	count := func(s *state) (n []int) {
		for _, id := range s.shards {
			n = append(n, s.tenantsOn(id))
		}
		return n
	}
	t.Logf("tenants before: %v", count(before))
	id, err := w.grow()
	require.NoError(t, err)
	slots, tenants := 0, 0
	for slot := range before.ring {
		if w.state.ring[slot] != before.ring[slot] {
			require.Equal(t, id, w.state.ring[slot])
			slots++
		}
	}
	for tn := range w.state.byID.all() {
		old, _ := before.tenantByID(tn.id)
		require.Equal(t, before.home(old), w.state.home(tn), "nobody has moved yet")
		if w.state.leaves(tn) {
			require.Equal(t, id, w.state.ring[tn.slot])
			tenants++
		} else {
			require.Equal(t, noPin, tn.pin)
		}
	}
	require.InDelta(t, 1.0/6, float64(slots)/Slots, 3*slotsSigma(6)/Slots)
	require.InDelta(t, 1.0/6, float64(tenants)/500, 3*movedSigma(6, 500))
	for tenant := range w.homes {
		if tn, _ := w.state.tenantByID(tenant); w.state.leaves(tn) {
			require.NoError(t, w.bringHome(tenant))
		}
	}
	require.Equal(t, tenants, w.state.tenantsOn(id))
	require.Zero(t, w.state.homewards())
	t.Logf("tenants after: %v; %.4f of the slots and %.4f of the tenants have moved", count(w.state), float64(slots)/Slots, float64(tenants)/500)
}
