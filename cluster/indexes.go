package cluster

import (
	"context"
	"slices"
	"time"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/hnsw"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

const (
	maxIndexName = 45
	maxDim       = 20_000
	maxPort      = 40
	minLinks     = 2
	maxLinks     = 256 // M; more than any graph gains from, and the most that it takes
	maxEf        = 10_000
)

// MinRecall and MaxRecall bound a target recall. A walk promises nothing beyond: who wants all of the nearest scans.
const (
	MinRecall = 0.5
	MaxRecall = 0.999
)

// Index is an index as the metadata plane holds it. One that was returned shares memory with the state: do not
// change its tags or spec.
type Index struct {
	ID                 engine.IndexID
	Name               string
	Dim                int // 0 for sparse
	Metric             ann.Metric
	Sparse             bool    // vector_type sparse
	M                  int     // links of a node; like EfConstruction and Bits what graphs are built from, and settled
	EfConstruction     int     // breadth of the walk that finds a new node's neighbours
	EfSearch           int     // breadth of every graph walk; 0: what TargetRecall takes
	Bits               int     // width of the codes that graphs are walked on: 1, 2, 4, 8 or engine.NoCodes; 0: chosen by Dim
	TargetRecall       float32 // share of the true nearest that graph walks are to find
	DeletionProtection bool
	Tags               map[string]string
	Spec               []byte // the "spec" object of the request, as JSON, echoed
	Port               int    // offset 1..40 of its own port, 0: none left
	CreatedAt          time.Time
}

// schema is what shards must know of an index.
func (ix *Index) schema() engine.Schema {
	return engine.Schema{
		ID: ix.ID, Dim: ix.Dim, Metric: ix.Metric, M: ix.M, EfConstruction: ix.EfConstruction, EfSearch: ix.EfSearch, Bits: ix.Bits,
	}
}

// ensureDefaults fills in the graph's settings, so that an index keeps those that it was made with. Sparse indexes have
// no graphs.
func (ix *Index) ensureDefaults() {
	if ix.Sparse {
		return
	}
	graph := hnsw.Config{M: ix.M, EfConstruction: ix.EfConstruction, Dim: ix.Dim}
	graph.EnsureDefaults()
	ix.M, ix.EfConstruction = graph.M, graph.EfConstruction
	if ix.TargetRecall == 0 {
		ix.TargetRecall = engine.DefaultRecall
	}
}

// IndexPatch changes an index; fields that are nil or zero stay. A tag with an empty value is removed.
type IndexPatch struct {
	DeletionProtection *bool
	TargetRecall       float32
	Tags               map[string]string
	Spec               []byte
}

// CreateIndex defines an index in the metadata plane and in every shard. ID, Port and CreatedAt are set by it, and what
// is zero of the graph's settings.
// AlreadyExists if the name is taken, Invalid if a field is out of bounds. OutcomeUnknown: it exists, and the shards
// that do not know it yet will be told.
func (n *Node) CreateIndex(ctx context.Context, ix Index) (Index, error) {
	ix.ensureDefaults()
	if err := checkIndex(&ix); err != nil {
		return Index{}, err
	}
	ix.CreatedAt = time.Now().UTC()
	res, err := n.changeMeta(ctx, &metaCommand{op: metaCreateIndex, index: ix})
	if err != nil {
		return Index{}, err
	}
	if err := n.aligner.begin(ctx); err != nil {
		return res.index, errs.Wrap(errs.OutcomeUnknown, err, "define index %q in every shard", ix.Name)
	}
	return res.index, nil
}

func checkIndex(ix *Index) error {
	if err := checkIndexName(ix.Name); err != nil {
		return err
	}
	switch {
	case ix.Metric < ann.Cosine || ix.Metric > ann.Euclidean:
		return errs.New(errs.Invalid, "metric %v is none of cosine, dotproduct, euclidean", ix.Metric)
	case ix.Sparse && (ix.Dim != 0 || ix.Metric != ann.DotProduct):
		return errs.New(errs.Invalid, "a sparse index has no dimension and the metric dotproduct, got dimension %d and %v", ix.Dim, ix.Metric)
	case !ix.Sparse && (ix.Dim < 1 || ix.Dim > maxDim):
		return errs.New(errs.Invalid, "dimension is %d, must be 1 to %d", ix.Dim, maxDim)
	case min(ix.EfConstruction, ix.EfSearch) < 0 || max(ix.EfConstruction, ix.EfSearch) > maxEf:
		return errs.New(errs.Invalid, "ef_construction is %d and ef_search %d, must be 0 to %d", ix.EfConstruction, ix.EfSearch, maxEf)
	case ix.Sparse && (ix.M != 0 || ix.EfConstruction != 0 || ix.Bits != 0 || ix.TargetRecall != 0):
		return errs.New(errs.Invalid, "a sparse index has no graph: m, ef_construction, quantization and target_recall do not apply")
	case ix.Sparse:
		return nil
	case ix.M < minLinks || ix.M > maxLinks:
		return errs.New(errs.Invalid, "m is %d, must be %d to %d", ix.M, minLinks, maxLinks)
	case !slices.Contains(codeWidths, ix.Bits):
		return errs.New(errs.Invalid, "quantization is %d bits, must be 1, 2, 4 or 8, 0 for a default or %d for none", ix.Bits, engine.NoCodes)
	}
	return checkRecall(ix.TargetRecall)
}

var codeWidths = []int{engine.NoCodes, 0, 1, 2, 4, 8}

func checkRecall(r float32) error {
	if r >= MinRecall && r <= MaxRecall {
		return nil
	}
	return errs.New(errs.Invalid, "target_recall is %v, must be %v to %v", r, MinRecall, MaxRecall)
}

func checkIndexName(name string) error {
	if len(name) < 1 || len(name) > maxIndexName {
		return errs.New(errs.Invalid, "an index name has 1 to %d characters, got %d", maxIndexName, len(name))
	}
	for i := range len(name) {
		if c := name[i]; !isAlphanumeric(c) && c != '-' {
			return errs.New(errs.Invalid, "index name %q: each must be a lower case alphanumeric character or '-'", name)
		}
	}
	if !isAlphanumeric(name[0]) || !isAlphanumeric(name[len(name)-1]) {
		return errs.New(errs.Invalid, "index name %q must start and end with an alphanumeric character", name)
	}
	return nil
}

func isAlphanumeric(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// ConfigureIndex changes an index. NotFound if there is none, Invalid if a field is out of bounds.
func (n *Node) ConfigureIndex(ctx context.Context, name string, p IndexPatch) (Index, error) {
	ix, ok := n.Index(name)
	if !ok {
		return Index{}, errNoIndex(name)
	}
	if p.TargetRecall != 0 {
		if ix.Sparse {
			return Index{}, errs.New(errs.Invalid, "a sparse index has no graph: target_recall does not apply")
		}
		if err := checkRecall(p.TargetRecall); err != nil {
			return Index{}, err
		}
	}
	res, err := n.changeMeta(ctx, &metaCommand{op: metaConfigureIndex, indexID: ix.ID, patch: p})
	return res.index, err
}

// DeleteIndex drops an index with all its records. NotFound; PermissionDenied when protected. It is gone on return;
// shards that could not be told yet drop their records later.
func (n *Node) DeleteIndex(ctx context.Context, name string) error {
	ix, ok := n.Index(name)
	if !ok {
		return errNoIndex(name)
	}
	if _, err := n.changeMeta(ctx, &metaCommand{op: metaDeleteIndex, indexID: ix.ID}); err != nil {
		return err
	}
	if err := n.aligner.begin(ctx); err != nil {
		n.logger.Warn("dropping an index goes on in the background", "index", ix.ID, "err", err)
	}
	return nil
}

func errNoIndex(name string) error { return errs.New(errs.NotFound, "index %q does not exist", name) }

// Index returns an index by name, from memory.
func (n *Node) Index(name string) (Index, bool) { return n.meta.state().findIndex(name) }

// IndexByPort returns an index by the offset of its port, from memory.
func (n *Node) IndexByPort(port int) (Index, bool) {
	for _, ix := range n.meta.state().indexes {
		if ix.Port == port && port != 0 {
			return ix, true
		}
	}
	return Index{}, false
}

// Indexes returns all indexes, by name.
func (n *Node) Indexes() []Index { return append([]Index(nil), n.meta.state().indexes...) }

// WatchIndexes calls f with all indexes now and after each change, from one goroutine, until stop is called or the
// node closes. stop waits for a call that is under way, so f must not call it.
func (n *Node) WatchIndexes(f func([]Index)) (stop func()) {
	ctx, cancel := context.WithCancel(n.ctx)
	done := make(chan struct{})
	n.background.Go(func() {
		defer close(done)
		n.watchIndexes(ctx, f)
	})
	return func() { cancel(); <-done }
}

func (n *Node) watchIndexes(ctx context.Context, f func([]Index)) {
	s := n.meta.state()
	for ctx.Err() == nil {
		f(append([]Index(nil), s.indexes...))
		seen := s.indexesAt
		var err error
		if s, err = n.meta.fsm.wait(ctx, func(s *state) bool { return s.indexesAt != seen }); err != nil {
			return
		}
	}
}
