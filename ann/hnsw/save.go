package hnsw

import (
	"encoding/binary"
	"io"
	"sync/atomic"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// The format is described in docs/format/graph.md.
const (
	magic      = "croftgr\n"
	version    = 3
	headerSize = 64
	blockHead  = 8 // length and checksum in front of a block
)

// header is the first block. Numbers are 32 bits wide, but for the entry point.
type header struct {
	metric, dim, m, ef    uint32
	chunks, upper, filled uint32 // chunks of slots, upper blocks, slots in use
	entry                 entryPoint
	bits, centre          uint32 // width of codes, 0 for none; values of the centre
	seed                  uint64
}

func (h *header) append(b []byte) []byte {
	b = append(b, magic...)
	for _, v := range []uint32{version, h.metric, h.dim, h.m, h.ef, h.chunks, h.upper, h.filled} {
		b = codec.AppendUint32(b, v)
	}
	b = codec.AppendUint64(b, uint64(h.entry))
	b = codec.AppendUint32(b, h.bits)
	b = codec.AppendUint32(b, h.centre)
	return codec.AppendUint64(b, h.seed)
}

func parseHeader(b []byte) (h header, err error) {
	if string(b[:len(magic)]) != magic {
		return h, errs.New(errs.Corrupt, "load graph: it begins with %q, not %q", b[:len(magic)], magic)
	}
	r := codec.NewReader(b[len(magic):])
	if v := r.Uint32(); v != version {
		return h, errs.New(errs.FailedPrecondition, "load graph: format version %d, this program reads %d", v, version).
			WithHint("rebuild the graph, or use a newer croft")
	}
	for _, field := range []*uint32{&h.metric, &h.dim, &h.m, &h.ef, &h.chunks, &h.upper, &h.filled} {
		*field = r.Uint32()
	}
	h.entry = entryPoint(r.Uint64())
	h.bits, h.centre, h.seed = r.Uint32(), r.Uint32(), r.Uint64()
	return h, r.Err()
}

// Save writes the graph. No Insert and no Repair call may run meanwhile; searches and deletes may. A repair that is
// between two calls is not saved: the loaded graph begins it anew.
func (g *Graph) Save(w io.Writer) error {
	chunks := g.nodes.Load().chunks
	h := header{
		metric: uint32(g.cfg.Metric), dim: uint32(g.cfg.Dim), m: uint32(g.cfg.M), ef: uint32(g.cfg.EfConstruction),
		chunks: uint32(len(chunks)), upper: g.used, filled: uint32(g.present.Load()), entry: g.entryPoint(),
		bits: uint32(max(g.cfg.Bits, 0)), centre: uint32(len(g.cfg.Centre)), seed: g.cfg.Seed,
	}
	out := blockWriter{w: w}
	out.write(h.append(out.start()))
	if h.centre > 0 {
		out.write(append(out.start(), codec.Float32Bytes(g.cfg.Centre)...))
	}
	for _, c := range chunks {
		b := out.start()
		for i := range c.state {
			b = codec.AppendUint32(b, atomic.LoadUint32(&c.state[i])&^stateLeaving)
		}
		out.write(appendLists(b, c.links, g.width))
		if g.codeBytes > 0 {
			out.write(append(out.start(), c.codes...))
		}
	}
	for first := 0; first < int(g.used); first += upperSize {
		lists := (*g.upper.Load())[first>>upperBits]
		out.write(appendLists(out.start(), lists, g.upperWidth))
	}
	out.write(g.effort.Load().append(out.start()))
	return errs.Wrap(errs.KindOf(out.err), out.err, "save graph")
}

// appendLists writes lists of a width, with noLink behind their links: what stood there before is nobody's business,
// and graphs that are equal give equal bytes.
func appendLists(b []byte, words []uint32, width int) []byte {
	for i := 0; i < len(words); i += width {
		links := list(words[i : i+width])
		n := links.len()
		for j := range n {
			b = codec.AppendUint32(b, links.at(j))
		}
		for range width - n {
			b = codec.AppendUint32(b, noLink)
		}
	}
	return b
}

// blockWriter writes blocks, each behind its length and a checksum of its number and bytes. The first error sticks.
type blockWriter struct {
	w   io.Writer
	buf []byte
	n   uint32
	err error
}

// start returns a buffer to append a block to.
func (b *blockWriter) start() []byte { return append(b.buf[:0], make([]byte, blockHead)...) }

// write finishes what start began.
func (b *blockWriter) write(buf []byte) {
	b.buf = buf
	binary.LittleEndian.PutUint32(buf, uint32(len(buf)-blockHead))
	binary.LittleEndian.PutUint32(buf[4:], blockSum(b.n, buf[blockHead:]))
	b.n++
	if b.err == nil {
		_, b.err = b.w.Write(buf)
	}
}

// blockSum covers the block's number too, so that blocks in the wrong order are noticed.
func blockSum(n uint32, payload []byte) uint32 {
	var number [4]byte
	binary.LittleEndian.PutUint32(number[:], n)
	return codec.UpdateCRC(codec.CRC(number[:]), payload)
}

// metricOf guards against numbers that do not fit.
func metricOf(v uint32) ann.Metric { return ann.Metric(min(v, 255)) }
