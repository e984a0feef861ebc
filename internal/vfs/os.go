//go:build unix

package vfs

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// What we store is nobody else's business.
const (
	filePerm = 0o600
	dirPerm  = 0o700
)

type osFS struct{}

// OS returns the real disk. Files and directories it makes belong to the process's user alone.
func OS() FS { return osFS{} }

func (osFS) Create(path string) (File, error) { return openOS(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC) }

func (osFS) Open(path string) (File, error) { return openOS(path, os.O_RDONLY) }

func (osFS) OpenAppend(path string) (File, error) { return openOS(path, os.O_RDWR|os.O_CREATE) }

func (osFS) Remove(path string) error { return os.Remove(path) }

func (osFS) RemoveAll(path string) error { return os.RemoveAll(path) }

func (osFS) Rename(from, to string) error { return os.Rename(from, to) }

// MkdirAll also syncs the parent of the deepest directory that is there already: an earlier call may have been cut
// short between making and syncing it. All above that one were synced before it was made.
func (d osFS) MkdirAll(path string) error {
	path = filepath.Clean(path)
	parent := filepath.Dir(path)
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		return ignorePermission(d.SyncDir(parent)) // not readable: not a directory that we add names to
	}
	if parent != path {
		if err := d.MkdirAll(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, dirPerm); err != nil && !isDirNow(path, err) {
		return err
	}
	return d.SyncDir(parent)
}

// isDirNow reports whether a failed Mkdir only lost a race to another one.
func isDirNow(path string, err error) bool {
	info, statErr := os.Stat(path)
	return errors.Is(err, os.ErrExist) && statErr == nil && info.IsDir()
}

func ignorePermission(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return nil
	}
	return err
}

func (osFS) ReadDir(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}

func (osFS) Stat(path string) (Info, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Info{}, err
	}
	if info.IsDir() {
		return Info{Dir: true}, nil
	}
	return Info{Size: info.Size()}, nil
}

func (osFS) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (osFS) Free(path string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return uint64(st.Bavail) * uint64(st.Bsize), nil
}

func (osFS) Lock(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, filePerm)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = lockedError(path)
	}
	return nil, errors.Join(err, f.Close())
}

// Map keeps no descriptor: the mapping outlives it.
func (osFS) Map(path string) (Mapping, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() == 0 {
		return &osMapping{}, nil // the kernel maps nothing of no length
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, &os.PathError{Op: "mmap", Path: path, Err: err}
	}
	return &osMapping{bytes: b, path: path, info: info}, nil
}

type osMapping struct {
	bytes   []byte
	closing sync.Once

	path    string
	info    os.FileInfo
	opening sync.Once
	past    *os.File // reads past the page cache: direct
	pastFd  int
	sector  int
}

func (m *osMapping) Bytes() []byte { return m.bytes }

func (m *osMapping) Close() (err error) {
	m.closing.Do(func() {
		if m.bytes != nil {
			err = unix.Munmap(m.bytes)
			m.bytes = nil
		}
		m.opening.Do(func() {}) // nor is it opened from now on
		if m.past != nil {
			err = errors.Join(err, m.past.Close())
		}
	})
	return err
}

// osFile keeps the end of the file itself, since Go refuses WriteAt on files opened for appending. The os.File is a
// field, not embedded: its ReadFrom would write past our back.
type osFile struct {
	f   *os.File
	end int64
}

func openOS(path string, flag int) (File, error) {
	f, err := os.OpenFile(path, flag, filePerm)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if info.IsDir() {
		return nil, errors.Join(&os.PathError{Op: "open", Path: path, Err: unix.EISDIR}, f.Close())
	}
	return &osFile{f: f, end: info.Size()}, nil
}

func (o *osFile) Write(p []byte) (int, error) { return o.WriteAt(p, o.end) }

func (o *osFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := o.f.WriteAt(p, off)
	if n > 0 {
		o.end = max(o.end, off+int64(n))
	}
	return n, err
}

func (o *osFile) ReadAt(p []byte, off int64) (int, error) { return o.f.ReadAt(p, off) }

func (o *osFile) Truncate(size int64) error {
	err := o.f.Truncate(size)
	if err == nil {
		o.end = size
	}
	return err
}

func (o *osFile) Size() (int64, error) {
	info, err := o.f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (o *osFile) Sync() error { return fdatasync(o.f) }

func (o *osFile) Close() error { return o.f.Close() }
