package hnsw

import (
	"context"
	"math"

	"github.com/croftdb/croft/ann"
)

const (
	minSample, maxSample = 64, 256
	// sampleWork bounds a calibration, in distances of scans for the truth: some seconds.
	sampleWork = 1 << 28
	// truthMargin is how far, in standard deviations of an estimate's error, a slot may seem to be behind the nearest
	// and still be measured in full when the truth is looked for.
	truthMargin = 4
	// truthBatch is how many slots are scanned at once.
	truthBatch = 256
)

// Calibrator measures what a graph's searches take. It asks for vectors of the graph itself, each of them as if it were
// not in it: walks go around its slot. What they find is compared with the nearest by an exact scan.
//
// A search of held-out vectors finds about as much. Were a vector allowed to find itself, searches would seem easier than
// they are: its own links are those to its neighbours.
type Calibrator struct {
	g       *Graph
	left    []uint32
	asked   int
	longest float64
	byK     [len(effortKs)]tallies

	truth, found []ann.Candidate
}

// tallies are the results of searches for one k.
type tallies struct {
	stretch [len(stretches)]tally
	breadth [len(breadths)]tally
}

// tally sums up the shares that searches found, and their squares.
type tally struct{ sum, squares float64 }

// Calibrate begins to measure g's Effort. Step does it.
func (g *Graph) Calibrate() *Calibrator {
	c := &Calibrator{g: g, left: g.sample()}
	for _, slot := range c.left {
		values, _ := g.src.Vector(slot)
		c.longest = max(c.longest, ann.Norm(values))
	}
	return c
}

// sample draws slots of the lowest level. Those of upper levels are on the way to everywhere.
func (g *Graph) sample() []uint32 {
	limit := uint64(g.slots())
	n := min(maxSample, max(minSample, sampleWork/max(g.Len(), 1)), g.Len())
	slots := make([]uint32, 0, n)
	for i := uint64(1); len(slots) < n && i < 64*maxSample; i++ {
		slot := uint32(mix(g.cfg.Seed+i*0x9E3779B97F4A7C15) % limit)
		if g.Has(slot) && levelOf(g.state(slot)) == 0 {
			slots = append(slots, slot)
		}
	}
	return slots
}

// mix spreads bits (the finalizer of MurmurHash3).
func mix(x uint64) uint64 {
	x = (x ^ x>>33) * 0xFF51AFD7ED558CCD
	x = (x ^ x>>33) * 0xC4CEB9FE1A85EC53
	return x ^ x>>33
}

// Step asks for one vector, which takes a scan of the graph's codes and a few dozen walks, and tells whether there are
// more to ask for. Inserts and deletes may run meanwhile.
func (c *Calibrator) Step(ctx context.Context) (more bool, err error) {
	if len(c.left) == 0 {
		return false, nil
	}
	slot := c.left[0]
	values, scale := c.g.src.Vector(slot)
	if values == nil || !c.g.Has(slot) {
		c.left = c.left[1:]
		return len(c.left) > 0, nil
	}
	s := c.g.getScratch()
	defer c.g.putScratch(s)
	w := walker{g: c.g, s: s, salt: slot, self: true}
	s.from.bindScaled(c.g, values, scale)
	if err := c.scan(ctx, &w, effortKs[len(effortKs)-1]); err != nil {
		return true, err
	}
	if len(c.truth) == 0 {
		c.left = c.left[1:]
		return len(c.left) > 0, nil
	}
	offset := offsetFor(c.g.cfg.Metric, values, c.longest)
	for i, k := range effortKs {
		if err := c.ask(ctx, &w, &c.byK[i], min(k, len(c.truth)), offset); err != nil {
			return true, err
		}
	}
	c.asked++
	c.left = c.left[1:]
	return len(c.left) > 0, nil
}

