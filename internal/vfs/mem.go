package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// defaultCapacity is what a disk in memory holds unless told otherwise: nobody fills it by accident.
const defaultCapacity = 1 << 40

// Mem is a disk in memory that knows which changes are durable, so that CrashClone can take the others away. Paths
// are slash-separated; a relative one starts at the root, which always exists.
type Mem struct {
	mu       sync.RWMutex
	root     *memNode
	capacity int64
	used     int64 // bytes in files that have a name
	locks    map[string]bool
	handles  map[string]int // open files and mappings by path at opening
}

// memNode is a file or a directory. It may outlive its last name while it is open.
type memNode struct {
	dir  bool
	gone bool // it has no name any more

	// Of a file: what readers see, what a power cut keeps for sure, and the range where they may differ without a
	// failed Sync having settled it. Outside [dirtyLo, dirtyHi) a power cut leaves synced.
	data, synced     []byte
	dirtyLo, dirtyHi int

	// Of a directory: names as readers see them, names that a power cut keeps, and the changes in between.
	names, syncedNames map[string]*memNode
	pending            []nameChange
}

// nameChange is one atomic step of a directory: names taken away, then one set. Either may be missing.
type nameChange struct {
	del  string
	set  string
	node *memNode
}

func newDirNode() *memNode {
	return &memNode{dir: true, names: map[string]*memNode{}, syncedNames: map[string]*memNode{}}
}

// NewMem returns an empty disk in memory.
func NewMem() *Mem { return newMemAt(newDirNode(), defaultCapacity) }

// NewMemSize returns an empty disk in memory that holds capacity bytes of file contents; writes beyond fail with
// ENOSPC.
func NewMemSize(capacity int64) *Mem { return newMemAt(newDirNode(), capacity) }

func newMemAt(root *memNode, capacity int64) *Mem {
	return &Mem{root: root, capacity: capacity, locks: map[string]bool{}, handles: map[string]int{}}
}

// Handles lists the paths of files and mappings that are open, sorted; one that is open twice is listed twice.
func (m *Mem) Handles() []string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var open []string
	for p, n := range m.handles {
		open = append(open, slices.Repeat([]string{p}, n)...)
	}
	slices.Sort(open)
	return open
}

// clean makes "/a/b" of a path.
func clean(p string) string { return path.Clean("/" + p) }

func pathError(op, p string, err error) error { return &fs.PathError{Op: op, Path: p, Err: err} }

// lookupLocked finds the node at a path. Callers hold mu.
func (m *Mem) lookupLocked(p string) (*memNode, error) {
	n := m.root
	for name := range strings.SplitSeq(clean(p)[1:], "/") {
		if name == "" {
			continue // the root
		}
		if !n.dir {
			return nil, syscall.ENOTDIR
		}
		if n = n.names[name]; n == nil {
			return nil, fs.ErrNotExist
		}
	}
	return n, nil
}

// parentLocked finds the directory that holds, or would hold, a path, and the path's name there.
func (m *Mem) parentLocked(p string) (*memNode, string, error) {
	p = clean(p)
	if p == "/" {
		return nil, "", fs.ErrInvalid
	}
	dir, err := m.lookupLocked(path.Dir(p))
	if err == nil && !dir.dir {
		err = syscall.ENOTDIR
	}
	return dir, path.Base(p), err
}

func (d *memNode) change(c nameChange) {
	d.apply(d.names, c)
	d.pending = append(d.pending, c)
}

func (*memNode) apply(names map[string]*memNode, c nameChange) {
	if c.del != "" {
		delete(names, c.del)
	}
	if c.set != "" {
		names[c.set] = c.node
	}
}

func (d *memNode) syncNames() {
	d.syncedNames = maps.Clone(d.names)
	d.pending = nil
}

// Create implements FS.
func (m *Mem) Create(p string) (File, error) { return m.openForWriting("create", p, true) }

// OpenAppend implements FS.
func (m *Mem) OpenAppend(p string) (File, error) { return m.openForWriting("open", p, false) }

func (m *Mem) openForWriting(op, p string, empty bool) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, name, err := m.parentLocked(p)
	if err != nil {
		return nil, pathError(op, p, err)
	}
	n := dir.names[name]
	switch {
	case n == nil:
		n = &memNode{}
		dir.change(nameChange{set: name, node: n})
	case n.dir:
		return nil, pathError(op, p, syscall.EISDIR)
	case empty:
		m.resizeLocked(n, 0)
	}
	return m.openLocked(p, n, true), nil
}

// Open implements FS.
func (m *Mem) Open(p string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.fileLocked(p)
	if err != nil {
		return nil, pathError("open", p, err)
	}
	return m.openLocked(p, n, false), nil
}

func (m *Mem) fileLocked(p string) (*memNode, error) {
	n, err := m.lookupLocked(p)
	if err == nil && n.dir {
		err = syscall.EISDIR
	}
	return n, err
}

