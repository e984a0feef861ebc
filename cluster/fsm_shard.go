package cluster

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// applier is what a shard's state machine needs of the engine; *engine.Shard is one.
type applier interface {
	Apply(index uint64, cmd []byte) (engine.Applied, error)
	Flush(ctx context.Context) (uint64, error)
	AppliedIndex() uint64
}

// shardFSM is the door between raft and a shard of the engine, whose state is on disk already: entries are handed on
// as they are, and a snapshot is a marker that says up to which entry the engine has flushed.
type shardFSM struct {
	engine applier
	ctx    context.Context // ended by shutdown, to give up a flush
	fail   *failure
	name   string
	last   atomic.Uint64 // last entry handed to the engine
	seen   func(appliedEntry)
	moved  *changes // told of each entry that says where a tenant lives; nil: nobody waits
}

// appliedEntry is a command that was handed to a replica's engine.
type appliedEntry struct {
	group  string
	entry  *raft.Log
	before uint64 // last command that the engine had applied; from the entry's index on it does nothing
	answer engine.Applied
}

var _ raft.FSM = (*shardFSM)(nil)

// Apply implements raft.FSM; the answer is an engine.Applied, or an error when the engine's disk failed. Then the
// entry stays committed, and is applied after a restart.
func (f *shardFSM) Apply(l *raft.Log) any {
	f.last.Store(l.Index)
	before := f.engine.AppliedIndex()
	applied, err := f.engine.Apply(l.Index, l.Data)
	if err != nil {
		err = fmt.Errorf("apply entry %d of %s: %w", l.Index, f.name, err)
		f.fail.Poison(err)
		return err
	}
	if f.moved != nil && engine.Moves(l.Data) {
		f.moved.note()
	}
	if f.seen != nil {
		f.seen(appliedEntry{f.name, l, before, applied})
	}
	return applied
}

// Snapshot implements raft.FSM. It runs between two entries and only notes where that is.
func (f *shardFSM) Snapshot() (raft.FSMSnapshot, error) { return &marker{f, f.last.Load()}, nil }

// Restore implements raft.FSM. A marker holds no data; replicas get their files out of band.
func (f *shardFSM) Restore(r io.ReadCloser) error {
	defer r.Close()
	return errs.New(errs.FailedPrecondition, "%s cannot be restored from a marker: it holds no data", f.name).
		WithHint("restore the shard's directory from a backup")
}

// marker is a snapshot of a shard.
type marker struct {
	fsm  *shardFSM
	last uint64 // last entry handed to the engine when it was taken
}

// Persist implements raft.FSMSnapshot: it makes durable what was applied, after which raft may trim the log.
func (m *marker) Persist(sink raft.SnapshotSink) error {
	flushed, err := m.fsm.engine.Flush(m.fsm.ctx)
	if err != nil {
		return fmt.Errorf("flush %s: %w", m.fsm.name, err)
	}
	if flushed < m.last {
		return fmt.Errorf("flush %s: durable up to entry %d, want %d", m.fsm.name, flushed, m.last)
	}
	_, err = sink.Write(appendMarker(nil, flushed))
	return err // raft closes or cancels the sink
}

// Release implements raft.FSMSnapshot.
func (*marker) Release() {}

const markerVersion = 1

// appendMarker encodes the contents of a marker: version, flushed index, CRC32C (docs/format/log.md).
func appendMarker(b []byte, flushed uint64) []byte {
	start := len(b)
	b = codec.AppendUint64(append(b, markerVersion), flushed)
	return codec.AppendUint32(b, codec.CRC(b[start:]))
}

func decodeMarker(b []byte) (flushed uint64, err error) {
	r := codec.NewReader(b)
	version := r.Byte()
	flushed = r.Uint64()
	crc := r.Uint32()
	if err := r.Done(); err != nil {
		return 0, err
	}
	if crc != codec.CRC(b[:9]) {
		return 0, errs.New(errs.Corrupt, "marker is damaged")
	}
	if version != markerVersion {
		return 0, errs.New(errs.FailedPrecondition, "marker has format %d, this version reads %d", version, markerVersion)
	}
	return flushed, nil
}

// checkMarker compares the engine with what the newest marker and the log promise. An engine behind the marker lost
// data that the log no longer has; one ahead of the log means that acknowledged entries are gone from there.
func checkMarker(snaps raft.SnapshotStore, lastIndex uint64, e applier) error {
	metas, err := snaps.List()
	if err != nil {
		return err
	}
	if len(metas) > 0 {
		lastIndex = max(lastIndex, metas[0].Index)
	}
	if applied := e.AppliedIndex(); applied > lastIndex {
		return errs.New(errs.Corrupt, "the engine has applied entry %d, but the log ends at %d", applied, lastIndex).
			WithHint("the log was damaged or put back to an older state: restore the shard's directory from a backup")
	}
	if len(metas) == 0 {
		return nil
	}
	_, r, err := snaps.Open(metas[0].ID)
	if err != nil {
		return fmt.Errorf("open marker %s: %w", metas[0].ID, err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, 64))
	if err != nil {
		return fmt.Errorf("read marker %s: %w", metas[0].ID, err)
	}
	flushed, err := decodeMarker(b)
	if err != nil {
		return err
	}
	if applied := e.AppliedIndex(); applied < flushed {
		return errs.New(errs.Corrupt, "the engine has applied entry %d, but the log was trimmed after entry %d was durable", applied, flushed).
			WithHint("the shard's files were put back to an older state: restore its whole directory from a backup")
	}
	return nil
}
