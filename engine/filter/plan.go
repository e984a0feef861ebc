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

// Counted on 20,000 and 5,000 MNIST images (M 16, ef 50 to 400, one in 1 to one in 50 passing): a walk measures
// 1.6 to 2 · m · (ef·total/matches)^0.7 distances. The exponent is below 1 because neighbours share neighbours: the
// wider the walk, the more of a node's links lead to what has been seen. Timed there, a distance in a scan took 0.4 to
// 0.8 of one in a walk, as it has no visited set, one short heap and slots in ascending order.
const (
	walkFactor   = 2.0
	walkExponent = 0.7
	scanPrice    = 0.6
)

// Choose picks the strategy with the cheaper distances, for matches of total records, a walk of breadth ef and a graph
// with m links a node (2m on the lowest level). A scan measures matches. A walk goes on until ef records that pass are
// found and nothing nearer is left; if one in total/matches passes it expands some ef·total/matches nodes, but never
// measures more than total. A scan is exact besides, so ties go to it.
func Choose(matches, total, ef, m int) Strategy {
	if matches <= 0 || scanPrice*float64(matches) <= walkCost(matches, total, ef, m) {
		return Scan
	}
	return Graph
}

func walkCost(matches, total, ef, m int) float64 {
	expanded := float64(ef) * float64(total) / float64(matches)
	return min(walkFactor*float64(m)*math.Pow(expanded, walkExponent), float64(total))
}
