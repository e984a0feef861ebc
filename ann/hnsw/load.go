package hnsw

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// Load reads what Save wrote. cfg must have the metric, dimension, M and Bits that the graph was built with; seed and
// centre of its codes come from the checkpoint, other settings apply from now on. Damage of any kind is an error of kind Corrupt, and a graph that loads cannot lead a
// walk astray: every link is checked. r is read to the graph's end and not beyond.
func Load(r io.Reader, cfg Config, src ann.Source) (*Graph, error) {
	cfg.EnsureDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, errs.Wrap(errs.Invalid, err, "load graph")
	}
	in := blockReader{r: r}
	head, err := in.read(headerSize)
	if err != nil {
		return nil, err
	}
	h, err := parseHeader(head)
	if err != nil {
		return nil, err
	}
	if err := h.matches(&cfg); err != nil {
		return nil, err
	}
	if err := h.readCentre(&in, &cfg); err != nil {
		return nil, err
	}
	g := New(cfg, src)
	if err := g.readArrays(&in, &h); err != nil {
		return nil, err
	}
	if err := g.check(&h); err != nil {
		return nil, err
	}
	return g, g.readEffort(&in)
}

// readEffort reads the last block.
func (g *Graph) readEffort(in *blockReader) error {
	b, err := in.read(effortSize)
	if err != nil {
		return err
	}
	e, err := parseEffort(b)
	g.effort.Store(e)
	return err
}

func (h *header) matches(cfg *Config) error {
	bits := max(cfg.Bits, 0)
	if metricOf(h.metric) == cfg.Metric && int(h.dim) == cfg.Dim && int(h.m) == cfg.M && int(h.bits) == bits {
		return nil
	}
	return errs.New(errs.FailedPrecondition, "load graph: it was built with %v, dimension %d, M %d, codes of %d bits, not %v, %d, %d, %d",
		metricOf(h.metric), h.dim, h.m, h.bits, cfg.Metric, cfg.Dim, cfg.M, bits).WithHint("rebuild the graph")
}

// readCentre sets where the codes were taken from.
func (h *header) readCentre(in *blockReader, cfg *Config) error {
	cfg.Seed, cfg.Centre = h.seed, nil
	if h.centre == 0 {
		return nil
	}
	if h.centre != h.dim {
		return errs.New(errs.Corrupt, "load graph: its centre has %d values, the dimension is %d", h.centre, h.dim)
	}
	b, err := in.read(4 * cfg.Dim)
	if err != nil {
		return err
	}
	cfg.Centre = make([]float32, cfg.Dim)
	copy(codec.Float32Bytes(cfg.Centre), b)
	return nil
}

// readArrays grows the arrays block by block, so that a false count costs no more memory than the input is long.
func (g *Graph) readArrays(in *blockReader, h *header) error {
	var chunks []chunk
	for range h.chunks {
		b, err := in.read(4 * chunkSize * (1 + g.width))
		if err != nil {
			return err
		}
		c := g.newChunk(len(chunks))
		readWords(b, c.state)
		readWords(b[4*chunkSize:], c.links)
		if err := g.readCodes(in, c.codes); err != nil {
			return err
		}
		chunks = append(chunks, c)
	}
	g.setChunks(chunks)
	var upper [][]uint32
	for uint64(len(upper))<<upperBits < uint64(h.upper) {
		b, err := in.read(4 * upperSize * g.upperWidth)
		if err != nil {
			return err
		}
		lists := make([]uint32, upperSize*g.upperWidth)
		readWords(b, lists)
		upper = append(upper, lists)
	}
	g.upper.Store(&upper)
	g.used = h.upper
	return nil
}

func (g *Graph) readCodes(in *blockReader, codes []byte) error {
	if g.codeBytes == 0 {
		return nil
	}
	b, err := in.read(len(codes))
	copy(codes, b)
	return err
}

