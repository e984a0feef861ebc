package balance

import (
	"cmp"
	"math"
	"slices"
)

// A shard is hot that has more than hotAbove times the mean of some measure. It is relieved until it has no more than relief
// times the mean, by shards that are below the mean and that get no more than relief times the mean themselves. So a shard
// that was given something is never hot by it, a hot one is never given anything, and between relief and hotAbove there
// is room for loads that change without a move following. Under loads that stay as they are the set of hot shards only
// shrinks, and what was moved is on a shard that is not hot: it is not moved again.
const (
	hotAbove = 1.2
	relief   = 1.1
	enough   = 0.9 // of the mean, below which no shard is brought
)

// weights say how much a measure counts when moves are compared.
var weights = Load{Tenants: 0.25, Vectors: 1, Bytes: 1, Queries: 1, Compute: 1}

// least are the means below which a measure is too small to move anybody for.
var least = Load{Tenants: 5, Vectors: 1000, Bytes: 1 << 20, Queries: 1, Compute: 0.02}

const (
	moveBytes   = 256 << 10 // that a move costs beside the tenant's own, in log entries
	moveSeconds = 1.0       // that a move takes beside the copying
)

// Tenant is a tenant as the planner sees it.
type Tenant struct {
	Shard int  // where it lives
	Fixed bool // it stays there
	Load  Load // with one tenant
}

// Input is what a plan is made from.
type Input struct {
	Shards   []Shard  // by id; Load is counted from the tenants
	Tenants  []Tenant // of all shards
	Capacity Capacity
	MaxMoves int     // 0: no limit
	Parallel int     // moves that run at once, at least 1
	Rate     float64 // bytes a second that one move copies
	// May reports whether a tenant, by its place in Tenants, may live on a shard; nil: all may everywhere.
	May func(tenant, shard int) bool
}

// Move takes a tenant to another shard.
type Move struct {
	Tenant   int // its place in Input.Tenants
	From, To int
	Bytes    uint64
	Vectors  uint64
	Why      Measure // what From has most too much of
}

// Spread is what a shard carries, and how that compares with the mean of the shards on the ring.
type Spread struct {
	Shard  int
	Load   Load
	Ratios Load // 1: the mean; also where there is too little of a measure to count
}

// Plan is a list of moves in the order in which they should run.
type Plan struct {
	Moves   []Move
	Bytes   uint64
	Seconds float64 // that it will take, about
	Before  []Spread
	After   []Spread
	Stuck   []Stuck // what stays hot
}

// Stuck is a shard that stays hot, for the tenant that makes it so or for want of room.
type Stuck struct {
	Shard   int
	Measure Measure
	Ratio   float64 // after the plan
	Tenant  int     // that carries more than a shard's mean by itself; -1: none does
}

// NewPlan proposes moves from hot shards to those with room, such that the fewest bytes are moved for what is gained. Shards
// off the ring are left alone. It takes time in the order of tenants on hot shards times shards.
func NewPlan(in *Input) *Plan {
	p := newPlanner(in)
	plan := &Plan{Before: p.spread()}
	for _, s := range p.hottest() {
		plan.Moves = append(plan.Moves, p.relieve(s)...)
		if in.MaxMoves > 0 && len(plan.Moves) >= in.MaxMoves {
			plan.Moves = plan.Moves[:in.MaxMoves]
			break
		}
	}
	p.replay(plan.Moves)
	plan.After, plan.Stuck = p.spread(), p.stuck()
	for i := range plan.Moves {
		plan.Bytes += plan.Moves[i].Bytes
	}
	plan.Seconds = in.seconds(plan.Moves)
	return plan
}

// planner works on ratios to the mean, in which all measures can be compared.
type planner struct {
	in     *Input
	ids    []int       // shards on the ring
	at     map[int]int // id → place in ids
	loads  []Load      // by place in ids
	mean   Load
	of     [][]int // tenants by place in ids
	ratios []Load
	gone   map[int]bool // tenants that were moved
}

