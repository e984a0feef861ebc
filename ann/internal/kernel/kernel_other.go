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

func prefetch([]float32) {}
