package tenancy

import (
	"container/heap"
	"time"

	"github.com/croftdb/croft/internal/errs"
)

// lane is a kind of work with places of its own: those who compute, and writes, which mostly wait for the log.
type lane uint8

const (
	laneCompute lane = iota
	laneWrite
	laneHit

	laneCount
)

func laneOf(c Class) lane {
	if c == Write {
		return laneWrite
	}
	if c == Hit {
		return laneHit
	}
	return laneCompute
}

// laneState is how many run in a lane, and who waits for it.
type laneState struct {
	running int
	limit   int // of running
	each    int // of running, for one tenant: another that comes need not wait for one of its requests to end
	next    turns
}

// turns is a heap of the accounts that have a request waiting in a lane, and may run it: the one whose tag is least in front.
type turns struct {
	lane     lane
	accounts []*account
}

// Len implements heap.Interface.
func (h *turns) Len() int { return len(h.accounts) }

// Less implements heap.Interface. Of equal tags, the one that has waited longer is first.
func (h *turns) Less(i, j int) bool {
	a, b := h.accounts[i], h.accounts[j]
	if a.tag != b.tag {
		return a.tag < b.tag
	}
	return a.queues[h.lane].first.number < b.queues[h.lane].first.number
}

// Swap implements heap.Interface.
func (h *turns) Swap(i, j int) {
	h.accounts[i], h.accounts[j] = h.accounts[j], h.accounts[i]
	h.accounts[i].queues[h.lane].at, h.accounts[j].queues[h.lane].at = i+1, j+1
}

// Push implements heap.Interface.
func (h *turns) Push(x any) {
	acc := x.(*account)
	h.accounts = append(h.accounts, acc)
	acc.queues[h.lane].at = len(h.accounts)
}

// Pop implements heap.Interface.
func (h *turns) Pop() any {
	n := len(h.accounts) - 1
	acc := h.accounts[n]
	h.accounts[n] = nil
	h.accounts = h.accounts[:n]
	acc.queues[h.lane].at = 0
	return acc
}

// queue is what a tenant has in a lane.
type queue struct {
	first, last *ticket // that wait
	waiting     int
	running     int
	at          int // place in the lane's heap, from 1; 0: not there
}

// ticket is a request that waits or runs.
type ticket struct {
	gate     *Admission
	account  *account
	tier     *tierFigures
	since    int64 // when it came, in ns since 1970
	class    Class
	lane     lane
	bytes    int64
	cost     time.Duration // charged
	degraded bool
	probe    bool  // of a breaker
	faults   int64 // that open it
	hour     int64 // begin of the window that it was drawn from; 0: none
	lent     bool  // it was drawn from what the home has lent
	number   uint64

	intervals [rates]int64 // by which it has set the buckets forward, in ns; 0: not

	before, behind *ticket
	turn           chan error // gets one value when it need not wait any more

	borrows  bool          // its tenant's home is to be asked for more
	have     int64         // of what that has lent, then
	answered chan struct{} // closed when that has answered; nil: nothing waits for it
}

// free reports whether a request need not wait.
func (a *Admission) free(t *ticket) bool {
	l := &a.lanes[t.lane]
	q := &t.account.queues[t.lane]
	return l.running < l.limit && len(l.next.accounts) == 0 && q.waiting == 0 && q.running < a.share(t.account, t.lane)
}

// share is how many requests of a tenant may run at once in a lane.
func (a *Admission) share(acc *account, l lane) int {
	if acc.throttled != 0 {
		return 1
	}
	return a.lanes[l].each
}

// run lets a request in whose turn it is.
func (a *Admission) run(t *ticket, now int64) {
	acc := t.account
	t.tier.running[t.lane]++
	if !t.class.free() {
		t.tier.waits.add(max(time.Duration(now-t.since), 0))
	}
	a.lanes[t.lane].running++
	acc.queues[t.lane].running++
	acc.running++
	acc.tag = max(acc.tag, a.virtual)
	a.virtual = acc.tag
	acc.charge(t.cost, t.degraded)
}

// enqueue has a request wait. Where there is no room, it takes that of the newest request of whoever has most waiting, in
// the lowest tier, if that is not its own tenant.
func (a *Admission) enqueue(t *ticket, r *Request, told *Receipt) error {
	if !t.class.free() { // of which there are few at a time, without a client who could come again
		if err := a.makeRoom(t, r, told); err != nil {
			return err
		}
	}
	acc := t.account
	a.waiting++
	t.tier.waiting++
	a.held += t.bytes
	if acc.waiting++; acc.waiting == 1 {
		a.crowd = append(a.crowd, acc)
		acc.place = len(a.crowd) - 1
	}
	a.arrivals++
	t.number = a.arrivals
	q := &acc.queues[t.lane]
	if t.before = q.last; t.before == nil {
		q.first = t
	} else {
		t.before.behind = t
	}
	q.last = t
	q.waiting++
	a.place(acc, t.lane)
	return nil
}

