package hugemem

import "golang.org/x/sys/unix"

// advise asks for huge pages. Memory that the heap has used before is in small pages already: it is moved, where the
// kernel (from 6.1) can do that at once. A kernel that says no costs nothing but speed.
func advise(b []byte) {
	if unix.Madvise(b, unix.MADV_HUGEPAGE) == nil {
		_ = unix.Madvise(b, unix.MADV_COLLAPSE)
	}
}
