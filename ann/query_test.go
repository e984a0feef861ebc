package ann_test

import (
	"math/rand/v2"
	"testing"

	"github.com/croftdb/croft/ann"
)

// TestCosineStaysInItsRange measures parallel and opposite vectors, where rounding would leave [0, 2].
func TestCosineStaysInItsRange(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		v, w := make([]float32, 33), make([]float32, 33)
		factor := rng.Float32() + 0.01
		for i := range v {
			v[i] = rng.Float32() - 0.5
			w[i] = v[i] * factor
		}
		q := ann.Bind(ann.Cosine, v)
		if d := q.Distance(w, ann.Scale(ann.Cosine, w)); d < 0 || d > 2 {
			t.Fatalf("distance of parallel vectors is %g", d)
		}
		for i := range w {
			w[i] = -w[i]
		}
		if d := q.Distance(w, ann.Scale(ann.Cosine, w)); d < 0 || d > 2 {
			t.Fatalf("distance of opposite vectors is %g", d)
		}
	}
}
