package cluster

import (
	"slices"

	"github.com/croftdb/croft/internal/errs"
)

// Policy says where new tenants are placed. Numbers are on disk: append only.
type Policy uint8

const (
	PolicyRing        Policy = iota // where the ring says
	PolicyLeastLoaded               // on the shared shard with the fewest vectors and expected vectors
)

var policies = [...]string{"ring", "least-loaded"}

// String implements fmt.Stringer.
func (p Policy) String() string {
	if int(p) < len(policies) {
		return policies[p]
	}
	return "unknown"
}

// ParsePolicy is the inverse of String.
func ParsePolicy(name string) (Policy, error) {
	if i := slices.Index(policies[:], name); i >= 0 {
		return Policy(i), nil
	}
	return 0, errs.New(errs.Invalid, "placement policy %q is none of %s, %s", name, policies[0], policies[1])
}

// Rules of placement, the cluster's own. Zero numbers mean the defaults of withDefaults.
type Rules struct {
	Policy       Policy
	ShardTenants int // that a shard is meant to hold
	ShardVectors int // that a shard is meant to hold
	Growth       int // vectors that a tenant is expected to add to those it has
}

// What a shard is meant to hold, and a tenant expected to bring, unless the rules say otherwise.
const (
	defaultShardTenants = 2_000
	defaultShardVectors = 2_000_000
	defaultGrowth       = 10_000
	maxRule             = 1 << 30
)

func (r Rules) withDefaults() Rules {
	setDefault(&r.ShardTenants, defaultShardTenants)
	setDefault(&r.ShardVectors, defaultShardVectors)
	setDefault(&r.Growth, defaultGrowth)
	return r
}

func (r Rules) validate() error {
	switch {
	case int(r.Policy) >= len(policies):
		return errs.New(errs.Invalid, "placement policy %d is unknown", r.Policy)
	case min(r.ShardTenants, r.ShardVectors, r.Growth) < 0 || max(r.ShardTenants, r.ShardVectors, r.Growth) > maxRule:
		return errs.New(errs.Invalid, "a shard of %d tenants and %d vectors with %d more a tenant: each must be 0 to %d",
			r.ShardTenants, r.ShardVectors, r.Growth, maxRule)
	}
	return nil
}

// Utilisation is the mean of tenants and vectors, each against what a shard is meant to hold.
func (r Rules) Utilisation(tenants int, vectors uint64) float64 {
	r = r.withDefaults()
	return (float64(tenants)/float64(r.ShardTenants) + float64(vectors)/float64(r.ShardVectors)) / 2
}

// shardLoad is what a shard holds, as placement sees it.
type shardLoad struct {
	shard   uint16
	tenants int
	vectors uint64
}

// expected are the vectors that the shard holds once its tenants have grown as expected.
func (l *shardLoad) expected(r *Rules) uint64 { return l.vectors + uint64(l.tenants)*uint64(r.Growth) }

// full reports whether the shard has no room for another tenant of the expected size.
func (l *shardLoad) full(r *Rules) bool {
	return l.tenants >= r.ShardTenants || l.vectors+uint64(r.Growth) > uint64(r.ShardVectors)
}

// leastLoaded chooses the shard for a new tenant, and counts it there: the fewest vectors with those that its tenants are
// expected to add, among shards with room. When all are full it is the fewest among all, since capacity is advice, and a
// tenant that cannot be made is an outage; full says so. The ring's own shard wins where it is as good as any, which
// spares a pin, else the lowest id. r has its defaults; loads are not empty.
func leastLoaded(loads []shardLoad, ring uint16, r *Rules) (shard uint16, full bool) {
	best := -1
	for i := range loads {
		if best < 0 || lighter(&loads[i], &loads[best], ring, r) {
			best = i
		}
	}
	l := &loads[best]
	full = l.full(r)
	l.tenants++
	return l.shard, full
}

func lighter(a, b *shardLoad, ring uint16, r *Rules) bool {
	if full := a.full(r); full != b.full(r) {
		return !full
	}
	if x, y := a.expected(r), b.expected(r); x != y {
		return x < y
	}
	return a.shard == ring
}
