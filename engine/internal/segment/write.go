package segment

import (
	"io"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

// Write makes segment id of the extents in dir, durable on return. A file of that id is replaced: ids are never to be
// used twice but for repeating a Write that failed. After an error or a power cut there is either no new file under
// that name or the whole one; the rest of a temporary one may be there for RemoveTemp. Kind Invalid for extents that
// have no rows or do not fit together, TooLarge when the rows exceed 64 GiB, StorageFull when the disk is full. It
// holds one block and the checksums (64 bytes for each MiB of rows) besides its input.
func Write(fs vfs.FS, dir string, id uint64, ident Ident, extents []Extent) (*Written, error) {
	offsets, err := place(extents)
	if err != nil {
		return nil, errs.Wrap(errs.KindOf(err), err, "write segment %016x", id)
	}
	var size int64
	err = vfs.WriteAtomic(fs, Path(dir, id), func(w io.Writer) (err error) {
		size, err = writeTo(w, id, ident, extents, offsets)
		return err
	})
	if err != nil {
		kind := errs.Internal
		if vfs.IsFull(err) {
			kind = errs.StorageFull
		}
		return nil, errs.Wrap(kind, err, "write segment %016x", id)
	}
	return &Written{Offsets: offsets, Bytes: size}, nil
}

// place checks the extents and returns where each starts.
func place(extents []Extent) ([]uint32, error) {
	if len(extents) == 0 {
		return nil, errs.New(errs.Invalid, "no extents")
	}
	offsets := make([]uint32, len(extents))
	at := uint64(headerLen / Unit)
	for i, e := range extents {
		if err := e.validate(); err != nil {
			return nil, errs.Wrap(errs.Invalid, err, "extent %d", i)
		}
		offsets[i] = uint32(at)
		at += uint64(len(e.Rows)) * uint64(Stride(e.Dim))
		if at > maxData/Unit {
			return nil, errs.New(errs.TooLarge, "extent %d ends at byte %d, limit %d", i, at*Unit, uint64(maxData))
		}
	}
	return offsets, nil
}

func (e *Extent) validate() error {
	if e.Dim < 1 || e.Dim > MaxDim {
		return errs.New(errs.Invalid, "dimension %d, want 1 to %d", e.Dim, MaxDim)
	}
	if len(e.Rows) == 0 || len(e.Rows) != len(e.IDs) {
		return errs.New(errs.Invalid, "%d rows and %d ids, want as many of both and at least one", len(e.Rows), len(e.IDs))
	}
	for i, row := range e.Rows {
		if len(row) != e.Dim {
			return errs.New(errs.Invalid, "row %d has %d values, want %d", i, len(row), e.Dim)
		}
	}
	return nil
}

func writeTo(w io.Writer, id uint64, ident Ident, extents []Extent, offsets []uint32) (int64, error) {
	bw := &blockWriter{w: w, buf: make([]byte, 0, blockLen)}
	bw.write(appendHeader(nil, id, ident))
	for i := range extents {
		bw.rows(&extents[i])
	}
	bw.endData()
	t := trailer{dataEnd: bw.at}
	table := codec.AppendUvarint(nil, uint64(len(extents)))
	for i := range extents {
		e := bw.ids(&extents[i])
		e.Off = offsets[i]
		table = e.append(table)
	}
	t.tableAt = bw.at
	bw.write(table)
	bw.checksums()
	bw.flush()
	t.footerCRC = bw.footerCRC
	bw.write(t.append(nil))
	bw.flush()
	return int64(bw.at), bw.err
}

// blockWriter gathers blocks and sums each one up: rows block by block, the footer as a whole. The first error sticks.
type blockWriter struct {
	w         io.Writer
	buf       []byte
	at        uint64 // bytes so far
	sums      []uint32
	footer    bool
	footerCRC uint32
	err       error
}

func (w *blockWriter) write(p []byte) {
	w.at += uint64(len(p))
	for len(p) > 0 {
		n := min(len(p), cap(w.buf)-len(w.buf))
		w.buf, p = append(w.buf, p[:n]...), p[n:]
		if len(w.buf) == cap(w.buf) {
			w.flush()
		}
	}
}

func (w *blockWriter) flush() {
	if len(w.buf) == 0 {
		return
	}
	if w.footer {
		w.footerCRC = codec.UpdateCRC(w.footerCRC, w.buf)
	} else {
		w.sums = append(w.sums, codec.CRC(w.buf))
	}
	if w.err == nil {
		_, w.err = w.w.Write(w.buf)
	}
	w.buf = w.buf[:0]
}

func (w *blockWriter) endData() {
	w.flush()
	w.footer = true
}

func (w *blockWriter) rows(e *Extent) {
	var zeros [Unit]byte
	pad := zeros[:int(Stride(e.Dim))*Unit-e.Dim*4]
	for _, row := range e.Rows {
		w.write(codec.Float32Bytes(row))
		w.write(pad)
	}
}

// ids writes the ids of an extent and returns its entry for the table.
func (w *blockWriter) ids(in *Extent) extent {
	out := extent{ExtentInfo: ExtentInfo{Owner: in.Owner, Dim: in.Dim, Rows: len(in.Rows)}}
	start := w.at
	var b []byte
	for _, id := range in.IDs {
		b = codec.AppendString(b[:0], id)
		out.idsCRC = codec.UpdateCRC(out.idsCRC, b)
		w.write(b)
	}
	out.idsLen = w.at - start
	return out
}

func (w *blockWriter) checksums() {
	var b []byte
	for _, sum := range w.sums {
		b = codec.AppendUint32(b[:0], sum)
		w.write(b)
	}
}
