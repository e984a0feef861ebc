package tenancy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/internal/errs"
)

func tenantID(n int) (id ID) { binary.BigEndian.PutUint64(id[:], uint64(n)); return id }

// settingsOf are the system's, with some limits of the tenant's own.
func settingsOf(own map[Limit]int64) *Settings {
	var ls Limits
	for l, v := range own {
		ls.Set(l, v)
	}
	s := Resolve(&Tier{}, &ls, &Override{}, 1, time.Time{})
	return &s
}

func newAdmission(t require.TestingT, o AdmissionOptions) *Admission {
	o.Chance = func() float64 { return 0.5 }
	a, err := NewAdmission(o)
	require.NoError(t, err)
	return a
}

// clock is moved by hand.
type clock struct{ at time.Time }

func newClock() *clock               { return &clock{time.Unix(1_700_000_000, 0)} }
func (c *clock) now() time.Time      { return c.at }
func (c *clock) add(d time.Duration) { c.at = c.at.Add(d) }

// enter is Enter of a request that needs not wait.
func enter(a *Admission, r *Request) (Pass, Receipt, error) {
	var told Receipt
	p, err := a.Enter(context.Background(), r, &told)
	return p, told, err
}

// plainRate is a token bucket as one would draw it.
type plainRate struct {
	rate, burst, tokens float64
	at                  time.Time
}

func (p *plainRate) room(now time.Time) bool {
	p.tokens = min(p.burst, p.tokens+p.rate*now.Sub(p.at).Seconds())
	p.at = now
	return p.tokens >= 1-1e-6
}

// plainHour counts a fixed window.
type plainHour struct {
	limit, n int64
	begin    time.Time
}

func (p *plainHour) room(now time.Time) bool {
	if p.begin.IsZero() || now.Sub(p.begin) >= time.Hour {
		p.n = 0
	}
	return p.n < p.limit
}

func (p *plainHour) take(now time.Time) {
	if p.n == 0 {
		p.begin = now
	}
	p.n++
}

func TestQuotasAgainstAPlainModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newClock()
		a := newAdmission(t, AdmissionOptions{Now: c.now})
		rate, burst := rapid.SampledFrom([]int64{1, 4, 20, 500}).Draw(t, "rate"), rapid.Int64Range(1, 30).Draw(t, "burst")
		burst = min(rate, burst)
		hourly := rapid.SampledFrom([]int64{1, 50, 1000, Unlimited}).Draw(t, "hourly")
		model := plainRate{rate: float64(rate), burst: float64(burst), tokens: float64(burst), at: c.at}
		perMinute := rapid.SampledFrom([]int64{1, 10, 600, Unlimited}).Draw(t, "per minute")
		minute := plainRate{rate: float64(perMinute) / 60, burst: float64(perMinute), tokens: float64(perMinute), at: c.at}
		hour := plainHour{limit: hourly}
		r := &Request{Tenant: tenantID(1), Settings: settingsOf(map[Limit]int64{Rate: rate, Burst: burst, PerHour: hourly, PerMinute: perMinute})}
		for range 300 {
			c.add(rapid.SampledFrom([]time.Duration{0, 0, time.Millisecond, 250 * time.Millisecond, 2 * time.Second, 6 * time.Second, 20 * time.Minute}).Draw(t, "pause"))
			p, told, err := enter(a, r)
			bySecond, byMinute := model.room(c.at), minute.room(c.at)
			if hour.room(c.at) && bySecond && byMinute {
				model.tokens--
				minute.tokens--
				hour.take(c.at)
				require.NoError(t, err)
				p.Leave(Outcome{Took: time.Millisecond})
			} else {
				require.True(t, errs.Is(err, errs.RateLimited), "%v", err)
				var e *errs.Error
				require.ErrorAs(t, err, &e)
				require.Positive(t, e.RetryAfter)
				require.Positive(t, told.Closed)
				require.LessOrEqual(t, told.Closed, 2*closedAtMost)
			}
			require.Positive(t, told.Limit)
			require.GreaterOrEqual(t, told.Remaining, int64(0))
			require.Less(t, told.Remaining, told.Limit)
		}
	})
}

