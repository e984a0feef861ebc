package kernel

import (
	"os"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// guarded returns a row of n values that ends where memory ends: a read or write beyond it is a fault.
func guarded[T any](t *testing.T, n int) []T {
	t.Helper()
	var value T
	page := os.Getpagesize()
	size := (n*int(unsafe.Sizeof(value)) + page - 1) / page * page
	m, err := unix.Mmap(-1, 0, size+page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Munmap(m)) })
	require.NoError(t, unix.Mprotect(m[size:], unix.PROT_NONE))
	end := unsafe.Add(unsafe.Pointer(&m[0]), size)
	return unsafe.Slice((*T)(unsafe.Add(end, -n*int(unsafe.Sizeof(value)))), n)
}

func TestNothingIsTouchedBeyondTheEndOfMemory(t *testing.T) {
	forEachWay(t, func(t *testing.T, w way) {
		for n := 1; n < 140; n++ {
			x, y := guarded[float32](t, n), guarded[float32](t, n)
			signs := guarded[uint64](t, (n+63)/64)
			for i := range n {
				x[i], y[i] = 1, 3
			}
			require.Equal(t, float32(3*n), dot(w, x, y))
			require.Equal(t, float32(4*n), squaredL2(w, x, y))
			require.Equal(t, float32(1), maxAbs(w, x))
			require.Equal(t, int32(2*n), quantize(w, x, 2, guarded[int8](t, n)))
			require.Equal(t, int64(3*n), encode(w, x, 1, 4, guarded[uint8](t, n)).u)
			flipSigns(w, x, signs)
			scale(w, x, 1)
			require.Equal(t, float32(3*n), dot(w, x, y))
			if n&(n-1) == 0 {
				hadamard(w, x)
				require.Equal(t, float32(n), x[0])
			}
		}
	})
}
