package kernel

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/viterin/vek/vek32"
)

// BenchmarkPair measures pairs in cache, beside a library's inner product.
func BenchmarkPair(b *testing.B) {
	r := rand.New(rand.NewPCG(4, 0))
	for _, n := range []int{100, 128, 784, 1536} {
		x, y := row(r, n, 0, 1), row(r, n, 0, 1)
		b.Run(fmt.Sprintf("dot/%d/vek", n), func(b *testing.B) {
			for b.Loop() {
				vek32.Dot(x, y)
			}
		})
		for _, w := range ways() {
			b.Run(fmt.Sprintf("dot/%d/%s", n, w), func(b *testing.B) {
				for b.Loop() {
					dot(w, x, y)
				}
			})
			b.Run(fmt.Sprintf("l2/%d/%s", n, w), func(b *testing.B) {
				for b.Loop() {
					squaredL2(w, x, y)
				}
			})
		}
	}
}

// memory is far larger than a core's share of the caches; rows of benchmarks out of cache are cut from it.
var memory = sync.OnceValue(func() []float32 {
	m := make([]float32, 128<<20)
	for i := range m {
		m[i] = float32(i%255) + 1
	}
	return m
})

// cut returns as many consecutive rows of dim floats as memory holds.
func cut(dim int) [][]float32 {
	m := memory()
	rows := make([][]float32, len(m)/dim)
	for i := range rows {
		rows[i] = m[i*dim : (i+1)*dim : (i+1)*dim]
	}
	return rows
}

// BenchmarkScan measures flat scans of 2,000 rows out of cache, each beside plain reads of as much memory: a search for
// a byte that is not there, as the standard library does it, and a maximum, which is but one load per register.
func BenchmarkScan(b *testing.B) {
	const dim, count = 1536, 2000
	rows := cut(dim)
	query, out := rows[len(rows)-1], make([]float32, count)
	for _, scan := range []struct {
		name string
		rows func(way, []float32, [][]float32, []float32)
	}{{"dot", dotMany}, {"l2", squaredL2Many}} {
		for _, w := range ways() {
			b.Run(scan.name+"/"+w.String(), func(b *testing.B) {
				work := []func(set [][]float32, all []float32){
					func(set [][]float32, _ []float32) { scan.rows(w, query, set, out) },
					func(_ [][]float32, all []float32) { search(b, all) },
					func(_ [][]float32, all []float32) { maxAbs(best(), all) },
				}
				spent := make([]time.Duration, len(work))
				for i := 0; b.Loop(); i++ {
					for j, f := range work {
						set := (len(work)*i + j) % (len(rows) / count) * count
						all := memory()[set*dim : (set+count)*dim]
						start := time.Now()
						f(rows[set:set+count], all)
						spent[j] += time.Since(start)
					}
				}
				gigabytes := float64(b.N) * count * dim * 4 / 1e9
				b.ReportMetric(gigabytes/spent[0].Seconds(), "scan-GB/s")
				b.ReportMetric(gigabytes/spent[1].Seconds(), "search-GB/s")
				b.ReportMetric(gigabytes/spent[2].Seconds(), "max-GB/s")
				b.ReportMetric(min(spent[1], spent[2]).Seconds()/spent[0].Seconds(), "scan/read")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// search reads every byte of a row, none of which is 0xFF.
func search(b *testing.B, row []float32) {
	if bytes.IndexByte(unsafe.Slice((*byte)(unsafe.Pointer(&row[0])), 4*len(row)), 0xFF) >= 0 {
		b.Fatal("found what is not there: not all was read")
	}
}

// BenchmarkWalk measures batches of 16 random rows out of cache, as a walk over a graph asks for them.
func BenchmarkWalk(b *testing.B) {
	const batch = 16
	r := rand.New(rand.NewPCG(5, 0))
	for _, dim := range []int{128, 784, 1536} {
		all := cut(dim)
		picks := make([][]float32, len(all)/batch*batch)
		for i := range picks {
			picks[i] = all[r.IntN(len(all))]
		}
		query, out := all[0], make([]float32, batch)
		for _, w := range ways() {
			b.Run(fmt.Sprintf("%d/%s", dim, w), func(b *testing.B) {
				for i := 0; b.Loop(); i += batch {
					at := i % len(picks)
					dotMany(w, query, picks[at:at+batch], out)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/row")
			})
		}
	}
}