// TestQueueKeepsItsBounds lets tenants come and go at random and looks at what must hold at any time.
func TestQueueKeepsItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newClock()
		a := newAdmission(t, AdmissionOptions{Now: c.now, Searches: 3, Writes: 2, Waiting: 12, WaitingBytes: 1000})
		settings := []*Settings{
			settingsOf(map[Limit]int64{Weight: 5, Queued: 4, Concurrency: 6}), settingsOf(map[Limit]int64{Weight: 10, Queued: 8}),
			settingsOf(map[Limit]int64{Weight: 40, RequestBytes: 1 << 20}),
		}
		type held struct {
			*ticket
			n int
		}
		var running, waiting []held
		type flow struct {
			accountKey
			lane
		}
		last := map[flow]int{} // the newest that was let in after it had waited
		for n := range 200 {
			switch k := rapid.IntRange(0, 9).Draw(t, "act"); {
			case k < 6:
				tenant := rapid.IntRange(0, 5).Draw(t, "tenant")
				tk := a.tickets.Get().(*ticket)
				r := &Request{Tenant: tenantID(tenant), Settings: settings[tenant%3], Class: Class(rapid.IntRange(0, 3).Draw(t, "class")), Bytes: int64(rapid.IntRange(0, 300).Draw(t, "bytes"))}
				switch _, step, err := a.arrive(tk, r, &Receipt{}); step {
				case letIn:
					running = append(running, held{tk, n})
				case queued:
					waiting = append(waiting, held{tk, n})
				default:
					require.Error(t, err)
				}
			case k < 9 && len(running) > 0:
				i := rapid.IntRange(0, len(running)-1).Draw(t, "leaves")
				running[i].Leave(Outcome{Took: time.Duration(rapid.IntRange(0, 50).Draw(t, "took")) * time.Millisecond})
				running = append(running[:i], running[i+1:]...)
			case len(waiting) > 0:
				i := rapid.IntRange(0, len(waiting)-1).Draw(t, "gives up")
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				if len(waiting[i].turn) == 0 {
					_, err := a.wait(ctx, waiting[i].ticket)
					require.ErrorIs(t, err, context.Canceled)
					waiting = append(waiting[:i], waiting[i+1:]...)
				}
			}
			still := waiting[:0]
			for _, w := range waiting {
				select {
				case err := <-w.turn:
					if err == nil {
						key := flow{w.account.key, w.lane}
						require.Greater(t, w.n+1, last[key], "overtaken within its tenant")
						last[key] = w.n + 1
						running = append(running, w)
					}
				default:
					still = append(still, w)
				}
			}
			waiting = still
			a.check(t, len(running), len(waiting))
		}
	})
}

// check compares sums with what they are sums of, and sees that nobody waits without need.
func (a *Admission) check(t *rapid.T, running, waiting int) {
	sum, heldBytes := 0, int64(0)
	for l := range a.lanes {
		s := &a.lanes[l]
		sum += s.running
		require.LessOrEqual(t, s.running, s.limit)
		require.False(t, s.running < s.limit && len(s.next.accounts) > 0, "a place is free and somebody waits")
	}
	require.Equal(t, running, sum)
	require.Equal(t, waiting, a.waiting)
	crowd, builds, buildBytes := 0, 0, int64(0)
	for _, acc := range a.accounts {
		n := 0
		for l := range acc.queues {
			q := &acc.queues[l]
			count := 0
			for tk := q.first; tk != nil; tk = tk.behind {
				count++
				heldBytes += tk.bytes
				if tk.class == Build {
					builds++
					buildBytes += tk.bytes
				}
			}
			require.Equal(t, q.waiting, count)
			require.Equal(t, q.waiting > 0 && q.running < a.share(acc, lane(l)), q.at > 0)
			n += count
		}
		require.Equal(t, acc.waiting, n)
		if n > 0 {
			crowd++
		}
	}
	require.LessOrEqual(t, a.waiting, a.opts.Waiting+builds)
	require.Equal(t, crowd, len(a.crowd))
	require.Equal(t, heldBytes, a.held)
	require.LessOrEqual(t, a.held, a.opts.WaitingBytes+buildBytes)
}

// jain is 1 if all have the same, and 1/n if one has all.
func jain(shares []float64) float64 {
	sum, squares := 0.0, 0.0
	for _, x := range shares {
		sum += x
		squares += x * x
	}
	return sum * sum / (float64(len(shares)) * squares)
}

