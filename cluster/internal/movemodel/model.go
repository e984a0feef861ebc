package movemodel

import "fmt"

// Setting bounds what is explored.
type Setting struct {
	Requests []Request // at most maxRequests
	Moves    int       // one after the other, back and forth
	Attempts int       // of each move
	Changes  int       // of leaders, in each shard group
	Fault    Fault
}

// action is a kind of step.
type action uint8

const (
	write     action = iota // request a reaches shard b
	ask                     // a fenced shard a asks the metadata plane before it reads
	answer                  // shard a reads
	cutOff                  // the leader of shard a
	leaseEnds               // of the leader of shard a that was cut off
	advance                 // to the next phase
	again                   // a new attempt
	abort
	plan  // another move
	carry // order a of attempt b of migration c reaches whom it is for
	lift  // a source that is fenced takes writes again by itself
	tell  // the driver has seen the source fenced, and gives the order to compare (a = 0); has seen both ready, and gives that to flip (a = 1)
)

// step is a change of the world.
type step struct {
	action  action
	a, b, c uint8
}

// edge is a step and where it leads. A step is helpful when the world takes it by itself sooner or later, unless another does first.
type edge struct {
	step
	to      state
	helpful bool
	broken  string // what the step breaks, if it does
}

// model is the protocol in a setting.
type model struct {
	Setting
	from  state
	edges []edge
}

// steps returns what can happen next in s; the edges are valid until the next call.
func (m *model) steps(s *state) []edge {
	m.from, m.edges = *s, m.edges[:0]
	for x := range uint8(2) {
		m.clients(x)
		m.leaders(x)
	}
	m.metadata()
	for id := uint8(1); id <= s.now.id; id++ {
		for n := range maxAttempts {
			m.carryAll(move{id, uint8(n + 1)})
		}
	}
	return m.edges
}

// try adds the step unless it changes nothing.
func (m *model) try(st step, helpful bool, do func(t *state) (broken string)) {
	t := m.from
	broken := do(&t)
	if broken == "" && t == m.from {
		return
	}
	if broken == "" {
		broken = goesBack(&m.from, &t)
	}
	if st.action == advance {
		st.a = uint8(t.phase)
	}
	m.edges = append(m.edges, edge{st, t, helpful, broken})
}

// frozen says whether shard x commits nothing: its leader is cut off, and nobody else is elected while it has a lease.
func (m *model) frozen(x uint8) bool { return m.from.old[x].on && m.Fault != LeaseOutlived }

// clients write and read in shard x, if any router ever took it for the home.
func (m *model) clients(x uint8) {
	if m.from.routes>>x&1 == 0 {
		return
	}
	if !m.frozen(x) {
		for i := range m.Requests {
			m.try(step{action: write, a: uint8(i), b: x}, false, func(t *state) string { return m.write(t, uint8(i), x) })
		}
	}
	m.try(step{action: ask, a: x}, false, func(t *state) string {
		if t.shards[x].standing == fenced && t.home == x && !t.asked && m.Fault != FencedReadsUnasked {
			t.asked, t.askedShard, t.askedAt = true, x, t.done
		}
		return ""
	})
	m.try(step{action: answer, a: x}, false, func(t *state) string { return m.answer(t, x) })
}

func (m *model) write(t *state, i, x uint8) string {
	s := &t.shards[x]
	if s.standing != home && s.standing != unknown || s.once>>i&1 == 1 {
		return "" // refused, or answered with what was done before
	}
	switch {
	case s.standing == unknown:
		return "MI-9: a write makes the tenant anew where it does not live"
	case t.home != x:
		return "MI-1: a write is accepted where the tenant does not live"
	case s.epoch != t.epoch:
		return "MI-1: a write is accepted in another epoch than the tenant's"
	}
	for _, done := range t.history[:t.done] {
		if done == i {
			return "MI-12: a request that was sent again has a second effect"
		}
	}
	s.write(i, m.Requests[i])
	s.log[s.length] = i
	s.length++
	t.history[t.done] = i
	t.done++
	return ""
}

