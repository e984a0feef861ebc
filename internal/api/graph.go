package api

import (
	"strconv"
	"strings"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

// graphShown is the "croft" of a dense index's description: how graphs are built and walked, of which the API that we
// speak knows nothing. It stands beside "spec", not in it, because Python's client refuses a spec with fields that it
// does not know.
type graphShown struct {
	Quantization   string  `json:"quantization"` // auto, none, 1, 2, 4 or 8
	M              int     `json:"m"`
	EfConstruction int     `json:"ef_construction"`
	TargetRecall   float32 `json:"target_recall"`
}

func showGraph(ix *cluster.Index) *graphShown {
	if ix.Sparse {
		return nil
	}
	return &graphShown{
		Quantization: quantizationName(ix.Bits), M: ix.M, EfConstruction: ix.EfConstruction, TargetRecall: ix.TargetRecall,
	}
}

func quantizationName(bits int) string {
	switch bits {
	case 0:
		return "auto"
	case engine.NoCodes:
		return "none"
	}
	return strconv.Itoa(bits)
}

// graphRequest is the "croft" of a request about an index. What is not given is nil or zero.
type graphRequest struct {
	bits              *int
	m, efConstruction int
	recall            float32
}

var graphFields = []field[graphRequest]{
	{"quantization", (*graphRequest).readQuantization},
	intField("m", 2, 256, func(g *graphRequest) *int { return &g.m }),
	intField("ef_construction", 1, 10_000, func(g *graphRequest) *int { return &g.efConstruction }),
	{"target_recall", func(g *graphRequest, r *reader) (err error) { g.recall, err = r.recall(); return }},
}

// readQuantization reads the width of codes: a word, or the bits as a number or text.
func (g *graphRequest) readQuantization(r *reader) error {
	raw, err := r.dec.ReadValue()
	if err != nil {
		return err
	}
	bits, ok := quantizations[strings.Trim(string(raw), `"`)]
	if !ok {
		return faultf("%s is none of auto, none, 1, 2, 4, 8", clip(raw))
	}
	g.bits = &bits
	return nil
}

var quantizations = map[string]int{"auto": 0, "none": engine.NoCodes, "0": engine.NoCodes, "1": 1, "2": 2, "4": 4, "8": 8}

// recall reads the share of the true nearest that a search is to find.
func (r *reader) recall() (float32, error) {
	x, err := r.number()
	if err == nil && (x < cluster.MinRecall || x > cluster.MaxRecall) {
		err = faultf("%v is not between %v and %v", x, cluster.MinRecall, cluster.MaxRecall)
	}
	return float32(x), err
}

// settle gives a new index the settings asked for.
func (g *graphRequest) settle(ix *cluster.Index) error {
	if g == nil {
		return nil
	}
	if ix.Sparse {
		return errNoGraph()
	}
	if g.bits != nil {
		ix.Bits = *g.bits
	}
	ix.M, ix.EfConstruction, ix.TargetRecall = g.m, g.efConstruction, g.recall
	return nil
}

// patch returns the target recall to change to, 0 for none. All else may be sent back as it is, but not changed.
func (g *graphRequest) patch(ix *cluster.Index) (recall float32, err error) {
	switch {
	case g == nil:
		return 0, nil
	case ix.Sparse:
		return 0, errNoGraph()
	case g.bits != nil && *g.bits != ix.Bits:
		return 0, errSettled("quantization", quantizationName(ix.Bits))
	case g.m != 0 && g.m != ix.M:
		return 0, errSettled("m", ix.M)
	case g.efConstruction != 0 && g.efConstruction != ix.EfConstruction:
		return 0, errSettled("ef_construction", ix.EfConstruction)
	}
	return g.recall, nil
}

func errSettled(name string, is any) error {
	return invalid("croft."+name, "is %v and cannot be changed: every graph would have to be built anew", is).
		WithHint("create an index with it and copy the records there; target_recall can be changed at any time")
}

func errNoGraph() error {
	return errs.New(errs.Invalid, "croft: a sparse index is searched exactly and has no graph to set up")
}
