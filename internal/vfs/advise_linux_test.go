package vfs_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/croftdb/croft/internal/vfs"
)

// TestAdvice advises about a mapping that the kernel was asked to evict: what was asked for comes into memory, contents
// stay what they are, and places outside of the file do no harm. A disk in memory, as /tmp may be, evicts nothing.
func TestAdvice(t *testing.T) {
	page := os.Getpagesize()
	want := bytes.Repeat([]byte("croft"), 16*page/5)
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, want, 0o600))
	f, err := os.Open(path)
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	require.NoError(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
	require.NoError(t, f.Close())

	m, err := vfs.OS().Map(path)
	require.NoError(t, err)
	a, ok := m.(vfs.Adviser)
	require.True(t, ok)
	a.ReadAtRandom()
	for _, at := range [][2]int{{-1, 5}, {0, 0}, {len(want), 1}, {len(want) + page, page}, {5 * page, -page}} {
		a.WillNeed(at[0], at[1])
	}
	a.WillNeed(3*page-1, 2)
	a.WillNeed(len(want)-1, 1<<30)
	for _, off := range []int{2 * page, 3 * page, len(want) - 1} {
		require.Eventually(t, func() bool { return a.InMemory(off) }, time.Minute, time.Millisecond, "offset %d", off)
	}
	require.Equal(t, want, m.Bytes())
	for off := range want {
		if off%page == 0 {
			require.True(t, a.InMemory(off), "offset %d was just read", off)
		}
	}
	require.True(t, a.InMemory(-1))
	require.True(t, a.InMemory(len(want)))
	require.NoError(t, m.Close())
	a.ReadAtRandom()
	a.WillNeed(0, page)
	require.True(t, a.InMemory(0))
}
