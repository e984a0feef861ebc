package tenancy

import (
	"context"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/internal/errs"
)

// replica is a node where the tenant does not live. What it borrows travels as slowly as the test has it.
type replica struct {
	*Admission
	asked []Borrowing
	lent  []Loan
}

// Borrow implements Lender.
func (r *replica) Borrow(b Borrowing) { r.asked = append(r.asked, b) }

func newReplica(t require.TestingT, c *clock) *replica {
	r := &replica{}
	r.Admission = newAdmission(t, AdmissionOptions{Now: c.now, Lender: r})
	return r
}

// lend has the home answer what was asked; arrive brings the answer.
func (r *replica) lend(t require.TestingT, home *Admission, q *Request) {
	for _, b := range r.asked {
		l, err := home.Lend(context.Background(), q, b.Have)
		require.NoError(t, err)
		require.LessOrEqual(t, l.Requests+b.Have, max(l.Lease, b.Have))
		r.lent = append(r.lent, l)
	}
	r.asked = nil
}

func (r *replica) arrives(q *Request) {
	for i := range r.lent {
		r.Lent(q.Tenant, &r.lent[i], nil)
	}
	r.lent = nil
}

// try is one request that does not wait for a home.
func try(a *Admission, q *Request) bool {
	t := a.tickets.Get().(*ticket)
	_, step, _ := a.arrive(t, q, &Receipt{})
	if t.borrows {
		a.opts.Lender.Borrow(Borrowing{Tenant: q.Tenant, Have: t.have})
	}
	if step != letIn {
		a.tickets.Put(t)
		return false
	}
	t.Leave(Outcome{Took: time.Millisecond})
	return true
}

// TestSharesAgainstAPlainModel hammers a home and its other replicas at random, with answers that come late, are lost, or do not come: all together
// they let in what one bucket of the limit does that has room for one lease more.
func TestSharesAgainstAPlainModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newClock()
		rate := rapid.SampledFrom([]int64{1, 4, 50, 1000}).Draw(t, "rate")
		burst := rapid.Int64Range(1, rate).Draw(t, "burst")
		replicas := rapid.SampledFrom([]int{2, 3, 5}).Draw(t, "replicas")
		dies := rapid.Bool().Draw(t, "the home may be silent")
		s := settingsOf(map[Limit]int64{Rate: rate, Burst: burst})
		atHome, away := &Request{Tenant: tenantID(1), Settings: s}, &Request{Tenant: tenantID(1), Settings: s, Replicas: replicas}
		home := newAdmission(t, AdmissionOptions{Now: c.now})
		others := make([]*replica, replicas-1)
		for i := range others {
			others[i] = newReplica(t, c)
		}
		lease := float64(leaseOf(away)) * float64(len(others))
		require.LessOrEqual(t, lease, max(float64(rate)*lentTime.Seconds(), float64(len(others))))
		model := plainRate{rate: float64(rate), burst: float64(burst) + lease, at: c.at}
		if dies { // each counts by itself then
			p, _ := floorPace(0, away)
			model.rate += float64(len(others)) / (time.Duration(p.interval).Seconds())
			model.burst += float64(len(others)) * float64(p.rate)
		}
		model.tokens = model.burst
		for range 400 {
			c.add(rapid.SampledFrom([]time.Duration{0, 0, 0, time.Millisecond, 20 * time.Millisecond, 250 * time.Millisecond, 3 * time.Second, 30 * time.Second}).Draw(t, "pause"))
			at := rapid.IntRange(0, len(others)).Draw(t, "at")
			if at == len(others) {
				model.count(t, c.at, try(home, atHome))
				continue
			}
			r := others[at]
			switch what := rapid.IntRange(0, 9).Draw(t, "what"); {
			case what < 5:
				model.count(t, c.at, try(r.Admission, away))
			case what < 7:
				r.lend(t, home, away)
			case what < 9:
				r.arrives(away)
			case dies && len(r.asked) > 0:
				r.asked = nil
				r.Lent(away.Tenant, nil, errs.New(errs.Unavailable, "silent"))
			}
		}
	})
}

func (p *plainRate) count(t require.TestingT, now time.Time, let bool) {
	if let {
		require.True(t, p.room(now), "one more than the limit and a lease")
		p.tokens--
	}
}

