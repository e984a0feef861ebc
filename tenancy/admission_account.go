package tenancy

import (
	"container/list"
	"context"
	"time"

	"github.com/croftdb/croft/internal/errs"
)

// account is what a gate knows of a tenant. It is made by the tenant's first request, and forgotten when it says nothing that
// a new one would not.
type account struct {
	key    accountKey
	tier   *tierFigures
	opened *tierFigures // in which its open breaker is counted
	used   int64        // when a request came last, in ns since 1970
	recent *list.Element

	// Fair queuing by start tags: a request begins, in virtual time, when the one before it was done, and virtual time goes on
	// with those that are let in. Each moves its tenant's tag by its cost over the tenant's weight.
	tag    float64
	weight float64

	queues    [laneCount]queue
	waiting   int
	running   int
	place     int   // in the crowd, while any wait
	bytes     int64 // of requests that wait or run
	throttled int64 // until then it runs one at a time; 0: not
	costs     [classCount]average

	buckets   [rates]bucket
	window    window
	breaker   breaker
	leasing   chan struct{} // closed when the lease under way is there; nil: none is
	allowance *allowance    // of what its home counts, where that is elsewhere; nil: nothing was lent yet
}

// accountKey names an account. What counts against no quota has one of its own: a tenant's searches are not to come after the graph
// that they are to be helped by.
type accountKey struct {
	tenant     ID
	background bool
}

// forgetAfter is how long an account is kept that says nothing any more.
const forgetAfter = int64(time.Minute)

// account finds or makes a tenant's, and forgets up to two others that were not used for long.
func (a *Admission) account(r *Request, now int64) *account {
	key := accountKey{r.Tenant, r.Class.free()}
	acc := a.accounts[key]
	if acc == nil {
		acc = &account{key: key}
		acc.recent = a.recent.PushFront(acc)
		a.accounts[key] = acc
	}
	a.recent.MoveToFront(acc.recent)
	acc.used, acc.weight = now, float64(max(1, r.Settings.Get(Weight)))
	if acc.tier == nil || acc.tier.name != r.Settings.Tier {
		acc.tier = a.tier(r.Settings.Tier)
	}
	if acc.throttled != 0 && now >= acc.throttled {
		acc.throttled = 0
	}
	a.forget(now, 2)
	return acc
}

// Tidy forgets some accounts that say nothing any more. Called now and then, it frees memory where nobody comes any more.
func (a *Admission) Tidy() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forget(a.now(), tidyLook)
}

// forget looks at some accounts, those first that were used longest ago.
func (a *Admission) forget(now int64, looks int) {
	for range min(looks, a.recent.Len()) {
		e := a.recent.Back()
		if now-e.Value.(*account).used < forgetAfter {
			return
		}
		a.forgetIdle(e, now)
	}
}

// forgetIdle drops an account. One that still says something goes to the front.
func (a *Admission) forgetIdle(e *list.Element, now int64) {
	acc := e.Value.(*account)
	if !acc.idle(now) {
		acc.used = now
		a.recent.MoveToFront(e)
		return
	}
	a.recent.Remove(e)
	delete(a.accounts, acc.key)
	acc.breaker = breaker{}
	a.countBreaker(acc)
}

// idle reports whether the account says nothing that a new one would not.
func (acc *account) idle(now int64) bool {
	return acc.waiting == 0 && acc.running == 0 && acc.leasing == nil && acc.buckets[0].full(now) && acc.buckets[1].full(now) && acc.window.over(now) &&
		acc.breaker.clean(now) && acc.throttled <= now && acc.allowance.idle(now)
}

// charge moves the tag by what was used beyond what was charged already.
func (acc *account) charge(d time.Duration, degraded bool) {
	weight := acc.weight
	if degraded {
		weight /= degradedShare
	}
	acc.tag += float64(d) / weight
}

// degradedShare is how much less a request over its quota counts for: it comes after nearly all others, but not never.
const degradedShare = 16