// Remove implements FS.
func (m *Mem) Remove(p string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, name, err := m.parentLocked(p)
	if err != nil {
		return pathError("remove", p, err)
	}
	n := dir.names[name]
	switch {
	case n == nil:
		return pathError("remove", p, fs.ErrNotExist)
	case n.dir && len(n.names) > 0:
		return pathError("remove", p, syscall.ENOTEMPTY)
	}
	m.removeLocked(dir, name)
	return nil
}

// removeLocked takes away a name and all below it.
func (m *Mem) removeLocked(dir *memNode, name string) {
	n := dir.names[name]
	for _, child := range slices.Sorted(maps.Keys(n.names)) {
		m.removeLocked(n, child)
	}
	m.freeLocked(n)
	dir.change(nameChange{del: name})
}

// freeLocked gives a file's space back. What it grows by while it is still open is not counted.
func (m *Mem) freeLocked(n *memNode) {
	m.used -= int64(len(n.data))
	n.gone = true
}

// RemoveAll implements FS.
func (m *Mem) RemoveAll(p string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, name, err := m.parentLocked(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return pathError("removeall", p, err)
	}
	if dir.names[name] != nil {
		m.removeLocked(dir, name)
	}
	return nil
}

// Rename implements FS. Between directories it is two changes, one in each.
func (m *Mem) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	src, oldName, err := m.parentLocked(from)
	if err != nil {
		return pathError("rename", from, err)
	}
	dst, newName, err := m.parentLocked(to)
	if err != nil {
		return pathError("rename", to, err)
	}
	n, old := src.names[oldName], dst.names[newName]
	if err := checkRename(n, old, clean(from), clean(to)); err != nil {
		return pathError("rename", from, err)
	}
	if n == old {
		return nil
	}
	if old != nil {
		m.freeLocked(old)
	}
	if src == dst {
		src.change(nameChange{del: oldName, set: newName, node: n})
		return nil
	}
	dst.change(nameChange{set: newName, node: n})
	src.change(nameChange{del: oldName})
	return nil
}

func checkRename(n, old *memNode, from, to string) error {
	switch {
	case n == nil:
		return fs.ErrNotExist
	case n.dir && strings.HasPrefix(to, from+"/"):
		return fs.ErrInvalid
	case old == nil || old == n:
		return nil
	case old.dir && !n.dir:
		return syscall.EISDIR
	case !old.dir && n.dir:
		return syscall.ENOTDIR
	case old.dir && len(old.names) > 0:
		return syscall.ENOTEMPTY
	}
	return nil
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(p string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.root
	for name := range strings.SplitSeq(clean(p)[1:], "/") {
		if name == "" {
			continue
		}
		child := n.names[name]
		if child == nil {
			child = newDirNode()
			n.change(nameChange{set: name, node: child})
			n.syncNames()
		}
		if !child.dir {
			return pathError("mkdir", p, syscall.ENOTDIR)
		}
		n = child
	}
	return nil
}

// ReadDir implements FS.
func (m *Mem) ReadDir(p string) ([]string, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n, err := m.dirLocked(p)
	if err != nil {
		return nil, pathError("readdir", p, err)
	}
	return slices.Sorted(maps.Keys(n.names)), nil
}

func (m *Mem) dirLocked(p string) (*memNode, error) {
	n, err := m.lookupLocked(p)
	if err == nil && !n.dir {
		err = syscall.ENOTDIR
	}
	return n, err
}

// Stat implements FS.
func (m *Mem) Stat(p string) (Info, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n, err := m.lookupLocked(p)
	if err != nil {
		return Info{}, pathError("stat", p, err)
	}
	return Info{Size: int64(len(n.data)), Dir: n.dir}, nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(p string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.dirLocked(p)
	if err != nil {
		return pathError("syncdir", p, err)
	}
	n.syncNames()
	return nil
}

// Free implements FS.
func (m *Mem) Free(p string) (uint64, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if _, err := m.lookupLocked(p); err != nil {
		return 0, pathError("free", p, err)
	}
	return uint64(max(0, m.capacity-m.used)), nil
}

// Lock implements FS. The lock belongs to this disk, not to its clones: their holder died with the power.
func (m *Mem) Lock(p string) (io.Closer, error) {
	f, err := m.OpenAppend(p)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	taken := m.locks[clean(p)]
	m.locks[clean(p)] = true
	m.mu.Unlock()
	if taken {
		f.Close()
		return nil, lockedError(p)
	}
	return &memLock{m: m, file: f, path: clean(p)}, nil
}

type memLock struct {
	m    *Mem
	file File
	path string
}

func (l *memLock) Close() error {
	if err := l.file.Close(); err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	delete(l.m.locks, l.path)
	return nil
}
