package filter

import "math"

// Strategy is a way to search among the records that pass a filter.
type Strategy uint8

const (
	// Scan measures every record that passes; its answer is exact.
	Scan Strategy = iota
	// Graph walks the graph over records that pass.
	Graph
)

func (s Strategy) String() string {
	if s == Graph {
		return "graph"
	}
	return "scan"
}

// Terms are what the choice between a scan and a walk depends on.
type Terms struct {
	Matches   int // records that pass
	Total     int // records in the graph
	Ef        int // breadth of the walk
	M         int // links of a node; 2M on the lowest level
	RowBytes  int // of a vector, which a scan reads
	CodeBytes int // of what a walk measures instead; RowBytes if it measures vectors
}

// A row costs a miss and its bytes: fitted to 93, 224, 407 and 682 ns for 512 B to 6 KiB at random places of the memory
// (docs/benchmarks.md). A scan comes by in ascending order, without a visited set: timed at 0.4 to 0.8 of a walk.
const (
	missNanos, byteNanos = 40.0, 0.11
	scanDiscount         = 0.6
)

func rowNanos(bytes int) float64 { return missNanos + byteNanos*float64(bytes) }

// scan is the price of a scan, in units of a walk's work: distances measured and lists read.
func (t *Terms) scan() float64 {
	return scanDiscount * float64(t.Matches) * rowNanos(t.RowBytes) / rowNanos(t.CodeBytes)
}

// walk is about the work of a walk. It expands some ef records, as if there were no others: each time it reads lists
// until it has as many records that pass as a list has room for, which takes one list for each that does not pass, and
// measures those that it has not seen.
func (t *Terms) walk() float64 {
	room := float64(2 * t.M)
	share := float64(t.Matches) / float64(max(t.Total, 1))
	lists := min(1/share, 1+room)
	fresh := min(room, room*share*lists) / 2
	return min(float64(t.Ef)*(lists+fresh), float64(t.Total))
}

// Choose picks the cheaper strategy. A scan is exact besides, so ties go to it. limit is the work after which a walk has
// cost as much as the scan, so that whoever turns to the scan then has paid no more than twice the better price:
// matches far away from the query make walks dear, and nobody knows before.
func Choose(t Terms) (s Strategy, limit int) {
	price := t.scan()
	if t.Matches <= 0 || price <= t.walk() {
		return Scan, 0
	}
	return Graph, int(math.Ceil(price))
}