// answer reads all keys in shard x, and checks that each is as it was at some time since the read was asked.
func (m *model) answer(t *state, x uint8) string {
	s, since := &t.shards[x], t.done
	if t.old[x].on {
		if o := &t.old[x]; o.standing == home && !m.seen(t, o.records, since) {
			return "MI-8: an old leader answers with less than was acknowledged"
		}
	}
	switch {
	case t.asked && t.askedShard == x:
		since, t.asked = t.askedAt, false
		if s.standing != home && s.standing != fenced {
			return "" // asked elsewhere, from the beginning
		}
	case s.standing == fenced && m.Fault == FencedReadsUnasked, s.standing == home:
	default:
		return ""
	}
	if !m.seen(t, s.records, since) {
		return "MI-8: a read answers with less than was acknowledged before it was asked"
	}
	return ""
}

// seen says whether the records were the tenant's at some time after the first n writes.
func (m *model) seen(t *state, records [keys]record, n uint8) bool {
	for ; n <= t.done; n++ {
		if t.truth(n, m.Requests).records == records {
			return true
		}
	}
	return false
}

func (m *model) leaders(x uint8) {
	m.try(step{action: cutOff, a: x}, false, func(t *state) string {
		o := &t.old[x]
		if o.on || int(t.changes[x]) == m.Changes {
			return ""
		}
		t.changes[x]++
		*o = oldLeader{true, t.shards[x].standing, t.shards[x].records}
		if t.migration().from == x && t.attempt().has(doBatch) {
			t.attempt().lost = true
		}
		return ""
	})
	m.try(step{action: leaseEnds, a: x}, true, func(t *state) string {
		t.old[x] = oldLeader{}
		return ""
	})
}

// metadata are the entries of the metadata plane, but the flip, which comes late like an order to a shard.
func (m *model) metadata() {
	s := &m.from
	m.try(step{action: advance}, true, func(t *state) string { m.advance(t); return "" })
	for a := range uint8(2) {
		m.try(step{action: tell, a: a}, true, func(t *state) string { m.tell(t, a); return "" })
	}
	if s.phase > planned && s.phase < flipped && int(s.now.attempt) < m.Attempts {
		m.try(step{action: again}, s.attempt().lost, func(t *state) string {
			if m.Fault != AttemptLeftOpen {
				t.attempt().give(doUnfence)
			}
			t.now.attempt++
			t.phase = staging
			t.attempt().give(doStage)
			return ""
		})
	}
	if s.phase < flipped {
		lastLost := s.attempt().lost && int(s.now.attempt) == m.Attempts // the driver gives up
		m.try(step{action: abort}, lastLost, func(t *state) string {
			t.attempt().give(doUnfence, doAbandon)
			if m.Fault != AbortUnnoted {
				t.phase = aborting
			}
			return ""
		})
	}
	if s.phase == fencing && m.Fault == FenceLiftedAlone {
		m.try(step{action: lift}, false, func(t *state) string { t.source().unfence(t.now, None); return "" })
	}
	over := s.phase == settled || s.phase == collected || s.phase == aborted
	if over && int(s.now.id) < m.Moves {
		m.try(step{action: plan}, false, func(t *state) string { t.plan(); return "" })
	}
}

// advance takes the next phase if what the driver waits for is so.
func (m *model) advance(t *state) {
	p, a, from, to := t.now, t.attempt(), t.source(), t.target()
	switch t.phase {
	case planned:
		t.phase = staging
		a.give(doStage)
	case staging:
		if to.copies(p, false) && m.closedBefore(t) {
			t.phase = copying
			a.export, a.position = from.content, from.length
			a.give(doBatch)
		}
	case copying:
		if to.copies(p, true) {
			t.phase = tailing
			a.give(doTail)
		}
	case tailing:
		t.phase = fencing
		a.give(doFence)
	case flipped:
		if to.standing == home && to.note == p && from.standing == left && from.note == p {
			t.phase = settled
			a.give(doForget)
		}
	case settled:
		if from.standing == left && from.closed {
			t.phase = collected
		}
	case aborting:
		if from.standing == home && (from.spent(p) || m.Fault == UnfenceLeavesOpen) && to.standing == left && to.spent(p) {
			t.phase = aborted
		}
	}
}

// closedBefore says whether the attempt before the present one can no longer fence the source.
func (m *model) closedBefore(t *state) bool {
	return t.now.attempt == 1 || t.source().standing == home && t.source().spent(move{t.now.id, t.now.attempt - 1}) || m.Fault == AttemptLeftOpen
}

