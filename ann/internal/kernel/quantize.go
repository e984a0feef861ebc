package kernel

// MaxAbs returns the largest |x[i]|, none of which may be NaN; 0 for an empty row.
func MaxAbs(x []float32) float32 { return maxAbs(chosen, x) }

// FlipSigns negates x[i] where bit i%64 of signs[i/64] is set. It panics if there are fewer bits than values.
func FlipSigns(x []float32, signs []uint64) {
	if len(signs) < (len(x)+63)/64 {
		panic("kernel: fewer signs than values")
	}
	flipSigns(chosen, x, signs)
}

// Scale multiplies x[i] by by. Every way gives the same bits.
func Scale(x []float32, by float32) { scale(chosen, x, by) }

// Quantize sets out[i] to x[i]·scale rounded to the nearest integer, halves to the even one, and clamped to ±127. It
// returns the sum of out, of up to 16 million values. The product is rounded to a float32 before; every way gives the
// same integers, -127 for a NaN. It panics if the lengths differ.
func Quantize(x []float32, scale float32, out []int8) int32 {
	if len(x) != len(out) {
		panic("kernel: as many codes as values are needed")
	}
	return quantize(chosen, x, scale, out)
}

// CodeSums are the sums over an encoded row that an estimate of inner products is made of; c is (levels-1)/2.
type CodeSums struct {
	U  int64   // Σ u
	UU float64 // Σ (u-c)², exact for rows of up to 2³⁶ values
	XU float64 // Σ x·(u-c), as exact as the package says of inner products
}

// EncodeCodes sets out[i] to the integer u at or below x[i]·scale + levels/2, clamped to 0 and levels-1, with levels
// from 2 to 256. Product and sum are each rounded to a float32; every way gives the same integers, 0 for a NaN. It
// panics if the lengths differ or levels is out of range.
func EncodeCodes(x []float32, scale float32, levels int, out []uint8) CodeSums {
	if len(x) != len(out) || levels < 2 || levels > 256 {
		panic("kernel: as many codes as values are needed, and 2 to 256 levels")
	}
	return encode(chosen, x, scale, levels, out).centred(levels, len(x))
}

// codeTotals are what a way sums up: Σ u, Σ u² and Σ x·(u-c).
type codeTotals struct {
	u, uu int64
	xu    float64
}

func (t *codeTotals) add(more codeTotals) {
	t.u += more.u
	t.uu += more.uu
	t.xu += more.xu
}

// centred needs no rounding: (u-c)² is (2u-(levels-1))²/4.
func (t codeTotals) centred(levels, n int) CodeSums {
	top := int64(levels - 1)
	return CodeSums{U: t.u, UU: float64(4*t.uu-4*top*t.u+top*top*int64(n)) / 4, XU: t.xu}
}
