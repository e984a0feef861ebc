package movemodel

// phase is that of the newest migration, as the metadata plane has it.
type phase uint8

const (
	planned phase = iota
	staging
	copying
	tailing
	fencing
	flipped
	settled
	collected
	aborting
	aborted
)

var phaseNames = [...]string{"planned", "staging", "copying", "tailing", "fencing", "flipped", "settled", "collected", "aborting", "aborted"}

// order is what a driver may ask of a shard or of the metadata plane, always in the name of an attempt.
type order uint8

const (
	doStage order = iota
	doBatch
	doTail
	doFence
	doReady
	doFlip
	doSettle
	doLeave
	doForget  // the source's copy, after the grace period
	doUnfence // of an attempt that is over
	doAbandon // the target's copy of a move that was aborted
	orders
)

var orderNames = [...]string{"stage", "batch", "tail", "fence", "ready", "flip", "settle", "leave", "forget", "unfence", "abandon"}

// toSource are orders to the source; the others are for the target, and doFlip for the metadata plane.
const toSource = 1<<doFence | 1<<doLeave | 1<<doForget | 1<<doUnfence

// attempt is what was ever ordered in its name, with what the orders carry. Each may arrive at any later time, and any
// number of times: so whoever drives, or drove, needs no state of its own.
type attempt struct {
	given    uint16 // set of orders
	lost     bool   // the node that held the export leads no more
	equal    bool   // the digests in doFlip
	position uint8  // of export
	export   content
	digest   content // in doReady
}

func (a *attempt) give(os ...order) {
	for _, o := range os {
		a.given |= 1 << o
	}
}

func (a *attempt) has(o order) bool { return a.given>>o&1 == 1 }

// migration is a record of the metadata plane.
type migration struct {
	from, to, epoch uint8
	attempts        [maxAttempts]attempt
}

// oldLeader is one that was cut off from its group. It holds a lease, and answers with what it has applied.
type oldLeader struct {
	on       bool
	standing standing
	records  [keys]record
}

// state is one of the world: the metadata plane, two shard groups, what is under way, and what really happened.
type state struct {
	now        move // the newest migration and its attempt
	phase      phase
	home       uint8 // shard
	epoch      uint8 // of the tenant
	routes     uint8 // set of shards that the tenant's home ever was: somebody may still believe it
	flips      [maxMoves]uint8
	migrations [maxMoves]migration
	shards     [2]shard
	old        [2]oldLeader
	changes    [2]uint8 // of leaders

	asked      bool // a reader was told by the metadata plane that the tenant is at home in askedShard
	askedShard uint8
	askedAt    uint8 // length of the history then

	done    uint8 // length of history
	history [maxRequests]uint8
}

func (s *state) migration() *migration { return &s.migrations[s.now.id-1] }
func (s *state) attempt() *attempt     { return &s.migration().attempts[s.now.attempt-1] }
func (s *state) source() *shard        { return &s.shards[s.migration().from] }
func (s *state) target() *shard        { return &s.shards[s.migration().to] }

// truth is what a single copy would have after the first n writes of the history.
func (s *state) truth(n uint8, requests []Request) content {
	var c content
	for _, i := range s.history[:n] {
		c.write(i, requests[i])
	}
	return c
}

// begin is the state in which the tenant is at home in shard 0, and its first move is planned.
func begin() state {
	s := state{routes: 1, epoch: 1}
	s.shards[0].standing, s.shards[0].epoch = home, 1
	s.plan()
	return s
}

// plan makes a new migration, away from home.
func (s *state) plan() {
	s.now = move{s.now.id + 1, 1}
	s.phase = planned
	m := s.migration()
	m.from, m.to, m.epoch = s.home, 1-s.home, s.epoch+1
}
