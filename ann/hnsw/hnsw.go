// Package hnsw finds approximate nearest neighbours by walking a hierarchical navigable small-world graph
// (Malkov & Yashunin 2018).
//
// It owns the links between slots, in flat arrays that hold no pointers, and nothing else: vectors are read through
// an ann.Source. It promises that searches never wait for a lock and may run beside inserts, deletes and repair;
// that a deleted slot is never returned; that a slot handed back by Repair is referred to by no link; and that the
// same inserts from one goroutine give the same bytes. The engine's builders and searches call it, and bench. It
// starts no goroutine, reads no clock and draws no random numbers: levels come from the caller, who is not to let
// clients choose them (LevelFor). DESIGN.md argues the details, docs/format/graph.md describes what Save writes.
package hnsw

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/quant"
)

// Config says how a graph is built. The zero M and EfConstruction stand for their defaults.
type Config struct {
	Metric ann.Metric
	Dim    int // values in a vector
	// M is how many links an insert makes on each level. A node keeps up to M links on upper levels and 2M on level
	// 0. Default 16; more for data of high intrinsic dimension, at 8 bytes per vector and unit.
	M int
	// EfConstruction is the breadth of the walk that finds an insert's neighbours. Default 200.
	EfConstruction int
	// Bits is the width of the codes that walks measure, 1, 2, 4 or 8 (package quant), or NoCodes. Default DefaultBits.
	Bits int
	// Seed turns the codes; clients should not know it. Load takes it from the checkpoint.
	Seed uint64
	// Centre, of Dim values, is where codes are taken from, such as the mean of some vectors (scaled to unit length under
	// Cosine): codes are the more precise the nearer vectors are to it, and right wherever it is. Default the origin. Load
	// takes it from the checkpoint.
	Centre []float32
}

const (
	minM, maxM = 2, 256
	maxEf      = 1 << 16
)

// EnsureDefaults fills in what is zero.
func (c *Config) EnsureDefaults() {
	if c.M == 0 {
		c.M = 16
	}
	if c.EfConstruction == 0 {
		c.EfConstruction = 200
	}
	if c.Bits == 0 {
		c.Bits = DefaultBits(c.Dim)
	}
}

// Validate reports everything that is wrong with c.
func (c *Config) Validate() error {
	var faults []error
	if c.Metric < ann.Cosine || c.Metric > ann.Euclidean {
		faults = append(faults, fmt.Errorf("metric %v is unknown", c.Metric))
	}
	if c.Dim < 1 {
		faults = append(faults, fmt.Errorf("dimension %d is below 1", c.Dim))
	}
	if c.M < minM || c.M > maxM {
		faults = append(faults, fmt.Errorf("M %d is outside %d to %d", c.M, minM, maxM))
	}
	if c.EfConstruction < 1 || c.EfConstruction > maxEf {
		faults = append(faults, fmt.Errorf("EfConstruction %d is outside 1 to %d", c.EfConstruction, maxEf))
	}
	switch c.Bits {
	case NoCodes, 1, 2, 4, 8:
	default:
		faults = append(faults, fmt.Errorf("codes of %d bits: want 1, 2, 4 or 8, or %d for none", c.Bits, NoCodes))
	}
	if len(c.Centre) != 0 && len(c.Centre) != c.Dim {
		faults = append(faults, fmt.Errorf("centre has %d values, the index %d", len(c.Centre), c.Dim))
	}
	return errors.Join(faults...)
}

// linkMetric is the metric that links are chosen by. Inner products make bad graphs: everybody's "nearest" are the few
// longest vectors, and short ones are linked to by nobody. Over euclidean links the walk for the largest inner product
// is one towards a point at infinity, which they lead to as well, and every slot can be reached.
func (c *Config) linkMetric() ann.Metric {
	if c.Metric == ann.DotProduct {
		return ann.Euclidean
	}
	return c.Metric
}

// stripes is how many locks writers share; two writers rarely meet while there are many more of them than cores.
const stripes = 256

// Graph is one index. Create it with New or Load.
type Graph struct {
	cfg     Config
	src     ann.Source
	fetcher ann.Fetcher      // src, if it is one
	quant   *quant.Quantizer // nil in a graph without codes
	arrays

	entry   atomic.Uint64 // an entryPoint
	top     sync.Mutex    // held to change entry
	locks   [stripes]sync.Mutex
	emptied atomic.Uint64 // times that repair began to take links from slots
	present atomic.Int64  // slots in the graph, dead ones included
	dead    atomic.Int64  // slots deleted and not yet freed

	effort atomic.Pointer[Effort] // nil: not measured yet

	pool   sync.Pool // of *scratch
	repair repairer
}

// New makes an empty graph. It panics if cfg, defaults filled in, is not valid.
func New(cfg Config, src ann.Source) *Graph {
	cfg.EnsureDefaults()
	if err := cfg.Validate(); err != nil {
		panic("hnsw: " + err.Error())
	}
	g := &Graph{cfg: cfg, src: src, quant: cfg.quantizer()}
	g.fetcher, _ = src.(ann.Fetcher)
	codeBytes := 0
	if g.quant != nil {
		codeBytes = g.quant.RowBytes()
	}
	g.arrays.init(cfg.M, codeBytes)
	g.pool.New = func() any { return newScratch(&g.cfg) }
	return g
}

// Config returns the configuration with defaults filled in.
func (g *Graph) Config() Config { return g.cfg }

// Len returns how many slots a search may return.
func (g *Graph) Len() int { return int(g.present.Load() - g.dead.Load()) }

// Dead returns how many deleted slots Repair has not handed back yet.
func (g *Graph) Dead() int { return int(g.dead.Load()) }

// Has reports whether slot is in the graph and not deleted.
func (g *Graph) Has(slot uint32) bool { return g.state(slot)&(statePresent|stateDead) == statePresent }

// Holds reports whether slot is in the graph, deleted or not: it may be given to Insert only if it is not.
func (g *Graph) Holds(slot uint32) bool { return g.state(slot)&statePresent != 0 }

// Bytes returns the memory that the graph's arrays take up.
func (g *Graph) Bytes() int64 { return g.arrays.bytes() }

func (g *Graph) lock(slot uint32) *sync.Mutex {
	mu := &g.locks[slot*0x9E3779B1>>24]
	mu.Lock()
	return mu
}

// LevelFor returns the level of a vector from a hash of its id, keyed by a secret so that nobody can choose ids
// that spoil a graph: each level holds one in m of the level below. It uses integers alone, so that replicas agree
// whatever their CPU.
func LevelFor(hash uint64, m int) int {
	step := uint64(max(m, minM))
	level := 0
	for limit := ^uint64(0) / step; hash < limit && level < maxLevel; limit /= step {
		level++
	}
	return level
}

// entryPoint is where walks begin: a slot and its level. The zero entryPoint is that of an empty graph.
type entryPoint uint64

const entryValid = 1 << 63

func makeEntry(slot uint32, level int) entryPoint {
	return entryPoint(entryValid | uint64(level)<<32 | uint64(slot))
}

func (e entryPoint) valid() bool  { return e&entryValid != 0 }
func (e entryPoint) slot() uint32 { return uint32(e) }
func (e entryPoint) level() int   { return int(e>>32) & maxLevel }

func (g *Graph) entryPoint() entryPoint { return entryPoint(g.entry.Load()) }

// DefaultEf returns the breadth of a search for k neighbours when nobody asks for another. At the default M it finds
// 99.8 % of the ten nearest of mnist-784 (60,000 images); 48 would find 99.5 %, 32 98.9 %.
func DefaultEf(k int) int { return max(64, 2*k) }
