// Package vfstest owns the conformance kit of vfs.FS: one call judges a disk by all that the interface says and a
// living process can see (what a power cut keeps is tested with the disk in memory, in package vfs). The tests of
// each implementation call it; it keeps nothing and runs everything below the directory it is given.
package vfstest

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/vfs"
)

// Run judges the disk that open returns together with an empty directory on it.
func Run(t *testing.T, open func(t *testing.T) (fsys vfs.FS, dir string)) {
	cases := []struct {
		name string
		run  func(t *testing.T, d disk)
	}{
		{"create", testCreate},
		{"append", testAppend},
		{"write at", testWriteAt},
		{"truncate", testTruncate},
		{"read", testRead},
		{"read only", testReadOnly},
		{"close", testClose},
		{"missing", testMissing},
		{"wrong sort", testWrongSort},
		{"remove", testRemove},
		{"remove open", testRemoveOpen},
		{"remove all", testRemoveAll},
		{"rename", testRename},
		{"rename directory", testRenameDir},
		{"directories", testDirs},
		{"map", testMap},
		{"lock", testLock},
		{"free", testFree},
		{"write atomic", testWriteAtomic},
		{"copy", testCopy},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			fsys, dir := open(t)
			c.run(t, disk{t: t, FS: fsys, dir: dir})
		})
	}
}

// disk is the FS under test with helpers that fail the test.
type disk struct {
	vfs.FS
	t   *testing.T
	dir string
}

func (d disk) path(elem ...string) string { return filepath.Join(append([]string{d.dir}, elem...)...) }

func (d disk) put(path, contents string) {
	d.t.Helper()
	f, err := d.Create(path)
	require.NoError(d.t, err)
	n, err := f.Write([]byte(contents))
	require.NoError(d.t, err)
	require.Equal(d.t, len(contents), n)
	require.NoError(d.t, f.Sync())
	require.NoError(d.t, f.Close())
}

func (d disk) want(path, contents string) {
	d.t.Helper()
	b, err := vfs.ReadFile(d, path)
	require.NoError(d.t, err)
	require.Equal(d.t, contents, string(b))
}

func (d disk) wantNames(dir string, names ...string) {
	d.t.Helper()
	got, err := d.ReadDir(dir)
	require.NoError(d.t, err)
	if len(got)+len(names) > 0 {
		require.Equal(d.t, names, got)
	}
}

func (d disk) wantExists(path string, want bool) {
	d.t.Helper()
	got, err := vfs.Exists(d, path)
	require.NoError(d.t, err)
	require.Equal(d.t, want, got, path)
}

func testCreate(t *testing.T, d disk) {
	p := d.path("a")
	d.put(p, "one")
	d.want(p, "one")
	d.put(p, "2")
	d.want(p, "2")
	info, err := d.Stat(p)
	require.NoError(t, err)
	require.Equal(t, vfs.Info{Size: 1}, info)
	require.NoError(t, d.SyncDir(d.dir))
}

func testAppend(t *testing.T, d disk) {
	p := d.path("a")
	for range 3 {
		f, err := d.OpenAppend(p)
		require.NoError(t, err)
		_, err = f.Write([]byte("ab"))
		require.NoError(t, err)
		_, err = f.Write([]byte("c"))
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	d.want(p, "abcabcabc")
}

func testWriteAt(t *testing.T, d disk) {
	f, err := d.Create(d.path("a"))
	require.NoError(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte("xy"), 4)
	require.NoError(t, err)
	d.want(d.path("a"), "\x00\x00\x00\x00xy")
	_, err = f.WriteAt([]byte("ab"), 1)
	require.NoError(t, err)
	_, err = f.Write([]byte("!"))
	require.NoError(t, err)
	d.want(d.path("a"), "\x00ab\x00xy!")
	_, err = f.WriteAt([]byte("ab"), -1)
	require.Error(t, err)
}

func testTruncate(t *testing.T, d disk) {
	f, err := d.Create(d.path("a"))
	require.NoError(t, err)
	defer f.Close()
	_, err = f.Write([]byte("abcdef"))
	require.NoError(t, err)
	require.NoError(t, f.Truncate(2))
	size, err := f.Size()
	require.NoError(t, err)
	require.EqualValues(t, 2, size)
	_, err = f.Write([]byte("X"))
	require.NoError(t, err)
	require.NoError(t, f.Truncate(5))
	d.want(d.path("a"), "abX\x00\x00")
	require.Error(t, f.Truncate(-1))
}

func testRead(t *testing.T, d disk) {
	d.put(d.path("a"), "abcdef")
	f, err := d.Open(d.path("a"))
	require.NoError(t, err)
	defer f.Close()
	b := make([]byte, 4)
	n, err := f.ReadAt(b, 1)
	require.NoError(t, err)
	require.Equal(t, "bcde", string(b[:n]))
	n, err = f.ReadAt(b, 4)
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, "ef", string(b[:n]))
	n, err = f.ReadAt(b, 60)
	require.ErrorIs(t, err, io.EOF)
	require.Zero(t, n)
	_, err = f.ReadAt(b, -1)
	require.Error(t, err)
}

