package segment

import (
	"bytes"
	"encoding/binary"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// The layout of version 1; docs/format/segment.md draws it.
const (
	version    = 1
	headerLen  = 64
	trailerLen = 32
	blockLen   = 64 << 10                     // what one checksum covers, counted from the start of the file
	maxData    = 1 << 32 * Unit               // the rows' end: what offsets can reach
	extentLen  = len(Owner{}) + 1 + 1 + 1 + 4 // the least that an extent takes in the table
)

var (
	headMagic = [8]byte{'c', 'r', 'o', 'f', 't', 's', 'e', 'g'}
	tailMagic = [8]byte{'c', 'r', 'o', 'f', 't', 'e', 'n', 'd'}
)

// extent is an entry of the table.
type extent struct {
	ExtentInfo
	idsLen uint64 // bytes of the ids
	idsCRC uint32
	idsAt  uint64 // in the file; not stored: ids follow one another
}

func (e *extent) end() uint64 { return uint64(e.Off) + uint64(e.Rows)*uint64(Stride(e.Dim)) }

func appendHeader(b []byte, id uint64, ident Ident) []byte {
	start := len(b)
	b = append(b, headMagic[:]...)
	b = codec.AppendUint32(b, version)
	b = codec.AppendUint32(b, 0)
	b = append(b, ident.Shard[:]...)
	b = codec.AppendUint64(b, id)
	b = append(b, make([]byte, start+headerLen-4-len(b))...)
	return codec.AppendUint32(b, codec.CRC(b[start:]))
}

// checkHeader reads magic, version and checksum first: these stay where they are in every version, so that a newer
// file is told from a damaged one.
func checkHeader(b []byte, id uint64, ident Ident) error {
	if [8]byte(b[:8]) != headMagic {
		return errs.New(errs.Corrupt, "not a segment: it starts with %q", b[:8])
	}
	if want, got := binary.LittleEndian.Uint32(b[headerLen-4:]), codec.CRC(b[:headerLen-4]); want != got {
		return errs.New(errs.Corrupt, "header has checksum %08x, stored is %08x", got, want)
	}
	switch v := binary.LittleEndian.Uint32(b[8:]); {
	case v > version:
		return errs.New(errs.FailedPrecondition, "written by a newer version of croft: format %d, known is %d", v, version).
			WithHint("start the newer croft again, or restore a backup made before the upgrade")
	case v != version:
		return errs.New(errs.Corrupt, "format %d never existed", v)
	}
	if got := [16]byte(b[16:32]); got != ident.Shard {
		return errs.New(errs.Corrupt, "belongs to another shard: %x, want %x", got, ident.Shard)
	}
	if got := binary.LittleEndian.Uint64(b[32:]); got != id {
		return errs.New(errs.Corrupt, "is segment %016x under another's name", got)
	}
	if !bytes.Equal(b, appendHeader(nil, id, ident)) {
		return errs.New(errs.Corrupt, "reserved bytes of the header are in use")
	}
	return nil
}

// trailer ends the file.
type trailer struct {
	dataEnd   uint64 // where the rows end and the ids start
	tableAt   uint64 // where the ids end and the table of extents starts
	footerCRC uint32 // of all from dataEnd to the trailer
}

func (t trailer) append(b []byte) []byte {
	start := len(b)
	b = codec.AppendUint64(b, t.dataEnd)
	b = codec.AppendUint64(b, t.tableAt)
	b = codec.AppendUint32(b, t.footerCRC)
	b = codec.AppendUint32(b, codec.CRC(b[start:]))
	return append(b, tailMagic[:]...)
}

// readTrailer decodes the end of a file and checks the order of its parts.
func readTrailer(file []byte) (t trailer, err error) {
	b := file[len(file)-trailerLen:]
	if [8]byte(b[24:]) != tailMagic {
		return t, errs.New(errs.Corrupt, "cut short or unfinished: %d bytes end with %q", len(file), b[24:])
	}
	if want, got := binary.LittleEndian.Uint32(b[20:]), codec.CRC(b[:20]); want != got {
		return t, errs.New(errs.Corrupt, "trailer has checksum %08x, stored is %08x", got, want)
	}
	r := codec.NewReader(b)
	t = trailer{r.Uint64(), r.Uint64(), r.Uint32()}
	footerEnd := uint64(len(file) - trailerLen)
	if t.dataEnd < headerLen || t.dataEnd > maxData || t.dataEnd > t.tableAt || t.tableAt > footerEnd {
		return t, errs.New(errs.Corrupt, "parts out of order: rows end at %d, ids at %d, file at %d",
			t.dataEnd, t.tableAt, len(file))
	}
	return t, nil
}

func (e *extent) append(b []byte) []byte {
	b = append(b, e.Owner[:]...)
	b = codec.AppendUvarint(b, uint64(e.Dim))
	b = codec.AppendUvarint(b, uint64(e.Rows))
	b = codec.AppendUvarint(b, e.idsLen)
	return codec.AppendUint32(b, e.idsCRC)
}

// readTable decodes the table of extents and the checksums behind it, in b, and checks that the extents fill the file's
// rows and ids exactly. The checksums alias b.
func readTable(b []byte, t trailer) (extents []extent, sums []byte, err error) {
	r := codec.NewReader(b)
	extents = make([]extent, r.Count(extentLen))
	row, ids := uint64(headerLen/Unit), t.dataEnd
	for i := range extents {
		e := &extents[i]
		copy(e.Owner[:], r.Raw(len(e.Owner)))
		dim, rows := r.Uvarint(), r.Uvarint()
		e.idsLen, e.idsCRC, e.idsAt = r.Uvarint(), r.Uint32(), ids
		if r.Err() != nil {
			return nil, nil, r.Err()
		}
		if dim < 1 || dim > MaxDim || rows < 1 || rows > t.dataEnd/Unit || e.idsLen < rows || e.idsLen > t.tableAt-ids {
			return nil, nil, errs.New(errs.Corrupt, "extent %d: %d rows of %d values, %d bytes of ids", i, rows, dim, e.idsLen)
		}
		e.Dim, e.Rows, e.Off = int(dim), int(rows), uint32(row)
		row, ids = e.end(), ids+e.idsLen
		if row > t.dataEnd/Unit {
			return nil, nil, errs.New(errs.Corrupt, "extent %d ends at %d, all rows at %d", i, row*Unit, t.dataEnd)
		}
	}
	sums = r.Raw(r.Len())
	blocks := (t.dataEnd + blockLen - 1) / blockLen
	if r.Err() != nil || row*Unit != t.dataEnd || ids != t.tableAt || uint64(len(sums)) != 4*blocks {
		return nil, nil, errs.New(errs.Corrupt, "%d extents end at %d and their ids at %d, want %d and %d; %d bytes of checksums for %d blocks",
			len(extents), row*Unit, ids, t.dataEnd, t.tableAt, len(sums), blocks)
	}
	return extents, sums, nil
}
