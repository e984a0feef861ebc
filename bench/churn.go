package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/hnsw"
	"github.com/croftdb/croft/internal/errs"
)

// ChurnOptions says how a graph is worn and measured. Zero fields stand for their defaults.
type ChurnOptions struct {
	Dataset        string
	K              int           // neighbours a query, default 10
	Efs            []int         // breadths of the walk, default 32, 64 and 128
	M              int           // links; 0: the graph's default
	EfConstruction int           // 0: the graph's default
	Rounds         int           // times that every vector is replaced, default 3
	Threads        int           // goroutines that insert, default one a core
	Runs           int           // laps of each graph, default 5; the median counts
	Lap            time.Duration // least time of a lap, default 300 ms
	Seed           uint64        // of the order in which vectors are replaced
	Progress       Progress      // may be nil
}

// EnsureDefaults fills in what is zero.
func (o *ChurnOptions) EnsureDefaults() {
	o.K = cmp.Or(o.K, 10)
	o.Rounds = cmp.Or(o.Rounds, 3)
	o.Threads = cmp.Or(o.Threads, runtime.GOMAXPROCS(0))
	o.Runs = cmp.Or(o.Runs, 5)
	o.Lap = cmp.Or(o.Lap, 300*time.Millisecond)
	if len(o.Efs) == 0 {
		o.Efs = []int{32, 64, 128}
	}
}

// Validate reports everything that is wrong with o.
func (o *ChurnOptions) Validate() error {
	var faults []error
	check := func(name string, value, low, high int) {
		if value < low || value > high {
			faults = append(faults, fmt.Errorf("%s %d is outside %d to %d", name, value, low, high))
		}
	}
	if o.Dataset == "" {
		faults = append(faults, errors.New("no data set given"))
	}
	check("k", o.K, 1, 100)
	check("rounds", o.Rounds, 1, 100)
	check("threads", o.Threads, 1, 1024)
	check("runs", o.Runs, 1, 1000)
	for _, ef := range o.Efs {
		check("ef", ef, 1, 1<<16)
	}
	if o.Lap < 0 {
		faults = append(faults, fmt.Errorf("lap %v is negative", o.Lap))
	}
	graph := hnsw.Config{Metric: ann.Euclidean, Dim: 1, M: o.M, EfConstruction: o.EfConstruction}
	graph.EnsureDefaults()
	return errs.Wrap(errs.Invalid, errors.Join(append(faults, graph.Validate())...), "bench churn")
}

// ChurnReport compares a worn graph with a fresh one of the same vectors.
type ChurnReport struct {
	Dataset       string       `json:"dataset"`
	Metric        string       `json:"metric"`
	Kernel        string       `json:"kernel"`
	N             int          `json:"n"`
	Dim           int          `json:"dim"`
	Rounds        int          `json:"rounds"`
	FreshSeconds  float64      `json:"fresh_seconds"`  // that building the fresh one took
	ChurnSeconds  float64      `json:"churn_seconds"`  // that all replacements took, repair included
	RepairSeconds float64      `json:"repair_seconds"` // of these, repair
	LongestRepair float64      `json:"longest_repair_ms"`
	Slots         int          `json:"slots"`        // most slots ever in use
	MemoryRatio   float64      `json:"memory_ratio"` // of graph and vectors of all slots, worn over fresh
	RecallLoss    float64      `json:"recall_loss"`  // the most of all points
	QPSRatio      float64      `json:"qps_ratio"`    // the least of all points
	Points        []ChurnPoint `json:"points"`
}

// ChurnPoint compares both at one breadth of the walk, measured in turns.
type ChurnPoint struct {
	Ef          int     `json:"ef"`
	FreshRecall float64 `json:"fresh_recall"`
	Recall      float64 `json:"recall"`
	FreshQPS    float64 `json:"fresh_qps"`
	QPS         float64 `json:"qps"`
	Ratio       float64 `json:"qps_ratio"`
}

const (
	churnBatch   = 512  // vectors replaced between two looks at what repair has to do
	repairBudget = 4096 // of one step of repair
	repairShare  = 20   // repair begins when one in so many is dead
)