func newPlanner(in *Input) *planner {
	p := &planner{in: in, at: map[int]int{}}
	for i := range in.Shards {
		if s := &in.Shards[i]; s.shared() {
			p.at[s.ID] = len(p.ids)
			p.ids = append(p.ids, s.ID)
		}
	}
	p.of, p.loads, p.ratios = make([][]int, len(p.ids)), make([]Load, len(p.ids)), make([]Load, len(p.ids))
	for i := range in.Tenants {
		if s, ok := p.at[in.Tenants[i].Shard]; ok {
			p.of[s] = append(p.of[s], i)
			p.loads[s].add(&in.Tenants[i].Load)
			p.mean.add(&in.Tenants[i].Load)
		}
	}
	for m := range p.mean {
		p.mean[m] /= float64(max(1, len(p.ids)))
	}
	p.compare()
	return p
}

// compare reckons the ratios of all shards.
func (p *planner) compare() {
	for s := range p.ids {
		p.ratios[s] = p.ratio(&p.loads[s], 1)
	}
}

// ratio is a load in means; other stands for a measure that does not count.
func (p *planner) ratio(l *Load, other float64) (r Load) {
	for m := range l {
		if r[m] = other; p.mean[m] >= least[m] {
			r[m] = l[m] / p.mean[m]
		}
	}
	return r
}

func (p *planner) spread() []Spread {
	all := make([]Spread, len(p.ids))
	for s, id := range p.ids {
		all[s] = Spread{id, p.loads[s], p.ratios[s]}
	}
	return all
}

// worst is what a shard has most of, in means.
func worst(r *Load) (Measure, float64) {
	m := Tenants
	for o := range measures {
		if r[o] > r[m] {
			m = o
		}
	}
	return m, r[m]
}

// hottest lists the shards that are hot, the hottest first.
func (p *planner) hottest() []int {
	var hot []int
	for s := range p.ids {
		if _, r := worst(&p.ratios[s]); r > hotAbove {
			hot = append(hot, s)
		}
	}
	slices.SortStableFunc(hot, func(a, b int) int {
		_, x := worst(&p.ratios[a])
		_, y := worst(&p.ratios[b])
		return cmp.Compare(y, x)
	})
	return hot
}

// relieve moves tenants away from shard s until it is relieved or none can go. Those come first that take most from it for the
// bytes that they bring along. What would leave it with less than the mean waits until nothing smaller is left.
func (p *planner) relieve(s int) []Move {
	var moves []Move
	order := p.byRelief(s)
	for _, floor := range []float64{1, enough} {
		for i, t := range order {
			if t < 0 {
				continue
			}
			why, r := worst(&p.ratios[s])
			if r <= relief {
				return p.prune(s, moves)
			}
			l := &p.in.Tenants[t].Load
			w := p.ratio(l, 0)
			to, ok := p.target(t, s, &w, l, floor)
			if !ok {
				continue
			}
			order[i] = -1
			p.move(l, &w, s, to)
			moves = append(moves, Move{t, p.ids[s], p.ids[to], uint64(l[Bytes]), uint64(l[Vectors]), why})
		}
	}
	return p.prune(s, moves)
}

// byRelief orders the tenants of a hot shard by what they take from what it has too much of, for each byte.
func (p *planner) byRelief(s int) []int {
	over := p.ratios[s]
	type ranked struct {
		tenant int
		worth  float64
	}
	var all []ranked
	for _, t := range p.of[s] {
		l := &p.in.Tenants[t].Load
		w, taken := p.ratio(l, 0), 0.0
		for m := range w {
			if over[m] > relief {
				taken += weights[m] * w[m]
			}
		}
		if taken > 0 && !p.in.Tenants[t].Fixed {
			all = append(all, ranked{t, taken / (l[Bytes] + moveBytes)})
		}
	}
	slices.SortStableFunc(all, func(a, b ranked) int { return cmp.Compare(b.worth, a.worth) })
	order := make([]int, len(all))
	for i := range all {
		order[i] = all[i].tenant
	}
	return order
}