func testReadOnly(t *testing.T, d disk) {
	d.put(d.path("a"), "abc")
	f, err := d.Open(d.path("a"))
	require.NoError(t, err)
	defer f.Close()
	_, err = f.Write([]byte("x"))
	require.Error(t, err)
	_, err = f.WriteAt([]byte("x"), 0)
	require.Error(t, err)
	require.Error(t, f.Truncate(0))
	d.want(d.path("a"), "abc")
}

func testClose(t *testing.T, d disk) {
	f, err := d.Create(d.path("a"))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.ErrorIs(t, f.Close(), fs.ErrClosed)
	_, err = f.Write([]byte("x"))
	require.ErrorIs(t, err, fs.ErrClosed)
	_, err = f.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, fs.ErrClosed)
	require.Error(t, f.Sync())
}

func testMissing(t *testing.T, d disk) {
	p := d.path("no", "such")
	calls := map[string]func() error{
		"create":  func() error { _, err := d.Create(p); return err },
		"open":    func() error { _, err := d.Open(p); return err },
		"append":  func() error { _, err := d.OpenAppend(p); return err },
		"remove":  func() error { return d.Remove(p) },
		"rename":  func() error { return d.Rename(p, d.path("x")) },
		"readdir": func() error { _, err := d.ReadDir(p); return err },
		"stat":    func() error { _, err := d.Stat(p); return err },
		"syncdir": func() error { return d.SyncDir(p) },
		"map":     func() error { _, err := d.Map(p); return err },
		"lock":    func() error { _, err := d.Lock(p); return err },
		"free":    func() error { _, err := d.Free(p); return err },
	}
	for name, call := range calls {
		require.ErrorIs(t, call(), fs.ErrNotExist, name)
	}
	require.NoError(t, d.RemoveAll(p))
	d.wantExists(p, false)
}

func testWrongSort(t *testing.T, d disk) {
	d.put(d.path("file"), "x")
	require.NoError(t, d.MkdirAll(d.path("dir")))
	_, err := d.Create(d.path("dir"))
	require.Error(t, err)
	_, err = d.Open(d.path("dir"))
	require.Error(t, err)
	_, err = d.OpenAppend(d.path("dir"))
	require.Error(t, err)
	_, err = d.Map(d.path("dir"))
	require.Error(t, err)
	_, err = d.ReadDir(d.path("file"))
	require.Error(t, err)
	require.Error(t, d.MkdirAll(d.path("file", "below")))
	require.Error(t, d.MkdirAll(d.path("file")))
	require.Error(t, d.Rename(d.path("file"), d.path("dir")))
	require.Error(t, d.Rename(d.path("dir"), d.path("file")))
}

func testRemove(t *testing.T, d disk) {
	require.NoError(t, d.MkdirAll(d.path("dir")))
	d.put(d.path("dir", "a"), "x")
	require.Error(t, d.Remove(d.path("dir")), "not empty")
	require.NoError(t, d.Remove(d.path("dir", "a")))
	d.wantExists(d.path("dir", "a"), false)
	require.NoError(t, d.Remove(d.path("dir")))
	d.wantNames(d.dir)
}

func testRemoveOpen(t *testing.T, d disk) {
	d.put(d.path("a"), "abc")
	f, err := d.OpenAppend(d.path("a"))
	require.NoError(t, err)
	m, err := d.Map(d.path("a"))
	require.NoError(t, err)
	require.NoError(t, d.Remove(d.path("a")))
	b := make([]byte, 3)
	_, err = f.ReadAt(b, 0)
	require.NoError(t, err)
	require.Equal(t, "abc", string(b))
	_, err = f.Write([]byte("d"))
	require.NoError(t, err)
	require.Equal(t, "abc", string(m.Bytes()))
	require.NoError(t, f.Close())
	require.NoError(t, m.Close())
	d.wantExists(d.path("a"), false)
}

func testRemoveAll(t *testing.T, d disk) {
	require.NoError(t, d.MkdirAll(d.path("x", "y")))
	d.put(d.path("x", "a"), "1")
	d.put(d.path("x", "y", "b"), "2")
	require.NoError(t, d.RemoveAll(d.path("x")))
	d.wantExists(d.path("x"), false)
	d.put(d.path("file"), "3")
	require.NoError(t, d.RemoveAll(d.path("file")))
	d.wantNames(d.dir)
}

