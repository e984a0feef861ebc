package bench

import (
	"context"
	"slices"
	"time"
)

// contender is one of several ways to answer the same queries that are measured side by side.
type contender struct {
	ask   func(query int) error
	next  int // query
	rates []float64
}

// raceLaps measures contenders in turns, so that a machine that drifts drifts for all: runs laps of each, of at least the
// given time and one query, over queries 0 to n-1 and again from the start. It returns the median rates, in queries per
// second.
func raceLaps(ctx context.Context, runs int, lap time.Duration, n int, asks ...func(query int) error) ([]float64, error) {
	all := make([]contender, len(asks))
	for i, ask := range asks {
		all[i].ask = ask
	}
	for range runs {
		for i := range all {
			if err := all[i].run(ctx, lap, n); err != nil {
				return nil, err
			}
		}
	}
	medians := make([]float64, len(all))
	for i := range all {
		slices.Sort(all[i].rates)
		medians[i] = all[i].rates[runs/2]
	}
	return medians, nil
}

// run is one lap. The clock is looked at after each query, which takes microseconds at least.
func (c *contender) run(ctx context.Context, lap time.Duration, n int) error {
	begin := time.Now()
	for asked := 1; ; asked++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.ask(c.next); err != nil {
			return err
		}
		c.next = (c.next + 1) % n
		if spent := time.Since(begin); spent >= lap {
			c.rates = append(c.rates, float64(asked)/spent.Seconds())
			return nil
		}
	}
}
