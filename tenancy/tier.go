package tenancy

import (
	"regexp"

	"github.com/croftdb/croft/internal/errs"
)

// Tier is a named set of limits that many tenants share.
type Tier struct {
	Name   string
	Limits Limits
}

// DefaultTier is that of new tenants: nothing but the limits that keep the store safe.
const DefaultTier = "standard"

// SearchTier is under what searches over many tenants are served, all of them together: the operator's, and no tenant's.
const SearchTier = "cross-tenant"

// SearchID stands for all who search over many tenants, at a gate. No tenant has it.
var SearchID = ID{}

var tierNames = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// CheckTierName reports whether name may be a tier's: it stands in headers and is a metric's label. Invalid if not.
func CheckTierName(name string) error {
	if !tierNames.MatchString(name) {
		return errs.New(errs.Invalid, "tier %.40q: a name has 1 to 32 small letters, digits and '-', which is neither first nor last", name)
	}
	return nil
}

// ShippedTiers are those of a cluster that has changed nothing.
func ShippedTiers() []Tier {
	tier := func(name string, limits map[Limit]int64) Tier {
		t := Tier{Name: name}
		for l, v := range limits {
			t.Limits.Set(l, v)
		}
		return t
	}
	const mib = 1 << 20
	return []Tier{
		tier(DefaultTier, nil),
		tier("free", map[Limit]int64{Deadline: 1000, PerHour: 100, TopK: 5, Weight: 5, CacheBytes: 5 * mib}),
		tier("silver", map[Limit]int64{Deadline: 1000, Rate: 200, Burst: 200, Concurrency: 200, CacheTTL: 15 * 60, CacheBytes: 10 * mib, Weight: 10}),
		tier("gold", map[Limit]int64{Deadline: 500, Rate: 500, Burst: 500, Concurrency: 500, CacheTTL: 30 * 60, CacheBytes: 20 * mib, Weight: 20}),
		tier("platinum", map[Limit]int64{Deadline: 200, Rate: 1000, Burst: 1000, Concurrency: 1000, CacheTTL: 60 * 60, CacheBytes: 40 * mib, Weight: 40}),
		tier(SearchTier, map[Limit]int64{Deadline: 3000, PerMinute: 10, CacheTTL: 5, CacheBytes: 10 * mib}),
	}
}
