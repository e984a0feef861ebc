package cluster

import (
	"cmp"
	"slices"
	"strings"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// dedicated is a shard off the ring: it holds the tenants that are pinned to it, and no others.
type dedicated struct {
	shard uint16
	name  string // for people; may be empty
	// founder is the node that begins the shard's group with the first replica, which waits for no leader to fill it.
	founder string
}

const (
	maxShardName = 63
	// maxShardIDs bounds the shards that a cluster ever has: an id is never used again.
	maxShardIDs = 4096
)

// dedicatedShard finds a dedicated shard by id; false for a shared one, and for one that does not exist.
func (s *state) dedicatedShard(id uint16) (dedicated, bool) {
	i, ok := slices.BinarySearchFunc(s.dedicated, id, func(d dedicated, id uint16) int { return cmp.Compare(d.shard, id) })
	if !ok {
		return dedicated{}, false
	}
	return s.dedicated[i], true
}

// hasShard reports whether there is a shard of that id.
func (s *state) hasShard(id uint16) bool { return slices.Contains(s.shards, id) }

// removedShard reports whether there was a shard of that id. That a shard is not known proves nothing by itself: the state
// may be older than the shard.
func (s *state) removedShard(id uint16) bool { return id < s.nextShard && !s.hasShard(id) }

// The methods below execute commands on a copy that is not yet published.

// addShard makes a dedicated shard with its first replica on a node, which founds its group.
func (s *state) addShard(c *shardCommand) error {
	name, founder := c.name, c.founder
	m, ok := s.member(founder)
	switch {
	case s.clusterID == "":
		return errs.New(errs.FailedPrecondition, "the cluster has no shards yet")
	case s.nextShard >= maxShardIDs:
		return errs.New(errs.QuotaExceeded, "the cluster has had %d shards, which is the limit", maxShardIDs)
	case !ok || m.state != memberActive:
		return errs.New(errs.FailedPrecondition, "node %s cannot carry a shard, it is not active", founder)
	case len(name) > maxShardName:
		return errs.New(errs.Invalid, "the name of a shard has %d bytes, at most %d are taken", len(name), maxShardName)
	case name != "" && slices.ContainsFunc(s.dedicated, func(d dedicated) bool { return d.name == name }):
		return errs.New(errs.AlreadyExists, "there is a shard %q already", name)
	}
	if err := checkZones(c.zones); err != nil {
		return err
	}
	if len(c.zones) > 0 && !inZones(zoneOf(m), c.zones) {
		return errs.New(errs.FailedPrecondition, "node %s is in zone %q, and the shard is bound to %s", founder, m.zone, strings.Join(c.zones, ", "))
	}
	id := s.nextShard
	s.nextShard++
	s.residents = append(slices.Clone(s.residents), 0)
	s.shards = append(slices.Clone(s.shards), id) // ids grow, so both stay in order
	s.dedicated = append(slices.Clone(s.dedicated), dedicated{id, name, founder})
	s.place(id, []string{founder})
	s.putBound(bound{id, c.zones, true})
	return nil
}

// removeShard takes out a shard off the ring to which no tenant is pinned, so that it holds nothing but what others have left.
func (s *state) removeShard(id uint16) error {
	if !s.hasShard(id) {
		return errs.New(errs.NotFound, "there is no shard %d", id)
	}
	if _, off := s.dedicatedShard(id); !off && !s.isDraining(id) {
		return errs.New(errs.FailedPrecondition, "shard %d is shared, and has part of the ring", id).WithHint("drain it first: croft shards drain %d", id)
	}
	if tenants := s.tenantsOn(id); tenants > 0 {
		return errs.New(errs.FailedPrecondition, "shard %d holds %d tenants", id, tenants).WithHint("move them first")
	}
	if moves := s.movesOn(id); moves > 0 {
		return errs.New(errs.FailedPrecondition, "shard %d is the target of %d migrations", id, moves).WithHint("cancel them first")
	}
	s.epoch++
	s.putBound(bound{shard: id})
	s.shards = slices.DeleteFunc(slices.Clone(s.shards), func(o uint16) bool { return o == id })
	s.dedicated = slices.DeleteFunc(slices.Clone(s.dedicated), func(o dedicated) bool { return o.shard == id })
	s.draining = slices.DeleteFunc(slices.Clone(s.draining), func(o uint16) bool { return o == id })
	s.placed = slices.DeleteFunc(slices.Clone(s.placed), func(p placement) bool { return p.shard == id })
	return nil
}

func (s *state) setRules(r Rules) error {
	if err := r.validate(); err != nil {
		return err
	}
	s.rules = r
	return nil
}

// appendShards encodes what version 4 of the snapshot added.
func appendShards(b []byte, s *state) []byte {
	b = codec.AppendUvarint(b, uint64(s.nextShard))
	b = codec.AppendUvarint(b, uint64(len(s.dedicated)))
	for _, d := range s.dedicated {
		b = codec.AppendUvarint(b, uint64(d.shard))
		b = codec.AppendString(codec.AppendString(b, d.name), d.founder)
	}
	return appendRules(b, s.rules)
}

func readShards(r *codec.Reader, s *state) {
	s.nextShard = uint16(r.Uvarint())
	for range r.Count(3) {
		s.dedicated = append(s.dedicated, dedicated{uint16(r.Uvarint()), r.String(), r.String()})
	}
	s.rules = readRules(r)
}

// afterShards is the first id that none of the shards has.
func afterShards(shards []uint16) uint16 {
	if len(shards) == 0 {
		return 0
	}
	return slices.Max(shards) + 1
}

// checkShards reports shards that are out of order, have an id that is still to be given, or are dedicated and do not exist
// or have part of the ring.
func checkShards(s *state) error {
	if s.nextShard > maxShardIDs || slices.ContainsFunc(s.shards, func(id uint16) bool { return id >= s.nextShard }) {
		return errs.New(errs.Corrupt, "the next shard is %d, beyond %d or with one of that id or above", s.nextShard, maxShardIDs)
	}
	onRing := s.ring.shards()
	for i, d := range s.dedicated {
		switch {
		case i > 0 && s.dedicated[i-1].shard >= d.shard:
			return errs.New(errs.Corrupt, "dedicated shard %d is out of order", d.shard)
		case !s.hasShard(d.shard):
			return errs.New(errs.Corrupt, "dedicated shard %d does not exist", d.shard)
		case slices.Contains(onRing, d.shard):
			return errs.New(errs.Corrupt, "dedicated shard %d is on the ring", d.shard)
		}
	}
	return s.rules.validate()
}

func appendRules(b []byte, r Rules) []byte {
	b = append(b, byte(r.Policy))
	for _, v := range []int{r.ShardTenants, r.ShardVectors, r.Growth} {
		b = codec.AppendUvarint(b, uint64(v))
	}
	return b
}

func readRules(r *codec.Reader) Rules {
	return Rules{Policy: Policy(r.Byte()), ShardTenants: readInt(r), ShardVectors: readInt(r), Growth: readInt(r)}
}

// shardCommand is the part of a metaCommand that is about shards and placement.
type shardCommand struct {
	shard   uint16   // metaRemoveShard, metaBindShard
	name    string   // metaAddShard
	founder string   // metaAddShard: node id
	zones   []string // metaAddShard, metaBindShard: where its replicas are to be; none: anywhere
	kept    bool     // metaBindShard: they are
	epoch   uint64   // metaBindShard with kept: in which that was seen
	rules   Rules    // metaSetRules, metaInit
}

func appendShardCommand(b []byte, op metaOp, c *shardCommand) []byte {
	switch op {
	case metaAddShard:
		return appendStrings(codec.AppendString(codec.AppendString(b, c.name), c.founder), c.zones)
	case metaRemoveShard:
		return codec.AppendUvarint(b, uint64(c.shard))
	case metaBindShard:
		b = appendStrings(codec.AppendUvarint(b, uint64(c.shard)), c.zones)
		return codec.AppendUvarint(append(b, boolByte(c.kept)), c.epoch)
	default: // metaSetRules
		return appendRules(b, c.rules)
	}
}

func readShardCommand(r *codec.Reader, op metaOp, version int) (c shardCommand) {
	switch op {
	case metaAddShard:
		if c.name, c.founder = r.String(), r.String(); version >= 7 {
			c.zones = readStrings(r)
		}
	case metaBindShard:
		c.shard, c.zones = uint16(r.Uvarint()), readStrings(r)
		c.kept, c.epoch = r.Byte() != 0, r.Uvarint()
	case metaRemoveShard:
		c.shard = uint16(r.Uvarint())
	case metaSetRules:
		c.rules = readRules(r)
	}
	return c
}
