package cluster

import (
	"cmp"
	"slices"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

// movePhase is how far a migration is. Numbers are on disk: append only.
type movePhase uint8

const (
	movePlanned   movePhase = iota + 1 // nothing is done yet
	moveStaging                        // the target begins a copy
	moveCopying                        // what the tenant has is copied
	moveTailing                        // and what is written to it meanwhile
	moveFenced                         // the source takes no writes of the tenant, or is about to be told so
	moveFlipped                        // the tenant lives at the target: from here on there is only forward
	moveSettled                        // the target serves; the source keeps its copy for a while
	moveCollected                      // the end: the source has dropped it
	moveAborting                       // what was begun is taken back
	moveAborted                        // the end: the tenant lives where it did
)

var movePhases = [...]string{
	"unknown", PhasePlanned, PhaseStaging, PhaseCopying, PhaseTailing, PhaseFenced, PhaseFlipped, PhaseSettled, PhaseCollected,
	PhaseAborting, PhaseAborted,
}

func (p movePhase) String() string {
	if int(p) < len(movePhases) {
		return movePhases[p]
	}
	return movePhases[0]
}

// leadsTo reports whether next may follow.
func (p movePhase) leadsTo(next movePhase) bool {
	switch next {
	case moveStaging: // also from anew, as the next attempt
		return p.revocable()
	case moveCopying, moveTailing, moveFenced, moveFlipped, moveSettled, moveCollected:
		return p == next-1
	case moveAborting:
		return p.revocable()
	case moveAborted:
		return p == moveAborting
	}
	return false
}

// revocable reports whether a migration may still be taken back.
func (p movePhase) revocable() bool { return p >= movePlanned && p <= moveFenced }

// running reports whether a migration keeps its tenant from being moved elsewhere.
func (p movePhase) running() bool { return p.revocable() || p == moveFlipped || p == moveAborting }

// working reports whether a migration costs its nodes something.
func (p movePhase) working() bool { return p.running() && p != movePlanned }

// over reports whether nothing is left to be done.
func (p movePhase) over() bool { return p == moveCollected || p == moveAborted }

// migration is the way of a tenant from one shard to another. It is immutable.
type migration struct {
	id       uint64 // grows, and is never used again
	tenant   engine.TenantID
	name     string // of the tenant, when it was asked for
	from, to uint16
	attempt  uint64 // from 1 on; what is done names it, so that nothing of an earlier one counts
	phase    movePhase
	toRing   bool   // the tenant is to live where the ring says, which is the target by the time of the flip
	ringed   bool   // it did before
	undoes   uint64 // migration that this one takes back; 0: none
	reason   string
	by       string // who asked for it
	fault    string // why the last attempt was given up, or the whole; or which nodes it was begun without

	begins moveTimes // of phases, from the present attempt on
	kept   int64     // until when the source keeps its copy, as begins; 0: that is not known yet
	entry  uint64    // that planned it

	copied uint64 // bytes that came to the target in the present attempt, once its copy is complete
	failed uint64 // requests of the tenant that failed meanwhile, as far as is known at its end

	fence  uint64 // entry of the source's log from which on it took no writes; 0: not flipped
	digest string // of the tenant there, at the source and at the target
	epoch  uint64 // of the tenant since the flip
}

// moveTimes are when phases began, in nanoseconds since 1970; 0: not yet.
type moveTimes [moveAborted + 1]int64

// changed is when the migration came to its phase.
func (m *migration) changed() int64 { return m.begins[m.phase] }

// ended is when nothing was left to be done; 0: there is.
func (m *migration) ended() int64 {
	if !m.phase.over() {
		return 0
	}
	return m.changed()
}

const (
	// maxMoveHistory is how many migrations that are over are remembered.
	maxMoveHistory = 1000
	// maxMoves bounds the others: planned, running, and those of which a copy is kept.
	maxMoves = 100_000
	// maxMoveText bounds a reason, a name or a fault, in bytes.
	maxMoveText = 1000
)

// migration finds a migration by its id.
func (s *state) migration(id uint64) (*migration, bool) {
	i, ok := slices.BinarySearchFunc(s.moves, id, func(m *migration, id uint64) int { return cmp.Compare(m.id, id) })
	if !ok {
		return nil, false
	}
	return s.moves[i], true
}

// movesOn is how many migrations there are that need a shard, other than to drop what was left behind.
func (s *state) movesOn(shard uint16) (n int) {
	for _, m := range s.moves {
		if m.phase.running() && (m.from == shard || m.to == shard) {
			n++
		}
	}
	return n
}

// shardsOf lists the shards that may have data of a tenant, its home first.
func (s *state) shardsOf(t *tenant) []uint16 {
	shards := []uint16{s.home(t)}
	for _, m := range s.moves {
		if m.tenant != t.id || m.phase.over() {
			continue
		}
		for _, id := range []uint16{m.from, m.to} {
			if s.hasShard(id) && !slices.Contains(shards, id) {
				shards = append(shards, id)
			}
		}
	}
	return shards
}

// preferredLeader is the node that is meant to lead a shard, empty for an unknown one.
func (s *state) preferredLeader(shard uint16) string {
	if nodes := s.replicas(shard); len(nodes) > 0 {
		return nodes[0]
	}
	return ""
}

// checkMove reports why a tenant cannot be moved to a shard, nil if it can.
func (s *state) checkMove(id engine.TenantID, to uint16) error {
	t, err := s.keptTenant(id)
	if err != nil {
		return err
	}
	switch {
	case !s.hasShard(to):
		return errNoShard(int(to))
	case t.moving != 0:
		return errs.New(errs.FailedPrecondition, "tenant %q is being moved, by migration %d", t.name, t.moving).
			WithHint("wait for its end, or cancel it: croft migrations cancel %d", t.moving)
	case s.home(t) == to:
		return errs.New(errs.FailedPrecondition, "tenant %q lives on shard %d already", t.name, to)
	}
	return cmp.Or(s.checkTarget(to), s.mayLive(t, to))
}

// checkTarget reports a shard that is to get no tenants because it, or one of its nodes, is going.
func (s *state) checkTarget(to uint16) error {
	if s.isDraining(to) {
		return errDraining(to)
	}
	for _, node := range s.replicas(to) {
		if m, ok := s.member(node); ok && m.state == memberDraining {
			return errs.New(errs.FailedPrecondition, "shard %d has a replica on node %s, which is being drained", to, node).
				WithHint("wait until the replica has moved: croft shards list")
		}
	}
	return nil
}

// busyNodes counts the migrations that are under way by the nodes that are meant to lead their shards.
func (s *state) busyNodes() map[string]int {
	busy := map[string]int{}
	for _, m := range s.moves {
		if !m.phase.working() {
			continue
		}
		from, to := s.preferredLeader(m.from), s.preferredLeader(m.to)
		if busy[from]++; to != from {
			busy[to]++
		}
	}
	return busy
}

// checkStart reports why a migration has to wait: each node that is meant to lead one of its shards may have limit of them
// under way.
func (s *state) checkStart(m *migration, limit int, busy map[string]int) error {
	for _, node := range []string{s.preferredLeader(m.from), s.preferredLeader(m.to)} {
		if busy[node] >= limit {
			return errs.New(errs.FailedPrecondition, "node %s has %d migrations under way, the limit is %d", node, busy[node], limit)
		}
	}
	return s.checkTarget(m.to)
}

// The methods below execute commands on a copy that is not yet published.

func (s *state) executeMove(op metaOp, c *moveCommand) error {
	if op == metaPlanMoves {
		return s.planMoves(c)
	}
	return s.stepMove(&c.step)
}

// planMoves plans the migrations that can be, and is refused if none can.
func (s *state) planMoves(c *moveCommand) error {
	var refused error
	done := 0
	s.moves = slices.Clone(s.moves)
	for _, w := range c.moves {
		if err := s.planMove(c, w); err != nil {
			refused = cmp.Or(refused, err)
			continue
		}
		done++
	}
	if done == 0 {
		return refused
	}
	s.trimMoves()
	return nil
}

func (s *state) planMove(c *moveCommand, w wantedMove) error {
	if len(s.moves) >= maxMoves {
		return errs.New(errs.QuotaExceeded, "there are %d migrations, which is the limit", len(s.moves)).
			WithHint("wait for some of them, or cancel some")
	}
	if err := s.checkMove(w.tenant, w.to); err != nil {
		return err
	}
	t, _ := s.tenantByID(w.tenant)
	s.nextMove++
	m := &migration{
		id: s.nextMove, tenant: t.id, name: t.name, from: s.home(t), to: w.to, attempt: 1, phase: movePlanned,
		toRing: c.toRing, ringed: t.pin == noPin, undoes: c.undoes, reason: c.reason, by: c.by,
		entry: s.index,
	}
	m.begins[movePlanned] = c.at.UnixNano()
	s.moves = append(s.moves, m) // planMoves has made it this state's own
	s.setMoving(t, m.id)
	return nil
}

func (s *state) setMoving(t *tenant, id uint64) {
	next := *t
	next.moving = id
	s.putTenant(&next)
}

// trimMoves forgets the oldest migrations that are over, if there are many.
func (s *state) trimMoves() {
	over := 0
	for _, m := range s.moves {
		over += int(boolByte(m.phase.over()))
	}
	if over <= maxMoveHistory {
		return
	}
	s.moves = slices.DeleteFunc(slices.Clone(s.moves), func(m *migration) bool {
		if over <= maxMoveHistory || !m.phase.over() {
			return false
		}
		over--
		return true
	})
}

// stepMove brings a migration to its next phase. A step that was done already changes nothing: whoever asked may not have got
// the answer.
func (s *state) stepMove(c *moveStep) error {
	m, ok := s.migration(c.id)
	switch {
	case !ok:
		return errNoMove(c.id)
	case c.phase == moveAborting && c.attempt == 0: // whichever it is
	case c.attempt != m.attempt:
		return errs.New(errs.FailedPrecondition, "migration %d is at attempt %d, this is for attempt %d", m.id, m.attempt, c.attempt)
	}
	switch {
	case m.phase == c.phase && c.phase != moveStaging:
		return nil
	case !m.phase.leadsTo(c.phase):
		return errs.New(errs.FailedPrecondition, "migration %d is %s, from which it cannot become %s", m.id, m.phase, c.phase)
	}
	next := *m
	next.phase = c.phase
	if c.fault != "" {
		next.fault = c.fault
	}
	next.copied, next.failed = max(m.copied, c.copied), max(m.failed, c.failed)
	if err := s.take(m, &next, c); err != nil {
		return err
	}
	next.begins[next.phase] = c.at.UnixNano()
	s.putMove(&next)
	return nil
}

// take does what a step means beside the change of phase.
func (s *state) take(m, next *migration, c *moveStep) error {
	switch c.phase {
	case moveStaging:
		if m.phase == movePlanned {
			return s.checkStart(m, c.limit, s.busyNodes())
		}
		next.attempt++
		next.begins, next.copied = moveTimes{movePlanned: m.begins[movePlanned]}, 0
	case moveFlipped:
		return s.flip(next, c)
	case moveSettled:
		next.kept = c.until.UnixNano()
		if t, ok := s.tenantByID(m.tenant); ok && s.inItsZones(t, m.from) != nil {
			next.kept = next.changed() // a copy where the tenant may not be is not kept
		}
		s.free(next)
	case moveAborting:
		if m.phase == movePlanned { // nothing was done
			next.phase = moveAborted
			s.free(next)
		}
	case moveAborted, moveCollected:
		s.free(next)
	}
	return nil
}

// flip lets a tenant live at the target. This entry is the only place where its home changes while it has one.
func (s *state) flip(m *migration, c *moveStep) error {
	t, err := s.keptTenant(m.tenant)
	switch {
	case err != nil:
		return err
	case c.fence == 0:
		return errs.New(errs.FailedPrecondition, "migration %d has no fence at the source", m.id)
	case c.source == "" || c.source != c.target:
		return errs.New(errs.FailedPrecondition, "migration %d: the tenant is %x at the source and %x at the target", m.id, c.source, c.target)
	case !s.hasShard(m.to):
		return errNoShard(int(m.to))
	}
	moved := *t
	moved.epoch++
	moved.pin, moved.homeward = int32(m.to), m.toRing // to follow the ring on, where that has changed
	if m.toRing && s.ring[t.slot] == m.to {
		moved.pin, moved.homeward = noPin, false
	}
	m.fence, m.digest, m.epoch = c.fence, c.source, moved.epoch
	s.flippedAt = s.index
	s.rehome(t, &moved)
	return nil
}

// rehome replaces a tenant by itself with another home.
func (s *state) rehome(t, moved *tenant) {
	s.putTenant(moved)
	s.residents = slices.Clone(s.residents)
	s.residents[s.home(t)]--
	s.residents[s.home(moved)]++
}

// free lets the tenant of a migration be moved again.
func (s *state) free(m *migration) {
	if t, ok := s.tenantByID(m.tenant); ok && t.moving == m.id {
		s.setMoving(t, 0)
	}
}

func (s *state) putMove(m *migration) {
	i, ok := slices.BinarySearchFunc(s.moves, m.id, func(o *migration, id uint64) int { return cmp.Compare(o.id, id) })
	if !ok {
		return
	}
	s.moves = slices.Clone(s.moves)
	s.moves[i] = m
}

// abortMove has the migration of a tenant that is deleted taken back, if that is still possible.
func (s *state) abortMove(t *tenant, at time.Time) {
	m, ok := s.migration(t.moving)
	if !ok || !m.phase.revocable() {
		return
	}
	// It is refused only for reasons that were looked at.
	_ = s.stepMove(&moveStep{id: m.id, phase: moveAborting, at: at, fault: "the tenant was deleted"})
}

// endMoves ends what is left of the migrations of a tenant whose data is gone everywhere.
func (s *state) endMoves(id engine.TenantID) {
	for _, m := range s.moves {
		if m.tenant == id && m.phase == moveSettled {
			next := *m
			next.phase = moveCollected
			next.begins[moveCollected] = m.changed() // nobody's clock was asked
			s.free(&next)
			s.putMove(&next)
		}
	}
}

func errNoMove(id uint64) error {
	return errs.New(errs.NotFound, "there is no migration %d", id).WithHint("`croft migrations list` shows those that are known")
}

// checkMoves reports migrations that are out of order, or of shards and ids that there have never been.
func checkMoves(s *state) error {
	for i, m := range s.moves {
		switch {
		case m.id > s.nextMove || i > 0 && s.moves[i-1].id >= m.id:
			return errs.New(errs.Corrupt, "migration %d is out of order, the last one was %d", m.id, s.nextMove)
		case m.from >= s.nextShard || m.to >= s.nextShard || m.phase == 0 || int(m.phase) >= len(movePhases):
			return errs.New(errs.Corrupt, "migration %d is in phase %d from shard %d to shard %d", m.id, m.phase, m.from, m.to)
		}
	}
	return nil
}
