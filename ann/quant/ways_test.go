package quant_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/internal/kernel"
	"github.com/croftdb/croft/ann/quant"
)

// reportVariable makes TestKernelsAgree of a child process print what its kernel computes.
const reportVariable = "QUANT_TEST_REPORT"

// computed is a kernel's view of one shape of code.
type computed struct {
	Codes     string // digest
	Estimates []float32
	Largest   float32
}

// TestKernelsAgree: codes are the same on all machines, estimates as far as floats are summed in different orders.
func TestKernelsAgree(t *testing.T) {
	want := compute()
	if os.Getenv(reportVariable) != "" {
		require.NoError(t, json.NewEncoder(os.Stdout).Encode(want))
		return
	}
	for _, way := range []string{"generic", "avx2", "avx512"} { // the specification runs where this CPU lacks one
		cmd := exec.Command(os.Args[0], "-test.run=^TestKernelsAgree$")
		cmd.Env = append(os.Environ(), reportVariable+"=1", kernel.Variable+"="+way)
		out, err := cmd.Output()
		require.NoError(t, err, "%s", out)
		var got map[string]computed
		require.NoError(t, json.NewDecoder(bytes.NewReader(out)).Decode(&got))
		require.Len(t, got, len(want))
		for name, w := range want {
			require.Equal(t, w.Codes, got[name].Codes, "%s: %s", way, name)
			require.InDeltaSlice(t, w.Estimates, got[name].Estimates, 1e-5*float64(w.Largest), "%s: %s", way, name)
		}
	}
}

func compute() map[string]computed {
	all := map[string]computed{}
	for _, bits := range widths {
		for _, dim := range []int{1, 63, 200, 784, 1536} {
			for _, metric := range metrics {
				centre := normals(newRand(4), dim)
				for i := range centre {
					centre[i] /= float32(math.Sqrt(float64(dim))) // of length 1 or so
				}
				cfg := quant.Config{Metric: metric, Dim: dim, Bits: bits, Seed: 11, Centre: centre}
				all[fmt.Sprintf("%d bits, %d values, %v", bits, dim, metric)] = computeShape(cfg)
			}
		}
	}
	return all
}

func computeShape(cfg quant.Config) computed {
	z := quant.New(cfg)
	var vectors [][]float32
	for _, name := range []string{"normal", "one-hot", "images"} {
		vectors = append(vectors, data[name](newRand(8), cfg.Dim, 0), data[name](newRand(9), cfg.Dim, 1))
	}
	s := encode(z, cfg.Metric, vectors)
	codes := sha256.New()
	for i := range vectors {
		codes.Write(codesOf(s.row(i), cfg.Dim, cfg.Bits))
	}
	c := computed{Codes: fmt.Sprintf("%x", codes.Sum(nil))}
	v := normals(newRand(10), cfg.Dim)
	for _, b := range bindings {
		var q quant.Query
		b.bind(z, &q, v, ann.Scale(cfg.Metric, v))
		c.Estimates = append(c.Estimates, s.measure(&q)...)
	}
	c.Largest = kernel.MaxAbs(c.Estimates)
	return c
}

// codesOf is a row without its factors.
func codesOf(row []byte, dim, bits int) []byte { return row[:(dim+63)/64*8*bits] }

// TestCodesStay: the code of a vector is the same in all versions; a change here is one of what is stored.
func TestCodesStay(t *testing.T) {
	v := make([]float32, 100)
	for i := range v {
		v[i] = float32(i*i%37) - 18
	}
	sums := map[int]string{}
	for _, bits := range widths {
		z := quant.New(quant.Config{Metric: ann.Euclidean, Dim: len(v), Bits: bits, Seed: 42})
		row := make([]byte, z.RowBytes())
		z.Encode(new(quant.Scratch), v, 1, row)
		sum := sha256.Sum256(codesOf(row, len(v), bits))
		sums[bits] = fmt.Sprintf("%x", sum[:4])
	}
	require.Equal(t, map[int]string{1: "7fcfc625", 2: "38b5ebe1", 4: "4af6a60f", 8: "6343eb1f"}, sums)
}

