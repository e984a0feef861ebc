package main

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/croftdb/croft/internal/errs"
)

// stopwatch times the queries of a data set against one index.
type stopwatch struct {
	queries [][]float32
	index   index
	k       int
}

// lap is what one searcher measured.
type lap struct {
	answers [][]uint32
	rate    float64   // queries a second
	micros  []float64 // that each query took
}

// measure warms up with one pass over the queries and then times whole passes for a while, from one goroutine pinned to
// a core of its own per thread.
func (s *stopwatch) measure(ctx context.Context, req request) (reply, error) {
	if req == (request{}) {
		return reply{}, nil
	}
	use, err := cores()
	if err != nil {
		return reply{}, err
	}
	if len(use) < req.Threads {
		return reply{}, errs.New(errs.FailedPrecondition, "%d threads, but only %d cores may be used", req.Threads, len(use))
	}
	use = use[len(use)-req.Threads:] // interrupts prefer the first
	allowed, err := threadsOfProcess(use)
	if err != nil {
		return reply{}, err
	}
	defer allowed()
	laps, err := s.run(ctx, req, use)
	if err != nil {
		return reply{}, err
	}
	return summary(laps, req.Answers), nil
}

// run has one searcher on each core. They begin to be timed together.
func (s *stopwatch) run(ctx context.Context, req request, use []int) ([]lap, error) {
	laps := make([]lap, len(use))
	searchers := make([]searcher, len(use))
	for i := range searchers {
		var err error
		if searchers[i], err = s.index.searcher(req.Ef); err != nil {
			return nil, err
		}
		defer searchers[i].close()
	}
	group, ctx := errgroup.WithContext(ctx)
	warm := newBarrier(len(use))
	for i := range use {
		group.Go(func() error {
			runtime.LockOSThread() // and never unlocked: the thread ends, pinned, with this goroutine
			err := pin(0, setOf(use[i]))
			if err == nil {
				laps[i].answers, err = s.warm(ctx, searchers[i])
			}
			warm.wait()
			if err != nil {
				return err
			}
			return s.time(ctx, searchers[i], i*len(s.queries)/len(use), req, &laps[i])
		})
	}
	return laps, group.Wait()
}

// warm asks every query once and returns the answers.
func (s *stopwatch) warm(ctx context.Context, x searcher) ([][]uint32, error) {
	answers := make([][]uint32, len(s.queries))
	for i, query := range s.queries {
		ids := make([]uint32, s.k)
		n, err := x.search(ctx, query, ids)
		if err != nil {
			return nil, err
		}
		answers[i] = ids[:n]
	}
	return answers, nil
}

// time asks all queries, beginning with first, again and again until the time is up.
func (s *stopwatch) time(ctx context.Context, x searcher, first int, req request, l *lap) error {
	ids := make([]uint32, s.k)
	queries := slices.Concat(s.queries[first:], s.queries[:first])
	ran, err := threadTime()
	if err != nil {
		return err
	}
	begin := time.Now()
	last := begin
	for len(l.micros) == 0 || last.Sub(begin) < req.Lap {
		for _, query := range queries {
			if _, err := x.search(ctx, query, ids); err != nil {
				return err
			}
			now := time.Now()
			l.micros = append(l.micros, float64(now.Sub(last))/float64(time.Microsecond))
			last = now
		}
	}
	took := last.Sub(begin)
	if req.CPU {
		now, err := threadTime()
		if err != nil {
			return err
		}
		took = now - ran
	}
	l.rate = float64(len(l.micros)) / took.Seconds()
	return nil
}

// summary adds up the rates of searchers that ran side by side.
func summary(laps []lap, answers bool) reply {
	var r reply
	var micros []float64
	for _, l := range laps {
		r.QPS += l.rate
		micros = append(micros, l.micros...)
	}
	slices.Sort(micros)
	r.P50, r.P99 = micros[len(micros)/2], micros[len(micros)*99/100]
	if answers {
		r.Answers = laps[0].answers
	}
	return r
}

// threadsOfProcess binds the whole process to cores, so that neither a garbage collector nor a library's helper threads
// lend a searcher a core that it is not said to have. The function it returns lifts that.
func threadsOfProcess(use []int) (lift func(), err error) {
	all, err := cores()
	if err != nil {
		return nil, err
	}
	if err := pinProcess(setOf(use...)); err != nil {
		return nil, err
	}
	return func() { _ = pinProcess(setOf(all...)) }, nil
}

// barrier lets n goroutines go on together.
type barrier struct{ missing sync.WaitGroup }

func newBarrier(n int) *barrier {
	b := &barrier{}
	b.missing.Add(n)
	return b
}

func (b *barrier) wait() {
	b.missing.Done()
	b.missing.Wait()
}
