// Package raftlog keeps the log and the term of a Raft group on disk: hashicorp/raft-wal, with checksums, repairs and measures
// that it lacks. docs/format/log.md has the layout.
package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/longlock"
	"github.com/croftdb/croft/internal/vfs"
)

// Log is the log and stable store of one group: raft-wal, with what that leaves out. Entries are checked when
// read; the first write or sync that fails poisons the store for good, because a second sync may succeed without the
// data; appends are timed; and sizes are known in bytes, where raft counts entries.
//
// A full disk is the exception. raft-wal rolls back an append whose write was refused (segment.Writer.Append), the
// commit frame never reached the file, and nothing was synced: such an append is answered StorageFull and the store
// stays in use. That holds for the write of a segment alone. When making the next segment fails, raft-wal has sealed
// the old one, logs the fault and answers every later append with ErrSealed: that poisons, and a restart with room
// on the disk mends it, as does a full disk met by its metadata store.
type Log struct {
	wal    *wal.WAL
	fail   Failure
	name   string
	append Observer
	grown  func()
	clock  Clock

	writing longlock.Mutex // one change of the log at a time; guards synced and buf
	synced  uint64         // last durable entry
	buf     []byte         // encoded entries, reused

	holds      holds // entries kept for other replicas
	configured newestConfiguration

	mu    sync.Mutex // guards sizes
	sizes sizes
}

// Observer takes measurements; a Prometheus histogram is one.
type Observer interface{ Observe(float64) }

// Failure is told of the first write or sync that failed. Once it has a cause no log takes anything any more.
type Failure interface {
	Poison(err error)
	Cause() error
}

// Options are what Open needs; all must be set.
type Options struct {
	Disk        vfs.FS
	Dir         string
	Name        string // of the group, for messages
	SegmentSize int    // bytes
	Fail        Failure
	Append      Observer // of seconds per append, sync included
	Grown       func()   // called after each append; must not block
	Logger      hclog.Logger
}

var (
	_ raft.LogStore          = (*Log)(nil)
	_ raft.StableStore       = (*Log)(nil)
	_ raft.MonotonicLogStore = (*Log)(nil)
)

// Open opens or creates the log in o.Dir. Corrupt: acknowledged entries are missing at its end.
func Open(o Options) (*Log, error) {
	if err := o.Disk.MkdirAll(o.Dir); err != nil {
		return nil, err
	}
	if err := mendTail(o.Disk, o.Dir, o.SegmentSize); err != nil {
		return nil, fmt.Errorf("mend log of %s in %s: %w", o.Name, o.Dir, err)
	}
	w, err := openWAL(o)
	if err != nil {
		return nil, fmt.Errorf("open log of %s in %s: %w", o.Name, o.Dir, err)
	}
	l := &Log{wal: w, fail: o.Fail, name: o.Name, append: o.Append, grown: o.Grown}
	if err := l.recover(o.Disk, o.Dir); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return l, nil
}

// recover checks what raft-wal found and takes stock of it.
func (l *Log) recover(disk vfs.FS, dir string) error {
	// A segment whose directory entry was not yet durable when the process was killed is found again, but raft-wal
	// then never syncs the directory.
	if err := disk.SyncDir(dir); err != nil {
		return err
	}
	last, err := l.wal.LastIndex()
	if err != nil {
		return err
	}
	l.synced = last
	l.sizes, err = surveySegments(disk, dir, last)
	if err != nil {
		return fmt.Errorf("log of %s in %s: %w", l.name, dir, err)
	}
	return nil
}

// segmentSuffix ends the names of raft-wal's segments.
const segmentSuffix = ".wal"

// surveySegments measures the segments in dir and looks for entries behind the end of the log, whose last entry is
// last. raft-wal takes any damage in the open segment for the torn end of the last batch and drops all that
// follows. An entry from there that was written after a later sync than the log now reaches shows that
// acknowledged entries are gone; a torn last batch has none.
func surveySegments(disk vfs.FS, dir string, last uint64) (sizes, error) {
	var sizes sizes
	names, err := disk.ReadDir(dir) // sorted; those of segments begin with the first index, padded
	if err != nil {
		return sizes, err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return filepath.Ext(name) != segmentSuffix })
	for i, name := range names {
		path := filepath.Join(dir, name)
		var base, id uint64
		if _, err := fmt.Sscanf(name, "%d-%x"+segmentSuffix, &base, &id); err != nil {
			return sizes, errs.New(errs.Corrupt, "%s is not named like a segment", path)
		}
		info, err := disk.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // raft-wal deletes old segments in the background
		}
		if err != nil {
			return sizes, err
		}
		size := info.Size
		if i == len(names)-1 {
			if size, err = surveyTail(disk, path, last); err != nil {
				return sizes, err
			}
		}
		sizes.add(max(base, 1)-1, 0)
		sizes.total += uint64(size)
	}
	sizes.add(last, 0)
	return sizes, nil
}

