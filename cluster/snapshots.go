package cluster

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc64"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

const (
	snapshotsKept  = 2
	snapshotMeta   = "meta.json"
	snapshotState  = "state.bin"
	snapshotUnmade = ".tmp" // ends the name of a snapshot that is not finished
)

// snapshots keeps a group's snapshots in directories as raft.FileSnapshotStore does, on any disk. That one forgets to sync
// the names of the files in a new snapshot's directory and that of the directory of all snapshots: the log is trimmed on
// the strength of a snapshot, and after a power cut there would be neither. It also leaves unfinished snapshots for good.
type snapshots struct {
	disk   vfs.FS
	dir    string
	logger hclog.Logger
}

var _ raft.SnapshotStore = (*snapshots)(nil)

// storedMeta is meta.json. The CRC is a big-endian CRC-64 (ECMA) of state.bin.
type storedMeta struct {
	raft.SnapshotMeta
	CRC []byte
}

// openSnapshots opens or makes the store below dir, a group's directory, and removes what a crash left unfinished.
func openSnapshots(disk vfs.FS, dir string, logger hclog.Logger) (*snapshots, error) {
	s := &snapshots{disk: disk, dir: filepath.Join(dir, "snapshots"), logger: logger}
	if err := disk.MkdirAll(s.dir); err != nil {
		return nil, err
	}
	names, err := disk.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if strings.HasSuffix(name, snapshotUnmade) {
			if err := disk.RemoveAll(filepath.Join(s.dir, name)); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// List implements raft.SnapshotStore: newest first.
func (s *snapshots) List() ([]*raft.SnapshotMeta, error) {
	found, err := s.found()
	return found[:min(len(found), snapshotsKept)], err
}

// found lists the snapshots that can be read, newest first. Others are passed over, as raft's own store does.
func (s *snapshots) found() (metas []*raft.SnapshotMeta, err error) {
	names, err := s.disk.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if strings.HasSuffix(name, snapshotUnmade) {
			continue
		}
		m, err := s.readMeta(name)
		if err != nil {
			s.logger.Warn("a snapshot cannot be read and is passed over", "name", name, "error", err)
			continue
		}
		metas = append(metas, &m.SnapshotMeta)
	}
	slices.SortFunc(metas, func(a, b *raft.SnapshotMeta) int {
		return -cmp.Or(cmp.Compare(a.Term, b.Term), cmp.Compare(a.Index, b.Index), cmp.Compare(a.ID, b.ID))
	})
	return metas, nil
}

func (s *snapshots) readMeta(name string) (m storedMeta, err error) {
	b, err := vfs.ReadFile(s.disk, filepath.Join(s.dir, name, snapshotMeta))
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err == nil && m.Version != 1 {
		err = fmt.Errorf("snapshot has version %d, want 1", m.Version)
	}
	return m, err
}

// Open implements raft.SnapshotStore. Corrupt: the contents fail their checksum.
func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	m, err := s.readMeta(id)
	if err != nil {
		return nil, nil, err
	}
	f, err := s.disk.Open(filepath.Join(s.dir, id, snapshotState))
	if err != nil {
		return nil, nil, err
	}
	sum := newSnapshotSum()
	contents := func() io.Reader { return bufio.NewReader(io.NewSectionReader(f, 0, m.Size)) }
	if _, err := io.Copy(sum, contents()); err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	if !bytes.Equal(sum.Sum(nil), m.CRC) {
		return nil, nil, errors.Join(errs.New(errs.Corrupt, "snapshot %s has another checksum than its %s says", id, snapshotMeta), f.Close())
	}
	opened := struct {
		io.Reader
		io.Closer
	}{contents(), f}
	return &m.SnapshotMeta, &openedMarker{opened, &m.SnapshotMeta}, nil
}

func newSnapshotSum() hash.Hash64 { return crc64.New(crc64.MakeTable(crc64.ECMA)) }

// Create implements raft.SnapshotStore. The snapshot is there, and durable, once the sink was closed. It has no Peers: raft
// reads them in version 0 alone.
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, c raft.Configuration, cIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	if version != 1 {
		return nil, errs.New(errs.Internal, "snapshot of version %d is wanted, only 1 is written", version)
	}
	id, err := s.newID(index, term)
	if err != nil {
		return nil, err
	}
	k := &snapshotSink{store: s, dir: filepath.Join(s.dir, id+snapshotUnmade), sum: newSnapshotSum()}
	k.meta.SnapshotMeta = raft.SnapshotMeta{
		Version: version, ID: id, Index: index, Term: term, Configuration: c, ConfigurationIndex: cIndex,
	}
	if err := s.disk.MkdirAll(k.dir); err != nil {
		return nil, err
	}
	if k.file, err = s.disk.Create(filepath.Join(k.dir, snapshotState)); err != nil {
		return nil, err
	}
	k.buf = bufio.NewWriter(io.MultiWriter(k.file, k.sum))
	return k, nil
}

// newID returns a name that is not taken: term, index and the time in milliseconds since 1970, or soon after.
func (s *snapshots) newID(index, term uint64) (string, error) {
	for ms := time.Now().UnixMilli(); ; ms++ {
		id := fmt.Sprintf("%d-%d-%d", term, index, ms)
		there, err := vfs.Exists(s.disk, filepath.Join(s.dir, id))
		if err != nil || !there {
			return id, err
		}
	}
}

// reap removes all but the newest.
func (s *snapshots) reap() error {
	found, err := s.found()
	if err != nil {
		return err
	}
	for _, m := range found[min(len(found), snapshotsKept):] {
		if err := s.disk.RemoveAll(filepath.Join(s.dir, m.ID)); err != nil {
			return err
		}
	}
	return nil
}

// snapshotSink writes one snapshot.
type snapshotSink struct {
	store  *snapshots
	dir    string // until it is finished
	meta   storedMeta
	file   vfs.File
	sum    hash.Hash64
	buf    *bufio.Writer
	closed bool
}

// ID implements raft.SnapshotSink.
func (k *snapshotSink) ID() string { return k.meta.ID }

// Write implements raft.SnapshotSink.
func (k *snapshotSink) Write(p []byte) (int, error) {
	n, err := k.buf.Write(p)
	k.meta.Size += int64(n)
	return n, err
}

// Cancel implements raft.SnapshotSink.
func (k *snapshotSink) Cancel() error {
	if k.closed {
		return nil
	}
	k.closed = true
	return errors.Join(k.file.Close(), k.store.disk.RemoveAll(k.dir))
}

// Close implements raft.SnapshotSink.
func (k *snapshotSink) Close() error {
	if k.closed {
		return nil
	}
	k.closed = true
	disk, parent := k.store.disk, k.store.dir
	if err := k.finish(); err != nil {
		return errors.Join(fmt.Errorf("write snapshot %s: %w", k.meta.ID, err), disk.RemoveAll(k.dir))
	}
	if err := disk.Rename(k.dir, filepath.Join(parent, k.meta.ID)); err != nil {
		return err
	}
	if err := disk.SyncDir(parent); err != nil {
		return err
	}
	return k.store.reap()
}

// finish makes both files durable, under their names.
func (k *snapshotSink) finish() error {
	err := k.buf.Flush()
	if err == nil {
		err = k.file.Sync()
	}
	if err = errors.Join(err, k.file.Close()); err != nil {
		return err
	}
	k.meta.CRC = k.sum.Sum(nil)
	return vfs.WriteAtomic(k.store.disk, filepath.Join(k.dir, snapshotMeta), func(w io.Writer) error {
		return json.NewEncoder(w).Encode(&k.meta) // SyncDir of WriteAtomic is for both names
	})
}
