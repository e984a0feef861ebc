package cluster

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// The layout of an entry, docs/format/log.md. All integers are little-endian.
const (
	entryMagic      = 0x31454c43 // "CLE1": croft log entry, version 1
	entryHeaderSize = 52
	entryCodecID    = wal.FirstExternalCodecID + 1

	entryCRCAt    = 4
	entrySizeAt   = 8
	entryTypeAt   = 12
	entryIndexAt  = 16
	entryTermAt   = 24
	entrySyncedAt = 32
	entryTimeAt   = 40
	entryExtAt    = 48
)

// entryCodec writes raft's entries so that damage is found when they are read: raft-wal checks only the last batch,
// and only while it recovers. It is what raft-wal calls a codec.
type entryCodec struct {
	// synced is the index of the last entry that was durable before the batch now written. An entry found behind the
	// end of a recovered log tells by it whether acknowledged entries are missing (see lostEntries).
	synced atomic.Uint64
}

var _ wal.Codec = (*entryCodec)(nil)

// ID implements wal.Codec.
func (*entryCodec) ID() uint64 { return entryCodecID }

// entrySize is the encoded size of l in bytes.
func entrySize(l *raft.Log) int { return entryHeaderSize + len(l.Extensions) + len(l.Data) }

// Encode implements wal.Codec.
func (c *entryCodec) Encode(l *raft.Log, w io.Writer) error {
	if b, ok := w.(*bytes.Buffer); ok {
		b.Grow(entrySize(l))
	}
	var h [entryHeaderSize]byte
	le := binary.LittleEndian
	le.PutUint32(h[:], entryMagic)
	le.PutUint32(h[entrySizeAt:], uint32(entrySize(l)))
	h[entryTypeAt] = byte(l.Type)
	le.PutUint64(h[entryIndexAt:], l.Index)
	le.PutUint64(h[entryTermAt:], l.Term)
	le.PutUint64(h[entrySyncedAt:], c.synced.Load())
	le.PutUint64(h[entryTimeAt:], uint64(l.AppendedAt.UnixNano()))
	le.PutUint32(h[entryExtAt:], uint32(len(l.Extensions)))
	crc := codec.CRC(h[entrySizeAt:])
	crc = codec.UpdateCRC(crc, l.Extensions)
	crc = codec.UpdateCRC(crc, l.Data)
	le.PutUint32(h[entryCRCAt:], crc)
	return writeAll(w, h[:], l.Extensions, l.Data)
}

func writeAll(w io.Writer, parts ...[]byte) error {
	for _, p := range parts {
		if _, err := w.Write(p); err != nil {
			return err
		}
	}
	return nil
}

// Decode implements wal.Codec. The error of a damaged entry is of kind Corrupt.
func (*entryCodec) Decode(b []byte, l *raft.Log) error {
	e, err := parseEntry(b)
	if err != nil {
		return err
	}
	if e.size != len(b) {
		return errs.New(errs.Corrupt, "log entry %d has %d bytes, its header says %d", e.index, len(b), e.size)
	}
	*l = raft.Log{
		Index: e.index, Term: e.term, Type: e.typ, AppendedAt: e.appended,
		Extensions: bytes.Clone(e.extensions), Data: bytes.Clone(e.data), // b goes back to a pool
	}
	return nil
}

// entry is a checked view of an encoded entry.
type entry struct {
	size                int
	index, term, synced uint64
	typ                 raft.LogType
	appended            time.Time
	extensions, data    []byte
}

// parseEntry checks and reads the entry at the start of b, which may go on after it.
func parseEntry(b []byte) (entry, error) {
	le := binary.LittleEndian
	if len(b) < entryHeaderSize || le.Uint32(b) != entryMagic {
		return entry{}, errs.New(errs.Corrupt, "log entry does not begin with a header of version 1")
	}
	size := int(le.Uint32(b[entrySizeAt:]))
	if size < entryHeaderSize || size > len(b) {
		return entry{}, errs.New(errs.Corrupt, "log entry says it has %d bytes, there are %d", size, len(b))
	}
	b = b[:size]
	if want, got := le.Uint32(b[entryCRCAt:]), codec.CRC(b[entrySizeAt:]); want != got {
		return entry{}, errs.New(errs.Corrupt, "log entry has checksum %08x, should have %08x", got, want)
	}
	ext := int(le.Uint32(b[entryExtAt:]))
	if ext > size-entryHeaderSize {
		return entry{}, errs.New(errs.Corrupt, "log entry of %d bytes says it has %d bytes of extensions", size, ext)
	}
	return entry{
		size: size, typ: raft.LogType(b[entryTypeAt]),
		index: le.Uint64(b[entryIndexAt:]), term: le.Uint64(b[entryTermAt:]), synced: le.Uint64(b[entrySyncedAt:]),
		appended:   time.Unix(0, int64(le.Uint64(b[entryTimeAt:]))),
		extensions: b[entryHeaderSize : entryHeaderSize+ext], data: b[entryHeaderSize+ext:],
	}, nil
}

func (e entry) String() string { return fmt.Sprintf("entry %d of term %d", e.index, e.term) }
