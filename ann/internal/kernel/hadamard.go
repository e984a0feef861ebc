package kernel

import "math/bits"

// Hadamard replaces x by its Walsh-Hadamard transform, in the order of the matrix H of Sylvester, and not normalised:
// twice applied it multiplies by len(x). Every way gives the same bits. It panics unless the length is a power of two.
func Hadamard(x []float32) {
	if bits.OnesCount(uint(len(x))) != 1 {
		panic("kernel: the length of a Hadamard transform must be a power of two")
	}
	hadamard(chosen, x)
}

// hadamardGeneric adds and subtracts values that are 1, 2, 4, … apart; other ways keep to this order of stages.
func hadamardGeneric(x []float32) {
	for stride := 1; stride < len(x); stride *= 2 {
		for i := 0; i < len(x); i += 2 * stride {
			low, high := x[i:i+stride], x[i+stride:i+2*stride]
			for j, a := range low {
				b := high[j]
				low[j], high[j] = a+b, a-b
			}
		}
	}
}
