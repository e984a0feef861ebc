package raftlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"sync/atomic"

	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/longlock"
	"github.com/croftdb/croft/internal/vfs"
)

// openWAL opens raft-wal: on the real disk with its own files, on another one through walDisk and fileMetaStore.
func openWAL(o Options) (*wal.WAL, error) {
	if isReal(o.Disk) {
		return wal.Open(o.Dir, wal.WithSegmentSize(o.SegmentSize), wal.WithLogger(o.Logger))
	}
	return wal.Open(o.Dir, wal.WithSegmentSize(o.SegmentSize), wal.WithLogger(o.Logger),
		wal.WithSegmentFiler(segment.NewFiler(o.Dir, walDisk{o.Disk})), wal.WithMetaStore(newMetaStore(o.Disk)))
}

// isReal reports whether disk is the machine's own; raft-wal and bbolt open files there themselves.
func isReal(disk vfs.FS) bool { return disk == vfs.OS() }

// walDisk lets raft-wal's segments lie on any disk. What is durable when follows raft-wal's own package fs, also where that
// falls short: see walFile, and Log.recover.
type walDisk struct{ disk vfs.FS }

var _ types.VFS = walDisk{}

// ListDir implements types.VFS.
func (d walDisk) ListDir(dir string) ([]string, error) { return d.disk.ReadDir(dir) }

// Create implements types.VFS. The space is taken at once, by zeros, and nothing is durable.
func (d walDisk) Create(dir, name string, size uint64) (types.WritableFile, error) {
	path := filepath.Join(dir, name)
	if there, err := vfs.Exists(d.disk, path); err != nil || there {
		return nil, errors.Join(err, &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist})
	}
	f, err := d.disk.OpenAppend(path)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(make([]byte, size)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &walFile{File: f, disk: d.disk, unnamed: dir}, nil
}

// Delete implements types.VFS; durable on return.
func (d walDisk) Delete(dir, name string) error {
	if err := d.disk.Remove(filepath.Join(dir, name)); err != nil {
		return err
	}
	return d.disk.SyncDir(dir)
}

// OpenReader implements types.VFS.
func (d walDisk) OpenReader(dir, name string) (types.ReadableFile, error) {
	return d.disk.Open(filepath.Join(dir, name))
}

// OpenWriter implements types.VFS.
func (d walDisk) OpenWriter(dir, name string) (types.WritableFile, error) {
	path := filepath.Join(dir, name)
	if _, err := d.disk.Stat(path); err != nil {
		return nil, err
	}
	return d.disk.OpenAppend(path)
}

// walFile is a new segment. Its first Sync makes its name durable too; a segment that is found again never does that.
type walFile struct {
	vfs.File
	disk    vfs.FS
	unnamed string // directory in which the name is not durable yet; empty: it is
}

func (f *walFile) Sync() error {
	if err := f.File.Sync(); err != nil || f.unnamed == "" {
		return err
	}
	dir := f.unnamed
	f.unnamed = ""
	return f.disk.SyncDir(dir)
}

// newMetaStore returns what keeps raft-wal's list of segments and raft's term and vote.
func newMetaStore(disk vfs.FS) types.MetaStore {
	if isReal(disk) {
		return new(metadb.BoltMetaDB)
	}
	s := &fileMetaStore{disk: disk, prompt: disk}
	if p, ok := disk.(interface{ Prompt() vfs.FS }); ok {
		s.prompt = p.Prompt()
	}
	return s
}

// MetaPath is the file of a log that is there from the log's first day.
func MetaPath(disk vfs.FS, dir string) string {
	if isReal(disk) {
		return filepath.Join(dir, metadb.FileName)
	}
	return filepath.Join(dir, fileMetaName)
}

const fileMetaName = "wal-meta.json"

// fileMetaStore keeps all in one file, which each change replaces. It is for simulations, where changes are few.
type fileMetaStore struct {
	disk    vfs.FS
	prompt  vfs.FS // for what raft-wal does under its own mutex while appends wait for that
	path    string
	writing longlock.Mutex
	state   atomic.Pointer[metaState] // never changed
}

type metaState struct {
	types.PersistentState
	Stable map[string][]byte
}

// Load implements types.MetaStore.
func (s *fileMetaStore) Load(dir string) (types.PersistentState, error) {
	s.path = filepath.Join(dir, fileMetaName)
	var st metaState
	b, err := vfs.ReadFile(s.disk, s.path)
	if err == nil {
		err = errs.Wrap(errs.Corrupt, json.Unmarshal(b, &st), "read %s", s.path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return st.PersistentState, err
	}
	s.state.Store(&st)
	return st.PersistentState, nil
}

// CommitState implements types.MetaStore.
func (s *fileMetaStore) CommitState(p types.PersistentState) error {
	return s.change(s.prompt, func(st *metaState) { st.PersistentState = p })
}

// SetStable implements types.MetaStore.
func (s *fileMetaStore) SetStable(key, value []byte) error {
	return s.change(s.disk, func(st *metaState) {
		st.Stable = maps.Clone(st.Stable)
		if st.Stable == nil {
			st.Stable = map[string][]byte{}
		}
		st.Stable[string(key)] = append([]byte{}, value...)
		if value == nil {
			delete(st.Stable, string(key))
		}
	})
}

func (s *fileMetaStore) change(disk vfs.FS, f func(*metaState)) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	st := *s.state.Load()
	f(&st)
	b, err := json.Marshal(&st)
	if err != nil {
		return fmt.Errorf("encode %s: %w", s.path, err)
	}
	err = vfs.WriteAtomic(disk, s.path, func(w io.Writer) error { _, err := w.Write(b); return err })
	if err == nil {
		s.state.Store(&st)
	}
	return err
}

// GetStable implements types.MetaStore.
func (s *fileMetaStore) GetStable(key []byte) ([]byte, error) {
	return s.state.Load().Stable[string(key)], nil
}

// Close implements types.MetaStore: no file is open between calls.
func (s *fileMetaStore) Close() error { return nil }
