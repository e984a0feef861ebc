// Package codec owns the byte-level building blocks of croft's formats: varints, length-prefixed strings,
// little-endian float32 rows, CRC32C and xxhash. It promises that a Reader never panics and never allocates more
// than its input could hold, whatever the input: the first fault sticks and is told by Err. Every writer and reader
// of a log entry, a stored value, a segment or a checkpoint calls it; it does no I/O.
package codec

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"unsafe"

	"github.com/cespare/xxhash/v2"

	"github.com/croftdb/croft/internal/errs"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CRC returns the CRC32C of b, the checksum of every croft format.
func CRC(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// UpdateCRC continues a CRC32C.
func UpdateCRC(crc uint32, b []byte) uint32 { return crc32.Update(crc, castagnoli, b) }

// Hash returns the 64-bit xxhash of b.
func Hash(b []byte) uint64 { return xxhash.Sum64(b) }

// HashString returns the 64-bit xxhash of s.
func HashString(s string) uint64 { return xxhash.Sum64String(s) }

// Hasher computes a 64-bit xxhash piece by piece.
type Hasher = xxhash.Digest

// NewHasher starts an xxhash with a seed: different seeds give independent hashes of the same bytes.
func NewHasher(seed uint64) *Hasher { return xxhash.NewWithSeed(seed) }

// AppendUvarint appends v as a varint.
func AppendUvarint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

// AppendUint32 appends v in 4 little-endian bytes.
func AppendUint32(b []byte, v uint32) []byte { return binary.LittleEndian.AppendUint32(b, v) }

// AppendUint64 appends v in 8 little-endian bytes.
func AppendUint64(b []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(b, v) }

// AppendFloat64 appends the bits of v in 8 little-endian bytes.
func AppendFloat64(b []byte, v float64) []byte { return AppendUint64(b, math.Float64bits(v)) }

// AppendString appends a varint length and the bytes of s.
func AppendString(b []byte, s string) []byte {
	return append(AppendUvarint(b, uint64(len(s))), s...)
}

// AppendBytes appends a varint length and p.
func AppendBytes(b, p []byte) []byte {
	return append(AppendUvarint(b, uint64(len(p))), p...)
}

// AppendFloat32s appends the little-endian bits of v, without a length.
func AppendFloat32s(b []byte, v []float32) []byte {
	for _, f := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	return b
}

// Float32sFromBytes views little-endian bytes as float32 values without a copy. The caller guarantees 4-byte
// alignment, a length that is a multiple of 4 and a little-endian machine (all that croft is built for).
func Float32sFromBytes(b []byte) []float32 {
	if len(b) == 0 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
}

// Float32Bytes views float32 values as their little-endian bytes without a copy.
func Float32Bytes(v []float32) []byte {
	if len(v) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), len(v)*4)
}

// Reader decodes what the Append functions wrote. After the first fault every method returns zero values; check Err
// (or Done) once at the end.
type Reader struct {
	b   []byte
	err error
}

// NewReader reads from b, which must stay unchanged while values that alias it (Bytes) are in use.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Err returns the first fault, of kind Corrupt, or nil.
func (r *Reader) Err() error { return r.err }

// Done returns the first fault, counting bytes left over as one.
func (r *Reader) Done() error {
	if r.err == nil && len(r.b) != 0 {
		r.fail("%d bytes left over", len(r.b))
	}
	return r.err
}

// Len returns the number of bytes not yet read.
func (r *Reader) Len() int { return len(r.b) }

func (r *Reader) fail(format string, args ...any) {
	r.Fail(errs.New(errs.Corrupt, "decode: "+format, args...))
}

// Fail makes err the first fault, for decoders built on top.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

func (r *Reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail("want %d bytes, have %d", n, len(r.b))
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

// Byte reads one byte.
func (r *Reader) Byte() byte {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

// Uvarint reads a varint.
func (r *Reader) Uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("bad varint")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// Count reads a varint that counts items of at least size bytes each, so that a damaged count cannot make the
// caller allocate more than the input could hold.
func (r *Reader) Count(size int) int {
	v := r.Uvarint()
	if size < 1 {
		size = 1
	}
	if v > uint64(len(r.b)/size) {
		r.fail("count %d of items of %d bytes exceeds the %d bytes left", v, size, len(r.b))
		return 0
	}
	return int(v)
}

// Uint32 reads 4 little-endian bytes.
func (r *Reader) Uint32() uint32 {
	if p := r.take(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

// Uint64 reads 8 little-endian bytes.
func (r *Reader) Uint64() uint64 {
	if p := r.take(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

// Float64 reads 8 little-endian bytes as a float64.
func (r *Reader) Float64() float64 { return math.Float64frombits(r.Uint64()) }

// String reads a length-prefixed string into memory of its own.
func (r *Reader) String() string { return string(r.Bytes()) }

// Bytes reads length-prefixed bytes; the result aliases the input.
func (r *Reader) Bytes() []byte { return r.take(r.Count(1)) }

// Raw reads n bytes; the result aliases the input.
func (r *Reader) Raw(n int) []byte { return r.take(n) }

// Float32s reads len(dst) values.
func (r *Reader) Float32s(dst []float32) {
	p := r.take(4 * len(dst))
	if p == nil {
		return
	}
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(p[4*i:]))
	}
}
