package tenancy

import (
	"context"
	"math"
	"time"

	"github.com/croftdb/croft/internal/errs"
)

// Lender asks tenants' homes for parts of their quotas, where requests are answered that no home sees.
type Lender interface {
	// Borrow asks the home of a tenant for more, and returns at once. Admission.Lent is told once what came of it, perhaps before
	// Borrow returns.
	Borrow(b Borrowing)
}

// Borrowing is what a home is asked for.
type Borrowing struct {
	Tenant ID
	Shard  uint16
	Have   int64 // requests that are left of earlier loans
	Hourly bool  // the tenant's hour is counted, so that the home may have to write to its Book first
}

// Loan is a home's answer: requests that were drawn from the tenant's quotas there, for another replica to let in.
type Loan struct {
	Requests int64
	Lease    int64         // the most that a replica may have at a time
	For      time.Duration // that they are good
	Spent    time.Duration // until the hour is over that is used up; 0: it is not
	Told     Receipt       // Closed: for how long there is nothing to be had
}

const (
	// lentTime is how much of a rate all replicas but the home hold together: that many requests more than the limit may be let in
	// within any time.
	lentTime = 100 * time.Millisecond
	// lentFor is how long what was lent is good. Nothing depends on it but how soon what was lent to a replica that is asked no more is lost.
	lentFor = 10 * time.Second
	// askAgain is the pause before a home is asked again that did not answer. Requests do not wait for it.
	askAgain = 250 * time.Millisecond
)

// allowance is what a tenant has of its quotas on a node where it does not live.
type allowance struct {
	requests int64 // that its home has lent and that are left
	lease    int64 // the most of them
	until    int64 // they are good
	version  uint64
	told     Receipt // by the home, with its last loan
	shut     int64   // until then there is nothing to be had
	spent    int64   // until then the hour is used up

	asking   bool
	answered chan struct{} // closed with the next answer; nil: nobody waits for it
	alone    bool          // the home did not answer
	again    int64         // when to ask it again

	floors [rates + 1]bucket // count while it is alone
}

// away reports whether a request counts and is drawn from what a home has lent.
func (a *Admission) away(r *Request) bool {
	s := r.Settings
	return r.Replicas > 0 && a.opts.Lender != nil && !r.Class.free() &&
		(s.Get(Rate) != Unlimited || s.Get(PerMinute) != Unlimited || s.Get(PerHour) != Unlimited)
}

// credit is with how many requests an allowance begins, so that who asks now and then never waits for a home that may be far. The hour is
// exact: it begins with none.
func credit(s *Settings) int64 {
	if s.Get(PerHour) != Unlimited || s.Get(Rate) == 0 || s.Get(PerMinute) == 0 {
		return 0
	}
	return 1
}

// allowanceOf is a tenant's, without what is not good any more.
func (acc *account) allowanceOf(s *Settings, now int64) *allowance {
	h := acc.allowance
	switch {
	case h == nil:
		h = &allowance{version: s.Version, requests: credit(s), lease: 1}
		acc.allowance = h
	case h.version != s.Version: // other limits may hold
		h.version, h.requests, h.shut, h.spent = s.Version, 0, 0, 0
	case h.until != 0 && now >= h.until:
		h.until, h.requests = 0, min(h.requests, credit(s))
	}
	return h
}

// lent is what atHome is where a tenant does not live: it looks whether there is one more request.
func (a *Admission) lent(acc *account, r *Request, now int64, told *Receipt) (v verdict) {
	h := acc.allowanceOf(r.Settings, now)
	told.Limit, told.Remaining, told.Reset = h.told.Limit, h.told.Remaining, h.told.Reset
	switch {
	case h.requests > 0:
		v.enough = true
	case now < h.spent && (h.alone || now < h.shut):
		v.left, v.why = time.Duration(h.spent-now), reasonHour
		v.over = a.later(errs.RateLimited, v.left, "tenant %q has had its %d requests of the hour", r.Name, r.Settings.Get(PerHour))
		v.left = time.Duration(max(h.shut-now, 0))
	case h.alone:
		v = a.floor(h, r, now)
	case now < h.shut:
		v.left, v.why = time.Duration(h.shut-now), reasonRate
		v.over = a.later(errs.RateLimited, comeBack, "tenant %q is over its limit of %d requests, as its home has told", r.Name, h.told.Limit)
	}
	return v
}

// floor looks whether a replica that no home answers lets in one more request: it counts by itself, up to its part of the quotas.
func (a *Admission) floor(h *allowance, r *Request, now int64) (v verdict) {
	for i := range h.floors {
		p, limited := floorPace(i, r)
		if limited && h.floors[i].tokens(p, now) < 1 {
			v.left, v.why = h.floors[i].untilNext(p, now), reasonRate
			v.over = a.later(errs.RateLimited, max(v.left, comeBack), "tenant %q is over its part of its quota on this node, while its home cannot be asked", r.Name)
			return v
		}
	}
	v.enough = true
	return v
}

