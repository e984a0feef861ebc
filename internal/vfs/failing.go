package vfs

import (
	"fmt"
	"io"
	"sync"
	"syscall"
)

// Fault says which operation of a Failing disk fails, and how.
type Fault struct {
	At    int   // the operation that fails, counted from 0
	Err   error // EIO when nil
	All   bool  // every later one fails too
	Reads bool  // count reads (Open, ReadAt, ReadDir, Stat, Map, Free) instead of changes (all the others but Size and Close)
}

// Failing is a disk that passes everything on to another one until an operation is due to fail. That operation has no
// effect, with two exceptions, both as on a real disk: a failed write leaves its first half, and a failed Sync on a Mem
// leaves what was written readable, but never durable.
type Failing struct {
	base FS

	mu     sync.Mutex
	fault  Fault
	armed  bool
	counts [2]int // changes, reads
	failed string
}

// NewFailing returns a disk that fails nothing before Arm.
func NewFailing(base FS) *Failing { return &Failing{base: base} }

// Arm sets the fault, forgets an earlier one and counts operations from 0 again.
func (f *Failing) Arm(fault Fault) {
	if fault.Err == nil {
		fault.Err = syscall.EIO
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault, f.armed, f.counts, f.failed = fault, true, [2]int{}, ""
}

// Disarm ends the failing: the disk is repaired.
func (f *Failing) Disarm() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = false
}

// Ops returns the number of changes tried since Arm or the start.
func (f *Failing) Ops() int { return f.count(0) }

// Reads returns the number of reads tried since Arm or the start.
func (f *Failing) Reads() int { return f.count(1) }

func (f *Failing) count(i int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts[i]
}

// Failed names the first operation that was made to fail ("sync /a/b"); "" when none was.
func (f *Failing) Failed() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

func (f *Failing) change(op, path string) error { return f.step(0, op, path) }

func (f *Failing) read(op, path string) error { return f.step(1, op, path) }

// step counts one operation and returns the error that it is due to fail with.
func (f *Failing) step(kind int, op, path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.counts[kind]
	f.counts[kind]++
	if !f.armed || f.fault.Reads != (kind == 1) || n < f.fault.At || n > f.fault.At && !f.fault.All {
		return nil
	}
	if f.failed == "" {
		f.failed = op + " " + path
	}
	return pathError(op, path, f.fault.Err)
}

// Create implements FS.
func (f *Failing) Create(path string) (File, error) {
	if err := f.change("create", path); err != nil {
		return nil, err
	}
	return f.wrap(path)(f.base.Create(path))
}

// Open implements FS.
func (f *Failing) Open(path string) (File, error) {
	if err := f.read("open", path); err != nil {
		return nil, err
	}
	return f.wrap(path)(f.base.Open(path))
}

// OpenAppend implements FS.
func (f *Failing) OpenAppend(path string) (File, error) {
	if err := f.change("openappend", path); err != nil {
		return nil, err
	}
	return f.wrap(path)(f.base.OpenAppend(path))
}

func (f *Failing) wrap(path string) func(File, error) (File, error) {
	return func(file File, err error) (File, error) {
		if err != nil {
			return nil, err
		}
		return &failingFile{File: file, disk: f, path: path}, nil
	}
}

// Remove implements FS.
func (f *Failing) Remove(path string) error {
	if err := f.change("remove", path); err != nil {
		return err
	}
	return f.base.Remove(path)
}

// RemoveAll implements FS.
func (f *Failing) RemoveAll(path string) error {
	if err := f.change("removeall", path); err != nil {
		return err
	}
	return f.base.RemoveAll(path)
}

// Rename implements FS.
func (f *Failing) Rename(from, to string) error {
	if err := f.change("rename", from); err != nil {
		return err
	}
	return f.base.Rename(from, to)
}

// MkdirAll implements FS.
func (f *Failing) MkdirAll(path string) error {
	if err := f.change("mkdirall", path); err != nil {
		return err
	}
	return f.base.MkdirAll(path)
}

// ReadDir implements FS.
func (f *Failing) ReadDir(path string) ([]string, error) {
	if err := f.read("readdir", path); err != nil {
		return nil, err
	}
	return f.base.ReadDir(path)
}

// Stat implements FS.
func (f *Failing) Stat(path string) (Info, error) {
	if err := f.read("stat", path); err != nil {
		return Info{}, err
	}
	return f.base.Stat(path)
}

// SyncDir implements FS.
func (f *Failing) SyncDir(path string) error {
	if err := f.change("syncdir", path); err != nil {
		return err
	}
	return f.base.SyncDir(path)
}

// Map implements FS.
func (f *Failing) Map(path string) (Mapping, error) {
	if err := f.read("mmap", path); err != nil {
		return nil, err
	}
	return f.base.Map(path)
}

// Lock implements FS.
func (f *Failing) Lock(path string) (io.Closer, error) {
	if err := f.change("lock", path); err != nil {
		return nil, err
	}
	return f.base.Lock(path)
}

// Free implements FS.
func (f *Failing) Free(path string) (uint64, error) {
	if err := f.read("free", path); err != nil {
		return 0, err
	}
	return f.base.Free(path)
}

type failingFile struct {
	File // Size and Close never fail
	disk *Failing
	path string
}

func (f *failingFile) Write(p []byte) (int, error) {
	if err := f.disk.change("write", f.path); err != nil {
		n, _ := f.File.Write(p[:len(p)/2])
		return n, err
	}
	return f.File.Write(p)
}

func (f *failingFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.disk.change("write", f.path); err != nil {
		n, _ := f.File.WriteAt(p[:len(p)/2], off)
		return n, err
	}
	return f.File.WriteAt(p, off)
}

func (f *failingFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.disk.read("read", f.path); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *failingFile) Truncate(size int64) error {
	if err := f.disk.change("truncate", f.path); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *failingFile) Sync() error {
	if err := f.disk.change("sync", f.path); err != nil {
		if mf, ok := f.File.(interface{ failSync() }); ok {
			mf.failSync()
		}
		return err
	}
	return f.File.Sync()
}

// TB is the part of testing.TB that EachFailure needs.
type TB interface {
	Helper()
	Failed() bool
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// maxFailures bounds EachFailure: a run with more operations than this is not a unit test.
const maxFailures = 100_000

// EachFailure calls run on an empty disk in memory with operation 0 failing, then on another one with operation 1
// failing, and so on until a run in which nothing failed; fault gives all but At. run does its own checks and may go
// on with the Mem beneath, or a crash clone of it, to see what was left. Returns the number of runs.
func EachFailure(tb TB, fault Fault, run func(disk *Failing, mem *Mem)) int {
	tb.Helper()
	for at := range maxFailures {
		mem := NewMem()
		disk := NewFailing(mem)
		fault.At = at
		disk.Arm(fault)
		run(disk, mem)
		if tb.Failed() {
			tb.Fatalf("with operation %d failing: %s", at, describe(disk))
		}
		if disk.Failed() == "" {
			return at + 1
		}
	}
	tb.Fatalf("no run survived %d failures", maxFailures)
	return maxFailures
}

func describe(f *Failing) string {
	if op := f.Failed(); op != "" {
		return fmt.Sprintf("%s: %v", op, f.fault.Err)
	}
	return "it was never reached"
}
