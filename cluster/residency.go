package cluster

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/croftdb/croft/cluster/balance"
	"github.com/croftdb/croft/internal/errs"
)

// Residency says where a tenant's data may be. The zero value: anywhere, beside anybody's.
type Residency struct {
	// Zones of the nodes that may have it. One that ends in * stands for all whose names begin so, which is a region. None: all.
	Zones []string `json:"zones,omitempty"`
	// Apart are groups: two tenants of the same one never have data on the same shard.
	Apart []string `json:"apart_from,omitempty"`
}

// ResidencyChange changes what is not nil.
type ResidencyChange struct{ Zones, Apart *[]string }

// IsZero reports whether nothing is said.
func (r Residency) IsZero() bool { return len(r.Zones) == 0 && len(r.Apart) == 0 }

const (
	// maxResidencies bounds the zones, and the groups, of a tenant or a shard.
	maxResidencies = 16
	// maxZone bounds the name of a zone or a group, in bytes.
	maxZone = 63
)

// Of returns what a residency becomes.
func (c *ResidencyChange) Of(r Residency) Residency {
	if c.Zones != nil {
		r.Zones = *c.Zones
	}
	if c.Apart != nil {
		r.Apart = *c.Apart
	}
	return r
}

// IsEmpty reports whether nothing is to be changed.
func (c *ResidencyChange) IsEmpty() bool { return c.Zones == nil && c.Apart == nil }

func (r *Residency) check() error {
	if r == nil {
		return nil
	}
	return cmp.Or(checkZones(r.Zones), checkNames("group", r.Apart))
}

// checkZones reports zones that cannot be: a part of a name stands for a region, but not for the whole world.
func checkZones(zones []string) error {
	if err := checkNames("zone", zones); err != nil {
		return err
	}
	for _, z := range zones {
		if start, _ := strings.CutSuffix(z, "*"); start == "" || strings.Contains(start, "*") {
			return errs.New(errs.Invalid, "zone %q is neither a zone nor the beginning of some, as in eu-*", z)
		}
	}
	return nil
}

func checkNames(what string, names []string) error {
	if len(names) > maxResidencies {
		return errs.New(errs.Invalid, "%d %ss are too many, at most %d are taken", len(names), what, maxResidencies)
	}
	for i, name := range names {
		switch {
		case name == "" || len(name) > maxZone || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\ufffd' }):
			return errs.New(errs.Invalid, "the name of a %s has 1 to %d bytes without blanks, this is %q", what, maxZone, name)
		case slices.Contains(names[:i], name):
			return errs.New(errs.Invalid, "%s %q is given twice", what, name)
		}
	}
	return nil
}

// maxPlacings bounds how often a place is looked for again for a tenant that is kept apart from others who are made at the same time.
const maxPlacings = 8

// createBound makes a tenant that may not be everywhere, where it may.
func (n *Node) createBound(ctx context.Context, t *tenant) (err error) {
	for range maxPlacings {
		t.pin = noPin
		if err = n.loads.placeBound(ctx, t); err != nil {
			return err
		}
		if err = n.proposeTenant(ctx, t); !errs.Is(err, errs.FailedPrecondition) {
			return err
		}
	}
	return err
}

// placeBound says where a tenant is to live that may not be everywhere: where the policy of placement says, of the shared shards that
// may have it. FailedPrecondition: there is none. Dedicated ones are their owner's to give.
func (l *shardLoads) placeBound(ctx context.Context, t *tenant) error {
	s := l.node.meta.state()
	if s.clusterID == "" {
		return nil // refused soon enough
	}
	refusal := s.mayLive(t, s.ring[t.slot])
	if s.rules.Policy == PolicyRing && refusal == nil {
		return nil
	}
	rules := s.rules.withDefaults()
	loads := slices.DeleteFunc(sharedLoads(s, l.vectors(ctx)), func(o shardLoad) bool { return s.mayLive(t, o.shard) != nil })
	if len(loads) == 0 {
		return s.errNowhere(t, refusal)
	}
	if shard, _ := leastLoaded(loads, s.ring[t.slot], &rules); shard != s.ring[t.slot] {
		t.pin = int32(shard)
	}
	return nil
}