// judge looks whether a tenant may have one more request at all. enough is false if that takes a new lease.
func (a *Admission) judge(acc *account, r *Request, now int64, told *Receipt) (degraded, enough bool, err error) {
	s := r.Settings
	if r.Class.free() {
		return false, true, nil
	}
	if left := acc.breaker.shut(now); left > 0 {
		told.Closed = min(left, closedAtMost)
		acc.refuse(reasonBreaker)
		return false, false, a.later(errs.Unavailable, left, "tenant %q had too many requests that failed or took too long: a few are tried again in %s", r.Name, left)
	}
	if most := s.Get(Concurrency); int64(acc.running+acc.waiting) >= most {
		told.Closed = a.spread(ownQueuePause)
		acc.refuse(reasonConcurrency)
		return false, false, a.later(errs.RateLimited, time.Second, "tenant %q has %d requests under way, as many as it may", r.Name, acc.running+acc.waiting)
	}
	if most := s.Get(RequestBytes); acc.bytes+r.Bytes > most && acc.running+acc.waiting > 0 {
		acc.refuse(reasonMemory)
		return false, false, a.later(errs.RateLimited, time.Second, "tenant %q has requests of %d bytes under way, the limit is %d", r.Name, acc.bytes, most)
	}
	v := a.quotas(acc, r, now, told)
	switch {
	case v.over == nil:
		return false, v.enough, nil
	case s.Get(Overage) == OverageDegrade:
		told.Degraded = true
		return true, true, nil
	}
	told.Closed = a.closed(v.left)
	acc.refuse(v.why)
	return false, false, v.over
}

// verdict is what a tenant's quotas say of one more request.
type verdict struct {
	enough bool          // it can be drawn at once; else it takes a new lease or loan
	over   error         // the refusal, if there is no room
	why    reason        // of it
	left   time.Duration // for which that lasts
}

// closed is for how long others need not ask again about a quota that has no room for a time.
func (a *Admission) closed(left time.Duration) time.Duration {
	return a.spread(min(max(left, hush), closedAtMost))
}

const (
	// comeBack is the least advice to who is over a rate: the next token is not his alone, and headers tell whole seconds.
	comeBack = time.Second
	// hush is how long other nodes need not ask again after a refusal. It is short, so that what is let in comes evenly.
	hush = 20 * time.Millisecond
	// closedAtMost bounds it: a limit that was widened counts at once.
	closedAtMost = 500 * time.Millisecond
)

// quotas looks at rates and hour.
func (a *Admission) quotas(acc *account, r *Request, now int64, told *Receipt) verdict {
	if a.away(r) {
		return a.lent(acc, r, now, told)
	}
	return a.atHome(acc, r, now, told)
}

// atHome looks at rates and hour where they are counted, and tells of the one that is nearest to its end.
func (a *Admission) atHome(acc *account, r *Request, now int64, told *Receipt) (v verdict) {
	hourly := r.Settings.Get(PerHour)
	if hourly != Unlimited {
		remaining := acc.window.remaining(hourly, now)
		told.tell(hourly, remaining-1, acc.window.left(now))
		if remaining <= 0 {
			v.left, v.why = acc.window.left(now), reasonHour
			v.over = a.later(errs.RateLimited, v.left, "tenant %q has had its %d requests of the hour", r.Name, hourly)
			return v
		}
	}
	for i := range acc.buckets {
		p, limited := paceOf(i, r.Settings)
		if !limited {
			continue
		}
		b := &acc.buckets[i]
		tokens := b.tokens(p, now)
		told.tell(p.rate, tokens-1, b.left(now))
		if tokens < 1 {
			v.left, v.why = b.untilNext(p, now), reasonRate
			v.over = a.later(errs.RateLimited, max(v.left, comeBack), "tenant %q is over its %d requests %s", r.Name, p.rate, rateWords[i])
			return v
		}
	}
	v.enough = acc.window.enough(hourly, now, r.Term)
	return v
}

