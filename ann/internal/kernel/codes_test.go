package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var codeWidths = []int{1, 2, 4, 8}

// codeDims has every remainder of the blocks of 128 and 256 dimensions, and of what the kernels unroll.
var codeDims = []int{64, 128, 192, 256, 320, 384, 448, 512, 576, 832, 1536, 1600, 3072, 20480}

// codePlace returns where dimension i of dims stands in a row: the layout said once more, one code at a time.
func codePlace(width, dims, i int) (byteAt, shift int) {
	if width == 1 || width == 8 {
		return i * width / 8, i * width % 8
	}
	block := 512 / width
	if i < dims/block*block {
		return i/block*64 + i%block%64, i % block / 64 * width
	}
	rest, small := i-dims/block*block, 8*width
	return dims/block*64 + rest/64*small + rest%64%small, rest % 64 / small * width
}

func codeAt(row []byte, width, dims, i int) uint8 {
	at, shift := codePlace(width, dims, i)
	return row[at] >> shift & uint8(1<<width-1)
}

// wantDot is a dot product in 64 bits.
func wantDot(width int, query []int8, row []byte) int64 {
	var sum int64
	for i, v := range query {
		sum += int64(codeAt(row, width, len(query), i)) * int64(v)
	}
	return sum
}

// codeSet is a matrix of rows, its chunks at odd addresses, and a query.
type codeSet struct {
	rows   Rows
	offset int
	query  []int8
	bytes  [][]byte // by id, the codes alone
}

// newCodeSet fills n rows and their query byte by byte from next.
func newCodeSet(width, dims, n, offset int, shift uint, next func() byte) *codeSet {
	size := dims / 8 * width
	s := &codeSet{rows: Rows{Shift: shift, Stride: offset + size + 3}, offset: offset, query: make([]int8, dims+1)[1:]}
	for i := range s.query {
		s.query[i] = int8(next())
	}
	for first := 0; first < n; first += 1 << shift {
		chunk := make([]byte, s.rows.Stride<<shift+1)[1:]
		for i := range chunk {
			chunk[i] = next()
		}
		s.rows.Chunks = append(s.rows.Chunks, unsafe.Pointer(&chunk[0]))
		for i := range 1 << shift {
			s.bytes = append(s.bytes, chunk[i*s.rows.Stride+offset:][:size:size])
		}
	}
	return s
}

func (s *codeSet) want(width int, ids []uint32) []int32 {
	known, out := map[uint32]int32{}, make([]int32, len(ids))
	for i, id := range ids {
		if _, ok := known[id]; !ok {
			known[id] = int32(wantDot(width, s.query, s.bytes[id]))
		}
		out[i] = known[id]
	}
	return out
}

func (s *codeSet) randomIDs(r *rand.Rand, n int) []uint32 {
	ids := make([]uint32, n)
	for i := range ids {
		ids[i] = r.Uint32N(uint32(len(s.bytes)))
	}
	return ids
}

func randomByte(r *rand.Rand) func() byte { return func() byte { return byte(r.Uint32()) } }

func TestCodeDots(t *testing.T) {
	const seed = 5
	forEachWay(t, func(t *testing.T, w way) {
		r := rand.New(rand.NewPCG(seed, 0))
		for _, width := range codeWidths {
			for _, dims := range codeDims {
				for _, shift := range []uint{0, 1, 3} {
					s := newCodeSet(width, dims, 5, r.IntN(9), shift, randomByte(r))
					for _, n := range []int{1, 2, 3, 4, 19} {
						if dims > 4096 && (n > 4 || shift > 0) {
							continue // as good, and slow to check
						}
						ids, out := s.randomIDs(r, n), make([]int32, n+1)
						out[n] = -1
						codeDots(w, width, s.query, &s.rows, s.offset, ids, out[:n], nil)
						require.Equal(t, append(s.want(width, ids), -1), out, "seed %d width %d dims %d shift %d n %d", seed, width, dims, shift, n)
					}
				}
			}
		}
	})
}

func TestCodeDotsProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.SampledFrom(codeWidths).Draw(t, "width")
		dims := 64 * rapid.IntRange(1, 30).Draw(t, "blocks")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		n, offset := rapid.IntRange(1, 20).Draw(t, "rows"), rapid.IntRange(0, 70).Draw(t, "offset")
		s := newCodeSet(width, dims, n, offset, rapid.UintRange(0, 4).Draw(t, "shift"), randomByte(r))
		ids := s.randomIDs(r, rapid.IntRange(1, 100).Draw(t, "ids"))
		want, out := s.want(width, ids), make([]int32, len(ids))
		for _, w := range ways() {
			clear(out)
			codeDots(w, width, s.query, &s.rows, offset, ids, out, nil)
			require.Equal(t, want, out, "%s", w)
		}
	})
}

func TestCodeDotsOfExtremes(t *testing.T) {
	forEachWay(t, func(t *testing.T, w way) {
		for _, width := range codeWidths {
			for _, dims := range codeDims {
				for _, value := range []int8{math.MinInt8, -127, -1, 0, 1, 127} {
					for _, code := range []byte{0, 0xff} {
						s := newCodeSet(width, dims, 1, 0, 0, func() byte { return code })
						for i := range s.query {
							s.query[i] = value
						}
						out := []int32{0}
						codeDots(w, width, s.query, &s.rows, 0, []uint32{0}, out, nil)
						want := int32(code) >> (8 - width) * int32(value) * int32(dims)
						require.Equal(t, want, out[0], "width %d dims %d value %d code %d", width, dims, value, code)
					}
				}
			}
		}
	})
}

// One code at a time: sums of many could hide two that are exchanged.
func TestEveryCodeCounts(t *testing.T) {
	forEachWay(t, func(t *testing.T, w way) {
		for _, width := range codeWidths {
			for _, dims := range []int{64, 192, 448, 576} {
				s := newCodeSet(width, dims, 1, 0, 0, func() byte { return 0 })
				for i := range dims {
					at, shift := codePlace(width, dims, i)
					s.bytes[0][at] = 1 << shift
					for j := range s.query {
						s.query[j] = int8((i ^ j) % 127)
					}
					s.query[i] = 127
					out := []int32{0}
					codeDots(w, width, s.query, &s.rows, 0, []uint32{0}, out, nil)
					require.Equal(t, int32(127), out[0], "width %d dims %d code %d", width, dims, i)
					s.bytes[0][at] = 0
				}
			}
		}
	})
}

func TestCodeScan(t *testing.T) {
	const seed = 6
	forEachWay(t, func(t *testing.T, w way) {
		r := rand.New(rand.NewPCG(seed, 0))
		for _, width := range codeWidths {
			for _, n := range []int{1, 2, scanned - 1, scanned, scanned + 1, 3*scanned + 5} {
				const dims = 320
				size := dims / 8 * width
				stride := size + r.IntN(5)
				codes, query := make([]byte, (n-1)*stride+size+1)[1:], make([]int8, dims)
				for i := range codes {
					codes[i] = byte(r.Uint32())
				}
				for i := range query {
					query[i] = int8(r.Uint32())
				}
				want, out := make([]int32, n), make([]int32, n)
				for i := range want {
					want[i] = int32(wantDot(width, query, codes[i*stride:]))
				}
				codeScan(w, width, query, codes, stride, out)
				require.Equal(t, want, out, "seed %d width %d n %d", seed, width, n)
			}
		}
	})
}

func TestIDsOutsidePanic(t *testing.T) {
	forEachWay(t, func(t *testing.T, w way) {
		s := newCodeSet(4, 64, 6, 0, 1, func() byte { return 1 })
		for n := 1; n <= 20; n++ {
			for bad := range n {
				for _, id := range []uint32{6, 7, math.MaxInt32, math.MaxUint32} {
					ids, out := make([]uint32, n), make([]int32, n)
					ids[bad] = id
					want := fmt.Sprintf("kernel: row %d of 6", id)
					require.PanicsWithValue(t, want, func() { codeDots(w, 4, s.query, &s.rows, 0, ids, out, nil) })
					require.PanicsWithValue(t, want, func() { askRows(w, &s.rows, ids, 2) })
				}
			}
		}
		require.Panics(t, func() { codeDots(w, 4, s.query, &Rows{Stride: 64}, 0, []uint32{0}, []int32{0}, nil) }, "no rows")
	})
}

