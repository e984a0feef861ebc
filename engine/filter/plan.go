package filter

import "math"

// Strategy is a way to search among the records that pass a filter.
type Strategy uint8

const (
	// Scan measures every record that passes; its answer is exact.
	Scan Strategy = iota
	// Codes measures the codes of all that pass, and those vectors that codes leave in doubt.
	Codes
	// Graph walks the graph over records that pass.
	Graph
)

func (s Strategy) String() string { return [...]string{"scan", "codes", "graph"}[s] }

// Terms are what the choice depends on.
type Terms struct {
	Matches   int // records that pass
	Total     int // records in the graph
	Ef        int // breadth of the walk
	M         int // links of a node; 2M on the lowest level
	RowBytes  int // of a vector
	CodeBytes int // of what a walk measures instead; RowBytes if it measures vectors
}

const (
	// A row costs a miss and its bytes: fitted to 93, 224, 407 and 682 ns for 512 B to 6 KiB at random places of the
	// memory (docs/benchmarks.md).
	missNanos, byteNanos = 40.0, 0.11
	// A scan comes by in ascending order, without a visited set: timed at 0.4 to 0.8 of a walk.
	scanDiscount = 0.6
	// doubtful is how many vectors the time would do for that a scan of codes takes besides codes: to turn and round the
	// query, to sort candidates and measure some in full. Scans of codes and of vectors were timed to be level at 200
	// matches of 784 and of 1,536 values.
	doubtful = 100
	// A walk expands some ef records, and for each measures about 0.6 M, if most records pass. Where few do, it looks
	// through many lists, and what it finds there it has not seen: 2.6 times the work at 10 % of clustered-1536.
	walkLeast, walkMore = 0.6, 1.2
	// connected is how many neighbours of neighbours have to pass, on average over full lists, for a walk to get
	// everywhere. At 30 a walk finds 94 % of the nearest, at 100 99 % (clustered-1536).
	connected = 40
)

func rowNanos(bytes int) float64 { return missNanos + byteNanos*float64(bytes) }

// The prices are in units of a walk's work: codes measured and lists read.

// row is the price of a vector.
func (t *Terms) row() float64 { return rowNanos(t.RowBytes) / rowNanos(t.CodeBytes) }

func (t *Terms) scan() float64 { return scanDiscount * float64(t.Matches) * t.row() }

func (t *Terms) codes() float64 { return scanDiscount * float64(t.Matches) }

func (t *Terms) share() float64 { return float64(t.Matches) / float64(max(t.Total, t.Matches, 1)) }

func (t *Terms) walk() float64 {
	room, fails := float64(2*t.M), 1-t.share()
	if t.share()*room*room < connected {
		return math.Inf(1)
	}
	return float64(t.Ef*t.M) * (walkLeast + walkMore*fails*fails)
}

// Choice is what to do.
type Choice struct {
	Strategy Strategy
	// Limit is the work after which a walk has cost as much as a scan. Who turns to Fallback then has paid no more than
	// twice the better price: matches far away from the query make walks dear, and nobody knows before.
	Limit    int
	Fallback Strategy
}

// Choose picks the cheapest strategy.
func Choose(t Terms) Choice {
	fallback, price := Codes, t.codes()
	if exact := t.scan(); exact <= price+doubtful*t.row() {
		fallback, price = Scan, exact
	}
	if price <= t.walk() {
		return Choice{Strategy: fallback}
	}
	return Choice{Strategy: Graph, Limit: int(math.Ceil(price)), Fallback: fallback}
}
