package main

import (
	"math"
	"slices"
)

// point is what one ef gives: medians, or bests, of the rounds.
type point struct {
	Ef         int     `json:"ef"`
	Recall     float64 `json:"recall"`
	QPS        float64 `json:"qps"`
	P50        float64 `json:"p50_us"`
	P99        float64 `json:"p99_us"`
	ThreadsQPS float64 `json:"threads_qps,omitempty"` // of all threads, where more than one was asked for
}

// spot is a point of a curve: queries a second at a recall.
type spot struct{ recall, qps float64 }

// front is a Pareto front: recall grows, queries a second fall, and no spot is beaten in both.
type front []spot

// newFront keeps the spots that no other beats.
func newFront(spots []spot) front {
	sorted := slices.Clone(spots)
	slices.SortFunc(sorted, func(a, b spot) int {
		if a.recall != b.recall {
			return sign(b.recall - a.recall)
		}
		return sign(b.qps - a.qps)
	})
	var f front
	for _, s := range sorted {
		if len(f) == 0 || s.qps > f[len(f)-1].qps {
			f = append(f, s)
		}
	}
	slices.Reverse(f)
	return f
}

func sign(x float64) int {
	switch {
	case x < 0:
		return -1
	case x > 0:
		return 1
	}
	return 0
}

// at returns the queries a second at a recall, nil where the front does not reach it. Between two spots the logarithm of
// the rate is linear in recall. Below the first spot it is that spot's rate: what is better than asked for counts, but
// nothing is made up.
func (f front) at(recall float64) *float64 {
	i := slices.IndexFunc(f, func(s spot) bool { return s.recall >= recall })
	if i < 0 {
		return nil
	}
	qps := f[i].qps
	if i > 0 {
		a, b := f[i-1], f[i]
		share := (recall - a.recall) / (b.recall - a.recall)
		qps = math.Exp((1-share)*math.Log(a.qps) + share*math.Log(b.qps))
	}
	return &qps
}

// ratio divides two figures; nil if one is missing or none: growth of memory can be lost in noise where little is indexed.
func ratio(a, b *float64) *float64 {
	if a == nil || b == nil || *a <= 0 || *b <= 0 {
		return nil
	}
	r := *a / *b
	return &r
}

// best returns the extreme of values that is better: the most queries a second, or the least time.
func best(values []float64, mostWins bool) float64 {
	if mostWins {
		return slices.Max(values)
	}
	return slices.Min(values)
}

// median returns the middle of values, the upper one of two. It sorts them.
func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
