package vfs_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/croftdb/croft/internal/vfs"
)

// batchFile maps a file of n random bytes on the disk that the tests run on.
func batchFile(t *testing.T, n int) (path string, m vfs.Mapping) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "file")
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	require.NoError(t, os.WriteFile(path, b, 0o600))
	m, err := vfs.OS().Map(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	return path, m
}

func writeOf(b []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	}
}

// needDirect skips where the disk has no reads past the page cache.
func needDirect(t *testing.T, path string) {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Skipf("open %s with O_DIRECT: %v", path, err)
	}
	require.NoError(t, unix.Close(fd))
}

// TestBatch reads places of all sorts at once, several times by one batch, and finds what the mapping holds.
func TestBatch(t *testing.T) {
	page := os.Getpagesize()
	path, m := batchFile(t, 64*page+100)
	needDirect(t, path)
	want := m.Bytes()
	places := [][2]int{
		{0, 1}, {0, page}, {page - 1, 2}, {page, page}, {3, 5*page + 7}, {2048, 6144}, {10*page - 2048, 6144},
		{len(want) - 1, 1}, {len(want) - 100, 100}, {len(want) - page, page},
	}
	var b vfs.Batch
	for round := range 3 {
		b.Reset()
		for _, p := range places[round:] {
			require.True(t, b.Add(m, p[0], p[1]), "%v", p)
		}
		b.Start()
		b.Wait()
		for i, p := range places[round:] {
			require.True(t, bytes.Equal(want[p[0]:p[0]+p[1]], b.Bytes(i)), "%v", p)
		}
	}
}

// TestBatchStartsInParts adds places while others are being read, and waits once for all.
func TestBatchStartsInParts(t *testing.T) {
	path, m := batchFile(t, 1<<20)
	needDirect(t, path)
	want := m.Bytes()
	r := rand.New(rand.NewPCG(9, 9))
	var b vfs.Batch
	for range 30 {
		b.Reset()
		var at [][2]int
		for len(at) < vfs.BatchLen && r.IntN(20) > 0 {
			p := [2]int{r.IntN(1 << 19), 1 + r.IntN(20_000)}
			require.True(t, b.Add(m, p[0], p[1]))
			if at = append(at, p); r.IntN(3) == 0 {
				b.Start()
			}
		}
		if r.IntN(4) == 0 {
			continue // Reset waits
		}
		b.Start()
		b.Wait()
		for i, p := range at {
			require.True(t, bytes.Equal(want[p[0]:p[0]+p[1]], b.Bytes(i)), "%v", p)
		}
	}
}

// TestBatchRefuses lists what a batch does not take.
func TestBatchRefuses(t *testing.T) {
	path, m := batchFile(t, 10000)
	var b vfs.Batch
	b.Start()
	b.Wait()
	for _, p := range [][2]int{{-1, 5}, {0, 0}, {0, -1}, {9999, 2}, {10000, 1}, {1 << 40, 1}} {
		require.False(t, b.Add(m, p[0], p[1]), "%v", p)
	}
	mem := vfs.NewMem()
	require.NoError(t, vfs.WriteAtomic(mem, "f", writeOf([]byte("abc"))))
	inMemory, err := mem.Map("f")
	require.NoError(t, err)
	require.False(t, b.Add(inMemory, 0, 1))
	needDirect(t, path)
	for range vfs.BatchLen {
		require.True(t, b.Add(m, 0, 1))
	}
	require.False(t, b.Add(m, 0, 1), "it is full")
	b.Reset()
	require.True(t, b.Add(m, 0, 1))
}

// TestBatchOfAnotherFile: a file that has taken the place of the mapped one, or its removal, ends in no bytes, never in
// those of another file.
func TestBatchOfAnotherFile(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"removed":  os.Remove,
		"replaced": func(path string) error { return vfs.WriteAtomic(vfs.OS(), path, writeOf(make([]byte, 10000))) },
	} {
		t.Run(name, func(t *testing.T) {
			path, m := batchFile(t, 10000)
			needDirect(t, path)
			require.NoError(t, change(path))
			var b vfs.Batch
			require.False(t, b.Add(m, 0, 1))
		})
	}
}

// TestBatchCutShort: what a file has lost since it was mapped has no bytes.
func TestBatchCutShort(t *testing.T) {
	page := os.Getpagesize()
	path, m := batchFile(t, 4*page)
	needDirect(t, path)
	first := bytes.Clone(m.Bytes()[:8])
	require.NoError(t, os.Truncate(path, int64(page)))
	var b vfs.Batch
	require.True(t, b.Add(m, 0, 8))
	require.True(t, b.Add(m, 2*page, 8))
	require.True(t, b.Add(m, page-4, 8))
	b.Start()
	b.Wait()
	require.Equal(t, first, b.Bytes(0))
	require.Nil(t, b.Bytes(1))
	require.Nil(t, b.Bytes(2))
}

// TestBatchesSideBySide reads by many batches of one mapping, while the collector runs and batches are given up.
func TestBatchesSideBySide(t *testing.T) {
	path, m := batchFile(t, 1<<20)
	needDirect(t, path)
	want := m.Bytes()
	var wg sync.WaitGroup
	for seed := range uint64(8) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, 0))
			b := &vfs.Batch{}
			for round := range 50 {
				if round%10 == 0 {
					b = &vfs.Batch{}
					runtime.GC()
				}
				b.Reset()
				var at []int
				for range 1 + r.IntN(20) {
					off := r.IntN(len(want) - 6144)
					require.True(t, b.Add(m, off, 6144))
					at = append(at, off)
				}
				b.Start()
				b.Wait()
				for i, off := range at {
					require.True(t, bytes.Equal(want[off:off+6144], b.Bytes(i)))
				}
			}
		})
	}
	wg.Wait()
}

// TestBatchAllocates nothing once it has been used.
func TestBatchAllocates(t *testing.T) {
	path, m := batchFile(t, 1<<20)
	needDirect(t, path)
	var b vfs.Batch
	require.Zero(t, testing.AllocsPerRun(20, func() {
		b.Reset()
		for i := range 12 {
			b.Add(m, i*6144, 6144)
		}
		b.Start()
		b.Wait()
		if b.Bytes(11) == nil {
			t.Fatal("not read")
		}
	}))
}