func TestCodeArguments(t *testing.T) {
	s := newCodeSet(4, 128, 2, 1, 0, func() byte { return 1 })
	ids, out := []uint32{1, 0}, []int32{7, 7}
	tests := []struct {
		name string
		call func()
	}{
		{"width", func() { CodeDots(3, s.query, &s.rows, 0, ids, out) }},
		{"length of the query", func() { CodeDots(4, s.query[:100], &s.rows, 0, ids, out) }},
		{"codes beyond their row", func() { CodeDots(4, s.query, &s.rows, 5, ids, out) }},
		{"codes before their row", func() { CodeDots(4, s.query, &s.rows, -1, ids, out) }},
		{"short out", func() { CodeDots(4, s.query, &s.rows, 0, ids, out[:1:1]) }},
		{"scan beyond the end", func() { CodeScan(4, s.query, make([]byte, 127), 64, out) }},
		{"scan of rows that overlap", func() { CodeScan(4, s.query, make([]byte, 128), 63, out) }},
		{"pack into a short row", func() { Pack(4, make([]uint8, 128), make([]byte, 63)) }},
		{"unpack a short row", func() { Unpack(4, make([]byte, 63), make([]int8, 128)) }},
	}
	for _, tt := range tests {
		require.Panics(t, tt.call, tt.name)
		require.Equal(t, []int32{7, 7}, out, tt.name)
	}

	CodeDots(4, s.query, &s.rows, 4, nil, nil)
	CodeScan(4, s.query, nil, 64, nil)
	PrefetchRows(&s.rows, nil, 1)
	PrefetchRows(&s.rows, ids, 0)
	PrefetchRows(&s.rows, ids, 3)
	CodeDots(4, nil, &s.rows, 0, ids, out)
	require.Equal(t, []int32{0, 0}, out, "no dimensions")
	out = []int32{7}
	CodeScan(4, nil, nil, 0, out)
	require.Equal(t, []int32{0}, out, "no dimensions")
	Unpack(4, nil, nil)
	Pack(4, nil, nil)
}

func TestCodesAllocateNothing(t *testing.T) {
	for _, width := range codeWidths {
		s := newCodeSet(width, 320, 8, 0, 1, func() byte { return 1 })
		ids, out, scan := []uint32{3, 4, 5}, make([]int32, 3), make([]byte, 3*320)
		require.Zero(t, testing.AllocsPerRun(10, func() {
			CodeDots(width, s.query, &s.rows, 0, ids, out)
			CodeScan(width, s.query, scan, 320, out)
			PrefetchRows(&s.rows, ids, 1)
			Unpack(width, scan, s.query)
		}))
	}
}

func TestPackAndUnpack(t *testing.T) {
	const seed = 7
	forEachWay(t, func(t *testing.T, w way) {
		r := rand.New(rand.NewPCG(seed, 0))
		for _, width := range codeWidths {
			for _, dims := range codeDims {
				what := fmt.Sprintf("seed %d width %d dims %d", seed, width, dims)
				size := dims / 8 * width
				codes, row, out := make([]uint8, dims), make([]byte, size+1), make([]int8, dims+2)[1:]
				for i := range codes {
					codes[i] = uint8(r.Uint32())
				}
				row[size], out[dims] = 0xa5, 0x5a
				Pack(width, codes, row)
				unpack(w, width, row[:size], out[:dims])
				require.EqualValues(t, 0xa5, row[size], "beyond the end: %s", what)
				require.EqualValues(t, 0x5a, out[dims], "beyond the end: %s", what)
				for i, code := range codes {
					code &= uint8(1<<width - 1)
					want := int8(2*int(code) - (1<<width - 1))
					if width == 8 {
						want = int8(int(code) - 128)
					}
					if codeAt(row, width, dims, i) != code || out[i] != want {
						t.Fatalf("%s: code %d is %d, unpacked %d, want %d, %d", what, i, codeAt(row, width, dims, i), out[i], code, want)
					}
				}
			}
		}
	})
}

// A stored code as a query gives the products of both sides' codes.
func TestUnpackedCodesAreAQuery(t *testing.T) {
	const dims, seed = 448, 9
	r := rand.New(rand.NewPCG(seed, 0))
	for _, width := range codeWidths {
		s := newCodeSet(width, dims, 2, 0, 0, randomByte(r))
		Unpack(width, s.bytes[0], s.query)
		out := []int32{0}
		CodeDots(width, s.query, &s.rows, 0, []uint32{1}, out)
		require.Equal(t, s.want(width, []uint32{1}), out, "seed %d width %d", seed, width)
	}
}
