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

// Calibrator measures what a graph's searches take, by comparing what walks find with the nearest by an exact scan.
//
// It learns most from searches that were really made. Without those it asks for vectors of the graph itself, each of
// them as if it were not in it: walks go around its slot. That tells well what breadth they take, but not how long a leash has
// to be: what links the neighbours of a vector are its own links, and ways around them are longer than ways that
// would be there without it (at recall 0.99, k 10, the leash would be 1.7 times as long as that for held-out vectors of
// mnist-784, 1.6 times for clustered-1536).
type Calibrator struct {
	g       *Graph
	slots   []uint32      // still to be asked for,
	made    []ann.Request // or these
	real    bool
	asked   int
	longest float64
	byK     [len(effortKs)]tallies

	found, wanted int

	truth, got []ann.Candidate
}

// tallies are the results of searches for one k.
type tallies struct {
	stretch [len(stretches)]tally
	breadth [len(breadths)]tally
}

// tally sums up the shares that searches found, and their squares.
type tally struct{ sum, squares float64 }

// Calibrate begins to measure g's Effort with its own vectors. Step does it.
func (g *Graph) Calibrate() *Calibrator { return g.calibrator(g.sample()) }

// CalibrateFor begins to measure g's Effort with searches among all slots that were made: their vectors, which it keeps
// until it is done, and for Found also their k and what they aimed at.
func (g *Graph) CalibrateFor(made []ann.Request) *Calibrator {
	c := g.calibrator(g.sample())
	c.slots, c.made, c.real = nil, made, true
	return c
}

func (g *Graph) calibrator(slots []uint32) *Calibrator {
	c := &Calibrator{g: g, slots: slots}
	for _, slot := range slots {
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
// more to ask for. Inserts and deletes may run meanwhile. After an error it can be tried again.
func (c *Calibrator) Step(ctx context.Context) (more bool, err error) {
	if c.left() == 0 {
		return false, nil
	}
	s := c.g.getScratch()
	defer c.g.putScratch(s)
	w := walker{g: c.g, s: s}
	if values := c.bind(&w); values != nil {
		if err := c.measure(ctx, &w, values); err != nil {
			return true, err
		}
	}
	if c.real {
		c.made = c.made[1:]
	} else {
		c.slots = c.slots[1:]
	}
	return c.left() > 0, nil
}

func (c *Calibrator) left() int { return len(c.made) + len(c.slots) }

// bind prepares a walker for the next vector, and returns nil if there is none in that slot any more.
func (c *Calibrator) bind(w *walker) []float32 {
	if c.real {
		values := c.made[0].Vector
		w.s.from.bind(c.g, values)
		return values
	}
	slot := c.slots[0]
	if !c.g.Has(slot) { // handed back since it was drawn, and perhaps being given another vector
		return nil
	}
	values, scale := c.g.src.Vector(slot)
	if values == nil {
		return nil
	}
	w.salt, w.self = slot, true
	w.s.from.bindScaled(c.g, values, scale)
	return values
}

// measure tries all efforts with one vector.
func (c *Calibrator) measure(ctx context.Context, w *walker, values []float32) error {
	if err := c.scan(ctx, w, effortKs[len(effortKs)-1]); err != nil || len(c.truth) == 0 {
		return err
	}
	offset := offsetFor(c.g.cfg.Metric, values, c.longest)
	for i, k := range effortKs {
		if err := c.ask(ctx, w, &c.byK[i], min(k, len(c.truth)), offset); err != nil {
			return err
		}
	}
	c.asked++
	if !c.real {
		return nil
	}
	return c.check(ctx, &c.made[0])
}

// check makes a search once more.
func (c *Calibrator) check(ctx context.Context, req *ann.Request) (err error) {
	if c.got, err = c.g.Search(ctx, req, c.got[:0]); err != nil {
		return err
	}
	k := min(req.K, len(c.truth))
	c.found += c.hits(k)
	c.wanted += k
	return nil
}

// hits counts c.got that are among the k nearest. What is as near as the k-th is as good.
func (c *Calibrator) hits(k int) (n int) {
	for _, f := range c.got[:min(k, len(c.got))] {
		if f.Distance <= c.truth[k-1].Distance {
			n++
		}
	}
	return n
}

// Found returns how many of the true nearest the searches that were made have found, and of how many: at most a hundred
// of each search, with the effort that they were given.
func (c *Calibrator) Found() (found, wanted int) { return c.found, c.wanted }

// scan sets c.truth to the k nearest of what the walker goes towards.
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
			if !(w.self && slot == w.salt) && c.g.Has(slot) && c.g.state(slot)&stateBusy == 0 {
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

// ask searches with every breadth and, if that tells anything, every stretch.
func (c *Calibrator) ask(ctx context.Context, w *walker, t *tallies, k int, offset float32) error {
	w.leash = leash{}
	err := climb(t.breadth[:], func(i int) (float64, error) {
		return c.search(ctx, w, k, k+int(breadths[i]))
	})
	if err != nil || !c.real {
		return err
	}
	return climb(t.stretch[:], func(i int) (float64, error) {
		w.leash = leash{k: k, stretch: float32(stretches[i]), offset: offset}
		return c.search(ctx, w, k, max(maxBreadth, 2*k))
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

// search returns the share of the k nearest that a walk finds.
func (c *Calibrator) search(ctx context.Context, w *walker, k, ef int) (float64, error) {
	if err := w.search(ctx, ef); err != nil {
		return 0, err
	}
	for i := range w.s.pool.keys { // rank is for walks without a salt
		w.s.pool.keys[i] ^= uint64(w.salt) << slotShift
	}
	c.got = w.rank(k, c.got[:0])
	return float64(c.hits(k)) / float64(k), nil
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