func TestSeedsDiffer(t *testing.T) {
	v := normals(newRand(1), 64)
	row := func(seed uint64) string {
		z := quant.New(quant.Config{Metric: ann.Euclidean, Dim: 64, Bits: 8, Seed: seed})
		row := make([]byte, z.RowBytes())
		z.Encode(new(quant.Scratch), v, 1, row)
		return string(row)
	}
	require.Equal(t, row(1), row(1))
	require.NotEqual(t, row(1), row(2))
}

// TestMemoryIsReused: a Query and a Scratch serve one Quantizer after another, and what was there before does not show.
func TestMemoryIsReused(t *testing.T) {
	var q quant.Query
	var work quant.Scratch
	for _, dim := range []int{300, 20, 300} {
		for _, bits := range []int{8, 1, 4, 2} {
			z := quant.New(quant.Config{Metric: ann.DotProduct, Dim: dim, Bits: bits, Centre: normals(newRand(5), dim)})
			v := normals(newRand(6), dim)
			s := encode(z, ann.DotProduct, [][]float32{v, normals(newRand(7), dim)})
			dirty := make([]byte, z.RowBytes()+1)
			for i := range dirty {
				dirty[i] = 0xaa
			}
			z.Encode(&work, v, 1, dirty)
			require.Equal(t, s.row(0), dirty[:z.RowBytes()])
			require.Equal(t, byte(0xaa), dirty[z.RowBytes()], "written behind the row")
			for _, b := range bindings {
				var fresh quant.Query
				b.bind(z, &fresh, v, 1)
				b.bind(z, &q, v, 1)
				require.Equal(t, s.measure(&fresh), s.measure(&q), b.name)
			}
		}
	}
}

func TestNothingIsAllocated(t *testing.T) {
	for _, bits := range widths {
		z := quant.New(quant.Config{Metric: ann.Cosine, Dim: 200, Bits: bits, Centre: normals(newRand(5), 200)})
		v := normals(newRand(6), 200)
		s := encode(z, ann.Cosine, [][]float32{v, v, v, v})
		var q quant.Query
		var work quant.Scratch
		row, slots, out := make([]byte, z.RowBytes()), s.slots(), make([]float32, 4)
		require.Zero(t, testing.AllocsPerRun(10, func() {
			z.Encode(&work, v, 0.1, row)
			z.BindRow(&q, row)
			q.Measure(&s.rows, slots, out)
			z.Bind(&q, v, 0.1)
			q.Measure(&s.rows, slots, out)
			out[0] = q.Margin(&s.rows, 1) + q.MarginAt(&s.rows, 1, out[1])
		}))
	}
}

// FuzzRows: whatever a row and the values are, nothing panics, and what comes out is a number.
func FuzzRows(f *testing.F) {
	f.Add(uint8(0), uint8(3), []byte("any row"), []byte("any values"))
	f.Fuzz(func(t *testing.T, kind, dim uint8, row, values []byte) {
		metric, bits := metrics[kind%3], widths[kind/3%4]
		z := quant.New(quant.Config{Metric: metric, Dim: int(dim) + 1, Bits: bits})
		v := make([]float32, int(dim)+1)
		for i := range v {
			if len(values) >= 4*i+4 {
				v[i] = math.Float32frombits(binary.LittleEndian.Uint32(values[4*i:]))
			}
		}
		s := encode(z, metric, [][]float32{v, v})
		copy(s.row(1), row)
		for _, b := range bindings {
			var q quant.Query
			b.bind(z, &q, v, ann.Scale(metric, v))
			for i, d := range s.measure(&q) {
				m := q.MarginAt(&s.rows, uint32(i), d) + q.Margin(&s.rows, uint32(i))
				require.False(t, d != d || m != m, "row %d: %v, margin %v", i, d, m)
			}
		}
	})
}
