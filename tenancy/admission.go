package tenancy

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"github.com/croftdb/croft/internal/errs"
)

// AdmissionOptions of a node's gate. Zero fields get their defaults from NewAdmission.
type AdmissionOptions struct {
	Now    func() time.Time // nil: time.Now
	Chance func() float64   // in [0,1), so that those refused do not all come back at once; nil: math/rand/v2
	Book   Book             // nil: hourly windows end with the process
	Lender Lender           // nil: each replica counts by itself what it answers where its tenants do not live

	Searches     int   // that run at once, with other reads and steps of building; 0: 2 for each processor
	Writes       int   // that run at once: they mostly wait for the log; 0: 128
	Waiting      int   // requests of all tenants; 0: 1,024
	WaitingBytes int64 // of their memory; 0: 512 MiB
}

func (o *AdmissionOptions) ensureDefaults() {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Chance == nil {
		o.Chance = rand.Float64
	}
	setDefault(&o.Searches, 2*runtime.GOMAXPROCS(0))
	setDefault(&o.Writes, 128)
	setDefault(&o.Waiting, 1024)
	setDefault(&o.WaitingBytes, 512<<20)
}

func setDefault[T ~int | ~int64](p *T, v T) {
	if *p == 0 {
		*p = v
	}
}

func (o *AdmissionOptions) validate() error {
	if min(o.Searches, o.Writes, o.Waiting) < 1 || o.WaitingBytes < 1 {
		return errs.New(errs.Invalid, "admission of %d searches and %d writes at once, %d requests and %d bytes waiting: each must be at least 1",
			o.Searches, o.Writes, o.Waiting, o.WaitingBytes)
	}
	return nil
}

// Admission is the gate of a node, for all tenants that live on it. It has no goroutine and no timer.
type Admission struct {
	opts AdmissionOptions

	mu       sync.Mutex // held for an instant; guards all below, and the accounts
	accounts map[accountKey]*account
	recent   list.List // of *account, the one used last in front
	lanes    [laneCount]laneState
	crowd    []*account // that have requests waiting
	virtual  float64    // when whoever was let in last had to begin, see account.tag
	arrivals uint64     // requests that had to wait
	waiting  int
	held     int64 // bytes of those that wait
	costs    [classCount]average
	tiers    map[string]*tierFigures

	tickets sync.Pool
}

// NewAdmission returns a gate that nobody has passed yet.
func NewAdmission(opts AdmissionOptions) (*Admission, error) {
	opts.ensureDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	a := &Admission{opts: opts, accounts: map[accountKey]*account{}, tiers: map[string]*tierFigures{}}
	a.lanes[laneCompute].limit, a.lanes[laneCompute].each = opts.Searches, max(1, opts.Searches/2)
	a.lanes[laneWrite].limit, a.lanes[laneWrite].each = opts.Writes, max(1, opts.Writes/2)
	a.lanes[laneHit].limit, a.lanes[laneHit].each = math.MaxInt, math.MaxInt
	for l := range laneCount {
		a.lanes[l].next.lane = l
	}
	a.tickets.New = func() any { return &ticket{gate: a, turn: make(chan error, 1)} }
	return a, nil
}

func (a *Admission) now() int64 { return a.opts.Now().UnixNano() }

// Enter implements Gate.
func (a *Admission) Enter(ctx context.Context, r *Request, told *Receipt) (Pass, error) {
	t := a.tickets.Get().(*ticket)
	for {
		acc, step, err := a.arrive(t, r, told)
		if t.borrows {
			a.opts.Lender.Borrow(Borrowing{Tenant: r.Tenant, Shard: r.Shard, Have: t.have, Hourly: r.Settings.Get(PerHour) != Unlimited})
		}
		switch step {
		case refused:
			a.tickets.Put(t)
			return nil, err
		case letIn:
			return t, nil
		case queued:
			return a.wait(ctx, t)
		}
		if err := a.more(ctx, t, acc, r); err != nil {
			a.tickets.Put(t)
			return nil, err
		}
	}
}

// step is what becomes of a request that arrives.
type step uint8

const (
	refused step = iota
	letIn
	queued
	short // of its lease, or of what was lent: there must be more of it first
)