func (s *state) errNowhere(t *tenant, refusal error) error {
	err := errs.New(errs.FailedPrecondition, "no shared shard may have this tenant: %w", refusal)
	if to, ok := s.refuge(t); ok {
		return err.WithHint("dedicated shard %d may: croft tenants create %s --shard %d", to, t.name, to)
	}
	return err.WithHint("make a shard for it: croft shards add --dedicated --zone ZONE; or bind one that is there: croft shards bind SHARD --zone ZONE")
}

// BindShard has the replicas of a shard on nodes of some zones from now on, of any if there are none; the steward moves them. Tenants
// that may be there alone are taken once all have moved. NotFound; Invalid; FailedPrecondition: no node is there, or a tenant of the
// shard may not be.
func (n *Node) BindShard(ctx context.Context, shard int, zones []string) error {
	if shard < 0 || shard >= maxShardIDs {
		return errNoShard(shard)
	}
	_, err := n.changeMeta(ctx, &metaCommand{op: metaBindShard, shardCommand: shardCommand{shard: uint16(shard), zones: zones}})
	return err
}

// keepBounds notes that shards are where they are bound to, once their groups are settled there.
func (w *steward) keepBounds(ctx context.Context, s *state, busy map[uint16]bool) error {
	for _, b := range s.bounds {
		if b.kept || busy[b.shard] || !s.inside(b.shard, b.zones) {
			continue
		}
		c := &metaCommand{op: metaBindShard, shardCommand: shardCommand{shard: b.shard, zones: b.zones, kept: true, epoch: s.epoch}}
		if _, err := w.node.proposeMeta(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// binding reports whether a shard is bound to where it is not known to be yet.
func (s *state) binding() bool {
	return slices.ContainsFunc(s.bounds, func(b bound) bool { return !b.kept })
}

// residencyFaults lists the tenants with data where it may not be, as the metadata says, and as the shards' leaders say of replicas. By
// the rules there is none, but nodes may be started in another zone, and replicas placed by force after a loss.
func (s *state) residencyFaults(shards []ShardInfo) (faults []balance.Astray) {
	zones := map[uint16][]string{} // that have replicas
	for i := range shards {
		for _, r := range shards[i].Replicas {
			if m, _ := s.member(r.Node); r.Role != RoleMissing {
				zones[uint16(shards[i].ID)] = append(zones[uint16(shards[i].ID)], zoneOf(m))
			}
		}
	}
	type place struct {
		group string
		shard uint16
	}
	beside := map[place]*tenant{}
	note := func(t *tenant, shard uint16, format string, args ...any) {
		faults = append(faults, balance.Astray{Tenant: t.name, Shard: int(shard), What: fmt.Sprintf(format, args...)})
	}
	for t, shards := range s.boundTenants() { // any order: sorted below
		for _, shard := range shards {
			at := slices.IndexFunc(zones[shard], func(zone string) bool { return len(t.residency.Zones) > 0 && !inZones(zone, t.residency.Zones) })
			if err := s.inItsZones(t, shard); at >= 0 {
				note(t, shard, "may be in zone %s alone, and shard %d has a replica in %q", strings.Join(t.residency.Zones, ", "), shard, strings.TrimPrefix(zones[shard][at], "\x00"))
			} else if err != nil {
				note(t, shard, "is where it may not be: %v", err)
			}
			for _, group := range t.residency.Apart {
				if other := beside[place{group, shard}]; other != nil && other != t {
					note(t, shard, "is on shard %d with tenant %q, from which group %s keeps it apart", shard, other.name, group)
				}
				beside[place{group, shard}] = t
			}
		}
	}
	slices.SortFunc(faults, func(a, b balance.Astray) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Shard, b.Shard))
	})
	return faults
}

// boundTenants returns the tenants that may not be everywhere, with all shards that may have data of theirs.
func (s *state) boundTenants() map[*tenant][]uint16 {
	all := map[*tenant][]uint16{}
	for t := range s.byID.all() {
		if t.residency != nil {
			all[t] = []uint16{s.home(t)}
		}
	}
	if len(all) == 0 {
		return nil
	}
	for _, m := range s.moves {
		t, ok := s.tenantByID(m.tenant)
		if !ok || t.residency == nil || m.phase.over() {
			continue
		}
		for _, id := range []uint16{m.from, m.to} {
			if s.hasShard(id) && !slices.Contains(all[t], id) {
				all[t] = append(all[t], id)
			}
		}
	}
	return all
}
