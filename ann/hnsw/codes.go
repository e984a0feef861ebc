package hnsw

import (
	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/quant"
)

// NoCodes is Config.Bits of a graph that measures vectors themselves.
const NoCodes = -1

// DefaultBits returns the width of codes that is fastest at equal recall for vectors of that length: what counts is how
// many bytes a walk touches and how many vectors it must measure again in full. docs/benchmarks.md has the figures.
func DefaultBits(dim int) int {
	switch {
	case dim < 64:
		return NoCodes
	case dim < 128:
		return 8
	case dim < 1024:
		return 4
	}
	return 2
}

func (c *Config) quantizer() *quant.Quantizer {
	if c.Bits == NoCodes {
		return nil
	}
	return quant.New(quant.Config{Metric: c.Metric, Dim: c.Dim, Bits: c.Bits, Seed: c.Seed, Centre: c.Centre})
}

// encode writes slot's code, which must be there before any link to slot is.
func (g *Graph) encode(s *scratch, slot uint32, values []float32, scale float32) {
	if g.quant != nil {
		g.quant.Encode(&s.encoder, values, scale, g.code(slot))
	}
}

// measurer measures slots from one vector: by their codes if the graph has them, else by the vectors themselves.
type measurer struct {
	full  ann.Query
	coded quant.Query
}

// bind binds a search's vector.
func (m *measurer) bind(g *Graph, values []float32) {
	m.bindScaled(g, values, ann.Scale(g.cfg.Metric, values))
}

// bindScaled is bind for a vector whose scale is known.
func (m *measurer) bindScaled(g *Graph, values []float32, scale float32) {
	m.full = ann.BindScaled(g.cfg.Metric, values, scale)
	if g.quant != nil {
		g.quant.Bind(&m.coded, values, scale)
	}
}

// bindLinks binds a vector to choose its links.
func (m *measurer) bindLinks(g *Graph, values []float32, scale float32) {
	m.full = ann.BindScaled(g.cfg.linkMetric(), values, scale)
	if g.quant != nil {
		g.quant.BindLinks(&m.coded, values, scale)
	}
}

// bindSlot binds the code or the vector of a slot to choose links. It returns false if there is none.
func (m *measurer) bindSlot(g *Graph, slot uint32) bool {
	if g.quant != nil {
		g.quant.BindRow(&m.coded, g.code(slot))
		return true
	}
	values, scale := g.src.Vector(slot)
	m.full = ann.BindScaled(g.cfg.linkMetric(), values, scale)
	return values != nil
}

// measure sets out[i] to the distance of slots[i], ann.IsGone where there is nothing to measure. Slots are of the
// directory as it is now.
func (m *measurer) measure(g *Graph, slots []uint32, out []float32) {
	if g.quant == nil {
		m.full.Measure(g.src, slots, out)
		return
	}
	m.coded.Measure(&g.nodes.Load().codes, slots, out)
}

// near is measure that keeps only what is not farther than reach, and slots without a vector: it moves them to the front of
// slots, in order, and returns how many they are.
func (m *measurer) near(g *Graph, slots []uint32, reach float32, out []float32) (n int) {
	if g.quant != nil {
		return m.coded.Near(&g.nodes.Load().codes, slots, reach, out)
	}
	m.full.Measure(g.src, slots, out)
	for i, slot := range slots {
		if !(out[i] > reach) { // or it is gone
			slots[n], out[n] = slot, out[i]
			n++
		}
	}
	return n
}

// release lets go of memory that is not the graph's own.
func (m *measurer) release() { m.full = ann.Query{} }
