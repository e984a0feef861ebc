package cluster

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// bound is a shard whose replicas are on nodes of some zones alone.
type bound struct {
	shard uint16
	zones []string
	// kept: no replica is outside of them, nor one that is wanted there no more and may still be. Only then does the shard
	// take tenants that may be nowhere else.
	kept bool
}

// grouped is a tenant that is kept apart from the others of a group.
type grouped struct {
	group  string
	tenant engine.TenantID
}

func (g grouped) compare(o grouped) int {
	return cmp.Or(cmp.Compare(g.group, o.group), bytes.Compare(g.tenant[:], o.tenant[:]))
}

// inZones reports whether a zone is one of some. One that ends in * stands for all that begin so.
func inZones(zone string, zones []string) bool {
	return slices.ContainsFunc(zones, func(z string) bool {
		start, many := strings.CutSuffix(z, "*")
		return zone == z || many && strings.HasPrefix(zone, start)
	})
}

// zonesWithin reports whether whatever is in some zones is in others too.
func zonesWithin(zones, others []string) bool {
	return len(zones) > 0 && !slices.ContainsFunc(zones, func(z string) bool { return !inZones(z, others) })
}

// boundOf returns what a shard is bound to; without zones: it may be anywhere.
func (s *state) boundOf(shard uint16) bound {
	i, ok := slices.BinarySearchFunc(s.bounds, shard, func(b bound, id uint16) int { return cmp.Compare(b.shard, id) })
	if !ok {
		return bound{shard: shard}
	}
	return s.bounds[i]
}

// mayLive reports why a tenant may not live on a shard, nil if it may. A shard may be where the tenant may if it is bound to zones
// that are all among the tenant's: where its replicas happen to be today says nothing of tomorrow. This is the only judge of residency;
// whatever gives a tenant a home, or plans to, asks it.
func (s *state) mayLive(t *tenant, shard uint16) error {
	if t.residency == nil {
		return nil
	}
	if err := s.inItsZones(t, shard); err != nil {
		return err
	}
	return s.apart(t, shard)
}

// inItsZones reports a shard that may be where the tenant may not.
func (s *state) inItsZones(t *tenant, shard uint16) error {
	if t.residency == nil || len(t.residency.Zones) == 0 {
		return nil
	}
	b, places := s.boundOf(shard), strings.Join(t.residency.Zones, ", ")
	switch {
	case len(b.zones) == 0:
		return errs.New(errs.FailedPrecondition, "tenant %q may be in zone %s alone, and shard %d is bound to none", t.name, places, shard)
	case !zonesWithin(b.zones, t.residency.Zones):
		return errs.New(errs.FailedPrecondition, "tenant %q may be in zone %s alone, and shard %d is bound to %s", t.name, places, shard, strings.Join(b.zones, ", "))
	case !b.kept:
		return errs.New(errs.FailedPrecondition, "tenant %q may be in zone %s alone, and shard %d has replicas elsewhere still", t.name, places, shard).
			WithHint("they are being moved: wait for it, croft shards get %d", shard)
	}
	return nil
}

// apart reports a shard that has, or is about to get, data of a tenant from which t is kept apart. Copies that are left after a move,
// and those of deleted tenants, are data.
func (s *state) apart(t *tenant, shard uint16) error {
	for _, group := range t.residency.Apart {
		at, _ := slices.BinarySearchFunc(s.groups, grouped{group: group}, grouped.compare)
		for _, g := range s.groups[at:] {
			if g.group != group {
				break
			}
			if other, ok := s.tenantByID(g.tenant); ok && g.tenant != t.id && s.home(other) == shard {
				return errs.New(errs.FailedPrecondition, "tenant %q is kept apart from tenant %q, group %s, which is on shard %d", t.name, other.name, group, shard)
			}
		}
	}
	if len(t.residency.Apart) == 0 {
		return nil
	}
	for _, m := range s.moves {
		if m.phase.over() || m.tenant == t.id || m.from != shard && m.to != shard {
			continue
		}
		if other, ok := s.tenantByID(m.tenant); ok && t.residency.keptFrom(other.residency) {
			return errs.New(errs.FailedPrecondition, "tenant %q is kept apart from tenant %q, of which shard %d has a copy until migration %d is over", t.name, other.name, shard, m.id)
		}
	}
	return nil
}

// keptFrom reports whether two tenants are of a common group.
func (r *Residency) keptFrom(o *Residency) bool {
	return o != nil && slices.ContainsFunc(r.Apart, func(g string) bool { return slices.Contains(o.Apart, g) })
}