// surveyTail returns how many bytes of the open segment are in use, or Corrupt, see surveySegments.
func surveyTail(disk vfs.FS, path string, last uint64) (used int64, err error) {
	b, err := vfs.ReadFile(disk, path)
	if err != nil {
		return 0, err
	}
	for at := 0; ; {
		next := bytes.Index(b[at:], []byte(entryMagic))
		if next < 0 {
			break
		}
		at += next
		e, err := parseEntry(b[at:])
		if err != nil { // raft-wal decides on it, or GetLog does
			at += len(entryMagic)
			continue
		}
		if e.index > last && e.synced > last {
			return 0, errs.New(errs.Corrupt, "the log ends at entry %d, but %v was written after entry %d was durable",
				last, e, e.synced).WithHint("segment %s is damaged: restore this replica from a backup", path)
		}
		at += e.size
		used = int64(at)
	}
	return used, nil
}

// IsMonotonic implements raft.MonotonicLogStore.
func (l *Log) IsMonotonic() bool { return true }

// FirstIndex implements raft.LogStore.
func (l *Log) FirstIndex() (uint64, error) { return l.wal.FirstIndex() }

// LastIndex implements raft.LogStore.
func (l *Log) LastIndex() (uint64, error) { return l.wal.LastIndex() }

// GetLog implements raft.LogStore. Corrupt: the entry fails its checksum or is another one.
func (l *Log) GetLog(index uint64, to *raft.Log) error {
	e, err := l.get(index)
	if err == nil && e.index != index {
		err = errs.New(errs.Corrupt, "found log %v in the place of entry %d", e, index)
	}
	if err == nil {
		l.configured.seen(e.index, e.typ)
		*to = e.log()
		return nil
	}
	if errors.Is(err, wal.ErrNotFound) || errors.Is(err, wal.ErrClosed) {
		return err
	}
	return l.poison(fmt.Errorf("read entry %d: %w", index, err))
}

func (l *Log) get(index uint64) (_ entry, err error) {
	defer func() { // raft-wal's decoder trusts its input
		if p := recover(); p != nil {
			err = errs.New(errs.Corrupt, "decode log entry %d: %v", index, p)
		}
	}()
	var outer raft.Log
	if err := l.wal.GetLog(index, &outer); err != nil {
		return entry{}, err
	}
	return parseEntry(outer.Data)
}

// ReachesBack is the first entry in the log, or the one behind last if it is empty or was closed.
func (l *Log) ReachesBack(last uint64) uint64 {
	if first, err := l.FirstIndex(); err == nil && first > 0 {
		return first
	}
	return last + 1
}

// StoreLog implements raft.LogStore.
func (l *Log) StoreLog(e *raft.Log) error { return l.StoreLogs([]*raft.Log{e}) }

