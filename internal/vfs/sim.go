package vfs

import (
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"
)

// ErrPowerCut is in the chain of what operations on a disk answer after its power was cut.
var ErrPowerCut = errors.New("the power was cut")

// Sim is the disk of a simulated machine: a Mem that can lose its power, hang, be slow and be full while a program runs on
// it. It waits on channels and timers alone, so one made inside a bubble of testing/synctest lets its time pass. But
// nobody else may wait for a mutex meanwhile: where the program holds one over an operation that waits, the bubble's time
// stands still. Prompt is for where that is somebody else's mutex.
type Sim struct {
	*simState
	prompt bool
}

type simState struct {
	mu       sync.RWMutex // read-held by an operation; Crash thus comes before or after it
	mem      *Mem
	capacity int64
	cut      chan struct{} // closed by Crash
	stalled  chan struct{} // closed by Resume; nil: operations pass
	syncTime time.Duration
}

var _ FS = (*Sim)(nil)

// NewSim returns an empty disk.
func NewSim() *Sim { return newSim(NewMem()) }

func newSim(m *Mem) *Sim {
	return &Sim{simState: &simState{mem: m, capacity: m.capacity, cut: make(chan struct{})}}
}

// Prompt returns the same disk, on which operations neither stall nor take time.
func (s *Sim) Prompt() FS { return &Sim{simState: s.simState, prompt: true} }

// Crash cuts the power and returns the disk that the machine finds at its next start: what was synced, and of the rest
// what rng draws, see Mem.CrashClone. Operations on s fail from now on, those that wait too, and change nothing any more;
// mappings stay readable, and files and locks can be closed. What was wrong with s is not wrong with what it returns.
func (s *Sim) Crash(rng *rand.Rand) *Sim {
	return s.end(func() *Mem { return s.mem.CrashClone(rng) })
}

// Kill is Crash where only the process dies: all that was written stays, since the kernel has it.
func (s *Sim) Kill() *Sim { return s.end(s.mem.Clone) }

func (s *Sim) end(clone func() *Mem) *Sim {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.cut:
		panic("vfs: a disk without power is asked to lose it")
	default:
	}
	m := clone()
	m.capacity = s.capacity
	close(s.cut)
	return newSim(m)
}

// Stall lets all operations but Close wait until Resume or Crash.
func (s *Sim) Stall() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stalled == nil {
		s.stalled = make(chan struct{})
	}
}

// Resume ends a Stall.
func (s *Sim) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stalled != nil {
		close(s.stalled)
		s.stalled = nil
	}
}

// SetSyncTime says how long Sync of a file and SyncDir take; 0: no time.
func (s *Sim) SetSyncTime(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.syncTime = d
}

// SetFull fills the disk, so that writes that need space fail with ENOSPC, or gives all its space back.
func (s *Sim) SetFull(full bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.mem.mu.Lock()
	defer s.mem.mu.Unlock()
	if s.mem.capacity = s.capacity; full {
		s.mem.capacity = s.mem.used
	}
}

// Handles is Mem.Handles.
func (s *Sim) Handles() []string { return s.mem.Handles() }

// do carries out an operation in its turn.
func (s *Sim) do(op, path string, f func() error) error {
	for {
		stalled, err := s.try(op, path, f)
		if stalled == nil {
			return err
		}
		select {
		case <-stalled:
		case <-s.cut:
		}
	}
}

// sync is do for an operation that takes its time.
func (s *Sim) sync(op, path string, f func() error) error {
	s.sleep()
	return s.do(op, path, f)
}

// try carries out an operation unless the disk is stalled: then it returns what to wait for.
func (s *Sim) try(op, path string, f func() error) (stalled <-chan struct{}, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	select {
	case <-s.cut:
		return nil, pathError(op, path, errors.Join(ErrPowerCut, syscall.EIO))
	default:
	}
	if s.stalled != nil && !s.prompt {
		return s.stalled, nil
	}
	return nil, f()
}

func (s *Sim) sleep() {
	s.mu.RLock()
	d := s.syncTime
	s.mu.RUnlock()
	if d <= 0 || s.prompt {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.cut:
	}
}

// Create implements FS.
func (s *Sim) Create(path string) (File, error) { return s.open("create", path, s.mem.Create) }

// Open implements FS.
func (s *Sim) Open(path string) (File, error) { return s.open("open", path, s.mem.Open) }

// OpenAppend implements FS.
func (s *Sim) OpenAppend(path string) (File, error) { return s.open("open", path, s.mem.OpenAppend) }

func (s *Sim) open(op, path string, open func(string) (File, error)) (file File, err error) {
	err = s.do(op, path, func() error {
		f, err := open(path)
		if err == nil {
			file = &simFile{File: f, disk: s, path: path}
		}
		return err
	})
	return file, err
}

// Remove implements FS.
func (s *Sim) Remove(path string) error {
	return s.do("remove", path, func() error { return s.mem.Remove(path) })
}

// RemoveAll implements FS.
func (s *Sim) RemoveAll(path string) error {
	return s.do("removeall", path, func() error { return s.mem.RemoveAll(path) })
}

// Rename implements FS.
func (s *Sim) Rename(from, to string) error {
	return s.do("rename", from, func() error { return s.mem.Rename(from, to) })
}

// MkdirAll implements FS.
func (s *Sim) MkdirAll(path string) error {
	return s.do("mkdir", path, func() error { return s.mem.MkdirAll(path) })
}

// ReadDir implements FS.
func (s *Sim) ReadDir(path string) (names []string, err error) {
	err = s.do("readdir", path, func() (err error) { names, err = s.mem.ReadDir(path); return err })
	return names, err
}

// Stat implements FS.
func (s *Sim) Stat(path string) (info Info, err error) {
	err = s.do("stat", path, func() (err error) { info, err = s.mem.Stat(path); return err })
	return info, err
}

// SyncDir implements FS.
func (s *Sim) SyncDir(path string) error {
	return s.sync("syncdir", path, func() error { return s.mem.SyncDir(path) })
}

// Map implements FS.
func (s *Sim) Map(path string) (m Mapping, err error) {
	err = s.do("mmap", path, func() (err error) { m, err = s.mem.Map(path); return err })
	return m, err
}

// Lock implements FS.
func (s *Sim) Lock(path string) (c io.Closer, err error) {
	err = s.do("lock", path, func() (err error) { c, err = s.mem.Lock(path); return err })
	return c, err
}

// Free implements FS.
func (s *Sim) Free(path string) (n uint64, err error) {
	err = s.do("free", path, func() (err error) { n, err = s.mem.Free(path); return err })
	return n, err
}

// simFile is an open file of a Sim. Size, which the kernel knows, and Close always work.
type simFile struct {
	File
	disk *Sim
	path string
}

func (f *simFile) Write(p []byte) (n int, err error) {
	err = f.disk.do("write", f.path, func() (err error) { n, err = f.File.Write(p); return err })
	return n, err
}

func (f *simFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.disk.do("write", f.path, func() (err error) { n, err = f.File.WriteAt(p, off); return err })
	return n, err
}

func (f *simFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.disk.do("read", f.path, func() (err error) { n, err = f.File.ReadAt(p, off); return err })
	return n, err
}

func (f *simFile) Truncate(size int64) error {
	return f.disk.do("truncate", f.path, func() error { return f.File.Truncate(size) })
}

func (f *simFile) Sync() error { return f.disk.sync("sync", f.path, f.File.Sync) }
