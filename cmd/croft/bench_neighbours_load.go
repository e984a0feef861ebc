package main

import (
	"context"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Phases of a run; what is asked between two of them counts for none.
const (
	phaseCalm int32 = iota
	phaseSpike
	phaseCalmAgain
	phaseNone

	phaseCount
)

// tally is what became of the requests of a phase.
type tally struct {
	took    []float64 // ms, of those answered, from when they were due
	sent    int       // attempts
	refused int       // 429 and 503
	failed  int       // other errors
}

// tallies are those of one kind of client.
type tallies struct {
	mu     sync.Mutex
	phases [phaseCount]tally
}

func (t *tallies) note(phase int32, due time.Time, status int, err error) {
	took := time.Since(due).Seconds() * 1e3
	t.mu.Lock()
	defer t.mu.Unlock()
	p := &t.phases[phase]
	p.sent++
	switch {
	case err == nil && status == http.StatusOK:
		p.took = append(p.took, took)
	case refusedBy(status):
		p.refused++
	default:
		p.failed++
	}
}

func refusedBy(status int) bool {
	return status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable
}

// calm are the latencies of both calm phases, in order.
func (t *tallies) calm() []float64 {
	all := slices.Concat(t.phases[phaseCalm].took, t.phases[phaseCalmAgain].took)
	slices.Sort(all)
	return all
}

func (t *tallies) spike() []float64 {
	slices.Sort(t.phases[phaseSpike].took)
	return t.phases[phaseSpike].took
}

// tenantShots are a tenant's queries, for each node.
type tenantShots [][]shot

// crowd is the load on a cluster.
type crowd struct {
	addrs   []string
	victims []tenantShots
	spiker  tenantShots
	clients int // of the spiker
	phase   atomic.Int32
	number  atomic.Uint64

	victimRate, spikerRate float64 // per second
	spike                  float64 // times spikerRate

	victim, spiking tallies
}

// patienceOfVictims is when a client of a victim gives up; it counts with that much.
const patienceOfVictims = 10 * time.Second

// askSteadily sends the victims' queries at random times, however long the answers take: each has a connection if there is none
// that is free.
func (c *crowd) askSteadily(ctx context.Context, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	wires := newWirePool(c.addrs)
	var wg sync.WaitGroup
	defer wg.Wait()
	due := time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		due = due.Add(time.Duration(rng.ExpFloat64() / c.victimRate * float64(time.Second)))
		if pauseUntil(ctx, due) != nil {
			return
		}
		node, tenant := rng.IntN(len(c.addrs)), rng.IntN(len(c.victims))
		shots := c.victims[tenant][node]
		s, phase, at := &shots[rng.IntN(len(shots))], c.phase.Load(), due
		wg.Go(func() {
			wires.use(node, func(w *wire) {
				status, err := w.fire(ctx, s, c.number.Add(1), patienceOfVictims)
				if ctx.Err() == nil {
					c.victim.note(phase, at, status, err)
				}
			})
		})
	}
}

func pauseUntil(ctx context.Context, due time.Time) error {
	if d := time.Until(due); d > 0 {
		return pauseFor(ctx, d)
	}
	return ctx.Err()
}

// schedule says when the spiker's requests are due.
type schedule struct {
	begin time.Time
	rate  float64
	next  atomic.Int64
}

func (s *schedule) take() time.Time {
	return s.begin.Add(time.Duration(float64(s.next.Add(1)-1) / s.rate * float64(time.Second)))
}

// askAtRate has all clients of the spiker work off a schedule. Who is refused asks again at once; a request is given up a
// second after it was due, which is the deadline of its tier.
func (c *crowd) askAtRate(ctx context.Context, rate float64) {
	const patience = time.Second
	s := &schedule{begin: time.Now(), rate: rate}
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := range c.clients {
		node := i % len(c.addrs)
		w := &wire{addr: c.addrs[node]}
		rng := rand.New(rand.NewPCG(uint64(i), 2))
		wg.Go(func() {
			defer w.close()
			for {
				due := s.take()
				if pauseUntil(ctx, due) != nil {
					return
				}
				shots := c.spiker[node]
				one, number := &shots[rng.IntN(len(shots))], c.number.Add(1)
				for left := patience; left > 0 && ctx.Err() == nil; left = time.Until(due.Add(patience)) {
					phase := c.phase.Load()
					status, err := w.fire(ctx, one, number, 2*patience)
					if ctx.Err() == nil {
						c.spiking.note(phase, due, status, err)
					}
					if !refusedBy(status) {
						break
					}
				}
			}
		})
	}
}

// saturate asks tenants' queries one after the other with some clients for a while, and returns how many were answered
// a second: what the machine can serve, with the clients on it.
func (c *crowd) saturate(ctx context.Context, of []tenantShots, clients int, d time.Duration) float64 {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var wg sync.WaitGroup
	var answered atomic.Int64
	begun := time.Now()
	for i := range clients {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 3))
			node := i % len(c.addrs)
			w := &wire{addr: c.addrs[node]}
			defer w.close()
			for ctx.Err() == nil {
				shots := of[rng.IntN(len(of))][node]
				if status, err := w.fire(ctx, &shots[rng.IntN(len(shots))], c.number.Add(1), patienceOfVictims); err == nil && status == http.StatusOK {
					answered.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return float64(answered.Load()) / time.Since(begun).Seconds()
}

// ratio of two percentiles, to three digits; 0 where there is nothing to compare with.
func ratio(a, b []float64, share float64) float64 {
	base := quantile(b, share)
	if base == 0 {
		return 0
	}
	return math.Round(1000*quantile(a, share)/base) / 1000
}
