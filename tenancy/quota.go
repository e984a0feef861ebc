package tenancy

import "time"

// bucket counts a rate as a time: each request sets forward by its interval when the bucket will be full again. The zero
// bucket is full, and a change of the rate needs no care.
type bucket struct{ fullAt int64 } // ns since 1970

// pace is a rate as a bucket counts it. The zero pace lets nothing in.
type pace struct {
	rate     int64 // requests that come at once and are told as the limit
	interval int64 // ns between two requests
	depth    int64 // ns that an empty bucket is from full
}

// rates are the limits that a bucket counts: Rate and PerMinute.
const rates = 2

var rateWords = [rates]string{"a second", "a minute"}

// paceOf is the pace of the i-th rate. ok is false where there is no such limit.
func paceOf(i int, s *Settings) (p pace, ok bool) {
	if i == 0 {
		rate := s.Get(Rate)
		return newPace(rate, s.Get(Burst), time.Second), rate != Unlimited
	}
	rate := s.Get(PerMinute)
	return newPace(rate, rate, time.Minute), rate != Unlimited
}

// newPace is that of a rate. Where nothing is said of bursts, the requests of the whole time may come at once.
func newPace(rate, burst int64, in time.Duration) pace {
	if rate == 0 {
		return pace{}
	}
	p := pace{rate: min(rate, burst), interval: max(int64(in)/max(rate, 1), 1)}
	p.depth = p.rate * p.interval
	return p
}

// behind is how far from full the bucket is, as limits stand now.
func (b *bucket) behind(p pace, now int64) int64 { return min(max(b.fullAt-now, 0), p.depth) }

func (b *bucket) tokens(p pace, now int64) int64 {
	if p.depth == 0 {
		return 0
	}
	return (p.depth - b.behind(p, now)) / p.interval
}

// draw takes tokens and returns what that has set the bucket forward by.
func (b *bucket) draw(p pace, now, tokens int64) int64 {
	forward := tokens * p.interval
	b.fullAt = now + b.behind(p, now) + forward
	return forward
}

// untilNext is when there is a token again.
func (b *bucket) untilNext(p pace, now int64) time.Duration {
	if p.depth == 0 {
		return time.Hour // only a change of settings helps
	}
	return time.Duration(max(0, b.behind(p, now)+p.interval-p.depth))
}

func (b *bucket) left(now int64) time.Duration { return time.Duration(max(b.fullAt-now, 0)) }
func (b *bucket) full(now int64) bool          { return b.fullAt <= now }

// windowLength is that of PerHour.
const windowLength = int64(time.Hour)

// leases is into how many parts a window's requests are cut. A home that is lost takes the rest of one with it.
const leases = 100

// window counts the requests of an hour, which begins with the first. Requests are drawn from leases that were written
// down before, so that the next home knows the most that this one can have let in.
type window struct {
	known bool   // what the Book has was read
	term  uint64 // of the home, when it was
	begin int64  // ns since 1970; 0: there was none yet
	taken int64  // by leases
	drawn int64
}

// over reports whether a new window begins. One may have begun in the near future: homes' clocks differ.
func (w *window) over(now int64) bool {
	return now-w.begin >= windowLength || w.begin-now >= windowLength
}

func (w *window) left(now int64) time.Duration {
	if w.over(now) {
		return time.Duration(windowLength)
	}
	return time.Duration(w.begin + windowLength - now)
}

func (w *window) remaining(limit, now int64) int64 {
	if w.over(now) {
		return limit
	}
	return limit - w.drawn
}

// enough reports whether the next request can be drawn without another lease.
func (w *window) enough(limit, now int64, term uint64) bool {
	return limit == Unlimited || w.known && w.term == term && !w.over(now) && w.drawn < w.taken
}

// lease takes the next part of the window, or the first of a new one.
func (w *window) lease(limit, now int64) {
	if w.over(now) {
		w.begin, w.taken, w.drawn = now, 0, 0
	}
	w.taken += min(max(1, limit/leases), max(limit-w.taken, 0))
}

// adopt takes over what a lease has made of a copy. Requests may have been given back meanwhile.
func (w *window) adopt(leased window) {
	if w.known && w.term == leased.term && w.begin == leased.begin {
		leased.drawn = w.drawn
	}
	*w = leased
}

// breaker refuses a tenant's requests for a while once too many have failed.
type breaker struct {
	faults  [breakerSlots]int32 // by slot of time
	ended   [breakerSlots]int32 // requests that ended, well or not
	slot    int64               // number of the latest, since 1970
	until   int64               // it refuses; 0: it is not tripped
	pause   time.Duration       // that it refuses for
	good    int                 // probes that went well in a row
	probing bool
}

const (
	breakerSlots  = 10
	breakerSlot   = int64(30 * time.Second) // ten are the five minutes of BreakerFaults
	firstPause    = 5 * time.Second
	longestPause  = 5 * time.Minute
	probesToClose = 3
	faultyShare   = 20 // one in so many requests must have failed: some out of very many are no reason to refuse the others
)

func (b *breaker) tripped() bool { return b.until != 0 }

// shut is how long requests are refused; one at a time is let in after the pause, to probe.
func (b *breaker) shut(now int64) time.Duration {
	switch {
	case b.until == 0:
		return 0
	case now < b.until:
		return time.Duration(b.until - now)
	case b.probing:
		return time.Second
	}
	return 0
}

// note counts how a request ended.
func (b *breaker) note(now int64, probe, fault bool, limit int64, chance func() float64) {
	switch {
	case probe:
		b.probed(now, fault, chance)
	case b.until == 0:
		if faults, ended := b.count(now, fault); fault && faults >= limit && faults*faultyShare >= ended {
			b.trip(now, firstPause, chance)
		}
	}
}

func (b *breaker) probed(now int64, fault bool, chance func() float64) {
	b.probing = false
	if fault {
		b.trip(now, min(2*b.pause, longestPause), chance)
		return
	}
	if b.good++; b.good >= probesToClose {
		*b = breaker{}
	}
}

// trip refuses from now on, for a pause and a random part of it more.
func (b *breaker) trip(now int64, pause time.Duration, chance func() float64) {
	b.pause, b.good = pause, 0
	b.until = now + int64(pause) + int64(chance()*float64(pause)/2)
}

// count adds a request that has ended, and returns those of the last five minutes.
func (b *breaker) count(now int64, fault bool) (faults, ended int64) {
	b.advance(now)
	at := b.slot % breakerSlots
	b.ended[at]++
	if !fault {
		return 0, 0
	}
	b.faults[at]++
	for i := range b.faults {
		faults += int64(b.faults[i])
		ended += int64(b.ended[i])
	}
	return faults, ended
}

// advance empties the slots that time has passed over.
func (b *breaker) advance(now int64) {
	slot := now / breakerSlot
	if slot <= b.slot {
		return // clocks may go back; then the latest slot takes what comes
	}
	for s := max(b.slot+1, slot-breakerSlots+1); s <= slot; s++ {
		b.faults[s%breakerSlots], b.ended[s%breakerSlots] = 0, 0
	}
	b.slot = slot
}

// clean reports whether nothing of it would be missed.
func (b *breaker) clean(now int64) bool {
	if b.until != 0 {
		return now-b.until > int64(longestPause) // nobody has come to probe: whoever comes now begins anew
	}
	b.advance(now)
	return b.faults == [breakerSlots]int32{}
}