func testRename(t *testing.T, d disk) {
	d.put(d.path("a"), "new")
	d.put(d.path("b"), "old")
	require.NoError(t, d.Rename(d.path("a"), d.path("b")))
	d.want(d.path("b"), "new")
	d.wantNames(d.dir, "b")
	require.NoError(t, d.Rename(d.path("b"), d.path("b")))
	require.NoError(t, d.MkdirAll(d.path("dir")))
	require.NoError(t, d.Rename(d.path("b"), d.path("dir", "c")))
	d.want(d.path("dir", "c"), "new")
	d.wantNames(d.dir, "dir")
}

func testRenameDir(t *testing.T, d disk) {
	require.NoError(t, d.MkdirAll(d.path("x")))
	d.put(d.path("x", "a"), "1")
	require.NoError(t, d.Rename(d.path("x"), d.path("y")))
	d.want(d.path("y", "a"), "1")
	require.Error(t, d.Rename(d.path("y"), d.path("y", "below")), "into itself")
	require.NoError(t, d.MkdirAll(d.path("z")))
	d.put(d.path("z", "b"), "2")
	require.Error(t, d.Rename(d.path("y"), d.path("z")), "not empty")
}

func testDirs(t *testing.T, d disk) {
	require.NoError(t, d.MkdirAll(d.path("x", "y", "z")))
	require.NoError(t, d.MkdirAll(d.path("x", "y")))
	info, err := d.Stat(d.path("x", "y"))
	require.NoError(t, err)
	require.Equal(t, vfs.Info{Dir: true}, info)
	for _, name := range []string{"b", "a", "c"} {
		d.put(d.path("x", name), name)
	}
	d.wantNames(d.path("x"), "a", "b", "c", "y")
	d.wantNames(d.path("x", "y", "z"))
}

func testMap(t *testing.T, d disk) {
	contents := bytes.Repeat([]byte("0123456789abcdef"), 1000)
	d.put(d.path("a"), string(contents))
	m, err := d.Map(d.path("a"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(contents, m.Bytes()))
	require.Zero(t, uintptr(unsafe.Pointer(unsafe.SliceData(m.Bytes())))%uintptr(os.Getpagesize()), "page-aligned")

	f, err := d.OpenAppend(d.path("a"))
	require.NoError(t, err)
	_, err = f.Write(contents)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.True(t, bytes.Equal(contents, m.Bytes()), "appending leaves a mapping as it is")
	require.NoError(t, m.Close())
	require.NoError(t, m.Close())

	d.put(d.path("empty"), "")
	m, err = d.Map(d.path("empty"))
	require.NoError(t, err)
	require.Empty(t, m.Bytes())
	require.NoError(t, m.Close())
}

func testLock(t *testing.T, d disk) {
	l, err := d.Lock(d.path("LOCK"))
	require.NoError(t, err)
	_, err = d.Lock(d.path("LOCK"))
	require.ErrorIs(t, err, vfs.ErrLocked)
	other, err := d.Lock(d.path("OTHER"))
	require.NoError(t, err)
	require.NoError(t, other.Close())
	require.NoError(t, l.Close())
	l, err = d.Lock(d.path("LOCK"))
	require.NoError(t, err)
	require.NoError(t, l.Close())
	d.wantExists(d.path("LOCK"), true)
}

func testFree(t *testing.T, d disk) {
	free, err := d.Free(d.dir)
	require.NoError(t, err)
	require.Positive(t, free)
}

func testWriteAtomic(t *testing.T, d disk) {
	p := d.path("a")
	write := func(s string, err error) func(io.Writer) error {
		return func(w io.Writer) error {
			_, werr := io.WriteString(w, s)
			require.NoError(t, werr)
			return err
		}
	}
	require.NoError(t, vfs.WriteAtomic(d, p, write("old", nil)))
	require.NoError(t, vfs.WriteAtomic(d, p, write("new", nil)))
	d.want(p, "new")
	require.ErrorIs(t, vfs.WriteAtomic(d, p, write("half", io.ErrShortWrite)), io.ErrShortWrite)
	d.want(p, "new")
	d.wantNames(d.dir, "a")
}

// testCopy sees that short cuts of io.Copy do not get past the end that Write keeps.
func testCopy(t *testing.T, d disk) {
	d.put(d.path("src"), "0123456789")
	src, err := d.Open(d.path("src"))
	require.NoError(t, err)
	defer src.Close()
	dst, err := d.Create(d.path("dst"))
	require.NoError(t, err)
	defer dst.Close()
	for range 2 {
		n, err := io.Copy(dst, io.NewSectionReader(src, 2, 5))
		require.NoError(t, err)
		require.EqualValues(t, 5, n)
	}
	d.want(d.path("dst"), "2345623456")
}