// TestTenantsAreServedByTheirWeights has 1,000 tenants of two tiers ask for twice what they can have, with requests of
// different cost.
func TestTenantsAreServedByTheirWeights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tenants, places = 1000, 4
		a := newAdmission(t, AdmissionOptions{Searches: places, Waiting: 4 * tenants})
		tiers := []*Settings{settingsOf(map[Limit]int64{Weight: 10}), settingsOf(map[Limit]int64{Weight: 20})}
		served := make([][2]float64, tenants) // time at a place, of each tenant's two clients
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		for i := range tenants {
			cost := time.Duration(1+i/2%5) * 2 * time.Millisecond
			for client := range 2 { // so that one always waits
				wg.Go(func() {
					for ctx.Err() == nil {
						p, err := a.Enter(ctx, &Request{Tenant: tenantID(i), Settings: tiers[i%2]}, &Receipt{})
						if err != nil {
							return
						}
						time.Sleep(cost)
						served[i][client] += cost.Seconds()
						p.Leave(Outcome{Took: cost})
					}
				})
			}
		}
		wg.Wait()
		var byTier [2][]float64
		for i, clients := range served {
			s := clients[0] + clients[1]
			byTier[i%2] = append(byTier[i%2], s)
			require.InEpsilon(t, 100.0*places*float64(1+i%2)/(1.5*tenants), s, 0.1, "tenant %d", i)
		}
		for tier, shares := range byTier {
			require.GreaterOrEqual(t, jain(shares), 0.98, "tier %d", tier)
		}
	})
}

// TestNobodyWaitsForAFlood has one tenant flood the gate while others come now and then.
func TestNobodyWaitsForAFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(t, AdmissionOptions{Searches: 2})
		s := settingsOf(nil)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		var refusals atomic.Int64
		for range 200 {
			wg.Go(func() {
				for ctx.Err() == nil {
					p, err := a.Enter(ctx, &Request{Tenant: tenantID(0), Settings: s}, &Receipt{})
					if err != nil {
						refusals.Add(1)
						time.Sleep(50 * time.Millisecond)
						continue
					}
					time.Sleep(10 * time.Millisecond)
					p.Leave(Outcome{Took: 10 * time.Millisecond})
				}
			})
		}
		for n := 1; n <= 100; n++ {
			time.Sleep(37 * time.Millisecond)
			begun := time.Now()
			p, err := a.Enter(ctx, &Request{Tenant: tenantID(n % 10), Settings: s}, &Receipt{})
			if n%10 == 0 {
				continue // the flood's own
			}
			require.NoError(t, err)
			require.Zero(t, time.Since(begun), "one place is not for the flood")
			p.Leave(Outcome{Took: time.Millisecond})
		}
		cancel()
		wg.Wait()
		require.NotZero(t, refusals.Load())
	})
}

func TestHigherTierPushesLowerOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(t, AdmissionOptions{Searches: 1, Waiting: 2})
		low, high := settingsOf(map[Limit]int64{Weight: 5}), settingsOf(map[Limit]int64{Weight: 40})
		first, _, err := enter(a, &Request{Tenant: tenantID(1), Settings: low})
		require.NoError(t, err)
		results := make([]error, 4)
		var wg sync.WaitGroup
		ask := func(i, tenant int, s *Settings) {
			wg.Go(func() {
				var p Pass
				if p, _, results[i] = enter(a, &Request{Tenant: tenantID(tenant), Settings: s}); results[i] == nil {
					p.Leave(Outcome{})
				}
			})
			synctest.Wait()
		}
		ask(0, 2, low)
		ask(1, 2, low)
		ask(2, 3, high) // takes the place of 1
		ask(3, 2, low)  // finds none
		first.Leave(Outcome{})
		wg.Wait()
		require.NoError(t, results[0])
		require.True(t, errs.Is(results[1], errs.Unavailable), "%v", results[1])
		require.NoError(t, results[2])
		require.True(t, errs.Is(results[3], errs.Unavailable), "%v", results[3])
	})
}

func TestWhoseDeadlineEndsLeavesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(t, AdmissionOptions{Searches: 1})
		s := settingsOf(map[Limit]int64{PerHour: 100, Rate: 10, Burst: 10})
		first, _, err := enter(a, &Request{Tenant: tenantID(1), Settings: s})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err = a.Enter(ctx, &Request{Tenant: tenantID(1), Settings: s, Bytes: 7}, &Receipt{})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		first.Leave(Outcome{})
		acc := a.accounts[accountKey{tenant: tenantID(1)}]
		require.Zero(t, acc.bytes)
		require.Equal(t, int64(1), acc.window.drawn, "it was given back")
		require.Zero(t, a.waiting)
	})
}

