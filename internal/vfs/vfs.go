// Package vfs owns croft's access to files: one interface, FS, with a real disk (OS), a disk in memory that can be
// cloned as after a power cut (Mem), the disk of a simulated machine that crashes, hangs and fills up (Sim), and a
// wrapper that fails its Nth operation (Failing). It promises what each method says is durable on return, and that all
// disks behave alike (package vfstest is the judge). Every package of ours that touches a file calls it and takes the FS
// as an argument; bbolt and raft-wal, which open files themselves, do not on the real disk. It never retries, never hides
// an error and keeps no global state.
package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"syscall"

	"github.com/croftdb/croft/internal/errs"
)

// FS is a disk. Methods are safe for concurrent use. A missing file or directory is reported by an error for which
// errors.Is(err, fs.ErrNotExist) holds.
//
// A name and the contents it leads to become durable apart from each other: File.Sync is for contents, SyncDir for
// names. Until then a power cut may keep or lose each change, in any order.
type FS interface {
	// Create makes the file, or empties the one that is there, and opens it for writing and reading. Its directory
	// must exist. Nothing is durable on return, not even that an existing file is now empty.
	Create(path string) (File, error)
	// Open opens an existing file for reading alone.
	Open(path string) (File, error)
	// OpenAppend opens a file for writing and reading, and makes it if it is missing; Write continues at its end.
	// Nothing is durable on return.
	OpenAppend(path string) (File, error)
	// Remove deletes a file or an empty directory. Open files and mappings of it stay usable. Durable after SyncDir
	// of its directory.
	Remove(path string) error
	// RemoveAll deletes path and all below it; a missing path is no error. It is not atomic: a failure or a power cut
	// leaves any part.
	RemoveAll(path string) error
	// Rename gives a file or directory another name and replaces a file of that name. Within a directory it is atomic,
	// and durable after SyncDir. Between directories sync the new one first: the other order may lose both names.
	Rename(from, to string) error
	// MkdirAll makes a directory and its missing parents. They are durable on return.
	MkdirAll(path string) error
	// ReadDir returns the names in a directory, sorted.
	ReadDir(path string) ([]string, error)
	// Stat tells what is at path.
	Stat(path string) (Info, error)
	// SyncDir makes the names in a directory durable: what was created, renamed or removed there before the call.
	SyncDir(path string) error
	// Map gives the present contents of a file as memory. They must not be written while mapped.
	Map(path string) (Mapping, error)
	// Lock takes the exclusive lock of a data directory by way of a file, which it makes if missing and leaves in
	// place. It does not wait: the error wraps ErrLocked when it is taken, by this process or another. The
	// lock ends with Close or with the process.
	Lock(path string) (io.Closer, error)
	// Free returns the bytes that an unprivileged user can still write on the disk that holds path.
	Free(path string) (uint64, error)
}

// File is an open file. ReadAt and Size may run beside any method but Close; all others need one caller at a time.
type File interface {
	// Write appends at the end of the file. Not durable before Sync; after an error or a power cut any part of it may be there.
	io.Writer
	// WriteAt writes at an offset, as Write does; a gap it leaves behind the end reads as zeros.
	io.WriterAt
	io.ReaderAt
	// Truncate cuts the file, or extends it by zeros, to size bytes. Durable after Sync.
	Truncate(size int64) error
	// Sync makes contents and size durable, but not the name. After an error it is unknown which writes were kept, and
	// a second Sync may succeed without them: give the file up and rewrite what it held from another source.
	Sync() error
	// Size returns the present size in bytes.
	Size() (int64, error)
	io.Closer
}

// Mapping is a file's contents as memory, page-aligned.
type Mapping interface {
	// Bytes is read-only: a write to it crashes the process. It must not be touched after Close.
	Bytes() []byte
	io.Closer
}

// Info is what Stat tells.
type Info struct {
	Size int64 // bytes; 0 for a directory
	Dir  bool
}

// ErrLocked says that another holder has the lock.
var ErrLocked = errors.New("locked by another holder")

func lockedError(path string) error {
	return errs.New(errs.FailedPrecondition, "lock %s: %w", path, ErrLocked).
		WithHint("another croft process uses this directory: stop it or choose another --data")
}

// IsFull reports whether err says that no space is left, on the disk or in the user's quota.
func IsFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// Exists reports whether there is a file or directory at path.
func Exists(fsys FS, path string) (bool, error) {
	_, err := fsys.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// ReadFile returns the whole contents of a file.
func ReadFile(fsys FS, path string) ([]byte, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return nil, fmt.Errorf("read %s: %d of %d bytes: %w", path, n, size, err)
	}
	return b, nil
}

// tempSuffix marks a file that WriteAtomic has not finished.
const tempSuffix = ".tmp"

// WriteAtomic replaces the file at path by what write produces. On success it is durable under its name. After an
// error or a power cut the old file or the new one is there, whole; path+".tmp" may remain after a cut, and the next
// call replaces it. One call for a path at a time.
func WriteAtomic(fsys FS, path string, write func(w io.Writer) error) error {
	tmp := path + tempSuffix
	if err := writeSynced(fsys, tmp, write); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), ignoreMissing(fsys.Remove(tmp)))
	}
	if err := fsys.Rename(tmp, path); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), ignoreMissing(fsys.Remove(tmp)))
	}
	return fsys.SyncDir(filepath.Dir(path))
}

func writeSynced(fsys FS, path string, write func(w io.Writer) error) error {
	f, err := fsys.Create(path)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
