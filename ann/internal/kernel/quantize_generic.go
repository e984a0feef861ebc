package kernel

import "math"

// The specification, as in generic.go. A product is converted before it is added to: without that Go may fuse the two,
// which rounds once instead of twice and gives other integers.

func maxAbsGeneric(x []float32) float32 {
	var largest uint32 // magnitudes are ordered as their bits are
	for _, v := range x {
		largest = max(largest, math.Float32bits(v)&^signBit)
	}
	return math.Float32frombits(largest)
}

const signBit = 1 << 31

func scaleGeneric(x []float32, by float32) {
	for i := range x {
		x[i] *= by
	}
}

// flipSignsGeneric begins with x[from].
func flipSignsGeneric(x []float32, signs []uint64, from int) {
	for i := from; i < len(x); i++ {
		sign := uint32(signs[i/64]>>(i%64)) << 31
		x[i] = math.Float32frombits(math.Float32bits(x[i]) ^ sign)
	}
}

func quantizeGeneric(x []float32, scale float32, out []int8) int32 {
	out = out[:len(x)]
	var sum int32
	for i, v := range x {
		code := int32(math.RoundToEven(float64(clamp(float32(v*scale), -127, 127))))
		out[i] = int8(code)
		sum += code
	}
	return sum
}

func encodeGeneric(x []float32, scale float32, levels int, out []uint8) codeTotals {
	out = out[:len(x)]
	half, top, centre := float32(levels)/2, float32(levels-1), float64(levels-1)/2
	var totals codeTotals
	for i, v := range x {
		u := int32(clamp(float32(v*scale)+half, 0, top))
		out[i] = uint8(u)
		totals.add(codeTotals{int64(u), int64(u * u), float64(v) * (float64(u) - centre)})
	}
	return totals
}

// clamp returns low for a NaN.
func clamp(v, low, high float32) float32 {
	if !(v > low) {
		return low
	}
	return min(v, high)
}