// scan sets c.truth to the k nearest of the walker's slot.
func (c *Calibrator) scan(ctx context.Context, w *walker, k int) error {
	s := w.s
	s.results.Reset(k)
	limit := uint32(c.g.slots())
	for from := uint32(0); from < limit; from += truthBatch {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.slots = s.slots[:0]
		for slot := from; slot < min(from+truthBatch, limit); slot++ {
			if slot != w.salt && c.g.Has(slot) && c.g.state(slot)&stateBusy == 0 {
				s.slots = append(s.slots, slot)
			}
		}
		w.sift(s.slots)
	}
	c.truth = s.results.Sorted(c.truth[:0])
	return nil
}

// sift offers those slots that may be among the nearest by the distance of their vectors.
func (w *walker) sift(slots []uint32) {
	s := w.s
	out := s.room(len(slots))
	s.from.measure(w.g, slots, out)
	s.ranked = s.ranked[:0]
	worst, full := s.results.Worst()
	for i, slot := range slots {
		if w.g.quant != nil && full && out[i] > worst.Distance {
			margin := truthMargin * s.from.coded.MarginAt(&w.g.nodes.Load().codes, slot, out[i])
			if out[i]-margin > worst.Distance {
				continue
			}
		}
		s.ranked = append(s.ranked, makeKey(slot, 0))
	}
	w.measureFull(s.ranked)
}

// ask searches with every stretch and every breadth.
func (c *Calibrator) ask(ctx context.Context, w *walker, t *tallies, k int, offset float32) error {
	err := climb(t.stretch[:], func(i int) (float64, error) {
		w.leash = leash{k: k, stretch: float32(stretches[i]), offset: offset}
		return c.search(ctx, w, k, max(maxBreadth, 2*k))
	})
	if err != nil {
		return err
	}
	w.leash = leash{}
	return climb(t.breadth[:], func(i int) (float64, error) {
		return c.search(ctx, w, k, k+int(breadths[i]))
	})
}

// climb takes the recall of one search at each step of a grid, until two in a row have found everything: more effort
// will not find less.
func climb(grid []tally, search func(i int) (float64, error)) error {
	perfect := 0
	for i := range grid {
		recall := 1.0
		if perfect < 2 {
			var err error
			if recall, err = search(i); err != nil {
				return err
			}
		}
		if perfect++; recall < 1 {
			perfect = 0
		}
		grid[i].sum += recall
		grid[i].squares += recall * recall
	}
	return nil
}

// search returns the share of the k nearest that a walk finds. What is as near as the k-th is as good.
func (c *Calibrator) search(ctx context.Context, w *walker, k, ef int) (float64, error) {
	if err := w.search(ctx, ef); err != nil {
		return 0, err
	}
	for i := range w.s.pool.keys { // rank is for walks without a salt
		w.s.pool.keys[i] ^= uint64(w.salt) << slotShift
	}
	c.found = w.rank(k, c.found[:0])
	hits := 0
	for _, f := range c.found {
		if f.Distance <= c.truth[k-1].Distance {
			hits++
		}
	}
	return float64(hits) / float64(k), nil
}

// Effort returns what was measured so far, nil before the first step.
func (c *Calibrator) Effort() *Effort {
	if c.asked == 0 {
		return nil
	}
	e := &Effort{Slots: c.g.Len(), longest: float32(c.longest)}
	for i, k := range effortKs {
		for j, t := range c.byK[i].stretch {
			e.byK[i].stretch[j] = t.assured(c.asked, k)
		}
		for j, t := range c.byK[i].breadth {
			e.byK[i].breadth[j] = t.assured(c.asked, k)
		}
	}
	return e
}

// assured returns the mean share less its standard error. As if half a neighbour more had been missed: that nothing was
// missed in a small sample does not mean that nothing is.
func (t *tally) assured(n, k int) float32 {
	mean := t.sum / float64(n)
	deviation := math.Sqrt(max(t.squares/float64(n)-mean*mean, 0) / float64(n))
	return float32(max(mean-deviation-0.5/float64(n*k), 0))
}