// floorPace is a replica's part of the i-th rate, and of the hour after them. Of an hour a hundredth may come at once.
func floorPace(i int, r *Request) (p pace, limited bool) {
	if i < rates {
		p, limited = paceOf(i, r.Settings)
	} else if hourly := r.Settings.Get(PerHour); hourly != Unlimited {
		p, limited = newPace(hourly, max(1, hourly/leases), time.Hour), true
	}
	if p.depth == 0 {
		return p, limited
	}
	n := int64(r.Replicas)
	p.rate, p.interval = max(1, p.rate/n), p.interval*n
	p.depth = p.rate * p.interval
	return p, limited
}

// drawLent takes a request out of what was lent.
func (t *ticket) drawLent(r *Request, now int64) {
	h := t.account.allowance
	if h.requests > 0 {
		h.requests--
		t.lent = true
		return
	}
	for i := range h.floors {
		if p, limited := floorPace(i, r); limited {
			h.floors[i].draw(p, now, 1)
		}
	}
}

// borrow has whoever holds the ticket ask the home for more, if there is little left and nobody asks.
func (a *Admission) borrow(t *ticket, acc *account, r *Request, now int64) {
	h := acc.allowance
	if h == nil || !a.away(r) || h.asking || now < h.again || now < h.shut || h.requests > h.lease/2 {
		return
	}
	h.asking = true
	t.borrows, t.have = true, h.requests
}

// answer is closed with the home's next answer.
func (h *allowance) answer() chan struct{} {
	if h.answered == nil {
		h.answered = make(chan struct{})
	}
	return h.answered
}

// idle reports whether a new one would say the same.
func (h *allowance) idle(now int64) bool {
	if h == nil {
		return true
	}
	for i := range h.floors {
		if !h.floors[i].full(now) {
			return false
		}
	}
	return !h.asking && h.until <= now && h.spent <= now && h.shut <= now
}

// Lent is told what a home has lent of a tenant's quotas, or why it has not. It makes Admission complete for a Lender.
func (a *Admission) Lent(t ID, l *Loan, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	acc := a.accounts[accountKey{tenant: t}]
	if acc == nil || acc.allowance == nil {
		return
	}
	h, now := acc.allowance, a.now()
	h.asking = false
	if h.answered != nil {
		close(h.answered)
		h.answered = nil
	}
	if h.alone = err != nil; h.alone {
		h.again = now + int64(askAgain)
		return
	}
	h.again = 0
	h.told = l.Told
	if l.Spent > 0 {
		h.spent = now + int64(l.Spent)
	}
	if l.Requests == 0 {
		h.shut = now + int64(l.Told.Closed)
		return
	}
	h.requests += l.Requests
	h.lease, h.until, h.spent = l.Lease, now+int64(l.For), 0
}

// Lend draws requests from the quotas of a tenant that lives here, for another of its shard's r.Replicas, up to what that may have at a
// time. Errors: of the Book, or ctx's.
func (a *Admission) Lend(ctx context.Context, r *Request, have int64) (Loan, error) {
	for {
		acc, l, enough := a.lend(r, have)
		if enough {
			return l, nil
		}
		if err := a.lease(ctx, acc, r); err != nil {
			return Loan{}, err
		}
	}
}

// lend is Lend as far as the leases of the hour reach.
func (a *Admission) lend(r *Request, have int64) (acc *account, l Loan, enough bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	acc = a.account(r, now)
	v := a.atHome(acc, r, now, &l.Told)
	if v.over != nil {
		l.Told.Closed = a.closed(v.left)
		if v.why == reasonHour {
			l.Spent = v.left
		}
		return acc, l, true
	}
	if !v.enough {
		return acc, l, false
	}
	l.Lease, l.For = leaseOf(r), lentFor
	l.Requests = max(l.Lease-have, 0)
	if r.Settings.Get(PerHour) != Unlimited {
		l.Requests = min(l.Requests, acc.window.taken-acc.window.drawn)
		l.For = acc.window.left(now) // what was drawn from an hour is not drawn again
	}
	for i := range acc.buckets {
		if p, limited := paceOf(i, r.Settings); limited {
			l.Requests = min(l.Requests, acc.buckets[i].tokens(p, now))
		}
	}
	acc.take(r.Settings, now, l.Requests)
	return acc, l, true
}

// leaseOf is how many requests one replica may have at a time, so that all of them together have no more than lentTime's, nor than a
// lease of the hour, but one each at least.
func leaseOf(r *Request) int64 {
	n := int64(math.MaxInt32)
	if hourly := r.Settings.Get(PerHour); hourly != Unlimited {
		n = hourly / leases
	}
	for i := range rates {
		if p, limited := paceOf(i, r.Settings); limited {
			n = min(n, p.rate, int64(lentTime)/p.interval)
		}
	}
	return max(1, n/int64(max(1, r.Replicas-1)))
}
