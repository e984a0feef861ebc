package kernel

import (
	"fmt"
	"math"
)

// Estimator is by what the sum of a row's codes and two factors that stand behind them, n and g, become a distance:
//
//	Base + Weight·n² - Slope·Unit·n·g·(sum - Shift)
//
// in float64, brought into the range of float32, and 1 where n is negative. (Its fields are in the order of
// _gen/estimate.go.)
type Estimator struct{ Base, Weight, Slope, Unit, Shift float64 }

// Distance returns the distance for a sum. factors are two float32, n in the lower half.
func (e *Estimator) Distance(sum int32, factors uint64) float32 {
	n, g := float64(math.Float32frombits(uint32(factors))), float64(math.Float32frombits(uint32(factors>>32)))
	d := e.Base + e.Weight*n*n - e.Slope*(e.Unit*n*g*(float64(sum)-e.Shift))
	if n < 0 {
		d = 1
	}
	return Within32(d)
}

// Within32 returns the nearest finite float32; what is not a number, as of factors that nobody computed, becomes the
// largest.
func Within32(v float64) float32 {
	switch {
	case !(v < math.MaxFloat32):
		return math.MaxFloat32
	case v < -math.MaxFloat32:
		return -math.MaxFloat32
	}
	return float32(v)
}

// Near computes the distances of rows and keeps those that are not above reach: it moves their ids to the front of ids, in
// order, their distances to the front of out, and returns how many they are. Beyond them ids and out mean nothing. It
// panics unless all slices are as long as ids.
func (e *Estimator) Near(sums []int32, factors []uint64, reach float32, ids []uint32, out []float32) int {
	if len(sums) != len(ids) || len(factors) != len(ids) || len(out) != len(ids) {
		panic(fmt.Sprintf("kernel: %d sums, %d factors and %d results for %d ids", len(sums), len(factors), len(out), len(ids)))
	}
	if len(ids) == 0 {
		return 0
	}
	return near(chosen, e, sums, factors, reach, ids, out)
}

func nearGeneric(e *Estimator, sums []int32, factors []uint64, reach float32, ids []uint32, out []float32) (n int) {
	for i, id := range ids {
		if d := e.Distance(sums[i], factors[i]); d <= reach {
			ids[n], out[n] = id, d
			n++
		}
	}
	return n
}
