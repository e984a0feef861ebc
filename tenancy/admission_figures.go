package tenancy

import "time"

// reason is why a gate did not let a request in.
type reason uint8

const (
	reasonBreaker     reason = iota // too many of the tenant's requests failed
	reasonConcurrency               // as many of them as it may have are under way
	reasonMemory                    // those take as much memory as they may
	reasonRate
	reasonHour
	reasonQueue // as many wait as the tenant may have
	reasonBusy  // the node's queue is full
	reasonPushedOut
	reasonLate // its time was over before its turn came, or its client left

	reasonCount
)

var reasonNames = [reasonCount]string{"breaker", "concurrency", "memory", "rate", "hour", "queue", "busy", "pushed_out", "late"}

// waitBounds are the upper bounds of the buckets that waits are counted in.
var waitBounds = [...]time.Duration{
	0, time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond,
	500 * time.Millisecond, time.Second, 5 * time.Second,
}

// tierFigures are what a gate counts of the tenants of a tier. Those of a tier that is no more stay: there are 64 at most, and counters
// must not go back.
type tierFigures struct {
	name    string
	waiting int
	running [laneCount]int
	open    int // breakers
	waits   waitFigures
	refused [reasonCount]uint64
}

// waitFigures are how long requests waited that were let in, but for those that no client waits for.
type waitFigures struct {
	counts [len(waitBounds) + 1]uint64
	total  uint64
	sum    time.Duration
}

func (w *waitFigures) add(d time.Duration) {
	at := 0
	for at < len(waitBounds) && d > waitBounds[at] {
		at++
	}
	w.counts[at]++
	w.total++
	w.sum += d
}

// tier finds or makes the figures of a tier.
func (a *Admission) tier(name string) *tierFigures {
	f := a.tiers[name]
	if f == nil {
		f = &tierFigures{name: name}
		a.tiers[name] = f
	}
	return f
}

// refuse counts a refusal.
func (acc *account) refuse(why reason) { acc.tier.refused[why]++ }

// countBreaker counts a breaker that has just opened or closed.
func (a *Admission) countBreaker(acc *account) {
	if acc.opened != nil {
		acc.opened.open--
	}
	acc.opened = nil
	if acc.breaker.tripped() {
		acc.opened = acc.tier
		acc.opened.open++
	}
}