// Churn replaces every vector of a graph several times, as the engine does: the new one is inserted in another slot, the
// old one deleted, and bounded steps of repair give its slot back. The vectors are those of the data set in the end, so
// that its exact answers hold, and other rows of it in between.
func Churn(ctx context.Context, o ChurnOptions) (_ *ChurnReport, err error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	d, err := OpenDataset(o.Dataset, o.K)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	rows, err := readSlab(ctx, d.Metric, d.Base)
	if err != nil {
		return nil, err
	}
	fresh, worn := newWearable(&o, rows), newWearable(&o, rows)
	report := &ChurnReport{Dataset: d.Name, Metric: metricName(d.Metric), Kernel: ann.Kernel(), N: len(rows.scales), Dim: rows.dim, Rounds: o.Rounds}
	if report.FreshSeconds, err = seconds(func() error { return fresh.fill(ctx, 0, "fresh graph") }); err != nil {
		return nil, err
	}
	if err := worn.fill(ctx, worn.offset(0), "graph to wear"); err != nil {
		return nil, err
	}
	if report.ChurnSeconds, err = seconds(func() error { return worn.wear(ctx) }); err != nil {
		return nil, err
	}
	report.Slots = worn.used
	report.RepairSeconds, report.LongestRepair = worn.repairing.Seconds(), float64(worn.longest)/float64(time.Millisecond)
	report.MemoryRatio = float64(worn.bytes()) / float64(fresh.bytes())
	return report, report.compare(ctx, &o, d, fresh, worn)
}

func seconds(do func() error) (float64, error) {
	begin := time.Now()
	err := do()
	return time.Since(begin).Seconds(), err
}

// wearable is a graph whose slots change hands. It is the graph's ann.Source.
type wearable struct {
	opts  *ChurnOptions
	rows  *slab
	graph *hnsw.Graph

	rowOf  []uint32 // by slot; set before a slot is inserted, and not while it is in the graph
	slotOf []uint32 // by id
	idOf   []uint32 // by slot
	free   []uint32 // slots that repair has handed back
	used   int      // slots ever used

	repairing, longest time.Duration // of all steps of repair, and of one
	found              []ann.Candidate
	ids                []uint32
}

func newWearable(o *ChurnOptions, rows *slab) *wearable {
	n := len(rows.scales)
	w := &wearable{opts: o, rows: rows, slotOf: make([]uint32, n), rowOf: make([]uint32, 0, n), idOf: make([]uint32, 0, n)}
	w.graph = hnsw.New(hnsw.Config{Metric: rows.metric, Dim: rows.dim, M: o.M, EfConstruction: o.EfConstruction}, w)
	return w
}

// Vector implements ann.Source.
func (w *wearable) Vector(slot uint32) ([]float32, float32) { return w.rows.Vector(w.rowOf[slot]) }

// bytes returns the memory of the graph and of a vector for each slot.
func (w *wearable) bytes() int64 {
	return w.graph.Bytes() + int64(w.used)*int64(4*w.rows.dim+4)
}

// offset is how far the rows of a round are turned against the ids; that of the last round is 0.
func (w *wearable) offset(round int) int {
	n := len(w.slotOf)
	return (w.opts.Rounds - round) * (n/(w.opts.Rounds+1) + 1) % n
}

// take gives an id a slot with the row that is offset further on.
func (w *wearable) take(id, offset int) uint32 {
	var slot uint32
	if last := len(w.free) - 1; last >= 0 {
		slot, w.free = w.free[last], w.free[:last]
	} else {
		slot = uint32(w.used)
		w.used++
		w.rowOf, w.idOf = append(w.rowOf, 0), append(w.idOf, 0)
	}
	w.rowOf[slot], w.idOf[slot], w.slotOf[id] = uint32((id+offset)%len(w.slotOf)), uint32(id), slot
	return slot
}

// fill inserts all ids.
func (w *wearable) fill(ctx context.Context, offset int, stage string) error {
	n := len(w.slotOf)
	for first := 0; first < n; first += churnBatch {
		var slots []uint32
		for id := first; id < min(n, first+churnBatch); id++ {
			slots = append(slots, w.take(id, offset))
		}
		if err := w.insert(ctx, slots); err != nil {
			return err
		}
		w.opts.Progress.tell(stage, first+len(slots), n)
	}
	return nil
}

