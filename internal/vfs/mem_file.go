package vfs

import (
	"io"
	"io/fs"
	"os"
	"syscall"
	"unsafe"
)

// memFile is an open file of a Mem.
type memFile struct {
	m        *Mem
	node     *memNode
	path     string
	writable bool
	closed   bool // under m.mu
}

func (m *Mem) openLocked(p string, n *memNode, writable bool) *memFile {
	m.handles[clean(p)]++
	return &memFile{m: m, node: n, path: clean(p), writable: writable}
}

func (m *Mem) releaseLocked(p string) {
	if m.handles[p]--; m.handles[p] == 0 {
		delete(m.handles, p)
	}
}

// usableLocked refuses closed files, and changes through one opened for reading.
func (f *memFile) usableLocked(op string, writing bool) error {
	switch {
	case f.closed:
		return pathError(op, f.path, fs.ErrClosed)
	case writing && !f.writable:
		return pathError(op, f.path, syscall.EBADF)
	}
	return nil
}

func (f *memFile) Write(p []byte) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return f.writeLocked(p, int64(len(f.node.data)))
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if off < 0 {
		return 0, pathError("write", f.path, fs.ErrInvalid)
	}
	return f.writeLocked(p, off)
}

// writeLocked writes as much as fits on the disk, as a real one does.
func (f *memFile) writeLocked(p []byte, off int64) (int, error) {
	if err := f.usableLocked("write", true); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	var err error
	end := max(off+int64(len(p)), int64(len(f.node.data)))
	if over := f.m.used + end - int64(len(f.node.data)) - f.m.capacity; over > 0 && end > int64(len(f.node.data)) {
		p = p[:max(0, int64(len(p))-over)]
		err = pathError("write", f.path, syscall.ENOSPC)
	}
	if len(p) == 0 {
		return 0, err
	}
	if end := off + int64(len(p)); end > int64(len(f.node.data)) {
		f.m.resizeLocked(f.node, int(end))
	}
	f.node.touch(int(off), int(off)+len(p))
	return copy(f.node.data[off:], p), err
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.m.mu.RLock()
	defer f.m.mu.RUnlock()
	if err := f.usableLocked("read", false); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, pathError("read", f.path, fs.ErrInvalid)
	}
	if off > int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) Truncate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.usableLocked("truncate", true); err != nil {
		return err
	}
	if size < 0 {
		return pathError("truncate", f.path, fs.ErrInvalid)
	}
	f.m.resizeLocked(f.node, int(size))
	return nil
}

func (f *memFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.usableLocked("sync", false); err != nil {
		return err
	}
	f.node.sync()
	return nil
}

// failSync is what Linux does when fsync meets an error: the dirty pages count as clean from now on, though they are
// not on the disk. The next Sync succeeds, and a power cut still loses them.
func (f *memFile) failSync() {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.node.dirtyLo, f.node.dirtyHi = 0, 0
}

func (f *memFile) Size() (int64, error) {
	f.m.mu.RLock()
	defer f.m.mu.RUnlock()
	return int64(len(f.node.data)), f.usableLocked("size", false)
}

func (f *memFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.usableLocked("close", false); err != nil {
		return err
	}
	f.closed = true
	f.m.releaseLocked(f.path)
	return nil
}

// touch marks [lo, hi) as not durable.
func (n *memNode) touch(lo, hi int) {
	if n.dirtyLo == n.dirtyHi {
		n.dirtyLo, n.dirtyHi = lo, hi
		return
	}
	n.dirtyLo, n.dirtyHi = min(n.dirtyLo, lo), max(n.dirtyHi, hi)
}

// resizeLocked sets a file's length; what it gains is zeros.
func (m *Mem) resizeLocked(n *memNode, size int) {
	old := len(n.data)
	if size == old {
		return
	}
	if !n.gone {
		m.used += int64(size - old)
	}
	n.touch(min(size, old), max(size, old))
	if size > cap(n.data) {
		n.data = append(alignedBytes(max(size, 2*cap(n.data)))[:0], n.data...)
	}
	n.data = n.data[:size]
	if size > old {
		clear(n.data[old:])
	}
}

// sync copies what may differ to the durable side.
func (n *memNode) sync() {
	if n.dirtyLo == n.dirtyHi {
		return
	}
	n.synced = resized(n.synced, len(n.data))
	if hi := min(n.dirtyHi, len(n.data)); n.dirtyLo < hi {
		copy(n.synced[n.dirtyLo:hi], n.data[n.dirtyLo:hi])
	}
	n.dirtyLo, n.dirtyHi = 0, 0
}

// resized cuts b or extends it by zeros.
func resized(b []byte, size int) []byte {
	if size <= len(b) {
		return b[:size]
	}
	return append(b, make([]byte, size-len(b))...)
}

// alignedBytes returns n bytes that start at a page, as mappings promise.
func alignedBytes(n int) []byte {
	page := os.Getpagesize()
	b := make([]byte, n+page)
	skip := page - int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))%uintptr(page))
	return b[skip : skip+n : skip+n]
}

// Map implements FS: a view of the contents, which stay where they are as long as nobody writes them.
func (m *Mem) Map(p string) (Mapping, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.fileLocked(p)
	if err != nil {
		return nil, pathError("mmap", p, err)
	}
	m.handles[clean(p)]++
	return &memMapping{m: m, path: clean(p), bytes: n.data[:len(n.data):len(n.data)]}, nil
}

type memMapping struct {
	m     *Mem
	path  string
	bytes []byte
	done  bool // under m.mu
}

func (mm *memMapping) Bytes() []byte { return mm.bytes }

func (mm *memMapping) Close() error {
	mm.m.mu.Lock()
	defer mm.m.mu.Unlock()
	if !mm.done {
		mm.done = true
		mm.bytes = nil
		mm.m.releaseLocked(mm.path)
	}
	return nil
}
