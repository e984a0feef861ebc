package kernel

func hadamard(w way, x []float32) {
	switch {
	case w == generic || len(x) < 16:
		hadamardGeneric(x)
	case w == avx512:
		hadamardAVX512(x)
	default:
		hadamardAVX2(x)
	}
}

// Short transforms run in registers. Of longer ones the first seven stages (six with AVX2) take one pass over memory,
// and then each pass takes up to three.

func hadamardAVX512(x []float32) {
	p, n, stride := &x[0], len(x), 128
	if n < stride {
		stride = 16
		hadamard1xAVX512(p, n)
	} else {
		hadamard8xAVX512(p, n)
	}
	for ; stride < n; stride *= 8 {
		switch n / stride {
		case 2:
			hadamardRadix2AVX512(p, n, stride)
		case 4:
			hadamardRadix4AVX512(p, n, stride)
		default:
			hadamardRadix8AVX512(p, n, stride)
		}
	}
}

func hadamardAVX2(x []float32) {
	p, n, stride := &x[0], len(x), 64
	if n < stride {
		stride = 8
		hadamard1xAVX2(p, n)
	} else {
		hadamard8xAVX2(p, n)
	}
	for ; stride < n; stride *= 8 {
		switch n / stride {
		case 2:
			hadamardRadix2AVX2(p, n, stride)
		case 4:
			hadamardRadix4AVX2(p, n, stride)
		default:
			hadamardRadix8AVX2(p, n, stride)
		}
	}
}