// readWords fills words from b.
func readWords(b []byte, words []uint32) {
	for i := range words {
		words[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
}

// blockReader reads what a blockWriter wrote.
type blockReader struct {
	r   io.Reader
	buf []byte
	n   uint32
}

// read returns the next block, which must hold size bytes, until the next call.
func (b *blockReader) read(size int) ([]byte, error) {
	if len(b.buf) < blockHead+size {
		b.buf = make([]byte, blockHead+size)
	}
	buf := b.buf[:blockHead+size]
	if _, err := io.ReadFull(b.r, buf); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errs.New(errs.Corrupt, "load graph: the input ends in block %d", b.n)
		}
		return nil, errs.Wrap(errs.KindOf(err), err, "load graph: read block %d", b.n)
	}
	if n := binary.LittleEndian.Uint32(buf); uint64(n) != uint64(size) {
		return nil, errs.New(errs.Corrupt, "load graph: block %d has %d bytes, want %d", b.n, n, size)
	}
	if sum := binary.LittleEndian.Uint32(buf[4:]); sum != blockSum(b.n, buf[blockHead:]) {
		return nil, errs.New(errs.Corrupt, "load graph: block %d fails its checksum", b.n)
	}
	b.n++
	return buf[blockHead:], nil
}

// check verifies all that walks and repair rely on, and fills in what is derived from the arrays.
func (g *Graph) check(h *header) error {
	taken := make(bitmap, (uint64(g.used)+63)/64)
	for slot := range uint32(g.slots()) {
		if err := g.checkState(slot, taken); err != nil {
			return err
		}
	}
	for slot := range uint32(g.slots()) {
		if err := g.checkLinks(slot); err != nil {
			return err
		}
	}
	if g.present.Load() != int64(h.filled) {
		return errs.New(errs.Corrupt, "load graph: %d slots in use, the header says %d", g.present.Load(), h.filled)
	}
	for block := range g.used {
		if !taken.has(block) {
			g.block(block).set(nil)
			g.giveBlocks(block, 1)
		}
	}
	return g.checkEntry(h.entry)
}

func (g *Graph) checkEntry(e entryPoint) error {
	state := g.state(e.slot())
	switch {
	case !e.valid() && e == 0 && g.present.Load() == 0:
	case e == makeEntry(e.slot(), e.level()) && state&statePresent != 0 && levelOf(state) == e.level():
	default:
		return errs.New(errs.Corrupt, "load graph: bad entry point %#x", uint64(e))
	}
	g.entry.Store(uint64(e))
	return nil
}

// checkState counts slot and claims its upper blocks, which no other slot may have.
func (g *Graph) checkState(slot uint32, taken bitmap) error {
	state := g.state(slot)
	if state&statePresent == 0 {
		if state != 0 || g.listAt(slot, 0)[0] != noLink {
			return errs.New(errs.Corrupt, "load graph: slot %d is not in use and not empty", slot)
		}
		return nil
	}
	first, level := uint64(blockOf(state)), uint64(levelOf(state))
	if state&(stateBusy|stateLeaving) != 0 || first+level > uint64(g.used) || level == 0 && first != 0 {
		return errs.New(errs.Corrupt, "load graph: slot %d has bad state %#x", slot, state)
	}
	for block := first; block < first+level; block++ {
		if taken.has(uint32(block)) {
			return errs.New(errs.Corrupt, "load graph: slot %d shares its upper lists", slot)
		}
		taken.add(uint32(block))
	}
	g.present.Add(1)
	if state&stateDead != 0 {
		g.dead.Add(1)
		g.repair.note(slot)
	}
	return nil
}

// checkLinks makes sure that every link of slot leads to one that has lists on the same level.
func (g *Graph) checkLinks(slot uint32) error {
	state := g.state(slot)
	if state == 0 {
		return nil
	}
	for level := range levelOf(state) + 1 {
		links := g.listAt(slot, level)
		for _, to := range links[:links.len()] {
			if to == slot || !g.linkable(to, level) {
				return errs.New(errs.Corrupt, "load graph: slot %d has a bad link to %d on level %d", slot, to, level)
			}
		}
	}
	return nil
}