func TestOverageDegrades(t *testing.T) {
	c := newClock()
	a := newAdmission(t, AdmissionOptions{Now: c.now})
	r := &Request{Tenant: tenantID(1), Settings: settingsOf(map[Limit]int64{Rate: 2, Burst: 2, Overage: OverageDegrade})}
	for i := range 5 {
		p, told, err := enter(a, r)
		require.NoError(t, err)
		require.Equal(t, i >= 2, p.Degraded())
		require.Equal(t, i >= 2, told.Degraded)
		p.Leave(Outcome{})
	}
}

func TestConcurrencyAndMemory(t *testing.T) {
	a := newAdmission(t, AdmissionOptions{Searches: 8, Now: newClock().now})
	r := &Request{Tenant: tenantID(1), Settings: settingsOf(map[Limit]int64{Concurrency: 2, RequestBytes: 100})}
	first, _, err := enter(a, r)
	require.NoError(t, err)
	_, _, err = enter(a, &Request{Tenant: r.Tenant, Settings: r.Settings, Bytes: 101})
	require.True(t, errs.Is(err, errs.RateLimited), "%v", err)
	_, _, err = enter(a, r)
	require.NoError(t, err)
	_, _, err = enter(a, r)
	require.True(t, errs.Is(err, errs.RateLimited), "%v", err)
	first.Leave(Outcome{})
	_, _, err = enter(a, r)
	require.NoError(t, err)
}

func TestBreaker(t *testing.T) {
	c := newClock()
	a := newAdmission(t, AdmissionOptions{Now: c.now})
	r := &Request{Tenant: tenantID(1), Settings: settingsOf(map[Limit]int64{BreakerFaults: 10})}
	end := func(err error) {
		t.Helper()
		p, _, refused := enter(a, r)
		require.NoError(t, refused)
		p.Leave(Outcome{Err: err})
	}
	late := fmt.Errorf("search: %w", context.DeadlineExceeded)
	for range 9 {
		end(late)
		end(errs.New(errs.Invalid, "the client's own"))
		end(context.Canceled)
	}
	c.add(6 * time.Minute)
	for range 9 {
		end(late)
	}
	end(nil)
	end(late) // the tenth within five minutes
	_, told, err := enter(a, r)
	require.True(t, errs.Is(err, errs.Unavailable), "%v", err)
	require.Positive(t, told.Closed)

	c.add(2 * firstPause)
	probe, _, err := enter(a, r)
	require.NoError(t, err)
	_, _, err = enter(a, r)
	require.Error(t, err, "one probe at a time")
	probe.Leave(Outcome{Err: late})
	c.add(firstPause)
	_, _, err = enter(a, r)
	require.Error(t, err, "the next pause is longer")
	c.add(2 * firstPause)
	for range probesToClose {
		end(nil)
	}
	for range 9 { // from the start
		end(late)
	}
	for range 20 * 11 {
		end(nil)
	}
	end(late)
	end(late) // eleven, but of more than 220
	end(late)
	_, _, err = enter(a, r)
	require.Error(t, err, "more than one in twenty")
}

// book is what outlives homes; a write may be lost, or told to be.
type book struct {
	windows map[ID]Window
	term    uint64
	fail    func() error
	writes  int
}

func (b *book) Window(_ context.Context, _ uint16, t ID) (Window, uint64, error) {
	return b.windows[t], b.term, nil
}

func (b *book) Write(_ context.Context, _ uint16, term uint64, t ID, w Window) error {
	b.writes++
	if term != b.term {
		return errs.New(errs.FailedPrecondition, "another leads")
	}
	if b.fail != nil {
		if err := b.fail(); err != nil {
			return err
		}
	}
	b.windows[t] = w
	return nil
}