// TestSharesOfAnHour: the hour is exact, however its requests are spread: what nobody can have at its end is less than a lease.
func TestSharesOfAnHour(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newClock()
		hourly := rapid.SampledFrom([]int64{1, 7, 100, 1000, 3000}).Draw(t, "hourly")
		replicas := rapid.SampledFrom([]int{2, 3, 5}).Draw(t, "replicas")
		s := settingsOf(map[Limit]int64{PerHour: hourly})
		atHome, away := &Request{Tenant: tenantID(1), Settings: s}, &Request{Tenant: tenantID(1), Settings: s, Replicas: replicas}
		home := newAdmission(t, AdmissionOptions{Now: c.now, Book: &book{windows: map[ID]Window{}}})
		others := make([]*replica, replicas-1)
		for i := range others {
			others[i] = newReplica(t, c)
		}
		let, held := int64(0), int64(0)
		for refusals := 0; refusals < 50; {
			c.add(10 * time.Millisecond)
			at := rapid.IntRange(0, len(others)).Draw(t, "at")
			var ok bool
			if at == len(others) {
				p, _, err := enter(home, atHome)
				if ok = err == nil; ok {
					p.Leave(Outcome{})
				}
			} else {
				r := others[at]
				if ok = try(r.Admission, away); !ok {
					r.lend(t, home, away)
					r.arrives(away)
					ok = try(r.Admission, away)
				}
			}
			if refusals++; ok {
				let++
				refusals = 0
			}
		}
		for _, r := range others {
			if acc := r.accounts[accountKey{tenant: away.Tenant}]; acc != nil {
				held += acc.allowance.requests
			}
		}
		require.Equal(t, hourly, let+held)
		require.LessOrEqual(t, held, max(hourly/leases, int64(len(others))))
	})
}

// TestWhoIsAloneGoesOn: a replica that no home answers lets in its part, at once and for ever, and asks again without anybody waiting.
func TestWhoIsAloneGoesOn(t *testing.T) {
	c := newClock()
	r := newReplica(t, c)
	q := &Request{Tenant: tenantID(1), Replicas: 3, Settings: settingsOf(map[Limit]int64{Rate: 30, Burst: 30})}
	silent := func() {
		for _, b := range r.asked {
			r.Lent(b.Tenant, nil, errs.New(errs.Unavailable, "silent"))
		}
		r.asked = nil
	}
	require.True(t, try(r.Admission, q), "the first waits for nobody")
	require.Len(t, r.asked, 1)
	silent()
	let, asked := 0, 0
	for range 1000 {
		c.add(10 * time.Millisecond)
		if try(r.Admission, q) {
			let++
		}
		asked += len(r.asked)
		silent()
	}
	require.InDelta(t, 10+10*10, let, 1, "a third of the burst and of the rate for 10 s")
	require.InDelta(t, 10*time.Second/askAgain, asked, 2)

	for range 100 { // it is back
		c.add(time.Second)
		try(r.Admission, q)
		for _, b := range r.asked {
			r.Lent(b.Tenant, &Loan{Requests: 3 - b.Have, Lease: 3, For: lentFor}, nil)
		}
		r.asked = nil
	}
	for range r.accounts[accountKey{tenant: q.Tenant}].allowance.requests {
		require.True(t, try(r.Admission, q))
	}
	require.False(t, try(r.Admission, q), "it counts by itself no more")
}

// TestHourThatIsOverStaysOver, though the home that said so is gone.
func TestHourThatIsOverStaysOver(t *testing.T) {
	c := newClock()
	r := newReplica(t, c)
	q := &Request{Tenant: tenantID(1), Name: "acme", Replicas: 3, Settings: settingsOf(map[Limit]int64{PerHour: 1000})}
	require.False(t, try(r.Admission, q), "the hour is exact: who has nothing waits")
	r.Lent(q.Tenant, &Loan{Spent: 30 * time.Minute, Told: Receipt{Limit: 1000, Reset: 30 * time.Minute, Closed: closedAtMost}}, nil)
	_, told, err := enter(r.Admission, q)
	require.True(t, errs.Is(err, errs.RateLimited), "%v", err)
	require.ErrorContains(t, err, "of the hour")
	require.Equal(t, int64(1000), told.Limit)
	var e *errs.Error
	require.ErrorAs(t, err, &e)
	require.GreaterOrEqual(t, e.RetryAfter, 30*time.Minute)

	c.add(time.Second)
	require.False(t, try(r.Admission, q), "it asks again")
	r.Lent(q.Tenant, nil, errs.New(errs.Unavailable, "silent"))
	require.False(t, try(r.Admission, q))
	more := *q
	more.Settings = settingsOf(map[Limit]int64{PerHour: 10_000})
	more.Settings.Version++
	require.True(t, try(r.Admission, &more), "there may be more to be had")
	require.True(t, try(r.Admission, q))
}

