//go:build linux

package faultdisk_test

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/faultdisk"
)

// TestReadersOfATail: what was written to a log is read, while others read past it what is not written yet, as readers of
// its tail do. With the kernel's cache a read in some thousand got zeros.
func TestReadersOfATail(t *testing.T) {
	const frame, frames, ahead = 1500, 20_000, 64 << 10
	disk := faultdisk.Mount(t, faultdisk.Options{})
	f, err := os.Create(filepath.Join(disk.Dir(), "tail.wal"))
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Truncate(frame*frames))
	content := func(i int64) []byte { return bytes.Repeat([]byte{byte(i) | 1}, frame) }
	var written, wrong atomic.Int64
	written.Store(-1)
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			buf := make([]byte, ahead)
			for i := written.Load(); i < frames-1; i = written.Load() {
				n, _ := f.ReadAt(buf, max(i, 0)*frame) // the last ones end with the file
				if i >= 0 && !bytes.Equal(buf[:min(n, frame)], content(i)) {
					wrong.Add(1)
				}
			}
		})
	}
	for i := range int64(frames) {
		_, err := f.WriteAt(content(i), i*frame)
		require.NoError(t, err)
		written.Store(i)
	}
	readers.Wait()
	require.Zero(t, wrong.Load(), "frames that were read otherwise than written")
}
