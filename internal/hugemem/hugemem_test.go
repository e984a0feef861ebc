package hugemem_test

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/hugemem"
)

func TestMake(t *testing.T) {
	const page = 2 << 20
	for _, n := range []int{0, 1, 4096, page, 2*page - 1, 2 * page, 2*page + 1, 7 * page} {
		b := hugemem.Make(n)
		require.Len(t, b, n)
		require.Equal(t, n, cap(b), "nothing behind it is offered")
		for i := 0; i < n; i += 1000 {
			require.Zero(t, b[i])
			b[i] = byte(i)
		}
		if n >= 2*page {
			require.Zero(t, uintptr(unsafe.Pointer(&b[0]))%page, "%d bytes begin at the border of a page", n)
			b[n-1] = 1
		}
	}
}

func TestWords(t *testing.T) {
	require.Empty(t, hugemem.Words(0))
	w := hugemem.Words(3 << 20)
	require.Len(t, w, 3<<20)
	require.Zero(t, w[len(w)-1])
	w[len(w)-1] = 1
}