// makeRoom sees that one more request may wait.
func (a *Admission) makeRoom(t *ticket, r *Request, told *Receipt) error {
	acc := t.account
	if most := r.Settings.Get(Queued); int64(acc.waiting) >= most {
		told.Closed = a.spread(ownQueuePause)
		acc.refuse(reasonQueue)
		return a.later(errs.Unavailable, time.Second, "tenant %q has %d requests waiting already, as many as it may", r.Name, acc.waiting)
	}
	for a.waiting >= a.opts.Waiting || a.held+t.bytes > a.opts.WaitingBytes {
		other := a.lowest(acc)
		if other == nil {
			acc.refuse(reasonBusy)
			return a.later(errs.Unavailable, time.Second, "the node is busy: %d requests wait already", a.waiting)
		}
		a.pushOut(other)
	}
	return nil
}

// ownQueuePause is how long others need not ask again for a tenant whose own queue is full.
const ownQueuePause = 10 * time.Millisecond

// lowest is the tenant that has to make room: of those with the least weight, the one with the longest queue. Nil: it is
// the one that asks for the room, or nobody waits.
func (a *Admission) lowest(asking *account) *account {
	var found *account
	for _, acc := range a.crowd {
		if found == nil || acc.yields(found) {
			found = acc
		}
	}
	if found == nil || !found.yields(asking) {
		return nil
	}
	return found
}

// yields reports whether acc has to make room before other.
func (acc *account) yields(other *account) bool {
	if acc.weight != other.weight {
		return acc.weight < other.weight
	}
	return acc.waiting > other.waiting
}

// pushOut refuses a tenant's newest request.
func (a *Admission) pushOut(acc *account) {
	var newest *ticket
	for l := range acc.queues {
		if t := acc.queues[l].last; t != nil && (newest == nil || t.number > newest.number) {
			newest = t
		}
	}
	a.dequeue(newest)
	a.giveBack(newest)
	newest.tier.refused[reasonPushedOut]++
	newest.turn <- a.later(errs.Unavailable, time.Second, "the node is busy: the request had to make room for one of a higher tier, or of a tenant with fewer waiting")
}

// dequeue takes a request out that waits.
func (a *Admission) dequeue(t *ticket) {
	acc := t.account
	q := &acc.queues[t.lane]
	if t.before == nil {
		q.first = t.behind
	} else {
		t.before.behind = t.behind
	}
	if t.behind == nil {
		q.last = t.before
	} else {
		t.behind.before = t.before
	}
	t.before, t.behind = nil, nil
	q.waiting--
	a.waiting--
	t.tier.waiting--
	a.held -= t.bytes
	if acc.waiting--; acc.waiting == 0 {
		last := a.crowd[len(a.crowd)-1]
		a.crowd[acc.place], last.place = last, acc.place
		a.crowd = a.crowd[:len(a.crowd)-1]
	}
	a.place(acc, t.lane)
}

// place puts a tenant where it belongs in a lane's heap.
func (a *Admission) place(acc *account, l lane) {
	next, q := &a.lanes[l].next, &acc.queues[l]
	may := q.waiting > 0 && q.running < a.share(acc, l)
	switch {
	case may && q.at == 0:
		acc.tag = max(acc.tag, a.virtual) // what it left unused while it could not wait is gone
		heap.Push(next, acc)
	case may:
		heap.Fix(next, q.at-1)
	case q.at > 0:
		heap.Remove(next, q.at-1)
	}
}

// leave ends a request that ran, and calls those whose turn it is.
func (a *Admission) leave(t *ticket) {
	acc := t.account
	a.lanes[t.lane].running--
	t.tier.running[t.lane]--
	acc.queues[t.lane].running--
	acc.running--
	for l := range laneCount { // its tag has changed
		a.place(acc, l)
	}
	a.call(t.lane)
}

// call lets in those whose turn it is in a lane.
func (a *Admission) call(l lane) {
	s := &a.lanes[l]
	now := int64(0) // looked at if somebody waits
	for s.running < s.limit && len(s.next.accounts) > 0 {
		acc := s.next.accounts[0]
		t := acc.queues[l].first
		a.dequeue(t)
		if now == 0 {
			now = a.now()
		}
		a.run(t, now)
		for other := range laneCount {
			a.place(acc, other)
		}
		t.turn <- nil
	}
}