// TestWhatWasLentUnderOtherLimits is worth nothing.
func TestWhatWasLentUnderOtherLimits(t *testing.T) {
	c := newClock()
	r := newReplica(t, c)
	q := &Request{Tenant: tenantID(1), Replicas: 3, Settings: settingsOf(map[Limit]int64{Rate: 1000})}
	require.True(t, try(r.Admission, q))
	r.Lent(q.Tenant, &Loan{Requests: 50, Lease: 50, For: lentFor}, nil)
	r.asked = nil
	require.True(t, try(r.Admission, q))
	none := &Request{Tenant: q.Tenant, Replicas: 3, Settings: settingsOf(map[Limit]int64{Rate: 0})}
	none.Settings.Version++
	require.False(t, try(r.Admission, none))
	free := &Request{Tenant: q.Tenant, Replicas: 3, Settings: settingsOf(nil)}
	free.Settings.Version += 2
	r.asked = nil
	for range 1000 {
		require.True(t, try(r.Admission, free))
	}
	require.Empty(t, r.asked, "who is not limited asks for nothing")
}

// TestManyWaitForOneLoan: one asks, and who finds nothing left asks again.
func TestManyWaitForOneLoan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		home := newAdmission(t, AdmissionOptions{Book: &book{windows: map[ID]Window{}}})
		far := &farLender{home: home}
		a := newAdmission(t, AdmissionOptions{Lender: far, Searches: 64})
		far.here = a
		q := Request{Tenant: tenantID(1), Settings: settingsOf(map[Limit]int64{PerHour: 2000}), Replicas: 3}
		far.request = q
		done := make(chan error)
		for range 30 {
			go func() {
				p, err := a.Enter(t.Context(), &q, &Receipt{})
				if err == nil {
					p.Leave(Outcome{})
				}
				done <- err
			}()
		}
		for range 30 {
			require.NoError(t, <-done)
		}
		far.under.Wait()
		require.Less(t, far.asked, 10, "each brings up to %d", leaseOf(&q))
	})
}

// farLender answers after a while.
type farLender struct {
	home, here *Admission
	request    Request
	asked      int
	under      sync.WaitGroup
}

// Borrow implements Lender.
func (f *farLender) Borrow(b Borrowing) {
	f.asked++
	f.under.Go(func() {
		time.Sleep(20 * time.Millisecond)
		l, err := f.home.Lend(context.Background(), &f.request, b.Have)
		f.here.Lent(b.Tenant, &l, err)
	})
}

func TestBorrowedEnterAllocatesNothing(t *testing.T) {
	c := newClock()
	r := newReplica(t, c)
	q := &Request{Tenant: tenantID(1), Replicas: 3, Settings: settingsOf(map[Limit]int64{Rate: 1000})}
	require.True(t, try(r.Admission, q))
	r.Lent(q.Tenant, &Loan{Requests: math.MaxInt32, Lease: 50, For: lentFor}, nil)
	requireNoAllocs(t, r.Admission, q)
}

func TestIdleSharesAreForgotten(t *testing.T) {
	c := newClock()
	r := newReplica(t, c)
	s := settingsOf(map[Limit]int64{Rate: 10})
	for i := range 10_000 {
		q := &Request{Tenant: tenantID(i), Settings: s, Replicas: 3}
		require.True(t, try(r.Admission, q))
		r.Lent(q.Tenant, &Loan{Requests: 1, Lease: 1, For: lentFor}, nil)
		c.add(100 * time.Millisecond)
	}
	require.LessOrEqual(t, len(r.accounts), 602, "those of the last minute")
}

// lavish lends at once as much as is asked for.
type lavish struct{ here *Admission }

// Borrow implements Lender.
func (l *lavish) Borrow(b Borrowing) {
	l.here.Lent(b.Tenant, &Loan{Requests: 100 - b.Have, Lease: 100, For: lentFor}, nil)
}

// BenchmarkEnterAway passes the gate of a replica that is not the home: counting by itself, as it does without a Lender, and with what it borrows.
func BenchmarkEnterAway(b *testing.B) {
	l := &lavish{}
	l.here = newAdmission(b, AdmissionOptions{Lender: l})
	for name, a := range map[string]*Admission{"alone": newAdmission(b, AdmissionOptions{}), "borrows": l.here} {
		b.Run(name, func(b *testing.B) {
			r := &Request{Tenant: tenantID(1), Settings: settingsOf(map[Limit]int64{Rate: 1 << 40, Burst: 1 << 40}), Replicas: 3}
			b.ReportAllocs()
			for b.Loop() {
				p, err := a.Enter(b.Context(), r, &Receipt{})
				if err != nil {
					b.Fatal(err)
				}
				p.Leave(Outcome{Took: time.Millisecond})
			}
		})
	}
}
