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

// BenchmarkScan measures flat scans of 2,000 rows out of cache, each beside a plain read of the same memory: a search
// for a byte that is not there, the best that the standard library does, or a maximum, whichever is faster.
func BenchmarkScan(b *testing.B) {
	const dim, count = 1536, 2000
	rows := cut(dim)
	sets := len(rows) / count
	query, out := rows[len(rows)-1], make([]float32, count)
	scans := map[string]func(way, []float32, [][]float32, []float32){"dot": dotMany, "l2": squaredL2Many}
	for name, scan := range scans {
		for _, w := range ways() {
			b.Run(fmt.Sprintf("%s/%s", name, w), func(b *testing.B) {
				var scanning, reading, reading2 time.Duration
				for i := 0; b.Loop(); i++ {
					set := i % sets * count
					start := time.Now()
					scan(w, query, rows[set:set+count], out)
					scanning += time.Since(start)

					set = (i + sets/3) % sets * count
					start = time.Now()
					read(memory()[set*dim : (set+count)*dim])
					reading += time.Since(start)

					set = (i + 2*sets/3) % sets * count
					start = time.Now()
					maxAbs(best(), memory()[set*dim:(set+count)*dim])
					reading2 += time.Since(start)
				}
				gb := float64(b.N) * count * dim * 4 / 1e9
				b.ReportMetric(gb/scanning.Seconds(), "scan-GB/s")
				b.ReportMetric(gb/reading.Seconds(), "read-GB/s")
				b.ReportMetric(gb/reading2.Seconds(), "read2-GB/s")
				b.ReportMetric(reading.Seconds()/scanning.Seconds(), "ratio")
			})
		}
	}
}

// read touches every byte of a row.
func read(row []float32) int {
	return bytes.IndexByte(unsafe.Slice((*byte)(unsafe.Pointer(&row[0])), 4*len(row)), 0xFF)
}

// BenchmarkWalk measures batches of 16 random rows out of cache, as a walk over a graph asks for them.
func BenchmarkWalk(b *testing.B) {
	const batch = 16
	r := rand.New(rand.NewPCG(5, 0))
	for _, dim := range []int{128, 784, 1536} {
		all := cut(dim)
		picks := make([][]float32, 1<<16)
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
