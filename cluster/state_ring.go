package cluster

import (
	"slices"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// How the ring changes while tenants are there. Whoever proposes a change has computed the next table from the present one; the
// entry puts it in force and, for all tenants of the slots that change hands, a pin to where they live. So nobody's home changes by it,
// while new tenants go to the new place at once. Such a tenant is homeward: its pin lasts until it has moved to where the ring says.

// isDraining reports whether the tenants of a shard are to leave it, and new ones to stay away.
func (s *state) isDraining(shard uint16) bool {
	_, ok := slices.BinarySearch(s.draining, shard)
	return ok
}

// leaves reports whether a tenant is to move to where the ring says. One whose data is being dropped is not.
func (s *state) leaves(t *tenant) bool {
	home := s.home(t)
	return t.life != tenantPurged && home != s.ring[t.slot] && (t.homeward || s.isDraining(home))
}

// The methods below execute commands on a copy that is not yet published.

// executeRing changes which shards have part of the ring.
func (s *state) executeRing(op metaOp, c *ringCommand) error {
	if c.basis != s.epoch {
		return errs.New(errs.Unavailable, "the placement has changed since, from epoch %d to %d", c.basis, s.epoch).WithRetryAfter(retryPause)
	}
	switch {
	case !s.hasShard(c.of):
		return errNoShard(int(c.of))
	case op == metaDrainShard:
		return s.drain(c)
	default: // metaJoinRing
		return s.joinRing(c)
	}
}

// joinRing gives a shard off the ring part of it, or takes back that it is drained.
func (s *state) joinRing(c *ringCommand) error {
	_, off := s.dedicatedShard(c.of)
	draining := s.isDraining(c.of)
	switch {
	case !off && !draining:
		return errs.New(errs.FailedPrecondition, "shard %d is on the ring already", c.of)
	case off && !draining && s.tenantsOn(c.of) > 0:
		return errs.New(errs.FailedPrecondition, "dedicated shard %d holds %d tenants, which would have to share it", c.of, s.tenantsOn(c.of))
	}
	s.draining = slices.DeleteFunc(slices.Clone(s.draining), func(o uint16) bool { return o == c.of })
	if off && draining { // it stays a dedicated one
		s.epoch++
		return nil
	}
	if !slices.Contains(c.next, c.of) {
		return errs.New(errs.Invalid, "the next ring gives shard %d nothing", c.of)
	}
	s.dedicated = slices.DeleteFunc(slices.Clone(s.dedicated), func(o dedicated) bool { return o.shard == c.of })
	return s.setRing(c, func(slot int) bool { return c.next[slot] == c.of })
}

// drain takes a shard off the ring, and has its tenants move.
func (s *state) drain(c *ringCommand) error {
	_, off := s.dedicatedShard(c.of)
	if s.isDraining(c.of) {
		return errs.New(errs.FailedPrecondition, "shard %d is being drained already", c.of)
	}
	at, _ := slices.BinarySearch(s.draining, c.of)
	s.draining = slices.Insert(slices.Clone(s.draining), at, c.of)
	if off {
		s.epoch++
		return nil
	}
	return s.setRing(c, func(slot int) bool { return s.ring[slot] == c.of && c.next[slot] != c.of })
}

// setRing puts a table in force that differs from the present one only in slots that may change.
func (s *state) setRing(c *ringCommand, may func(slot int) bool) error {
	if err := checkRing(s.shards, c.next); err != nil {
		return errs.Wrap(errs.Invalid, err, "the next ring")
	}
	for slot := range c.next {
		if c.next[slot] != s.ring[slot] && !may(slot) {
			return errs.New(errs.Invalid, "the next ring takes slot %d from shard %d to shard %d, which this is not about", slot, s.ring[slot], c.next[slot])
		}
	}
	for _, id := range c.next.shards() {
		if _, off := s.dedicatedShard(id); off || s.isDraining(id) {
			return errs.New(errs.Invalid, "the next ring names shard %d, which is off it", id)
		}
	}
	s.keepHomes(c.next)
	s.ring = c.next
	s.epoch++
	return nil
}

// keepHomes pins the tenants whose slot goes to another shard to where they live, and frees those who wait there for what they get.
func (s *state) keepHomes(next ringTable) {
	for t := range s.byID.all() {
		home := s.home(t)
		stays, goes := t.pin == noPin && next[t.slot] != home, t.homeward && next[t.slot] == home
		if !stays && !goes {
			continue
		}
		kept := *t
		kept.pin, kept.homeward = noPin, false
		if stays {
			kept.pin, kept.homeward = int32(home), true
		}
		s.putTenant(&kept)
	}
}

// checkRingChanges reports shards that are drained and do not exist, or are on the ring all the same.
func checkRingChanges(s *state) error {
	onRing := s.ring.shards()
	for i, id := range s.draining {
		if i > 0 && s.draining[i-1] >= id || !s.hasShard(id) || slices.Contains(onRing, id) {
			return errs.New(errs.Corrupt, "shard %d is being drained, and out of order, does not exist or is on the ring", id)
		}
	}
	return nil
}

// ringCommand is the part of a metaCommand that is about the ring.
type ringCommand struct {
	of    uint16    // the shard
	basis uint64    // epoch that the next table was computed in
	next  ringTable // empty where it stays
}

func appendRingCommand(b []byte, c *ringCommand) []byte {
	b = codec.AppendUvarint(codec.AppendUvarint(b, uint64(c.of)), c.basis)
	return appendUint16s(b, c.next)
}

func readRingCommand(r *codec.Reader) ringCommand {
	return ringCommand{of: uint16(r.Uvarint()), basis: r.Uvarint(), next: readUint16s(r)}
}
