package kernel

import (
	"runtime"

	"golang.org/x/sys/cpu"
)

// best leaves macOS to the portable form: nothing is tested there.
func best() way {
	switch x := &cpu.X86; {
	case !x.HasAVX2 || !x.HasFMA || !x.HasBMI2 || runtime.GOOS == "darwin":
		return generic
	case x.HasAVX512F && x.HasAVX512BW && x.HasAVX512VL && x.HasAVX512DQ && x.HasAVX512VNNI:
		return avx512
	}
	return avx2
}

// A single row is a batch of one: the result is then the same however a row is measured.

func dot(w way, a, b []float32) (sum float32) {
	mustMatch(a, b)
	switch {
	case len(a) == 0:
	case w == avx512:
		dotRowsAVX512(&a[0], len(a), &b, 1, &sum)
	case w == avx2:
		dotRowsAVX2(&a[0], len(a), &b, 1, &sum)
	default:
		sum = dotGeneric(a, b)
	}
	return sum
}

// squaredL2 does not use |a|²+|b|²-2ab, which leaves noise where equal rows must give 0.
func squaredL2(w way, a, b []float32) (sum float32) {
	mustMatch(a, b)
	switch {
	case len(a) == 0:
	case w == avx512:
		squaredL2RowsAVX512(&a[0], len(a), &b, 1, &sum)
	case w == avx2:
		squaredL2RowsAVX2(&a[0], len(a), &b, 1, &sum)
	default:
		sum = squaredL2Generic(a, b)
	}
	return sum
}

func dotMany(w way, query []float32, rows [][]float32, out []float32) {
	mustMatchAll(query, rows, out)
	switch {
	case w == generic || len(query) == 0 || len(rows) == 0:
		dotManyGeneric(query, rows, out)
	case w == avx512:
		dotRowsAVX512(&query[0], len(query), &rows[0], len(rows), &out[0])
	default:
		dotRowsAVX2(&query[0], len(query), &rows[0], len(rows), &out[0])
	}
}

func squaredL2Many(w way, query []float32, rows [][]float32, out []float32) {
	mustMatchAll(query, rows, out)
	switch {
	case w == generic || len(query) == 0 || len(rows) == 0:
		squaredL2ManyGeneric(query, rows, out)
	case w == avx512:
		squaredL2RowsAVX512(&query[0], len(query), &rows[0], len(rows), &out[0])
	default:
		squaredL2RowsAVX2(&query[0], len(query), &rows[0], len(rows), &out[0])
	}
}
