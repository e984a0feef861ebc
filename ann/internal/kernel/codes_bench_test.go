package kernel

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
	"unsafe"
)

// memoryBytes is the memory of the other benchmarks, as bytes.
func memoryBytes() []byte {
	m := memory()
	return unsafe.Slice((*byte)(unsafe.Pointer(&m[0])), 4*len(m))
}

// benchRows cuts m into rows of that many bytes, in chunks of 64.
func benchRows(m []byte, size int) Rows {
	const shift = 6
	rows := Rows{Shift: shift, Stride: size}
	for i := 0; i+size<<shift <= len(m); i += size << shift {
		rows.Chunks = append(rows.Chunks, unsafe.Pointer(&m[i]))
	}
	return rows
}

// BenchmarkCodeDots measures lists of 16 random ids as a walk has them, in a set of 1 MiB and in one out of cache.
func BenchmarkCodeDots(b *testing.B) {
	const batch = 16
	sets := []struct {
		name  string
		bytes []byte
	}{{"cached", memoryBytes()[:1<<20]}, {"memory", memoryBytes()}}
	r := rand.New(rand.NewPCG(8, 0))
	for _, set := range sets {
		for _, dims := range []int{128, 832, 1536} {
			for _, width := range codeWidths {
				rows := benchRows(set.bytes, dims/8*width)
				ids, query, out := make([]uint32, 1<<18), make([]int8, dims), make([]int32, batch)
				for i := range ids {
					ids[i] = r.Uint32N(uint32(rows.len()))
				}
				for _, w := range ways() {
					b.Run(fmt.Sprintf("%s/%d/%dbit/%s", set.name, dims, width, w), func(b *testing.B) {
						for i := 0; b.Loop(); i += batch {
							codeDots(w, width, query, &rows, 0, ids[i%len(ids):][:batch], out, nil)
						}
						b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/row")
					})
				}
			}
		}
	}
}

// BenchmarkCodeScan measures flat scans of rows out of cache, each beside plain reads of as much memory as BenchmarkScan
// has them. Its figures are of the lower quartile of times, since other processes only ever add to them.
func BenchmarkCodeScan(b *testing.B) {
	const dims, total = 1536, 3 << 20 // bytes: 2,048 rows of 8 bits
	floats, m, query := memory(), memoryBytes(), make([]int8, dims)
	for _, width := range codeWidths {
		size := dims / 8 * width
		out := make([]int32, total/size)
		for _, w := range ways() {
			b.Run(fmt.Sprintf("%dbit/%s", width, w), func(b *testing.B) {
				work := []func(at int){
					func(at int) { codeScan(w, width, query, m[at:at+total], size, out) },
					func(at int) { search(b, floats[at/4:(at+total)/4]) },
					func(at int) { maxAbs(best(), floats[at/4:(at+total)/4]) },
				}
				spent := make([][]time.Duration, len(work))
				for i := 0; b.Loop(); i++ {
					for j, f := range work {
						at := (len(work)*i + j) % (len(m) / total) * total
						start := time.Now()
						f(at)
						spent[j] = append(spent[j], time.Since(start))
					}
				}
				speed := make([]float64, len(work))
				for j := range work {
					slices.Sort(spent[j])
					speed[j] = total / float64(spent[j][len(spent[j])/4].Nanoseconds())
				}
				b.ReportMetric(speed[0], "scan-GB/s")
				b.ReportMetric(speed[1], "search-GB/s")
				b.ReportMetric(speed[2], "max-GB/s")
				b.ReportMetric(speed[0]/max(speed[1], speed[2]), "scan/read")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// BenchmarkUnpack measures a row in cache.
func BenchmarkUnpack(b *testing.B) {
	const dims = 1536
	codes, out := make([]uint8, dims), make([]int8, dims)
	for _, width := range codeWidths {
		row := make([]byte, dims/8*width)
		b.Run(fmt.Sprintf("pack/%dbit", width), func(b *testing.B) {
			for b.Loop() {
				Pack(width, codes, row)
			}
		})
		b.Run(fmt.Sprintf("unpack/%dbit", width), func(b *testing.B) {
			for b.Loop() {
				Unpack(width, row, out)
			}
		})
	}
}
