package vfs

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

var _ Adviser = (*osMapping)(nil)

// ReadAtRandom implements Adviser.
func (m *osMapping) ReadAtRandom() { m.advise(m.bytes, unix.MADV_RANDOM) }

// WillNeed implements Adviser.
func (m *osMapping) WillNeed(off, n int) {
	end := min(off+n, len(m.bytes))
	off = pageOf(off)
	if off < 0 || off >= end {
		return
	}
	m.advise(m.bytes[off:end], unix.MADV_WILLNEED)
}

// advise passes over errors: it is about speed alone.
func (m *osMapping) advise(b []byte, advice int) {
	if len(b) > 0 {
		_ = unix.Madvise(b, advice)
	}
}

// InMemory implements Adviser. The kernel tells owners of a file and those who may write it, and says yes to others.
func (m *osMapping) InMemory(off int) bool {
	if off < 0 || off >= len(m.bytes) {
		return true
	}
	var in [1]byte
	page := unsafe.Pointer(&m.bytes[pageOf(off)])
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(page), 1, uintptr(unsafe.Pointer(&in)))
	return errno != 0 || in[0]&1 == 1
}

// pageOf returns the start of the page that holds off.
func pageOf(off int) int { return off &^ (os.Getpagesize() - 1) }
