package bench

import (
	"cmp"
	"context"
	"errors"
	"io"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/croftdb/croft/ann"
)

// Progress is told how far a stage of long work has come; calls do not overlap.
type Progress func(stage string, done, total int)

const (
	blockBytes = 512 << 10 // base rows that one core measures against all queries: half of its second-level cache
	slack      = 32        // candidates beyond k that float32 may have in the wrong order
)

// exactJob finds the exact neighbours of queries by measuring everything: in float32 first, and the candidates then
// again in float64. Memory is that of the candidates, not of the base.
type exactJob struct {
	metric   ann.Metric
	base     *Vectors // read from its first row on
	queries  [][]float32
	k        int
	masks    [][]bool // each a filter over the base, with a result of its own; nil: one result over all rows
	progress Progress

	reading sync.Mutex // over base's place, done and progress
	done    int
}

// tops holds the candidates of each query, for each mask.
type tops [][]ann.TopK

// run returns per mask and query up to k rows, nearest first, ties by row.
func (j *exactJob) run(ctx context.Context) ([][][]int32, error) {
	workers := make([]tops, runtime.GOMAXPROCS(0))
	group, scanning := errgroup.WithContext(ctx)
	for w := range workers {
		workers[w] = j.newTops()
		group.Go(func() error { return j.scan(scanning, workers[w]) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, other := range workers[1:] {
		workers[0].merge(other)
	}
	return j.rerank(ctx, workers[0])
}

func (j *exactJob) newTops() tops {
	t := make(tops, max(1, len(j.masks)))
	for m := range t {
		t[m] = make([]ann.TopK, len(j.queries))
		for q := range t[m] {
			t[m][q].Reset(j.k + slack)
		}
	}
	return t
}

func (t tops) merge(other tops) {
	for m := range t {
		for q := range t[m] {
			for _, key := range other[m][q].SortedKeys() {
				t[m][q].OfferKey(key)
			}
		}
	}
}

// scan measures block after block of the base against all queries.
func (j *exactJob) scan(ctx context.Context, into tops) error {
	dim := j.base.Dim()
	rows := min(max(16, blockBytes/(4*dim)), 4096)
	block := newSlab(j.metric, rows, dim)
	slots, distances := upTo(rows), make([]float32, rows)
	for {
		first, n, err := j.read(ctx, block)
		if err != nil || n == 0 {
			return err
		}
		for q, query := range j.queries {
			bound := ann.Bind(j.metric, query)
			bound.Measure(block, slots[:n], distances[:n])
			for m := range into {
				j.offer(&into[m][q], m, first, distances[:n])
			}
		}
	}
}

// read fills a block with the next rows; n is 0 after the last.
func (j *exactJob) read(ctx context.Context, block *slab) (first, n int, err error) {
	j.reading.Lock()
	defer j.reading.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, 0, err
	}
	first = j.done
	for ; n < len(block.scales); n++ {
		err := block.next(n, j.base)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, 0, err
		}
	}
	if n > 0 {
		j.done += n
		j.progress.tell("exact neighbours", j.done, j.base.Len())
	}
	return first, n, nil
}

// offer takes the rows that a mask allows.
func (j *exactJob) offer(top *ann.TopK, mask, first int, distances []float32) {
	for i, d := range distances {
		if j.masks == nil || j.masks[mask][first+i] {
			top.Offer(ann.Candidate{Slot: uint32(first + i), Distance: d})
		}
	}
}

// rerank orders the candidates by their distance in float64.
func (j *exactJob) rerank(ctx context.Context, t tops) ([][][]int32, error) {
	all := make([][][]int32, len(t))
	row := make([]float32, j.base.Dim())
	for m := range t {
		for q := range t[m] {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			ids, err := j.order(j.queries[q], t[m][q].SortedKeys(), row)
			if err != nil {
				return nil, err
			}
			all[m] = append(all[m], ids)
		}
	}
	return all, nil
}

func (j *exactJob) order(query []float32, keys []uint64, row []float32) ([]int32, error) {
	type hit struct {
		id       int32
		distance float64
	}
	var hits []hit
	for _, key := range keys {
		id := int(ann.FromKey(key).Slot)
		if err := j.base.At(id, row); err != nil {
			return nil, err
		}
		hits = append(hits, hit{int32(id), distance64(j.metric, query, row)})
	}
	slices.SortFunc(hits, func(a, b hit) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.id, b.id))
	})
	var ids []int32
	for _, h := range hits[:min(j.k, len(hits))] {
		ids = append(ids, h.id)
	}
	return ids, nil
}

// tell calls p if there is one.
func (p Progress) tell(stage string, done, total int) {
	if p != nil {
		p(stage, done, total)
	}
}

// upTo returns 0 to n-1.
func upTo(n int) []uint32 {
	all := make([]uint32, n)
	for i := range all {
		all[i] = uint32(i)
	}
	return all
}

// distance64 measures two vectors in float64. A row of zeros is at distance 1 from everything under Cosine, as in ann.
func distance64(metric ann.Metric, a, b []float32) float64 {
	var dot, squared float64
	for i, x := range a {
		x, y := float64(x), float64(b[i])
		dot += x * y
		squared += (x - y) * (x - y)
	}
	switch metric {
	case ann.Euclidean:
		return squared
	case ann.DotProduct:
		return -dot
	}
	if dot == 0 {
		return 1
	}
	return 1 - dot/(ann.Norm(a)*ann.Norm(b))
}
