package movemodel

// Bounds of the types; a Setting stays within them.
const (
	keys        = 2
	maxRequests = 4
	maxMoves    = 2
	maxAttempts = 2
	batches     = 3 // that carry an export: key a, key b, and what stands beside records
)

// Request is one write of a client, which it may send any number of times, through any router: it has a key of its own
// in the table of requests that were done.
type Request struct {
	Key    int
	Delete bool
}

// move names an attempt of a migration. The zero value is before all others.
type move struct{ id, attempt uint8 }

func (m move) before(o move) bool {
	return m.id < o.id || m.id == o.id && m.attempt < o.attempt
}

// standing is how a tenant stands in a shard.
type standing uint8

const (
	unknown standing = iota // there is no note of the tenant: a write makes it
	home
	fenced
	staged
	ready // staged, and its digest is that of the source
	left
)

// record is what a shard has of a key: the request that wrote it, counted from 1, or 0.
type record struct{ value, version uint8 }

// content is what a shard has of the tenant, and all that must travel.
type content struct {
	records [keys]record
	head    uint8 // versions that were given out
	once    uint8 // set of requests that were done
}

// write carries out request i.
func (c *content) write(i uint8, r Request) {
	c.head++
	c.once |= 1 << i
	c.records[r.Key] = record{}
	if !r.Delete {
		c.records[r.Key] = record{value: i + 1, version: c.head}
	}
}

// shard is the state of a shard group: what its replicas make of its log, as far as it concerns the tenant.
type shard struct {
	content
	standing standing
	note     move  // the last move that changed the standing
	closed   bool  // note is used up: it fences and stages no more
	epoch    uint8 // of the tenant, when it came or left
	batches  uint8 // of a copy, in order
	position uint8 // entries of the source's log that a copy stands for
	length   uint8
	log      [maxRequests]uint8 // requests that had an effect while the tenant was at home here
}

// spent says whether an order of p comes too late.
func (s *shard) spent(p move) bool { return p.before(s.note) || p == s.note && s.closed }

// stage begins a copy, in the place of one of an older attempt. What is at home is never staged, whatever it has.
func (s *shard) stage(p move, f Fault) {
	if f == StageWhereEmpty && s.standing == home && s.records == (content{}).records && !p.before(s.note) {
		s.begin(p)
		return
	}
	if s.note.before(p) && s.standing != home && s.standing != fenced {
		s.begin(p)
	}
}

func (s *shard) begin(p move) {
	s.standing, s.note, s.closed = staged, p, false
	s.content, s.batches, s.position = content{}, 0, 0
}

// copies says whether the shard is staged by p, with all of its batches or not.
func (s *shard) copies(p move, complete bool) bool {
	return s.standing == staged && s.note == p && (s.batches == batches) == complete
}

// batch takes the next part of an export.
func (s *shard) batch(p move, e content, position uint8) {
	if !s.copies(p, false) {
		return
	}
	switch {
	case s.batches < keys:
		s.records[s.batches] = e.records[s.batches]
	default:
		s.head, s.once, s.position = e.head, e.once, position
	}
	s.batches++
}

// tail carries out the next of the source's requests. Once ready, there can be none: what lifts the fence ends the attempt. A tail that
// comes all the same has nothing of the tenant in it.
func (s *shard) tail(p move, source *shard, requests []Request, f Fault) {
	if f == TailUnreadies && s.standing == ready && s.note == p {
		s.standing = staged
	}
	if !s.copies(p, true) || s.position == source.length {
		return
	}
	i := source.log[s.position]
	s.position++
	before := s.content
	s.write(i, requests[i])
	switch {
	case f == TombstonesForgotten && requests[i].Delete:
		s.records = before.records
	case f == OnceForgotten:
		s.once = before.once
	}
}

func (s *shard) ready(p move, digest content, f Fault) {
	if s.copies(p, true) && f.sumsUp(s.content) == digest {
		s.standing = ready
	}
}

func (s *shard) settle(p move, epoch uint8, f Fault) {
	if s.note == p && (s.standing == ready || s.standing == staged && f == FlipBeforeDrain) {
		s.standing, s.epoch = home, epoch
	}
}

// fence takes an older fence over. A note that p itself left is never fenced by p: it stands behind its fence.
func (s *shard) fence(p move) {
	if s.note.before(p) && (s.standing == home || s.standing == fenced) {
		s.standing, s.note, s.closed = fenced, p, false
	}
}

// unfence uses p up, also where it has not fenced: its fence may be on its way.
func (s *shard) unfence(p move, f Fault) {
	if s.spent(p) || s.standing != home && s.standing != fenced {
		return
	}
	s.standing, s.note, s.closed = home, p, true
	if f == UnfenceLeavesOpen {
		s.note, s.closed = move{}, false
	}
}

func (s *shard) leave(p move, epoch uint8) {
	if s.standing == fenced && s.note == p {
		s.standing, s.epoch = left, epoch
	}
}

// forget drops a copy, and uses p up, also where it has not staged.
func (s *shard) forget(p move, f Fault) {
	if s.spent(p) || s.standing == home || s.standing == fenced {
		return
	}
	s.begin(p)
	s.standing, s.closed = left, true
	if f == GetOrCreate {
		s.standing, s.note, s.closed = unknown, move{}, false
	}
}
