package vfs_test

import (
	"io"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/vfs"
)

// changes calls every method that changes the disk and returns the names of those that failed.
func changes(disk vfs.FS) (failed []string) {
	note := func(op string, err error) {
		if err != nil {
			failed = append(failed, op)
		}
	}
	note("mkdirall", disk.MkdirAll("/d"))
	f, err := disk.Create("/d/f")
	note("create", err)
	if f != nil {
		_, err = f.Write([]byte("abcd"))
		note("write", err)
		_, err = f.WriteAt([]byte("x"), 0)
		note("write at", err)
		note("truncate", f.Truncate(3))
		note("sync", f.Sync())
		f.Close()
	}
	l, err := disk.Lock("/LOCK")
	note("lock", err)
	if l != nil {
		l.Close()
	}
	f, err = disk.OpenAppend("/LOCK")
	note("append", err)
	if f != nil {
		f.Close()
	}
	note("rename", disk.Rename("/LOCK", "/L"))
	note("syncdir", disk.SyncDir("/"))
	note("remove", disk.Remove("/L"))
	note("removeall", disk.RemoveAll("/d"))
	return failed
}

func TestEachFailureReachesEveryChange(t *testing.T) {
	var first []string
	vfs.EachFailure(t, vfs.Fault{}, func(disk *vfs.Failing, _ *vfs.Mem) {
		if failed := changes(disk); len(failed) > 0 {
			first = append(first, failed[0])
		}
	})
	require.Equal(t, []string{
		"mkdirall", "create", "write", "write at", "truncate", "sync", "lock", "append", "rename", "syncdir", "remove", "removeall",
	}, first)
}

func TestFailingReads(t *testing.T) {
	mem := vfs.NewMem()
	put(t, mem, "/f", []byte("abc"), true)
	disk := vfs.NewFailing(mem)
	f, err := disk.Open("/f")
	require.NoError(t, err)
	reads := map[string]func() error{
		"open":    func() error { _, err := disk.Open("/f"); return err },
		"read":    func() error { _, err := f.ReadAt(make([]byte, 1), 0); return err },
		"readdir": func() error { _, err := disk.ReadDir("/"); return err },
		"stat":    func() error { _, err := disk.Stat("/f"); return err },
		"mmap":    func() error { _, err := disk.Map("/f"); return err },
		"free":    func() error { _, err := disk.Free("/"); return err },
	}
	for op, read := range reads {
		disk.Arm(vfs.Fault{Reads: true})
		put(t, disk, "/other", nil, true)
		require.ErrorIs(t, read(), syscall.EIO, op)
		require.Contains(t, disk.Failed(), op)
		require.NoError(t, read(), "only one fails")
		require.Equal(t, 2, disk.Reads())
		disk.Arm(vfs.Fault{Reads: true, All: true, At: 1})
		require.NoError(t, read())
		require.Error(t, read())
		require.Error(t, read())
		disk.Disarm()
		require.NoError(t, read())
	}
}

// TestFailedSyncLosesData is what makes retrying a Sync wrong: the second one succeeds and the data is lost all the same.
func TestFailedSyncLosesData(t *testing.T) {
	mem := vfs.NewMem()
	disk := vfs.NewFailing(mem)
	f, err := disk.Create("/f")
	require.NoError(t, err)
	require.NoError(t, disk.SyncDir("/"))
	_, err = f.Write([]byte("first "))
	require.NoError(t, err)
	disk.Arm(vfs.Fault{Err: syscall.EIO})
	require.ErrorIs(t, f.Sync(), syscall.EIO)
	_, err = f.Write([]byte("second"))
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	require.Equal(t, "first second", string(contents(t, mem, "/f")), "readers see it")
	require.Equal(t, "\x00\x00\x00\x00\x00\x00second", string(contents(t, mem.CrashClone(nil), "/f")))
}

func TestFailingWriteIsTorn(t *testing.T) {
	mem := vfs.NewMem()
	disk := vfs.NewFailing(mem)
	f, err := disk.Create("/f")
	require.NoError(t, err)
	disk.Arm(vfs.Fault{Err: syscall.ENOSPC})
	n, err := f.Write([]byte("abcdef"))
	require.True(t, vfs.IsFull(err))
	require.Equal(t, 3, n)
	require.Equal(t, "abc", string(contents(t, mem, "/f")))
}

func TestMemFillsUp(t *testing.T) {
	mem := vfs.NewMemSize(1000)
	put(t, mem, "/a", make([]byte, 600), true)
	require.NoError(t, mem.SyncDir("/"))
	f, err := mem.Create("/b")
	require.NoError(t, err)
	defer f.Close()
	n, err := f.Write(make([]byte, 600))
	require.True(t, vfs.IsFull(err))
	require.Equal(t, 400, n)
	_, err = f.WriteAt(make([]byte, 400), 0)
	require.NoError(t, err, "overwriting needs no space")
	free, err := mem.Free("/")
	require.NoError(t, err)
	require.Zero(t, free)
	require.NoError(t, mem.Remove("/a"))
	n, err = f.Write(make([]byte, 600))
	require.NoError(t, err)
	require.Equal(t, 600, n)
	require.NoError(t, f.Truncate(10))
	free, err = mem.CrashClone(nil).Free("/")
	require.NoError(t, err)
	require.EqualValues(t, 400, free, "the cut lost /b and brought /a back")
}

func TestWriteAtomicTellsTheWritersError(t *testing.T) {
	err := vfs.WriteAtomic(vfs.NewMem(), "/f", func(io.Writer) error { return io.ErrClosedPipe })
	require.ErrorIs(t, err, io.ErrClosedPipe)
	require.ErrorContains(t, err, "/f")
}
