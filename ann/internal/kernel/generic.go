package kernel

// The specification. Four sums run side by side: it is the order of addition, not the number of operations, that
// bounds a scalar loop, and four shorter sums lose less precision than one long one.

func dotGeneric(a, b []float32) float32 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float32
	i := 0
	for ; i+4 <= len(a); i += 4 {
		x, y := a[i:i+4:i+4], b[i:i+4:i+4]
		s0 += x[0] * y[0]
		s1 += x[1] * y[1]
		s2 += x[2] * y[2]
		s3 += x[3] * y[3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return (s0 + s1) + (s2 + s3)
}

func squaredL2Generic(a, b []float32) float32 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float32
	i := 0
	for ; i+4 <= len(a); i += 4 {
		x, y := a[i:i+4:i+4], b[i:i+4:i+4]
		d0, d1, d2, d3 := x[0]-y[0], x[1]-y[1], x[2]-y[2], x[3]-y[3]
		s0 += d0 * d0
		s1 += d1 * d1
		s2 += d2 * d2
		s3 += d3 * d3
	}
	for ; i < len(a); i++ {
		d := a[i] - b[i]
		s0 += d * d
	}
	return (s0 + s1) + (s2 + s3)
}

func dotManyGeneric(query []float32, rows [][]float32, out []float32) {
	for i, row := range rows {
		if row != nil {
			out[i] = dotGeneric(query, row)
		}
	}
}

func squaredL2ManyGeneric(query []float32, rows [][]float32, out []float32) {
	for i, row := range rows {
		if row != nil {
			out[i] = squaredL2Generic(query, row)
		}
	}
}