// refuge is a shard where a tenant may live, in all the versions of it that are given: the one with the fewest tenants, a shared one
// if there is any.
func (s *state) refuge(versions ...*tenant) (best uint16, found bool) {
	rank := func(id uint16) int {
		_, off := s.dedicatedShard(id)
		return int(boolByte(off))<<32 + s.tenantsOn(id)
	}
	for _, id := range s.shards {
		forbidden := s.checkTarget(id) != nil || slices.ContainsFunc(versions, func(t *tenant) bool { return s.mayLive(t, id) != nil })
		if !forbidden && (!found || rank(id) < rank(best)) {
			best, found = id, true
		}
	}
	return best, found
}

// wayOut is where a tenant is to move that leaves its home: where the ring says if it may live there; else, if the home is drained,
// another shared shard where it may. Without one it is still the ring: the move is refused, and the run tells so.
func (s *state) wayOut(t *tenant) (to uint16, ok bool) {
	if !s.leaves(t) {
		return 0, false
	}
	if to = s.ring[t.slot]; s.mayLive(t, to) == nil {
		return to, true
	}
	if !s.isDraining(s.home(t)) {
		return 0, false // it stays
	}
	other, found := s.refuge(t)
	if _, off := s.dedicatedShard(other); !found || off {
		return to, true // refused, and told as failed
	}
	return other, true
}

// The methods below execute commands on a copy that is not yet published.

// setResidency gives t, which replaces a tenant, what r says. It is refused where the tenant has data that may not be there then:
// the books never say what is not so. Copies that it has left behind elsewhere are dropped before their time.
func (s *state) setResidency(t *tenant, r *Residency) error {
	if err := r.check(); err != nil {
		return err
	}
	t.residency = nil
	if !r.IsZero() {
		t.residency = r
	}
	if err := s.mayLive(t, s.home(t)); err != nil {
		return s.moveFirst(t, err)
	}
	for _, m := range s.moves {
		if m.tenant == t.id && m.phase.running() {
			if err := cmp.Or(s.mayLive(t, m.from), s.mayLive(t, m.to)); err != nil {
				return errs.New(errs.FailedPrecondition, "%w; migration %d is under way", err, m.id).WithHint("wait for it, or cancel it: croft migrations cancel %d", m.id)
			}
		}
	}
	for _, m := range s.moves {
		if m.tenant == t.id && m.phase == moveSettled && s.mayLive(t, m.from) != nil {
			next := *m
			next.kept = m.changed()
			s.putMove(&next)
		}
	}
	s.regroup(t)
	return nil
}

// moveFirst says where a tenant has to go before it is bound to what it is not.
func (s *state) moveFirst(t *tenant, err error) error {
	refused := errs.New(errs.FailedPrecondition, "%w", err)
	old, _ := s.tenantByID(t.id)
	if to, ok := s.refuge(old, t); ok {
		return refused.WithHint("move it there first: croft tenants move %s --to %d", t.name, to)
	}
	if _, ok := s.refuge(t); ok {
		return refused.WithHint("it may not be moved there yet: allow it both places, move it, then take the first one back")
	}
	return refused.WithHint("no shard would do: make one, croft shards add --dedicated --zone ZONE, and move the tenant there first")
}

// regroup notes the groups of a tenant, and forgets those it had.
func (s *state) regroup(t *tenant) {
	s.groups = t.appendGroups(slices.DeleteFunc(slices.Clone(s.groups), func(g grouped) bool { return g.tenant == t.id }))
	slices.SortFunc(s.groups, grouped.compare)
}

func (t *tenant) appendGroups(to []grouped) []grouped {
	if t.residency == nil {
		return to
	}
	for _, group := range t.residency.Apart {
		to = append(to, grouped{group, t.id})
	}
	return to
}

// bindShard has the replicas of a shard on nodes of some zones from now on, of any if there are none. It is refused where tenants that
// are there would not be bound any more, or no node could carry it. With kept, it notes that what was asked for is carried out.
func (s *state) bindShard(c *shardCommand) error {
	old := s.boundOf(c.shard)
	switch {
	case !s.hasShard(c.shard):
		return errNoShard(int(c.shard))
	case c.kept && (c.epoch != s.epoch || !slices.Equal(c.zones, old.zones)):
		return errs.New(errs.FailedPrecondition, "shard %d was looked at in epoch %d, it is %d now", c.shard, c.epoch, s.epoch)
	}
	if !c.kept {
		if err := cmp.Or(checkZones(c.zones), s.checkCarriers(c.zones), s.checkTied(c.shard, c.zones)); err != nil {
			return err
		}
	}
	next := bound{shard: c.shard, zones: c.zones}
	// What is moved out is gone once somebody has looked; in a cluster of one node there is nowhere to be moved from.
	next.kept = s.inside(c.shard, c.zones) && (c.kept || s.alone() || old.kept && zonesWithin(old.zones, c.zones))
	s.putBound(next)
	return nil
}

