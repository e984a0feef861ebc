package kernel

import (
	"fmt"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

func TestCodesTouchNothingBeyondTheEndOfMemory(t *testing.T) {
	forEachWay(t, func(t *testing.T, w way) {
		for _, width := range codeWidths {
			for _, dims := range []int{64, 128, 192, 320, 448, 704} {
				for n := 1; n <= 6; n++ {
					size := dims / 8 * width
					codes, query := guarded[byte](t, n*size), guarded[int8](t, dims)
					ids, out := guarded[uint32](t, n), guarded[int32](t, n)
					for i := range codes {
						codes[i] = 0xff
					}
					for i := range query {
						query[i] = 1
					}
					want := make([]int32, n)
					for i := range want {
						ids[i], want[i] = uint32(i), int32((1<<width-1)*dims)
					}
					what := fmt.Sprintf("width %d dims %d n %d", width, dims, n)
					rows := Rows{Chunks: make([]unsafe.Pointer, n), Stride: size}
					for i := range n {
						rows.Chunks[i] = unsafe.Pointer(&codes[i*size])
					}
					codeDots(w, width, query, &rows, 0, ids, out, nil)
					require.Equal(t, want, out, what)
					clear(out)
					codeScan(w, width, query, codes, size, out)
					require.Equal(t, want, out, what)

					unpack(w, width, codes[(n-1)*size:], query)
					require.EqualValues(t, min(1<<width-1, 127), query[dims-1], what)
				}
			}
		}
	})
}
