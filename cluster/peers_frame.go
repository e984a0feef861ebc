package cluster

import (
	"encoding/binary"
	"io"
	"slices"
	"time"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// Calls are frames, one request and its answer at a time on a connection. All numbers are little-endian.
//
//	size of the body u32 | CRC32C u32 of all that follows | type u8 | method u8 | beside u16 | id u32 | patience in ns i64 | body
//
// patience is how long the caller will wait, 0 for ever; in answers 0. An answer has its request's method and id. The first
// beside bytes of the body are what travels beside a request for traces and logs, see tracing.Append: mostly none.
const frameHeader = 24

// maxFrame bounds a body in bytes: an entry with what is told about it.
const maxFrame = maxEntry + 1<<20

// frameType tells frames apart. Numbers are on the wire: append only. An answer in several frames can become a type of its
// own, each but the last telling that more will come.
type frameType uint8

const (
	frameRequest frameType = iota + 1
	frameAnswer
	frameError // the body is as appendError writes it
)

// frame is the head of a frame.
type frame struct {
	kind     frameType
	method   method
	id       uint32
	patience time.Duration
	beside   int // of the body's bytes
	size     int
	crc      uint32
}

// appendFrame appends the head of a frame and what travels beside it; the rest of the body follows.
func appendFrame(b []byte, f *frame, beside, body []byte) []byte {
	start := len(b)
	b = codec.AppendUint32(b, uint32(len(beside)+len(body)))
	b = append(b, 0, 0, 0, 0, byte(f.kind), byte(f.method))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(beside)))
	b = codec.AppendUint32(b, f.id)
	b = codec.AppendUint64(b, uint64(f.patience))
	b = append(b, beside...)
	crc := codec.UpdateCRC(codec.CRC(b[start+8:]), body)
	binary.LittleEndian.PutUint32(b[start+4:], crc)
	return b
}

// frameReader reads frames from one connection.
type frameReader struct {
	r    io.Reader
	head [frameHeader]byte
}

// next reads the head of a frame. io.EOF: the other side has left between two frames.
func (r *frameReader) next() (f frame, err error) {
	if _, err := io.ReadFull(r.r, r.head[:]); err != nil {
		return f, err
	}
	le := binary.LittleEndian
	f = frame{
		kind: frameType(r.head[8]), method: method(r.head[9]), id: le.Uint32(r.head[12:]),
		patience: time.Duration(le.Uint64(r.head[16:])), crc: le.Uint32(r.head[4:]), beside: int(le.Uint16(r.head[10:])),
	}
	size := le.Uint32(r.head[:])
	if size > maxFrame+uint32(f.beside) {
		return f, errs.New(errs.TooLarge, "a frame of %d bytes, the limit is %d", size, maxFrame)
	}
	f.size = int(size)
	if f.kind < frameRequest || f.kind > frameError || f.patience < 0 || f.beside > f.size || f.beside > 0 && f.kind != frameRequest {
		return f, errs.New(errs.Corrupt, "a frame of an unknown type")
	}
	return f, nil
}

// body appends the body of the frame whose head was read last to dst, or returns dst as it was.
func (r *frameReader) body(f *frame, dst []byte) ([]byte, error) {
	out, err := readBody(r.r, f.size, dst)
	if err != nil {
		return dst, err
	}
	if codec.UpdateCRC(codec.CRC(r.head[8:]), out[len(dst):]) != f.crc {
		return dst, errs.New(errs.Corrupt, "a frame's checksum is wrong")
	}
	return out, nil
}

// readBody appends size bytes to dst. Memory grows with what arrives, not with what was announced.
func readBody(r io.Reader, size int, dst []byte) ([]byte, error) {
	const step = 256 << 10
	for size > 0 {
		n := min(size, max(step, len(dst)))
		dst = slices.Grow(dst, n)
		got, err := io.ReadFull(r, dst[len(dst):len(dst)+n])
		if err == io.EOF {
			err = io.ErrUnexpectedEOF // not between two frames
		}
		if err != nil {
			return nil, err
		}
		dst = dst[:len(dst)+got]
		size -= n
	}
	return dst, nil
}
