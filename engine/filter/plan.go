package filter

import "math"

// Strategy is a way to search among the records that pass a filter.
type Strategy uint8

const (
	// Scan measures every record that passes; its answer is exact.
	Scan Strategy = iota
	// Graph walks the graph and lets only records that pass into the result.
	Graph
)

func (s Strategy) String() string {
	if s == Graph {
		return "graph"
	}
	return "scan"
}

const (
	// newPerLink is the part of a node's 2m links on the lowest level that lead to nodes not yet measured. Walks on
	// graphs of 10,000 to 1,000,000 vectors find about half of them seen already.
	newPerLink = 0.5
	// scanDiscount is the price of a distance in a scan against one in a walk: a scan reads slots in ascending order,
	// keeps no visited set and one short heap. A scan is exact besides, so ties go to it.
	scanDiscount = 0.8
)

// Choose picks the strategy that measures fewer distances, for matches of total records, a walk of breadth ef and a
// graph with m links a node (2m on the lowest level). A scan measures matches. A walk ends when ef records that pass
// are found and nothing nearer is left; if one in total/matches passes, it expands ef·total/matches nodes and
// measures newPerLink·2m at each, but never more than total.
func Choose(matches, total, ef, m int) Strategy {
	if matches <= 0 || scanDiscount*float64(matches) <= walkCost(matches, total, ef, m) {
		return Scan
	}
	return Graph
}

func walkCost(matches, total, ef, m int) float64 {
	perNode := newPerLink * 2 * float64(m)
	nodes := float64(ef) * float64(total) / float64(matches)
	return math.Min(nodes*perNode, float64(total))
}