// tell gives the orders that carry what the driver saw: the source's digest at the fence, and then that the target's is equal.
func (m *model) tell(t *state, which uint8) {
	p, a, from, to := t.now, t.attempt(), t.source(), t.target()
	if t.phase != fencing || from.standing != fenced || from.note != p {
		return
	}
	switch {
	case which == 0 && !a.has(doReady):
		a.digest = m.Fault.sumsUp(from.content)
		a.give(doReady)
	case which == 1 && !a.has(doFlip) && to.note == p && (to.standing == ready || m.Fault == FlipBeforeDrain && to.copies(p, true)):
		a.equal = m.Fault.sumsUp(from.content) == m.Fault.sumsUp(to.content) || m.Fault == FlipBeforeDrain
		a.give(doFlip)
	}
}

// carryAll carries out what was ever ordered in the name of p.
func (m *model) carryAll(p move) {
	g := &m.from.migrations[p.id-1]
	a := &g.attempts[p.attempt-1]
	for o := range orders {
		if !a.has(o) {
			continue
		}
		x := g.to
		if toSource>>o&1 == 1 {
			x = g.from
		}
		if o != doFlip && m.frozen(x) {
			continue
		}
		helpful := m.helps(p, o)
		m.try(step{carry, uint8(o), p.attempt, p.id}, helpful, func(t *state) string {
			if o == doFlip {
				return m.flip(t, p)
			}
			m.carry(&t.shards[x], o, p, t)
			return ""
		})
	}
}

// seesTo are the orders that a driver repeats in a phase until they are carried out.
var seesTo = [...]uint16{
	staging: 1<<doStage | 1<<doUnfence, copying: 1 << doBatch, tailing: 1 << doTail, fencing: 1<<doFence | 1<<doTail | 1<<doReady | 1<<doFlip,
	flipped: 1<<doSettle | 1<<doLeave, settled: 1 << doForget, aborting: 1<<doUnfence | 1<<doAbandon, aborted: 0,
}

// helps says whether the present driver sees to the order: of its attempt, and to the end of the one before.
func (m *model) helps(p move, o order) bool {
	s := &m.from
	mine := p == s.now && (o != doBatch || !s.attempt().lost)
	return seesTo[s.phase]>>o&1 == 1 && (mine || o == doUnfence && p.id == s.now.id)
}

// carry has shard s carry out an order.
func (m *model) carry(s *shard, o order, p move, t *state) {
	g := &t.migrations[p.id-1]
	a := &g.attempts[p.attempt-1]
	switch o {
	case doStage:
		s.stage(p, m.Fault)
	case doBatch:
		s.batch(p, a.export, a.position)
	case doTail:
		s.tail(p, &t.shards[g.from], m.Requests, m.Fault)
	case doFence:
		s.fence(p)
	case doReady:
		s.ready(p, a.digest, m.Fault)
	case doSettle:
		s.settle(p, g.epoch, m.Fault)
	case doLeave:
		s.leave(p, g.epoch)
	case doForget:
		s.forget(p, m.Fault)
	case doUnfence:
		s.unfence(p, m.Fault)
	case doAbandon:
		s.forget(p, None)
	}
}

// flip is the entry that changes the tenant's home. The metadata plane refuses it unless its attempt is the present one, nobody
// has aborted, and the digests are equal.
func (m *model) flip(t *state, p move) string {
	g := &t.migrations[p.id-1]
	a := &g.attempts[p.attempt-1]
	current := t.now == p && t.phase == fencing || m.Fault == AttemptUnchecked && t.now.id == p.id && t.phase < flipped
	if !current || !a.equal {
		return ""
	}
	t.now = p
	t.phase, t.home, t.epoch = flipped, g.to, g.epoch
	t.routes |= 1 << g.to
	t.flips[p.id-1]++
	a.give(doSettle, doLeave)
	from, to := &t.shards[g.from], &t.shards[g.to]
	switch {
	case from.standing != fenced || from.note != p:
		return "MI-3: the home is flipped though the source is not fenced"
	case to.content != from.content:
		return fmt.Sprintf("%s: the home is flipped to a copy that is not the source's content", lossOrMore(from.content, to.content))
	}
	return ""
}
