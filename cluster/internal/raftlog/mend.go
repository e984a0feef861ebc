package raftlog

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/vfs"
)

// mendTail repairs what raft-wal 0.4.2 does not when a process dies while a segment is being sealed. The batch that
// fills a segment carries its index; the metadata store learns of it later, in the background. If the process ends in
// between, raft-wal opens the segment as the tail and answers every append with ErrSealed, for ever. So does it when
// that batch was torn and dropped, because it remembers having seen an index. The first is finished here as the
// rotation would have done, the second is wiped. Call it before wal.Open.
func mendTail(disk vfs.FS, dir string, segmentSize int) error {
	db := newMetaStore(disk)
	state, err := db.Load(dir)
	if err == nil && len(state.Segments) > 0 {
		err = mendSegment(disk, db, dir, state, segmentSize)
	}
	return errors.Join(err, db.Close())
}

func mendSegment(disk vfs.FS, db types.MetaStore, dir string, state types.PersistentState, segmentSize int) error {
	tail := &state.Segments[len(state.Segments)-1]
	path := filepath.Join(dir, segment.FileName(*tail))
	b, err := vfs.ReadFile(disk, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // raft-wal makes it
	}
	if err != nil || !tail.SealTime.IsZero() {
		return err
	}
	f := scanFrames(b)
	last := tail.BaseIndex + uint64(f.entries) - 1
	switch {
	case f.index == 0:
		return nil
	case f.index < f.committed:
		tail.SealTime, tail.MaxIndex, tail.IndexStart = time.Now(), last, uint64(f.index+frameHeaderSize)
		state.Segments = append(state.Segments, types.SegmentInfo{
			ID: state.NextSegmentID, BaseIndex: last + 1, MinIndex: last + 1, SizeLimit: uint32(segmentSize),
			Codec: wal.CodecBinaryV1, CreateTime: time.Now(),
		})
		state.NextSegmentID++
		return db.CommitState(state)
	}
	if _, err := surveyTail(disk, path, last); err != nil {
		return err // not a torn batch: leave the evidence
	}
	return wipe(disk, path, f.committed, len(b))
}

// wipe overwrites a part of a file with zeros, durably.
func wipe(disk vfs.FS, path string, from, to int) error {
	f, err := disk.OpenAppend(path)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, to-from), int64(from))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// raft-wal's frames (segment/format.go): a byte of type, three of zeros, then the length of the payload, or the
// checksum of a commit. Payloads are padded to 8 bytes. A commit covers all from the commit before, or the file's
// start.
const (
	fileHeaderSize  = 32
	frameHeaderSize = 8

	frameEntry  = 1
	frameIndex  = 2
	frameCommit = 3
)

// frames is what recovery finds in an open segment.
type frames struct {
	entries   int // that are committed
	committed int // where the last good commit ends, in bytes
	index     int // where the last index is, committed or not; 0: there is none
}

// scanFrames reads an open segment as raft-wal does when it recovers one.
func scanFrames(b []byte) frames {
	var f, last, prev frames // last and prev: as of the last two commits
	entries := 0
	for at := fileHeaderSize; at+frameHeaderSize <= len(b); {
		size := 0
		switch b[at] {
		case frameEntry:
			entries++
			size = int(binary.LittleEndian.Uint32(b[at+4:]))
		case frameIndex:
			f.index = at
			size = int(binary.LittleEndian.Uint32(b[at+4:]))
		case frameCommit:
			prev, last = last, frames{entries: entries, committed: at + frameHeaderSize}
		default:
			at = len(b)
			continue
		}
		at += frameHeaderSize + (size+7)&^7
	}
	if last.committed > 0 && last.entries == entries && !commitHolds(b, prev.committed, last.committed) {
		last = prev // nothing followed: it may be torn
	}
	f.entries, f.committed = last.entries, last.committed
	return f
}

// commitHolds checks the commit that ends at to against what it covers.
func commitHolds(b []byte, from, to int) bool {
	at := to - frameHeaderSize
	return codec.CRC(b[from:at]) == binary.LittleEndian.Uint32(b[at+4:])
}
