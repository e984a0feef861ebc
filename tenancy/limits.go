package tenancy

import (
	"math"
	"time"
)

// Limit names one setting of a tenant. Numbers are on disk: append only.
type Limit uint8

const (
	// Deadline ends a request's work, in milliseconds.
	Deadline Limit = iota
	// Rate is how many requests a second are let in.
	Rate
	// Burst is how many may come at once before Rate counts.
	Burst
	// PerHour is how many requests are let in within an hour, which begins with the first.
	PerHour
	// Concurrency is how many requests run or wait at once.
	Concurrency
	// TopK caps what a query may ask for; a larger request is answered with the capped number.
	TopK
	// CacheTTL is how long a result is kept, in seconds.
	CacheTTL
	// CacheBytes bounds the kept results.
	CacheBytes
	// Vectors bounds the records stored, over all indexes.
	Vectors
	// StoredBytes bounds their size.
	StoredBytes
	// Weight is the share of a node's work, relative to others'.
	Weight
	// Queued is how many requests may wait.
	Queued
	// RequestBytes bounds the memory of the requests that run or wait.
	RequestBytes
	// BreakerFaults is how many deadlines missed or errors within five minutes close a tenant's door for a while.
	BreakerFaults
	// Overage says what happens beyond Rate and PerHour: OverageReject or OverageDegrade.
	Overage

	limitCount
)

// Values of Overage.
const (
	OverageReject  = 0 // the request is refused
	OverageDegrade = 1 // it is served with less effort, after all others
)

// Unlimited is the value of a limit that does not limit.
const Unlimited = math.MaxInt64

// limitRow says what a limit is to those who show, set and combine it.
type limitRow struct {
	name   string // in JSON and on the command line
	unit   string
	system int64 // where nobody says otherwise
	least  int64
	scaled bool // an override multiplies it
	widens bool // a smaller value is not tighter: a request cannot change it
}

var limitTable = [limitCount]limitRow{
	Deadline:      {"deadline_ms", "ms", 30_000, 1, false, false},
	Rate:          {"rate_per_second", "requests/s", Unlimited, 0, true, false},
	Burst:         {"burst", "requests", Unlimited, 1, true, false},
	PerHour:       {"requests_per_hour", "requests", Unlimited, 0, true, false},
	Concurrency:   {"concurrency", "requests", Unlimited, 1, true, false},
	TopK:          {"top_k", "matches", 10_000, 1, false, false},
	CacheTTL:      {"cache_ttl_s", "s", 15 * 60, 0, false, true},
	CacheBytes:    {"cache_bytes", "bytes", 10 << 20, 0, true, true},
	Vectors:       {"vectors", "records", Unlimited, 0, true, true},
	StoredBytes:   {"stored_bytes", "bytes", Unlimited, 0, true, true},
	Weight:        {"weight", "", 10, 1, false, true},
	Queued:        {"queued", "requests", 64, 0, true, true},
	RequestBytes:  {"request_bytes", "bytes", 256 << 20, 1 << 20, true, true},
	BreakerFaults: {"breaker_faults", "in 5 min", 100, 1, false, true},
	Overage:       {"overage", "reject|degrade", OverageReject, 0, false, true},
}

func (l Limit) String() string {
	if int(l) < len(limitTable) {
		return limitTable[l].name
	}
	return "unknown limit"
}

// Limits are values of some limits; the others are inherited.
type Limits struct {
	set    uint32 // bit l: values[l] is given
	values [limitCount]int64
}

// Get returns a limit's value, if it is given.
func (ls *Limits) Get(l Limit) (int64, bool) { return ls.values[l], ls.set&(1<<l) != 0 }

// Set gives a limit a value.
func (ls *Limits) Set(l Limit, v int64) { ls.set |= 1 << l; ls.values[l] = v }

// Unset has a limit inherited.
func (ls *Limits) Unset(l Limit) { ls.set &^= 1 << l; ls.values[l] = 0 }

// Override multiplies a tenant's scaled limits until it ends.
type Override struct {
	Factor float64 // 0: none
	Until  time.Time
	Reason string
	By     string // id of the key that asked for it
}

// factor is what the override multiplies by at a time.
func (o *Override) factor(now time.Time) float64 {
	if o.Factor == 0 || !now.Before(o.Until) {
		return 1
	}
	return o.Factor
}

// Source is where an effective setting came from.
type Source uint8

// Sources, each over the ones before.
const (
	FromSystem Source = iota
	FromTier
	FromTenant
	FromOverride
	FromRequest
)

var sourceNames = [...]string{"system", "tier", "tenant", "override", "request"}

func (s Source) String() string { return sourceNames[s] }

// Settings are all limits of a tenant as they are in force. They are immutable.
type Settings struct {
	Tier    string
	Version uint64    // grows with each change of what they were resolved from
	Until   time.Time // when they end, with their override; zero: never
	values  [limitCount]int64
	sources [limitCount]Source
}

// Get returns a limit's value; Unlimited if there is none.
func (s *Settings) Get(l Limit) int64 { return s.values[l] }

// Source returns where it came from.
func (s *Settings) Source(l Limit) Source { return s.sources[l] }

// Duration returns Deadline or CacheTTL as a duration.
func (s *Settings) Duration(l Limit) time.Duration {
	unit := time.Millisecond
	if l == CacheTTL {
		unit = time.Second
	}
	return scale(int64(unit), s.values[l])
}

func scale(unit, n int64) time.Duration {
	if n > math.MaxInt64/unit {
		return math.MaxInt64
	}
	return time.Duration(unit * n)
}

// Resolve lays a tier's limits over the system's, a tenant's over those, and multiplies by an override.
func Resolve(tier *Tier, own *Limits, o *Override, version uint64, now time.Time) Settings {
	s := Settings{Tier: tier.Name, Version: version}
	for l := range limitTable {
		s.values[l] = limitTable[l].system
	}
	s.lay(&tier.Limits, FromTier)
	s.lay(own, FromTenant)
	if f := o.factor(now); f != 1 {
		s.Until = o.Until
		s.multiply(f)
	}
	return s
}

func (s *Settings) lay(ls *Limits, from Source) {
	for l := range limitCount {
		if v, ok := ls.Get(l); ok {
			s.values[l], s.sources[l] = v, from
		}
	}
}

func (s *Settings) multiply(f float64) {
	for l := range limitTable {
		if v := s.values[l]; limitTable[l].scaled && v != Unlimited {
			s.values[l], s.sources[l] = int64(min(float64(v)*f, math.MaxInt64/2)), FromOverride
		}
	}
}

// Tighten returns the value that a request asks for, at most the one in force.
func (s *Settings) Tighten(l Limit, asked int64) int64 { return min(s.values[l], asked) }
