package cluster

import (
	"time"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// appendMembers encodes what version 3 of the snapshot added.
func appendMembers(b []byte, s *state) []byte {
	b = codec.AppendUvarint(b, uint64(len(s.members)))
	for i := range s.members {
		b = append(appendMember(b, &s.members[i]), byte(s.members[i].state))
	}
	b = appendPlacements(b, s.placed)
	b = codec.AppendUvarint(b, uint64(len(s.tokens)))
	for _, t := range s.tokens {
		b = appendTime(append(b, t.hash[:]...), t.expires)
	}
	return codec.AppendUvarint(b, uint64(s.wanted))
}

func readMembers(r *codec.Reader, s *state, version int) {
	for range r.Count(5) {
		m := readMember(r, version)
		m.state = memberState(r.Byte())
		s.members = append(s.members, m)
	}
	s.placed = readPlacements(r)
	for range r.Count(40) {
		s.tokens = append(s.tokens, joinToken{readHash(r), readTime(r)})
	}
	s.wanted = readInt(r)
}

// checkMembers reports nodes and placements out of order, or replicas on nodes that are not there: binary search and the
// reconciler rely on both.
func checkMembers(s *state) error {
	for i := range s.members {
		if i > 0 && s.members[i-1].id >= s.members[i].id {
			return errs.New(errs.Corrupt, "node %q is out of order", s.members[i].id)
		}
	}
	for i, p := range s.placed {
		if i > 0 && s.placed[i-1].shard >= p.shard {
			return errs.New(errs.Corrupt, "placement of shard %d is out of order", p.shard)
		}
		if err := checkReplicas(s, p.replicas); err != nil {
			return errs.Wrap(errs.Corrupt, err, "placement of shard %d", p.shard)
		}
	}
	return nil
}

// appendMember encodes a node without its state.
func appendMember(b []byte, m *member) []byte {
	for _, s := range []string{m.id, m.address, m.url, m.zone} {
		b = codec.AppendString(b, s)
	}
	return codec.AppendUint64(codec.AppendUvarint(b, m.starts), m.life)
}

func readMember(r *codec.Reader, version int) (m member) {
	for _, s := range []*string{&m.id, &m.address, &m.url, &m.zone} {
		*s = r.String()
	}
	if version >= 5 {
		m.starts, m.life = r.Uvarint(), r.Uint64()
	}
	return m
}

func appendStrings(b []byte, v []string) []byte {
	b = codec.AppendUvarint(b, uint64(len(v)))
	for _, s := range v {
		b = codec.AppendString(b, s)
	}
	return b
}

func readStrings(r *codec.Reader) []string {
	v := make([]string, r.Count(1))
	for i := range v {
		v[i] = r.String()
	}
	return v
}

func readHash(r *codec.Reader) (h [32]byte) {
	copy(h[:], r.Raw(len(h)))
	return h
}

// memberCommand is the part of a metaCommand that is about nodes, replicas and tokens.
type memberCommand struct {
	member  member    // metaRegister, metaJoin; metaSetMember: id and state
	force   bool      // metaSetMember
	token   [32]byte  // metaJoin: hash of the token shown; metaAddToken
	expires time.Time // metaAddToken
	now     time.Time // metaJoin, metaAddToken: the proposer's clock
	place   placement // metaPlace
	epoch   uint64    // metaPlace: at which it was decided
	wanted  int       // metaReplication

	recovery recovery    // metaRecover
	places   []placement // metaRecover
}

func appendMemberCommand(b []byte, op metaOp, c *memberCommand) []byte {
	switch op {
	case metaRegister:
		return appendMember(b, &c.member)
	case metaJoin:
		b = append(appendMember(b, &c.member), c.token[:]...)
		return appendTime(b, c.now)
	case metaSetMember:
		b = codec.AppendString(b, c.member.id)
		return append(b, byte(c.member.state), boolByte(c.force))
	case metaPlace:
		return codec.AppendUvarint(appendPlacement(b, &c.place), c.epoch)
	case metaAddToken:
		b = appendTime(append(b, c.token[:]...), c.expires)
		return appendTime(b, c.now)
	case metaRecover:
		return appendPlacements(appendRecovery(b, &c.recovery), c.places)
	default: // metaReplication
		return codec.AppendUvarint(b, uint64(c.wanted))
	}
}

func readMemberCommand(r *codec.Reader, op metaOp, version int) (c memberCommand) {
	switch op {
	case metaRegister:
		c.member = readMember(r, version)
	case metaJoin:
		c.member, c.token, c.now = readMember(r, version), readHash(r), readTime(r)
	case metaSetMember:
		c.member.id, c.member.state, c.force = r.String(), memberState(r.Byte()), r.Byte() != 0
	case metaPlace:
		c.place, c.epoch = readPlacement(r), r.Uvarint()
	case metaAddToken:
		c.token, c.expires, c.now = readHash(r), readTime(r), readTime(r)
	case metaReplication:
		c.wanted = readInt(r)
	case metaRecover:
		c.recovery, c.places = readRecovery(r), readPlacements(r)
	}
	return c
}

// executeMember executes a command about nodes, replicas and tokens.
func (s *state) executeMember(op metaOp, c *memberCommand) error {
	switch op {
	case metaRegister:
		return s.register(c.member)
	case metaJoin:
		return s.join(c.member, c.token, c.now)
	case metaSetMember:
		return s.setMember(c.member.id, c.member.state, c.force)
	case metaPlace:
		return s.placeShard(c.place.shard, c.place.replicas, c.epoch)
	case metaAddToken:
		return s.addToken(joinToken{c.token, c.expires}, c.now)
	case metaRecover:
		return s.recover(c.recovery, c.places)
	default: // metaReplication
		return s.setReplication(c.wanted)
	}
}
