package tenancy

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/croftdb/croft/internal/errs"
)

// Refusals is what a node that is asked remembers of refusals, wherever the tenant lives: whose door is closed for a moment,
// and which requests were told to come back later, so that it refuses by itself what comes at once all the same. Of a flood, most
// wait until they may. It bounds itself, and has no goroutine.
type Refusals struct {
	Now    func() time.Time // nil: time.Now
	Chance func() float64   // in [0,1); nil: math/rand/v2

	last atomic.Int64 // when all that is remembered is over, in ns since 1970

	mu     sync.Mutex
	closed map[ID]closedDoor
	swept  int64
	told   [toldSlots]toldLater
	held   map[ID]int // requests that wait
	all    int

	refused, slowed uint64 // since the start
}

// closedDoor is a tenant that was refused.
type closedDoor struct {
	until   int64
	told    Receipt
	since   int64 // when refused began to count
	refused int
}

// toldLater is a request that was refused.
type toldLater struct {
	key   uint64
	until int64 // that it should not come back before
}

const (
	toldSlots    = 4096 // of refused requests; each takes the place of another by its hash
	closedMost   = 4096 // tenants
	heldMost     = 1024 // requests, of all tenants
	heldByTenant = 256
	heldLongest  = 2 * time.Second

	// refusedAtOnce is how many requests of a tenant are refused within a second at a closed door without delay. Of a flood, which
	// is what comes beyond, each waits a second or two for another try: clients who ask from a number of connections slow down,
	// where refusals would only make them faster.
	refusedAtOnce = 50

	sweepPause = 100 * time.Millisecond // between two looks for what is over
)

func (f *Refusals) now() int64 {
	if f.Now == nil {
		return time.Now().UnixNano()
	}
	return f.Now().UnixNano()
}

// Quiet reports whether nothing is remembered: then there is nothing to ask.
func (f *Refusals) Quiet() bool {
	last := f.last.Load()
	return last == 0 || f.now() >= last
}

func (f *Refusals) remember(until int64) {
	if until > f.last.Load() {
		f.last.Store(until) // under mu
	}
}

// Close notes that a tenant's home lets nothing in for a while, and what it told with that.
func (f *Refusals) Close(t ID, told *Receipt) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if f.closed == nil {
		f.closed = map[ID]closedDoor{}
	}
	if len(f.closed) >= closedMost && now >= f.swept+int64(sweepPause) {
		f.swept = now
		for id, door := range f.closed {
			if door.until <= now {
				delete(f.closed, id)
			}
		}
	}
	if len(f.closed) < closedMost {
		until := now + int64(told.Closed)
		door := f.closed[t]
		door.until, door.told = until, *told
		f.closed[t] = door
		f.remember(until)
	}
}

// Told notes that the request with this hash was told to come back in d.
func (f *Refusals) Told(key uint64, d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	until := f.now() + int64(min(d, heldLongest))
	f.told[key%toldSlots] = toldLater{key, until}
	f.remember(until)
}

// Check judges a request that has come. If its tenant's door is closed, or it was told to come later, it is refused, and told what the
// home has told. If it is one of a flood, it is to wait for the time that is returned, and Done must be called then; where too
// many wait already, it is refused as well.
func (f *Refusals) Check(t ID, key uint64, receipt *Receipt) (wait time.Duration, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	door := f.closed[t]
	early := f.told[key%toldSlots]
	why, left := ToldAMomentAgo, door.until-now
	wait = f.spread(time.Second)
	if early.key == key && early.until > now {
		why, left = "the request has come again before it was to", early.until-now
		wait = time.Duration(left)
	}
	if left <= 0 {
		return 0, nil
	}
	if f.floods(t, door, now) && f.hold(t) {
		f.slowed++
		return wait, nil
	}
	f.refused++
	*receipt = door.told
	return 0, f.refuse(left, why)
}

// Shut is Check for a request of which only the tenant is known yet. If that one's door is closed it is refused: it may come again
// after the time that is returned. Zero: it is to be read, and Checked, as it is let through or has to wait.
func (f *Refusals) Shut(t ID, receipt *Receipt) (again time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	door := f.closed[t]
	left := door.until - now
	if left <= 0 {
		return 0
	}
	if now-door.since < int64(time.Second) && door.refused >= refusedAtOnce && f.room(t) {
		return 0
	}
	f.floods(t, door, now)
	f.refused++
	*receipt = door.told
	return f.spread(max(time.Duration(left), time.Second))
}

// floods counts a tenant's refusals, and reports whether there were more than refusedAtOnce within a second.
func (f *Refusals) floods(t ID, door closedDoor, now int64) bool {
	if now-door.since >= int64(time.Second) {
		door.since, door.refused = now, 0
	}
	door.refused++
	if _, known := f.closed[t]; known || len(f.closed) < closedMost {
		if f.closed == nil {
			f.closed = map[ID]closedDoor{}
		}
		f.closed[t] = door
	}
	return door.refused > refusedAtOnce
}

// room reports whether one more request may wait.
func (f *Refusals) room(t ID) bool { return f.all < heldMost && f.held[t] < heldByTenant }

// hold has one more request wait, if there is room.
func (f *Refusals) hold(t ID) bool {
	if !f.room(t) {
		return false
	}
	if f.held == nil {
		f.held = map[ID]int{}
	}
	f.all++
	f.held[t]++
	return true
}

// spread lengthens d by a random part of it.
func (f *Refusals) spread(d time.Duration) time.Duration {
	chance := f.Chance
	if chance == nil {
		chance = rand.Float64
	}
	return d + time.Duration(chance()*float64(d))
}

// Counts tells how many requests were refused, and how many of floods had to wait, since the start.
func (f *Refusals) Counts() (refused, slowed uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refused, f.slowed
}

// Done ends a wait.
func (f *Refusals) Done(t ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all--
	if f.held[t]--; f.held[t] == 0 {
		delete(f.held, t)
	}
}

// What a request is told that is refused at a closed door.
const (
	ToldAMomentAgo = "the tenant was refused a moment ago"
	ToldToWait     = "wait as long as Retry-After says before the next request"
)

// refuse is a refusal without a look at the tenant's quota. It may be repeated after a second or two.
func (f *Refusals) refuse(left int64, why string) error {
	again := f.spread(max(time.Duration(left), time.Second))
	return &errs.Error{Kind: errs.RateLimited, Message: why, Hint: ToldToWait, RetryAfter: again}
}
