package main

import (
	"context"

	"github.com/croftdb/croft/bench"
)

// judge returns the recall of answers, one per query. Package bench judges, so that there is one way to count ties and
// hits: it is given the answers again as if they were searched for.
func judge(d *bench.Dataset, answers [][]uint32, k int) (float64, error) {
	r, err := bench.Measure(context.Background(), d, &replay{answers: answers}, bench.RecallOptions{
		Dataset: d.Name, K: k, Efs: []int{k}, Runs: 1,
	})
	if err != nil {
		return 0, err
	}
	return r.Points[0].Recall, nil
}

// replay is a bench.Target that knows its answers.
type replay struct {
	answers [][]uint32
	next    int
}

func (r *replay) Load(context.Context, *bench.Vectors) error { return nil }

func (r *replay) Query(context.Context, []float32, int, int) ([]uint32, error) {
	answer := r.answers[r.next%len(r.answers)]
	r.next++
	return answer, nil
}