// insert puts slots into the graph, by several goroutines.
func (w *wearable) insert(ctx context.Context, slots []uint32) error {
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	m := w.graph.Config().M
	for range w.opts.Threads {
		group.Go(func() error {
			for i := next.Add(1) - 1; i < int64(len(slots)); i = next.Add(1) - 1 {
				level := hnsw.LevelFor(rowHash(int64(w.idOf[slots[i]])), m)
				if err := w.graph.Insert(ctx, slots[i], level); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// wear replaces everything, round by round, in an order of its own each.
func (w *wearable) wear(ctx context.Context) error {
	n := len(w.slotOf)
	for round := 1; round <= w.opts.Rounds; round++ {
		rng := rand.New(rand.NewPCG(w.opts.Seed, uint64(round)))
		ids := rng.Perm(n)
		for first := 0; first < n; first += churnBatch {
			batch := ids[first:min(n, first+churnBatch)]
			if err := w.replace(ctx, batch, w.offset(round)); err != nil {
				return err
			}
			if err := w.repair(ctx, w.graph.Len()/repairShare); err != nil {
				return err
			}
			w.opts.Progress.tell("replaced", (round-1)*n+first+len(batch), w.opts.Rounds*n)
		}
	}
	return w.repair(ctx, 0)
}

func (w *wearable) replace(ctx context.Context, ids []int, offset int) error {
	var old, fresh []uint32
	for _, id := range ids {
		old = append(old, w.slotOf[id])
		fresh = append(fresh, w.take(id, offset))
	}
	if err := w.insert(ctx, fresh); err != nil {
		return err
	}
	for _, slot := range old {
		if !w.graph.Delete(slot) {
			return errs.New(errs.Internal, "slot %d was not in the graph", slot)
		}
	}
	return nil
}

// repair takes the dead slots out, once there are more than dead.
func (w *wearable) repair(ctx context.Context, dead int) error {
	if w.graph.Dead() <= dead {
		return nil
	}
	for more := true; more; {
		begin := time.Now()
		var freed []uint32
		var err error
		freed, more, err = w.graph.Repair(ctx, repairBudget)
		spent := time.Since(begin)
		w.free = append(w.free, freed...)
		w.repairing, w.longest = w.repairing+spent, max(w.longest, spent)
		if err != nil {
			return err
		}
	}
	return nil
}

// query answers with ids, valid until the next call.
func (w *wearable) query(ctx context.Context, vector []float32, ef int) ([]uint32, error) {
	var err error
	w.found, err = w.graph.Search(ctx, &ann.Request{Vector: vector, K: w.opts.K, Ef: ef}, w.found[:0])
	w.ids = w.ids[:0]
	for _, c := range w.found {
		w.ids = append(w.ids, w.idOf[c.Slot])
	}
	return w.ids, err
}

// compare measures both graphs at each breadth.
func (r *ChurnReport) compare(ctx context.Context, o *ChurnOptions, d *Dataset, fresh, worn *wearable) error {
	t, err := newTruth(d, o.K)
	if err != nil {
		return err
	}
	for i, ef := range o.Efs {
		p := ChurnPoint{Ef: ef}
		if p.FreshRecall, err = fresh.recall(ctx, t, ef); err != nil {
			return err
		}
		if p.Recall, err = worn.recall(ctx, t, ef); err != nil {
			return err
		}
		ask := func(w *wearable) func(int) error {
			return func(q int) error { _, err := w.query(ctx, d.Queries[q], ef); return err }
		}
		rates, err := raceLaps(ctx, o.Runs, o.Lap, len(d.Queries), ask(fresh), ask(worn))
		if err != nil {
			return err
		}
		p.FreshQPS, p.QPS, p.Ratio = rates[0], rates[1], rates[1]/rates[0]
		if r.RecallLoss = max(r.RecallLoss, p.FreshRecall-p.Recall); i == 0 || p.Ratio < r.QPSRatio {
			r.QPSRatio = p.Ratio
		}
		r.Points = append(r.Points, p)
	}
	return nil
}

func (w *wearable) recall(ctx context.Context, t *truth, ef int) (float64, error) {
	sum := 0
	for i, query := range t.data.Queries {
		ids, err := w.query(ctx, query, ef)
		if err != nil {
			return 0, err
		}
		hits, err := t.hits(i, ids)
		if err != nil {
			return 0, err
		}
		sum += hits
	}
	return float64(sum) / float64(t.k*len(t.data.Queries)), nil
}