// tell notes a quota if it is nearer to its end than the one noted.
func (told *Receipt) tell(limit, remaining int64, reset time.Duration) {
	remaining = max(remaining, 0)
	if told.Limit > 0 && float64(told.Remaining)/float64(told.Limit) <= float64(remaining)/float64(limit) {
		return
	}
	told.Limit, told.Remaining, told.Reset = limit, remaining, reset
}

// draw takes a request out of its tenant's quotas.
func (a *Admission) draw(t *ticket, r *Request, now int64) {
	acc := t.account
	acc.bytes += t.bytes
	t.faults = r.Settings.Get(BreakerFaults)
	if acc.breaker.tripped() && !t.class.free() {
		t.probe, acc.breaker.probing = true, true
	}
	if t.class.free() {
		return
	}
	if a.away(r) {
		if !t.degraded {
			t.drawLent(r, now)
		}
		a.borrow(t, acc, r, now)
		return
	}
	if t.degraded {
		return
	}
	if r.Settings.Get(PerHour) != Unlimited {
		t.hour = acc.window.begin
	}
	t.intervals = acc.take(r.Settings, now, 1)
}

// take draws requests from the quotas, and returns what that has set the buckets forward by.
func (acc *account) take(s *Settings, now, requests int64) (forward [rates]int64) {
	if s.Get(PerHour) != Unlimited {
		acc.window.drawn += requests
	}
	for i := range acc.buckets {
		if p, limited := paceOf(i, s); limited {
			forward[i] = acc.buckets[i].draw(p, now, requests)
		}
	}
	return forward
}

// giveBack undoes draw for a request that was not let in.
func (a *Admission) giveBack(t *ticket) {
	acc := t.account
	acc.bytes -= t.bytes
	for i := range acc.buckets {
		acc.buckets[i].fullAt -= t.intervals[i]
	}
	if t.lent {
		acc.allowance.requests++
	}
	if t.hour != 0 && t.hour == acc.window.begin {
		acc.window.drawn--
	}
	if t.probe {
		acc.breaker.probing = false
	}
}

// more waits until there is more to draw from.
func (a *Admission) more(ctx context.Context, t *ticket, acc *account, r *Request) error {
	if t.answered == nil {
		return a.lease(ctx, acc, r)
	}
	select {
	case <-t.answered:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lease takes one more share of a tenant's hour, or waits for whoever does.
func (a *Admission) lease(ctx context.Context, acc *account, r *Request) error {
	a.mu.Lock()
	if pending := acc.leasing; pending != nil {
		a.mu.Unlock()
		select {
		case <-pending:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	acc.leasing = make(chan struct{})
	w := acc.window
	a.mu.Unlock()

	err := a.extend(ctx, &w, r)

	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		acc.window.adopt(w)
	}
	close(acc.leasing)
	acc.leasing = nil
	return err
}

// extend moves a copy of a window on: to what the home before has written, or to its next lease.
func (a *Admission) extend(ctx context.Context, w *window, r *Request) error {
	if a.opts.Book != nil && (!w.known || w.term != r.Term) {
		last, term, err := a.opts.Book.Window(ctx, r.Shard, r.Tenant)
		if err != nil {
			return err
		}
		*w = window{known: true, term: term, begin: last.Begin, taken: last.Taken, drawn: last.Taken}
		return nil
	}
	w.lease(r.Settings.Get(PerHour), a.now())
	if a.opts.Book == nil {
		w.known, w.term = true, r.Term
		return nil
	}
	return a.opts.Book.Write(ctx, r.Shard, w.term, r.Tenant, Window{Begin: w.begin, Taken: w.taken})
}

// later is a refusal that may be repeated after d and a random part of it more.
func (a *Admission) later(k errs.Kind, d time.Duration, format string, args ...any) error {
	return errs.New(k, format, args...).WithRetryAfter(a.spread(d))
}

// spread lengthens d by a random part of it, of a minute at most.
func (a *Admission) spread(d time.Duration) time.Duration {
	return d + time.Duration(a.opts.Chance()*float64(min(d, time.Minute)))
}
