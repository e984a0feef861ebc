package cluster

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"sync/atomic"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/longlock"
	"github.com/croftdb/croft/internal/vfs"
)

// addressBook knows where nodes are reached. It is the metadata plane's list on disk: after a start, the metadata plane
// knows nothing that was not in its last snapshot until its leader has been found, for which addresses are needed.
type addressBook struct {
	disk    vfs.FS
	path    string
	writing longlock.Mutex
	known   atomic.Pointer[map[string]string] // by node id; never changed
}

// openAddressBook reads the book in dir; there need not be one.
func openAddressBook(disk vfs.FS, dir string) (*addressBook, error) {
	a := &addressBook{disk: disk, path: filepath.Join(dir, "peers.json")}
	known := map[string]string{}
	b, err := vfs.ReadFile(disk, a.path)
	if err == nil {
		err = json.Unmarshal(b, &known)
	}
	a.known.Store(&known)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errs.Wrap(errs.Corrupt, err, "read %s", a.path)
	}
	return a, nil
}

// address returns where a node is reached, empty if that is unknown.
func (a *addressBook) address(node string) string { return (*a.known.Load())[node] }

// nodes lists whom it knows, in order.
func (a *addressBook) nodes() []string { return sortedKeys(*a.known.Load()) }

// note replaces the book if it is another.
func (a *addressBook) note(known map[string]string) error {
	a.writing.Lock()
	defer a.writing.Unlock()
	if maps.Equal(known, *a.known.Load()) {
		return nil
	}
	a.known.Store(&known)
	return vfs.WriteAtomic(a.disk, a.path, func(w io.Writer) error { return json.NewEncoder(w).Encode(known) })
}

// noteMembers takes over what the metadata plane says. A node alone keeps no book.
func (a *addressBook) noteMembers(s *state) error {
	if s.alone() {
		return nil
	}
	return a.note(s.addresses())
}

// addresses returns where the nodes are.
func (s *state) addresses() map[string]string {
	known := make(map[string]string, len(s.members))
	for _, m := range s.members {
		if m.state != memberRemoved {
			known[m.id] = m.address
		}
	}
	return known
}