// TestHourAcrossHomes changes the home at random: no more is let in than the limit, and no less than a lease for each change.
func TestHourAcrossHomes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newClock()
		limit := rapid.SampledFrom([]int64{1, 7, 100, 1000}).Draw(t, "limit")
		broken := errs.New(errs.OutcomeUnknown, "lost")
		b := &book{windows: map[ID]Window{}, fail: func() error {
			if rapid.IntRange(0, 20).Draw(t, "fails") == 0 {
				return broken
			}
			return nil
		}}
		r := &Request{Tenant: tenantID(1), Settings: settingsOf(map[Limit]int64{PerHour: limit})}
		homes := []*Admission{newAdmission(t, AdmissionOptions{Now: c.now, Book: b}), newAdmission(t, AdmissionOptions{Now: c.now, Book: b})}
		let, changes, at := int64(0), int64(0), 0
		for i := int64(0); i < 2*limit+20; i++ {
			if rapid.IntRange(0, int(limit/4)+2).Draw(t, "changes") == 0 {
				changes++
				b.term++
				r.Term = b.term
				at = 1 - at
			}
			p, _, err := enter(homes[at], r)
			switch {
			case err == nil:
				let++
				p.Leave(Outcome{})
			case errors.Is(err, broken):
				i-- // the client tries again
			default:
				require.True(t, errs.Is(err, errs.RateLimited), "%v", err)
			}
		}
		require.LessOrEqual(t, let, limit)
		require.GreaterOrEqual(t, let, limit-changes*max(1, limit/leases))
		c.add(time.Hour)
		for {
			if _, _, err := enter(homes[at], r); !errors.Is(err, broken) {
				require.NoError(t, err)
				break
			}
		}
	})
}

func TestHourUnderManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &book{windows: map[ID]Window{}, fail: func() error { time.Sleep(time.Millisecond); return nil }}
		a := newAdmission(t, AdmissionOptions{Book: b, Searches: 64})
		s := settingsOf(map[Limit]int64{PerHour: 100})
		var mu sync.Mutex
		let := 0
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				for range 10 {
					p, err := a.Enter(t.Context(), &Request{Tenant: tenantID(1), Settings: s}, &Receipt{})
					if err != nil {
						continue
					}
					mu.Lock()
					let++
					mu.Unlock()
					p.Leave(Outcome{})
				}
			})
		}
		wg.Wait()
		require.Equal(t, 100, let)
		require.Equal(t, 100, b.writes, "one for each lease")
	})
}

// TestIdleTenantsAreForgotten lets 100,000 tenants come once.
func TestIdleTenantsAreForgotten(t *testing.T) {
	c := newClock()
	a := newAdmission(t, AdmissionOptions{Now: c.now})
	s := settingsOf(map[Limit]int64{Rate: 10, Burst: 10})
	for i := range 100_000 {
		p, _, err := enter(a, &Request{Tenant: tenantID(i), Settings: s})
		require.NoError(t, err)
		p.Leave(Outcome{})
		c.add(10 * time.Millisecond)
	}
	require.LessOrEqual(t, len(a.accounts), 6002, "those of the last minute")
	require.Equal(t, len(a.accounts), a.recent.Len())
	c.add(2 * time.Minute)
	for range len(a.accounts)/tidyLook + 1 {
		a.Tidy()
	}
	require.Empty(t, a.accounts, "nobody need come for that")
}

func TestEnterAllocatesNothing(t *testing.T) {
	a := newAdmission(t, AdmissionOptions{})
	r := &Request{Tenant: tenantID(1), Settings: settingsOf(map[Limit]int64{Rate: 1 << 40, Burst: 1 << 40, PerHour: 1 << 40})}
	requireNoAllocs(t, a, r)
}

// requireNoAllocs lets requests in and out.
func requireNoAllocs(t *testing.T, a *Admission, r *Request) {
	t.Helper()
	var told Receipt
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		p, err := a.Enter(t.Context(), r, &told)
		if err != nil {
			t.Fatal(err)
		}
		p.Leave(Outcome{Took: time.Millisecond})
	}))
}

func BenchmarkEnter(b *testing.B) {
	a := newAdmission(b, AdmissionOptions{})
	r := &Request{Tenant: tenantID(1), Settings: settingsOf(map[Limit]int64{Rate: 1 << 40, Burst: 1 << 40})}
	b.ReportAllocs()
	for b.Loop() {
		p, err := a.Enter(b.Context(), r, &Receipt{})
		if err != nil {
			b.Fatal(err)
		}
		p.Leave(Outcome{Took: time.Millisecond})
	}
}

func BenchmarkRefuse(b *testing.B) {
	a := newAdmission(b, AdmissionOptions{})
	r := &Request{Tenant: tenantID(1), Name: "acme", Settings: settingsOf(map[Limit]int64{Rate: 0})}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Enter(b.Context(), r, &Receipt{}); err == nil {
			b.Fatal("let in")
		}
	}
}
