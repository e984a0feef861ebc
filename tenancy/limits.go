package tenancy

import (
	"iter"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/croftdb/croft/internal/errs"
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
	// Overage says what happens beyond Rate, PerMinute and PerHour: OverageReject or OverageDegrade.
	Overage
	// PerMinute is how many requests are let in within a minute, which may come at once.
	PerMinute

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
	PerMinute:     {"requests_per_minute", "requests", Unlimited, 0, true, false},
}

func (l Limit) String() string {
	if l.Valid() {
		return limitTable[l].name
	}
	return "unknown limit"
}

// Valid reports whether this version knows the limit.
func (l Limit) Valid() bool { return l < limitCount }

// Unit is what its values count, empty for a mere number.
func (l Limit) Unit() string { return limitTable[l].unit }

// AllLimits lists every limit, in order of number.
func AllLimits() []Limit {
	all := make([]Limit, limitCount)
	for i := range all {
		all[i] = Limit(i)
	}
	return all
}

// ParseLimit finds a limit by its name. Invalid if there is none of that name.
func ParseLimit(name string) (Limit, error) {
	names := make([]string, limitCount)
	for l := range limitCount {
		if names[l] = limitTable[l].name; names[l] == name {
			return l, nil
		}
	}
	return 0, errs.New(errs.Invalid, "there is no limit %q", name).WithHint("the limits are %s", strings.Join(names, ", "))
}

// Words for values that are no numbers.
const (
	WordUnlimited = "unlimited"
	wordReject    = "reject"
	wordDegrade   = "degrade"
)

// Check reports whether v is a value that the limit may have; Invalid if not.
func (l Limit) Check(v int64) error {
	switch {
	case !l.Valid():
		return errs.New(errs.Invalid, "limit %d is unknown to this version", l)
	case l == Overage && v != OverageReject && v != OverageDegrade:
		return errs.New(errs.Invalid, "%s is %s or %s", l, wordReject, wordDegrade)
	case v < limitTable[l].least:
		return errs.New(errs.Invalid, "%s %d is below %d", l, v, limitTable[l].least)
	}
	return nil
}

// Format is a value as people read it: a number, or a word for it.
func (l Limit) Format(v int64) string {
	switch {
	case l == Overage && v == OverageDegrade:
		return wordDegrade
	case l == Overage:
		return wordReject
	case v == Unlimited:
		return WordUnlimited
	}
	return strconv.FormatInt(v, 10)
}

// Parse is the inverse of Format, with Check. Invalid if text is no value of the limit.
func (l Limit) Parse(text string) (v int64, err error) {
	switch {
	case l == Overage:
		if v = OverageReject; text == wordDegrade {
			v = OverageDegrade
		}
		if text != l.Format(v) {
			return 0, l.Check(-1)
		}
		return v, nil
	case text == WordUnlimited:
		return Unlimited, nil
	}
	if v, err = strconv.ParseInt(text, 10, 64); err != nil {
		return 0, errs.New(errs.Invalid, "%s %q is neither a whole number nor %s", l, text, WordUnlimited)
	}
	return v, l.Check(v)
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

// All yields the limits that are given, in order of number.
func (ls *Limits) All() iter.Seq2[Limit, int64] {
	return func(yield func(Limit, int64) bool) {
		for l := range limitCount {
			if v, ok := ls.Get(l); ok && !yield(l, v) {
				return
			}
		}
	}
}

// IsEmpty reports whether none is given.
func (ls *Limits) IsEmpty() bool { return ls.set == 0 }

// Check reports a value that its limit may not have; Invalid.
func (ls *Limits) Check() error {
	for l, v := range ls.All() {
		if err := l.Check(v); err != nil {
			return err
		}
	}
	return nil
}

// Change says which limits get another value, and which are inherited from now on.
type Change struct {
	Set     Limits
	Inherit []Limit
}

// IsEmpty reports whether nothing changes.
func (c *Change) IsEmpty() bool { return c.Set.IsEmpty() && len(c.Inherit) == 0 }

// Check reports a value that its limit may not have, or a limit that there is not; Invalid.
func (c *Change) Check() error {
	for _, l := range c.Inherit {
		if !l.Valid() {
			return l.Check(0)
		}
	}
	return c.Set.Check()
}

// Of returns ls changed.
func (c *Change) Of(ls Limits) Limits {
	for _, l := range c.Inherit {
		ls.Unset(l)
	}
	for l, v := range c.Set.All() {
		ls.Set(l, v)
	}
	return ls
}

// Unset has a limit inherited.
func (ls *Limits) Unset(l Limit) { ls.set &^= 1 << l; ls.values[l] = 0 }

// Override multiplies a tenant's scaled limits until it ends.
type Override struct {
	Factor float64 // 0: none
	Until  time.Time
	Reason string
	By     string // id of the key that asked for it
}

const (
	// MaxFactor is the largest of an override.
	MaxFactor = 1000
	maxReason = 512 // bytes
)

// Check reports whether the override may be set; Invalid if not. The zero Override takes one back.
func (o *Override) Check() error {
	switch {
	case o.Factor == 0:
		return nil
	case !(o.Factor > 0 && o.Factor <= MaxFactor): // NaN too
		return errs.New(errs.Invalid, "an override's factor is above 0 and at most %d, got %v", MaxFactor, o.Factor)
	case len(o.By) > maxReason:
		return errs.New(errs.Invalid, "the id of a key has %d bytes, at most %d are taken", len(o.By), maxReason)
	case len(o.Reason) > maxReason:
		return errs.New(errs.Invalid, "the reason of an override has %d bytes, at most %d are taken", len(o.Reason), maxReason)
	}
	return nil
}

// Active reports whether the override is in force at a time.
func (o *Override) Active(now time.Time) bool { return o.Factor != 0 && now.Before(o.Until) }

// factor is what the override multiplies by at a time.
func (o *Override) factor(now time.Time) float64 {
	if !o.Active(now) {
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
			v = int64(min(float64(v)*f, math.MaxInt64/2))
			s.values[l], s.sources[l] = max(v, limitTable[l].least), FromOverride
		}
	}
}

// Tighten returns the value that a request asks for, at most the one in force.
func (s *Settings) Tighten(l Limit, asked int64) int64 { return min(s.values[l], asked) }