// StoreLogs implements raft.LogStore: the entries are durable when it returns nil. StorageFull: none of them was
// kept.
func (l *Log) StoreLogs(entries []*raft.Log) error {
	if err := l.fail.Cause(); err != nil {
		return err
	}
	if len(entries) == 0 {
		return nil
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	start := time.Now()
	l.clock.Begin(Appending)
	err := l.wal.StoreLogs(l.encode(entries))
	l.clock.End(Appending)
	l.append.Observe(time.Since(start).Seconds())
	if isRolledBack(err) {
		return errs.Wrap(errs.StorageFull, err, "append to the log of %s", l.name)
	}
	if err != nil && !errors.Is(err, wal.ErrClosed) {
		return l.poison(fmt.Errorf("append entries from %d: %w", entries[0].Index, err))
	}
	if err == nil {
		l.appended(entries)
	}
	return err
}

// maxKeptBuf is the size in bytes from which the buffer for encoded entries is not kept.
const maxKeptBuf = 1 << 20

// encode wraps entries for raft-wal; the result is valid until the next call.
func (l *Log) encode(entries []*raft.Log) []*raft.Log {
	size := 0
	for _, e := range entries {
		size += entrySize(e)
	}
	if size > cap(l.buf) {
		l.buf = make([]byte, 0, size)
	}
	b := l.buf[:0]
	wrapped := make([]raft.Log, len(entries))
	out := make([]*raft.Log, len(entries))
	for i, e := range entries {
		start := len(b)
		b = appendEntry(b, e, l.synced)
		wrapped[i] = raft.Log{Index: e.Index, Term: e.Term, Type: e.Type, Data: b[start:]}
		out[i] = &wrapped[i]
	}
	if cap(l.buf) > maxKeptBuf {
		l.buf = nil
	}
	return out
}

func (l *Log) appended(entries []*raft.Log) {
	l.synced = entries[len(entries)-1].Index
	size := 0
	for _, e := range entries {
		l.configured.seen(e.Index, e.Type)
		size += entrySize(e)
	}
	l.mu.Lock()
	l.sizes.add(l.synced, uint64(size))
	l.mu.Unlock()
	l.grown()
}

// isRolledBack reports whether err is the write of a segment refused for want of space, which raft-wal undoes.
func isRolledBack(err error) bool {
	var path *os.PathError
	return vfs.IsFull(err) && errors.As(err, &path) && path.Op == "write" && filepath.Ext(path.Path) == segmentSuffix
}

// DeleteRange implements raft.LogStore. Whole segments are given back to the disk, others are kept.
func (l *Log) DeleteRange(from, to uint64) error {
	if err := l.fail.Cause(); err != nil {
		return err
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	before, err := l.wal.FirstIndex()
	if err != nil {
		return err
	}
	l.clock.Begin(Trimming)
	err = l.wal.DeleteRange(from, to)
	l.clock.End(Trimming)
	if err != nil {
		return l.poison(fmt.Errorf("delete entries %d to %d: %w", from, to, err))
	}
	first, err := l.wal.FirstIndex()
	if err != nil {
		return err
	}
	if from > before {
		l.configured.takenBack(from)
	}
	last, err := l.wal.LastIndex()
	if err != nil {
		return err
	}
	l.synced = min(l.synced, last) // what is appended next does not stand for what was deleted
	l.mu.Lock()
	l.sizes.forget(first)
	l.mu.Unlock()
	return nil
}

// Set implements raft.StableStore.
func (l *Log) Set(key, val []byte) error {
	if err := l.fail.Cause(); err != nil {
		return err
	}
	l.clock.Begin(Saving)
	err := l.wal.Set(key, val)
	l.clock.End(Saving)
	if err != nil {
		return l.poison(fmt.Errorf("store %q: %w", key, err))
	}
	return nil
}

// SetUint64 implements raft.StableStore.
func (l *Log) SetUint64(key []byte, val uint64) error {
	return l.Set(key, binary.LittleEndian.AppendUint64(nil, val))
}

// Get implements raft.StableStore.
func (l *Log) Get(key []byte) ([]byte, error) { return l.wal.Get(key) }

// GetUint64 implements raft.StableStore.
func (l *Log) GetUint64(key []byte) (uint64, error) { return l.wal.GetUint64(key) }

// Configured is the index of the newest configuration that passed, 0 if none did; after entries were taken back perhaps more.
func (l *Log) Configured() uint64 { return l.configured.at.Load() }

// Stalled returns for how long the oldest write has been under way, 0 if there is none.
func (l *Log) Stalled(now time.Time) time.Duration { return l.clock.Stalled(now) }

// Clock is what Stalled reads.
func (l *Log) Clock() *Clock { return &l.clock }

// Name is that of the group.
func (l *Log) Name() string { return l.name }

// Close closes the files; raft must have stopped.
func (l *Log) Close() error { return l.wal.Close() }

// BytesAfter is the size of the entries behind index, about.
func (l *Log) BytesAfter(index uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sizes.total - l.sizes.upTo(index)
}

// Bytes is the size of all entries that are kept, about.
func (l *Log) Bytes() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sizes.total - l.sizes.dropped
}

// IndexBehind returns the index behind which about the last n bytes of the log are.
func (l *Log) IndexBehind(n uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sizes.indexBehind(n)
}

func (l *Log) poison(err error) error {
	err = fmt.Errorf("log of %s: %w", l.name, err)
	l.fail.Poison(err)
	return err
}
