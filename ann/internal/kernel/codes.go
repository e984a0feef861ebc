package kernel

import (
	"fmt"
	"unsafe"
)

// Rows is a matrix of byte rows in chunks of 1<<Shift rows each: row i begins at
// Chunks[i>>Shift] + (i & (1<<Shift-1))·Stride, and is followed by nothing that a kernel reads. Every chunk must be
// there in full; no alignment is asked for.
type Rows struct {
	Chunks []unsafe.Pointer
	Shift  uint
	Stride int // bytes
}

// len returns the number of rows.
func (r *Rows) len() int { return len(r.Chunks) << r.Shift }

// codeBlock is how many dimensions a row of codes is a multiple of.
const codeBlock = 64

// CodeDots sets out[i] to Σ_j u_j·query[j] for u the unsigned codes of width bits (1, 2, 4 or 8) of row ids[i], which
// begin offset bytes into it. The query's length is a multiple of 64 and at most 20,480, so that the largest sum fits.
// It panics if ids or codes lie outside of rows, and reads none such.
//
// The codes of D dimensions take D/8·width bytes:
//   - 8 bits: in order;
//   - 4 bits: blocks of 128 dimensions in 64 bytes, byte j has dimension j in its low and 64+j in its high half; a last
//     block of 64 dimensions in 32 bytes has j and 32+j;
//   - 2 bits: blocks of 256 dimensions in 64 bytes, byte j has dimensions j, 64+j, 128+j and 192+j from the lowest bits
//     up; the rest is in blocks of 64 dimensions in 16 bytes, with j, 16+j, 32+j and 48+j;
//   - 1 bit: bit i of the little-endian word w is dimension 64w+i.
func CodeDots(width int, query []int8, rows *Rows, offset int, ids []uint32, out []int32) {
	CodeDotsAnd(width, query, rows, offset, ids, out, nil)
}

// CodeDotsAnd is CodeDots that also sets behind[i] to the eight bytes behind the codes of row ids[i], little-endian, unless
// behind is empty: they have come with the codes, and the row need not be looked up again.
func CodeDotsAnd(width int, query []int8, rows *Rows, offset int, ids []uint32, out []int32, behind []uint64) {
	read := codeBytes(width, len(query))
	if len(behind) > 0 {
		behind = behind[:len(ids)]
		read += 8
	}
	if offset < 0 || offset+read > rows.Stride {
		panic(fmt.Sprintf("kernel: %d bytes of codes at %d of rows of %d", read, offset, rows.Stride))
	}
	out = out[:len(ids)]
	switch {
	case len(query) == 0:
		codeDotsGeneric(width, query, rows, offset, ids, out, behind)
	case len(ids) > 0:
		codeDots(chosen, width, query, rows, offset, ids, out, behind)
	}
}

// CodeScan is CodeDots for the rows codes[i·stride:], one after the other, as many as out is long.
func CodeScan(width int, query []int8, codes []byte, stride int, out []int32) {
	size := codeBytes(width, len(query))
	if size > stride || len(out) > 0 && (len(out)-1)*stride+size > len(codes) {
		panic(fmt.Sprintf("kernel: %d rows of %d bytes at a stride of %d in %d bytes", len(out), size, stride, len(codes)))
	}
	if len(query) == 0 {
		clear(out)
		return
	}
	codeScan(chosen, width, query, codes, stride, out)
}

// scanned is how many rows of a scan are one job: a scan is a list of ids that happen to be in order.
const scanned = 256

var ordinals = func() (ids [scanned]uint32) {
	for i := range ids {
		ids[i] = uint32(i)
	}
	return ids
}()

func codeScan(w way, width int, query []int8, codes []byte, stride int, out []int32) {
	rows := Rows{Shift: 8, Stride: stride}
	var chunk [1]unsafe.Pointer
	rows.Chunks = chunk[:]
	for len(out) > 0 {
		n := min(scanned, len(out))
		chunk[0] = unsafe.Pointer(&codes[0])
		codeDots(w, width, query, &rows, 0, ordinals[:n], out[:n], nil)
		if out = out[n:]; len(out) > 0 {
			codes = codes[n*stride:]
		}
	}
}

// PrefetchRows asks for the first cache lines of the rows of those ids. It panics if one is outside of rows.
func PrefetchRows(rows *Rows, ids []uint32, lines int) {
	if len(ids) > 0 && lines > 0 {
		askRows(chosen, rows, ids, lines)
	}
}

// codeBytes returns the size of a row of codes.
func codeBytes(width, dims int) int {
	if width != 1 && width != 2 && width != 4 && width != 8 || dims%codeBlock != 0 {
		panic(fmt.Sprintf("kernel: %d codes of %d bits, want a multiple of 64 and 1, 2, 4 or 8 bits", dims, width))
	}
	return dims / 8 * width
}

func outside(id uint32, rows *Rows) string {
	return fmt.Sprintf("kernel: row %d of %d", id, rows.len())
}
