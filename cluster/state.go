package cluster

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/tenancy"
)

// state is the metadata plane's state after one entry of its log. It is immutable, all that hangs on it included:
// readers load the newest one from a pointer and may keep it as long as they like.
type state struct {
	index     uint64 // of the last entry applied
	clusterID string // empty until the first command
	epoch     uint64 // of the ring table and the replica sets, grows only
	shards    []uint16
	ring      ringTable // empty or Slots long
	nextIndex engine.IndexID
	indexes   []Index          // by name
	dropped   []engine.IndexID // tombstones, ascending; kept for ever, ids are never reused
	byName    cowMap[*tenant]  // that are not deleted
	byID      cowMap[*tenant]
	tiers     []tier // by name
	prices    tenancy.Prices
	strict    bool // a write to a namespace that does not exist makes none
	keys      cowMap[tenancy.Key]
	members   []member    // by id
	placed    []placement // by shard
	tokens    []joinToken
	wanted    int          // replicas of a shard; 0: as the number of nodes allows
	nextShard uint16       // id of the next shard; grows only
	dedicated []dedicated  // by shard
	rules     Rules        // of placement, as they were set
	residents []int        // tenants on each shard, by id, deleted ones included; counted, not stored
	moves     []*migration // by id
	nextMove  uint64       // id of the last migration
	draining  []uint16     // shards that their tenants are leaving, ascending
	balance   BalanceRules // as they were set
	runs      []*run       // by id
	nextRun   uint64       // id of the last run
	bounds    []bound      // by shard
	groups    []grouped    // in order; of the tenants' residencies, not stored

	recoveries []recovery // oldest first

	indexesAt  uint64        // entry that last changed indexes, or the snapshot's
	flippedAt  uint64        // entry that last moved a tenant; 0: none since the snapshot
	superseded chan struct{} // closed when there is a newer state
}

// tenant is one tenant. Its id stands for it everywhere below the router.
type tenant struct {
	id   engine.TenantID
	name string
	slot uint16
	pin  int32 // shard where it lives although the ring says otherwise, or noPin

	tier      string     // empty: tenancy.DefaultTier
	terms     *terms     // nil: those of its tier
	residency *Residency // nil: anywhere, beside anybody; immutable
	life      tenantLife
	deletedAt int64 // in nanoseconds since 1970, by the clock of who deleted it

	homeward bool // the pin is for the time until it has moved to where the ring says

	epoch  uint64 // how often it has moved to another home
	moving uint64 // migration that is under way or planned; 0: none; follows from migrations, not stored
}

const noPin int32 = -1

func newState() *state {
	return &state{nextIndex: 1, tiers: shippedTiers(), superseded: make(chan struct{})}
}

// tenant finds a tenant by name.
func (s *state) tenant(name string) (*tenant, bool) {
	return s.byName.get(codec.HashString(name), func(t *tenant) bool { return t.name == name })
}

// tenantByID finds a tenant by id, also a deleted one.
func (s *state) tenantByID(id engine.TenantID) (*tenant, bool) {
	return s.byID.get(codec.Hash(id[:]), func(t *tenant) bool { return t.id == id })
}

// home returns the shard where a tenant lives. The state must have a ring.
func (s *state) home(t *tenant) uint16 {
	if t.pin != noPin {
		return uint16(t.pin)
	}
	return s.ring[t.slot]
}

// findIndex finds an index by name.
func (s *state) findIndex(name string) (Index, bool) {
	i, ok := slices.BinarySearchFunc(s.indexes, name, func(ix Index, name string) int { return cmp.Compare(ix.Name, name) })
	if !ok {
		return Index{}, false
	}
	return s.indexes[i], true
}

// indexByID finds an index by id.
func (s *state) indexByID(id engine.IndexID) (Index, bool) {
	i := slices.IndexFunc(s.indexes, func(ix Index) bool { return ix.ID == id })
	if i < 0 {
		return Index{}, false
	}
	return s.indexes[i], true
}

// isDropped reports whether an index of that id was dropped.
func (s *state) isDropped(id engine.IndexID) bool {
	_, ok := slices.BinarySearch(s.dropped, id)
	return ok
}

// tenantsOn is how many tenants live on a shard.
func (s *state) tenantsOn(shard uint16) int {
	if int(shard) >= len(s.residents) {
		return 0
	}
	return s.residents[shard]
}

// The methods below change a copy that is not yet published.

// countResidents counts anew. The state must have a ring.
func (s *state) countResidents() {
	s.residents = make([]int, s.nextShard)
	for t := range s.byID.all() {
		s.residents[s.home(t)]++
	}
}

func (s *state) putTenant(t *tenant) {
	if in, ok := s.tier(t.tier); ok {
		t.tier = in.Name // one string for all
	}
	if t.life == tenantLive {
		s.byName = s.byName.put(codec.HashString(t.name), t, func(o *tenant) bool { return o.name == t.name })
	}
	s.byID = s.byID.put(codec.Hash(t.id[:]), t, func(o *tenant) bool { return o.id == t.id })
}

func (s *state) putIndex(ix Index) {
	s.indexesAt = s.index
	s.indexes = slices.DeleteFunc(slices.Clone(s.indexes), func(o Index) bool { return o.ID == ix.ID })
	s.indexes = append(s.indexes, ix)
	slices.SortFunc(s.indexes, func(a, b Index) int { return cmp.Compare(a.Name, b.Name) })
}

func (s *state) dropIndex(id engine.IndexID) {
	s.indexesAt = s.index
	s.indexes = slices.DeleteFunc(slices.Clone(s.indexes), func(o Index) bool { return o.ID == id })
	at, _ := slices.BinarySearch(s.dropped, id)
	s.dropped = slices.Insert(slices.Clone(s.dropped), at, id)
}

// freePort returns the lowest port offset that no index has, 0 if all are taken.
func (s *state) freePort() int {
	var taken [maxPort + 1]bool
	for _, ix := range s.indexes {
		taken[ix.Port] = true
	}
	for p := 1; p <= maxPort; p++ {
		if !taken[p] {
			return p
		}
	}
	return 0
}

// tenantsByName returns all tenants in order of name, deleted ones included, which may share it, for snapshots.
func (s *state) tenantsByName() []*tenant {
	all := slices.AppendSeq(make([]*tenant, 0, s.byID.n), s.byID.all())
	slices.SortFunc(all, func(a, b *tenant) int {
		return cmp.Or(cmp.Compare(a.name, b.name), bytes.Compare(a.id[:], b.id[:]))
	})
	return all
}

// sortedKeys returns a map's keys in order: what is encoded must not depend on map order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
