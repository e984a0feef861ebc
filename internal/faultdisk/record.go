//go:build linux

package faultdisk

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// recorder knows of each file and directory what is durable and what was done to it since. The durable contents of
// files lie in a shadow directory, one file per inode; edits that are not synced are held in memory. All changes and Cut
// run under mu, together with the operation on the backing directory that they record: so a cut falls between two
// operations.
type recorder struct {
	shadow string

	mu     sync.Mutex
	root   *inode
	byIno  map[uint64]*inode // by inode number in the backing directory; only those that have a name
	nextID uint64
	faults []*armedFault
	stats  Stats
}

type armedFault struct {
	Fault
	seen int
}

// inode is a file or a directory; all fields are under recorder.mu.
type inode struct {
	id    uint64 // name in the shadow directory
	dir   bool
	links int // names that lead to it now

	edits []edit // of a file: changes since the last sync, oldest first

	names, durable map[string]*inode // of a directory: as seen, and as a cut keeps them
	changes        []nameChange      // between the two, oldest first
}

// edit is one change of a file's contents.
type edit struct {
	kind editKind
	off  int64 // of a write; else the size
	data []byte
}

type editKind uint8

const (
	editWrite editKind = iota
	editTruncate
	editExtend // never shortens
)

// nameChange is one atomic step of a directory: one name taken away, then one set. Either may be "".
type nameChange struct {
	del, set string
	node     *inode
}

func newRecorder(shadow string, rootIno uint64) *recorder {
	r := &recorder{shadow: shadow, byIno: map[uint64]*inode{}, stats: Stats{Counts: map[Op]int{}}}
	r.root = r.newInodeLocked(true)
	r.byIno[rootIno] = r.root
	return r
}

func (r *recorder) newInodeLocked(dir bool) *inode {
	r.nextID++
	n := &inode{id: r.nextID, dir: dir}
	if dir {
		n.names, n.durable = map[string]*inode{}, map[string]*inode{}
	}
	return n
}

// inodeOf returns the inode with a number of the backing directory.
func (r *recorder) inodeOf(ino uint64) *inode {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byIno[ino]
}

// failLocked counts one operation and returns the errno that it is due to fail with, or 0.
func (r *recorder) failLocked(op Op, path string) syscall.Errno {
	r.stats.Counts[op]++
	for _, f := range r.faults {
		if f.Op != op || !strings.HasPrefix(path, f.Under) {
			continue
		}
		n := f.seen
		f.seen++
		if n == f.At || n > f.At && f.All {
			r.stats.Failed = append(r.stats.Failed, fmt.Sprintf("%s %s", op, path))
			return f.Err
		}
	}
	return 0
}

func (r *recorder) fail(f Fault) {
	if f.Err == 0 {
		f.Err = syscall.EIO
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, &armedFault{Fault: f})
}

func (r *recorder) heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = nil
}

func (r *recorder) snapshotStats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Stats{Counts: maps.Clone(r.stats.Counts), Failed: slices.Clone(r.stats.Failed)}
}

// do runs an operation and its record as one step, or fails it. do's path is from the root of the disk, "/a/b".
func (r *recorder) do(op Op, path string, step func() syscall.Errno) syscall.Errno {
	r.mu.Lock()
	defer r.mu.Unlock()
	if errno := r.failLocked(op, path); errno != 0 {
		return errno
	}
	return step()
}

// createLocked records a new file or directory under a name.
func (r *recorder) createLocked(parent *inode, name string, ino uint64, dir bool) *inode {
	n := r.newInodeLocked(dir)
	r.byIno[ino] = n
	r.linkLocked(n, parent, name)
	return n
}

// linkLocked records a name, the first or one more.
func (r *recorder) linkLocked(n, parent *inode, name string) {
	n.links++
	parent.changeLocked(nameChange{set: name, node: n})
}

func (n *inode) changeLocked(c nameChange) {
	c.apply(n.names)
	n.changes = append(n.changes, c)
}

func (c nameChange) apply(names map[string]*inode) {
	if c.del != "" {
		delete(names, c.del)
	}
	if c.set != "" {
		names[c.set] = c.node
	}
}

func (r *recorder) removeLocked(parent *inode, name string) {
	r.unlinkLocked(parent.names[name])
	parent.changeLocked(nameChange{del: name})
}

// unlinkLocked counts a name less; n may be nil. With the last one the inode gives its number back: the backing
// directory may give it to another file.
func (r *recorder) unlinkLocked(n *inode) {
	if n == nil {
		return
	}
	if n.links--; n.links == 0 {
		maps.DeleteFunc(r.byIno, func(_ uint64, other *inode) bool { return other == n })
	}
}

// renameLocked records a rename. Between directories it is two changes, each durable with its own directory.
func (r *recorder) renameLocked(from *inode, oldName string, to *inode, newName string) {
	n := from.names[oldName]
	replaced := to.names[newName]
	if replaced == n {
		return // two names of one file: POSIX says to do nothing
	}
	r.unlinkLocked(replaced)
	if from == to {
		from.changeLocked(nameChange{del: oldName, set: newName, node: n})
		return
	}
	to.changeLocked(nameChange{set: newName, node: n})
	from.changeLocked(nameChange{del: oldName})
}

// syncLocked makes an inode durable: a file's contents, a directory's names.
func (r *recorder) syncLocked(n *inode) error {
	if n.dir {
		n.durable, n.changes = maps.Clone(n.names), nil
		return r.sweepLocked()
	}
	if len(n.edits) == 0 {
		return nil
	}
	f, err := os.OpenFile(r.shadowPath(n), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, e := range n.edits {
		if err := e.apply(f); err != nil {
			return err
		}
	}
	n.edits = nil
	return nil
}

func (r *recorder) shadowPath(n *inode) string { return filepath.Join(r.shadow, fmt.Sprint(n.id)) }

func (e edit) apply(f *os.File) error {
	switch e.kind {
	case editTruncate:
		return f.Truncate(e.off)
	case editExtend:
		return extend(f, e.off)
	}
	_, err := f.WriteAt(e.data, e.off)
	return err
}

// extend makes f at least size bytes long.
func extend(f *os.File, size int64) error {
	info, err := f.Stat()
	if err != nil || info.Size() >= size {
		return err
	}
	return f.Truncate(size)
}

// sweepLocked removes the shadows of files that no cut can bring back any more.
func (r *recorder) sweepLocked() error {
	alive := map[*inode]bool{}
	r.root.markLocked(alive)
	for _, n := range r.byIno {
		alive[n] = true
	}
	entries, err := os.ReadDir(r.shadow)
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for n := range alive {
		keep[fmt.Sprint(n.id)] = true
	}
	for _, e := range entries {
		if !keep[e.Name()] {
			if err := os.Remove(filepath.Join(r.shadow, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *inode) markLocked(alive map[*inode]bool) {
	if alive[n] {
		return
	}
	alive[n] = true
	for _, names := range []map[string]*inode{n.names, n.durable} {
		for _, child := range names {
			child.markLocked(alive)
		}
	}
	for _, c := range n.changes {
		if c.node != nil {
			c.node.markLocked(alive)
		}
	}
}