// arrive judges a request and lets it in, if there is room, or has it wait.
func (a *Admission) arrive(t *ticket, r *Request, told *Receipt) (*account, step, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	acc := a.account(r, now)
	t.borrows, t.answered = false, nil
	degraded, enough, err := a.judge(acc, r, now, told)
	if err != nil {
		a.borrow(t, acc, r, now)
		return acc, refused, err
	}
	if !enough {
		if a.borrow(t, acc, r, now); a.away(r) {
			t.answered = acc.allowance.answer()
		}
		return acc, short, nil
	}
	*t = ticket{gate: a, turn: t.turn, account: acc, tier: acc.tier, since: now, class: r.Class, lane: laneOf(r.Class), bytes: r.Bytes, degraded: degraded}
	t.cost = a.estimate(acc, r)
	if !a.free(t) {
		if err := a.enqueue(t, r, told); err != nil {
			return acc, refused, err
		}
		a.draw(t, r, now)
		return acc, queued, nil
	}
	a.draw(t, r, now)
	a.run(t, now)
	return acc, letIn, nil
}

// wait returns when it is the ticket's turn, when it was pushed out, or when ctx has ended.
func (a *Admission) wait(ctx context.Context, t *ticket) (Pass, error) {
	select {
	case err := <-t.turn:
		if err == nil {
			return t, nil
		}
		a.tickets.Put(t)
		return nil, err
	case <-ctx.Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case err := <-t.turn: // at the same moment
		if err == nil {
			t.account.charge(-t.cost, t.degraded)
			a.leave(t)
			a.giveBack(t)
			t.tier.refused[reasonLate]++
		}
	default:
		a.dequeue(t)
		a.giveBack(t)
		t.tier.refused[reasonLate]++
	}
	a.tickets.Put(t)
	return nil, fmt.Errorf("wait for a turn: %w", ctx.Err())
}

// Degraded implements Pass.
func (t *ticket) Degraded() bool { return t.degraded }

// Leave implements Pass.
func (t *ticket) Leave(o Outcome) {
	a := t.gate
	a.mu.Lock()
	defer a.mu.Unlock()
	a.learn(t, &o)
	t.account.bytes -= t.bytes
	a.leave(t)
	a.tickets.Put(t)
}

// learn takes in what a request has cost and how it ended.
func (a *Admission) learn(t *ticket, o *Outcome) {
	acc := t.account
	if t.class != Write { // what a write takes is mostly waiting for the log
		took := max(o.Took, 0)
		acc.costs[t.class].add(took, 8)
		a.costs[t.class].add(took, 64)
		acc.charge(took-t.cost, t.degraded)
	}
	before := acc.breaker.tripped()
	acc.breaker.note(a.now(), t.probe, isFault(o.Err), t.faults, a.opts.Chance)
	if acc.breaker.tripped() != before {
		a.countBreaker(acc)
	}
}

// isFault reports whether an error counts against a tenant: what took too long, and what broke.
func isFault(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	switch errs.KindOf(err) {
	case errs.DeadlineExceeded, errs.Internal, errs.Corrupt:
		return true
	}
	return false
}

// estimate is what a request is charged when it is let in; what it took corrects it afterwards.
func (a *Admission) estimate(acc *account, r *Request) time.Duration {
	switch {
	case r.Cost > 0:
		return r.Cost
	case r.Class == Write:
		return writeCost + time.Duration(r.Bytes)*writeByteCost
	case acc.costs[r.Class].known():
		return acc.costs[r.Class].value()
	case a.costs[r.Class].known():
		return a.costs[r.Class].value()
	}
	return firstCosts[r.Class]
}

// What requests are taken to cost before anything is known.
var firstCosts = [classCount]time.Duration{Search: time.Millisecond, Read: 200 * time.Microsecond, Build: 100 * time.Millisecond, Hit: 10 * time.Microsecond, Part: time.Millisecond}

// What a write is taken to cost: an upsert of one record, and each byte of a large one, on 2 shared cores.
const (
	writeCost     = 200 * time.Microsecond
	writeByteCost = 10 * time.Nanosecond
)

// average forgets old values step by step.
type average struct{ ns float64 }

func (m *average) known() bool          { return m.ns > 0 }
func (m *average) value() time.Duration { return time.Duration(m.ns) }

func (m *average) add(d time.Duration, keep float64) {
	if m.ns == 0 {
		m.ns = float64(d)
		return
	}
	m.ns += (float64(d) - m.ns) / keep
}

// Throttle lets a tenant run no more than one request of a kind at once until a time: what a hot tenant may have left.
func (a *Admission) Throttle(t ID, until time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if acc := a.accounts[accountKey{tenant: t}]; acc != nil {
		acc.throttled = until.UnixNano()
	}
}
