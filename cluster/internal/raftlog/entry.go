package raftlog

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// The layout of an entry, docs/format/log.md. All integers are little-endian.
const (
	entryMagic      = "CLE1" // croft log entry, version 1
	entryHeaderSize = 52

	entryVersionAt = 3 // in the magic; magic, checksum and size keep their places in later versions
	entryCRCAt     = 4
	entrySizeAt    = 8
	entryTypeAt    = 12
	entryIndexAt   = 16
	entryTermAt    = 24
	entrySyncedAt  = 32
	entryTimeAt    = 40
	entryExtAt     = 48
)

// entrySize is the encoded size of l in bytes.
func entrySize(l *raft.Log) int { return entryHeaderSize + len(l.Extensions) + len(l.Data) }

// appendEntry encodes an entry so that damage is found when it is read: raft-wal checks only the last batch, and only
// while it recovers. synced is the index of the last entry that was durable before the batch now written; an entry
// found behind the end of a recovered log tells by it whether acknowledged entries are missing.
//
// The result travels as the Data of raft-wal's own encoding. A raft-wal codec would be the natural place, but version
// 0.4.2 writes logs with a foreign codec and then refuses to open them (newSegment notes CodecBinaryV1 always).
func appendEntry(b []byte, l *raft.Log, synced uint64) []byte {
	var h [entryHeaderSize]byte
	le := binary.LittleEndian
	copy(h[:], entryMagic)
	le.PutUint32(h[entrySizeAt:], uint32(entrySize(l)))
	h[entryTypeAt] = byte(l.Type)
	le.PutUint64(h[entryIndexAt:], l.Index)
	le.PutUint64(h[entryTermAt:], l.Term)
	le.PutUint64(h[entrySyncedAt:], synced)
	le.PutUint64(h[entryTimeAt:], uint64(l.AppendedAt.UnixNano()))
	le.PutUint32(h[entryExtAt:], uint32(len(l.Extensions)))
	start := len(b)
	b = append(b, h[:]...)
	b = append(b, l.Extensions...)
	b = append(b, l.Data...)
	le.PutUint32(b[start+entryCRCAt:], entryCRC(b[start:]))
	return b
}

// entryCRC is the checksum of all of an entry but the checksum.
func entryCRC(b []byte) uint32 { return codec.UpdateCRC(codec.CRC(b[:entryCRCAt]), b[entrySizeAt:]) }

// entry is a checked view of an encoded entry.
type entry struct {
	size                int // of the encoding in bytes
	index, term, synced uint64
	typ                 raft.LogType
	appended            time.Time
	extensions, data    []byte // alias the input; nil if empty
}

// parseEntry checks and reads the entry at the start of b, which may go on after it. Corrupt: it is damaged;
// FailedPrecondition: a newer version wrote it.
func parseEntry(b []byte) (entry, error) {
	le := binary.LittleEndian
	if len(b) < entryHeaderSize || string(b[:entryVersionAt]) != entryMagic[:entryVersionAt] {
		return entry{}, errs.New(errs.Corrupt, "log entry does not begin with its mark")
	}
	size := int64(le.Uint32(b[entrySizeAt:]))
	if size < entryHeaderSize || size > int64(len(b)) {
		return entry{}, errs.New(errs.Corrupt, "log entry says it has %d bytes, there are %d", size, len(b))
	}
	b = b[:size]
	if want, got := le.Uint32(b[entryCRCAt:]), entryCRC(b); want != got {
		return entry{}, errs.New(errs.Corrupt, "log entry has checksum %08x, should have %08x", got, want)
	}
	if b[entryVersionAt] != entryMagic[entryVersionAt] {
		return entry{}, errs.New(errs.FailedPrecondition, "log entry has format %q, this version reads %q", b[:4], entryMagic).
			WithHint("start the version of croft that wrote it")
	}
	ext := int64(le.Uint32(b[entryExtAt:]))
	if ext > size-entryHeaderSize {
		return entry{}, errs.New(errs.Corrupt, "log entry of %d bytes says it has %d bytes of extensions", size, ext)
	}
	return entry{
		size: int(size), typ: raft.LogType(b[entryTypeAt]),
		index: le.Uint64(b[entryIndexAt:]), term: le.Uint64(b[entryTermAt:]), synced: le.Uint64(b[entrySyncedAt:]),
		appended:   time.Unix(0, int64(le.Uint64(b[entryTimeAt:]))),
		extensions: nonEmpty(b[entryHeaderSize : entryHeaderSize+ext]), data: nonEmpty(b[entryHeaderSize+ext:]),
	}, nil
}

func nonEmpty(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

// log returns the entry as raft's.
func (e entry) log() raft.Log {
	return raft.Log{
		Index: e.index, Term: e.term, Type: e.typ, Data: e.data, Extensions: e.extensions, AppendedAt: e.appended,
	}
}

func (e entry) String() string { return fmt.Sprintf("entry %d of term %d", e.index, e.term) }