// target chooses where tenant t of shard s goes, w being its load in means: where all together are evened out most.
func (p *planner) target(t, s int, w, l *Load, floor float64) (int, bool) {
	from := &p.ratios[s]
	for m := range w {
		if from[m] > relief && from[m]-w[m] < floor {
			return 0, false
		}
	}
	best, most := -1, 1e-9
	for to := range p.ids {
		if to == s {
			continue
		}
		if g, ok := p.gain(from, to, w); ok && g > most && p.hasRoom(to, l) && (p.in.May == nil || p.in.May(t, p.ids[to])) {
			best, most = to, g
		}
	}
	return best, best >= 0
}

// gain is by how much the sum of the squares of the ratios gets smaller when w goes to another shard; ok is false for one that is
// hot, or would not stay below relief in what it is given.
func (p *planner) gain(from *Load, to int, w *Load) (gain float64, ok bool) {
	r := &p.ratios[to]
	for m := range w {
		after := r[m] + w[m]
		if w[m] > 0 && after > relief || r[m] > hotAbove {
			return 0, false
		}
		gain += weights[m] * 2 * w[m] * (from[m] - after)
	}
	return gain, true
}

// hasRoom reports whether a shard stays within its capacity.
func (p *planner) hasRoom(to int, l *Load) bool {
	have, c := &p.loads[to], &p.in.Capacity
	return have[Tenants]+l[Tenants] <= float64(c.Tenants) && have[Vectors]+l[Vectors] <= float64(c.Vectors)
}

func (p *planner) move(l, w *Load, from, to int) {
	p.loads[from].sub(l)
	p.loads[to].add(l)
	p.ratios[from].sub(w)
	p.ratios[to].add(w)
}

// prune takes back the moves that turned out not to be needed, the largest first.
func (p *planner) prune(s int, moves []Move) []Move {
	order := make([]int, len(moves))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(moves[b].Bytes, moves[a].Bytes) })
	keep := make([]bool, len(moves))
	for _, i := range order {
		l := &p.in.Tenants[moves[i].Tenant].Load
		w := p.ratio(l, 0)
		back := p.ratios[s]
		back.add(&w)
		if _, r := worst(&back); r > relief {
			keep[i] = true
			continue
		}
		p.move(l, &w, p.at[moves[i].To], s)
	}
	kept := moves[:0]
	for i := range moves {
		if keep[i] {
			kept = append(kept, moves[i])
		}
	}
	return kept
}

// replay reckons loads anew as they are after some moves: planning has added and subtracted, which rounds.
func (p *planner) replay(moves []Move) {
	for s := range p.loads {
		p.loads[s] = Load{}
		for _, t := range p.of[s] {
			p.loads[s].add(&p.in.Tenants[t].Load)
		}
	}
	p.gone = make(map[int]bool, len(moves))
	for i := range moves {
		p.gone[moves[i].Tenant] = true
		l := &p.in.Tenants[moves[i].Tenant].Load
		p.loads[p.at[moves[i].From]].sub(l)
		p.loads[p.at[moves[i].To]].add(l)
	}
	p.compare()
}

// stuck lists the shards that are hot still.
func (p *planner) stuck() (all []Stuck) {
	for _, s := range p.hottest() {
		m, r := worst(&p.ratios[s])
		k := Stuck{Shard: p.ids[s], Measure: m, Ratio: r, Tenant: -1}
		for _, t := range p.of[s] {
			if l := p.in.Tenants[t].Load[m]; l > p.mean[m] && !p.gone[t] && (k.Tenant < 0 || l > p.in.Tenants[k.Tenant].Load[m]) {
				k.Tenant = t
			}
		}
		all = append(all, k)
	}
	return all
}

// seconds is about how long moves take.
func (in *Input) seconds(moves []Move) float64 {
	sum, longest := 0.0, 0.0
	for i := range moves {
		took := moveSeconds
		if in.Rate > 0 {
			took += float64(moves[i].Bytes) / in.Rate
		}
		sum, longest = sum+took, math.Max(longest, took)
	}
	return math.Max(longest, sum/float64(max(1, in.Parallel)))
}
