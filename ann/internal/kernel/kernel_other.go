//go:build !amd64

package kernel

func best() way { return generic }

func dot(_ way, a, b []float32) float32 {
	mustMatch(a, b)
	return dotGeneric(a, b)
}

func squaredL2(_ way, a, b []float32) float32 {
	mustMatch(a, b)
	return squaredL2Generic(a, b)
}

func dotMany(_ way, query []float32, rows [][]float32, out []float32) {
	mustMatchAll(query, rows, out)
	dotManyGeneric(query, rows, out)
}

func squaredL2Many(_ way, query []float32, rows [][]float32, out []float32) {
	mustMatchAll(query, rows, out)
	squaredL2ManyGeneric(query, rows, out)
}

func hadamard(_ way, x []float32) { hadamardGeneric(x) }

func maxAbs(_ way, x []float32) float32 { return maxAbsGeneric(x) }

func scale(_ way, x []float32, by float32) { scaleGeneric(x, by) }

func flipSigns(_ way, x []float32, signs []uint64) { flipSignsGeneric(x, signs, 0) }

func quantize(_ way, x []float32, scale float32, out []int8) int32 {
	return quantizeGeneric(x, scale, out)
}

func encode(_ way, x []float32, scale float32, levels int, out []uint8) codeTotals {
	return encodeGeneric(x, scale, levels, out)
}
