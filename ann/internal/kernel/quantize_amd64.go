package kernel

// packed is how many values the AVX2 forms take at a time, except of maxAbs, and leave the rest to the portable ones.
const packed = 32

func maxAbs(w way, x []float32) float32 {
	switch {
	case w == generic || len(x) == 0:
		return maxAbsGeneric(x)
	case w == avx512:
		return maxAbsAVX512(&x[0], len(x))
	}
	return maxAbsAVX2(&x[0], len(x))
}

func flipSigns(w way, x []float32, signs []uint64) {
	n := whole(w, len(x))
	switch {
	case n == 0:
	case w == avx512:
		flipSignsAVX512(&x[0], n, &signs[0])
	default:
		flipSignsAVX2(&x[0], n, &signs[0])
	}
	flipSignsGeneric(x, signs, n)
}

func scale(w way, x []float32, by float32) {
	n := whole(w, len(x))
	switch {
	case n == 0:
	case w == avx512:
		scaleAVX512(&x[0], n, by)
	default:
		scaleAVX2(&x[0], n, by)
	}
	scaleGeneric(x[n:], by)
}

func quantize(w way, x []float32, scale float32, out []int8) (sum int32) {
	n := whole(w, len(x))
	switch {
	case n == 0:
	case w == avx512:
		sum = quantizeAVX512(&x[0], n, scale, &out[0])
	default:
		sum = quantizeAVX2(&x[0], n, scale, &out[0])
	}
	return sum + quantizeGeneric(x[n:], scale, out[n:])
}

// whole returns how many of the first n values the fast form of w takes.
func whole(w way, n int) int {
	switch w {
	case generic:
		return 0
	case avx2:
		return n &^ (packed - 1)
	}
	return n
}

// encodeMax is how many values are encoded at once: the sum of their squared codes fits 32 bits.
const encodeMax = 1 << 16

func encode(w way, x []float32, scale float32, levels int, out []uint8) (totals codeTotals) {
	for n := whole(w, len(x)); n > 0; {
		run := min(n, encodeMax)
		totals.add(encodeRun(w, x[:run], scale, levels, out[:run]))
		x, out, n = x[run:], out[run:], n-run
	}
	totals.add(encodeGeneric(x, scale, levels, out))
	return totals
}

// encodeRun falls back on float64 where sums of float32 overflow.
func encodeRun(w way, x []float32, scale float32, levels int, out []uint8) codeTotals {
	half, top, centre := float32(levels)/2, float32(levels-1), float32(levels-1)/2
	var u, uu uint32
	var xu float32
	if w == avx512 {
		u, uu, xu = encodeAVX512(&x[0], len(x), scale, half, top, centre, &out[0])
	} else {
		u, uu, xu = encodeAVX2(&x[0], len(x), scale, half, top, centre, &out[0])
	}
	if xu-xu != 0 {
		return encodeGeneric(x, scale, levels, out)
	}
	return codeTotals{int64(u), int64(uu), float64(xu)}
}