func (s *state) putBound(b bound) {
	s.bounds = slices.DeleteFunc(slices.Clone(s.bounds), func(o bound) bool { return o.shard == b.shard })
	if len(b.zones) == 0 {
		return
	}
	at, _ := slices.BinarySearchFunc(s.bounds, b.shard, func(o bound, id uint16) int { return cmp.Compare(o.shard, id) })
	s.bounds = slices.Insert(s.bounds, at, b)
}

// inside reports whether all replicas of a shard are wanted on nodes of some zones.
func (s *state) inside(shard uint16, zones []string) bool {
	return !slices.ContainsFunc(s.replicas(shard), func(id string) bool {
		m, ok := s.member(id)
		return !ok || !inZones(zoneOf(m), zones)
	})
}

// checkCarriers reports zones in which there is no node.
func (s *state) checkCarriers(zones []string) error {
	if len(zones) == 0 || slices.ContainsFunc(s.members, func(m member) bool { return m.state == memberActive && inZones(zoneOf(m), zones) }) {
		return nil
	}
	return errs.New(errs.FailedPrecondition, "no active node is in zone %s", strings.Join(zones, ", ")).
		WithHint("croft nodes list shows the zones that there are; a node is told its own by --zone when it starts")
}

// checkTied reports a tenant with data on a shard that may not be in some zones.
func (s *state) checkTied(shard uint16, zones []string) error {
	for t := range s.byID.all() {
		if t.residency == nil || len(t.residency.Zones) == 0 || zonesWithin(zones, t.residency.Zones) {
			continue
		}
		if slices.Contains(s.shardsOf(t), shard) {
			return errs.New(errs.FailedPrecondition, "shard %d has data of tenant %q, which may be in zone %s alone", shard, t.name, strings.Join(t.residency.Zones, ", ")).
				WithHint("move it elsewhere first, and wait until its copy is dropped")
		}
	}
	return nil
}

// checkInside reports nodes that a shard is newly to be on although it is bound elsewhere.
func (s *state) checkInside(shard uint16, replicas []string) error {
	b := s.boundOf(shard)
	for _, id := range replicas {
		if m, _ := s.member(id); len(b.zones) > 0 && !inZones(zoneOf(m), b.zones) && !slices.Contains(s.replicas(shard), id) {
			return errs.New(errs.FailedPrecondition, "shard %d is bound to zone %s, and node %s is in %q", shard, strings.Join(b.zones, ", "), id, m.zone)
		}
	}
	return nil
}

// reviewBounds notes which shards have a replica outside of their zones since a node has moved or replicas were placed by force.
func (s *state) reviewBounds() {
	for _, b := range s.bounds {
		if b.kept && !s.inside(b.shard, b.zones) {
			b.kept = false
			s.putBound(b)
		}
	}
}

// appendResidency encodes a residency that is not nil.
func appendResidency(b []byte, r *Residency) []byte {
	return appendStrings(appendStrings(b, r.Zones), r.Apart)
}

func readResidency(r *codec.Reader) *Residency {
	return &Residency{Zones: readStrings(r), Apart: readStrings(r)}
}

func appendResidencyChange(b []byte, c *ResidencyChange) []byte {
	b = append(b, bits(c.Zones != nil, c.Apart != nil))
	for _, names := range []*[]string{c.Zones, c.Apart} {
		if names != nil {
			b = appendStrings(b, *names)
		}
	}
	return b
}

func readResidencyChange(r *codec.Reader) (c ResidencyChange) {
	flags := r.Byte()
	for i, names := range []**[]string{&c.Zones, &c.Apart} {
		if flags&(1<<i) != 0 {
			read := readStrings(r)
			*names = &read
		}
	}
	return c
}

// appendBounds encodes the shards that are bound to zones.
func appendBounds(b []byte, bounds []bound) []byte {
	b = codec.AppendUvarint(b, uint64(len(bounds)))
	for _, o := range bounds {
		b = appendStrings(codec.AppendUvarint(b, uint64(o.shard)), o.zones)
		b = append(b, boolByte(o.kept))
	}
	return b
}

func readBounds(r *codec.Reader) (bounds []bound) {
	for range r.Count(3) {
		bounds = append(bounds, bound{uint16(r.Uvarint()), readStrings(r), r.Byte() != 0})
	}
	return bounds
}

// checkBounds reports shards out of order, or that do not exist.
func checkBounds(s *state) error {
	for i, b := range s.bounds {
		if !s.hasShard(b.shard) || i > 0 && s.bounds[i-1].shard >= b.shard || len(b.zones) == 0 {
			return errs.New(errs.Corrupt, "bound shard %d is out of order, does not exist or has no zone", b.shard)
		}
	}
	return nil
}
