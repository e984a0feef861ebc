package cluster

import (
	"context"
	"time"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

const (
	maxIndexName = 45
	maxDim       = 20_000
	maxPort      = 40
	maxLinks     = 1024 // M; more than any graph gains from
	maxEf        = 10_000
)

// Index is an index as the metadata plane holds it. One that was returned shares memory with the state: do not
// change its tags or spec.
type Index struct {
	ID                 engine.IndexID
	Name               string
	Dim                int // 0 for sparse
	Metric             ann.Metric
	Sparse             bool // vector_type sparse
	M                  int
	EfConstruction     int
	EfSearch           int
	DeletionProtection bool
	Tags               map[string]string
	Spec               []byte // the "spec" object of the request, as JSON, echoed
	Port               int    // offset 1..40 of its own port, 0: none left
	CreatedAt          time.Time
}

// schema is what shards must know of an index.
func (ix *Index) schema() engine.Schema {
	return engine.Schema{
		ID: ix.ID, Dim: ix.Dim, Metric: ix.Metric, M: ix.M, EfConstruction: ix.EfConstruction, EfSearch: ix.EfSearch,
	}
}

// IndexPatch changes an index; nil fields stay. A tag with an empty value is removed.
type IndexPatch struct {
	DeletionProtection *bool
	Tags               map[string]string
	Spec               []byte
}

// CreateIndex defines an index in the metadata plane and in every shard. ID, Port and CreatedAt are set by it.
// AlreadyExists if the name is taken, Invalid if a field is out of bounds. OutcomeUnknown: it exists, and the shards
// that do not know it yet will be told.
func (n *Node) CreateIndex(ctx context.Context, ix Index) (Index, error) {
	if err := checkIndex(&ix); err != nil {
		return Index{}, err
	}
	ix.CreatedAt = time.Now().UTC()
	res, err := n.meta.propose(ctx, &metaCommand{op: metaCreateIndex, index: ix})
	if err != nil {
		return Index{}, err
	}
	if err := n.aligner.alignAll(ctx); err != nil {
		n.aligner.wake()
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
	case ix.M < 0 || ix.M > maxLinks:
		return errs.New(errs.Invalid, "m is %d, must be 0 to %d", ix.M, maxLinks)
	case min(ix.EfConstruction, ix.EfSearch) < 0 || max(ix.EfConstruction, ix.EfSearch) > maxEf:
		return errs.New(errs.Invalid, "ef_construction is %d and ef_search %d, must be 0 to %d", ix.EfConstruction, ix.EfSearch, maxEf)
	}
	return nil
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

// ConfigureIndex changes an index. NotFound if there is none.
func (n *Node) ConfigureIndex(ctx context.Context, name string, p IndexPatch) (Index, error) {
	ix, ok := n.Index(name)
	if !ok {
		return Index{}, errNoIndex(name)
	}
	res, err := n.meta.propose(ctx, &metaCommand{op: metaConfigureIndex, indexID: ix.ID, patch: p})
	return res.index, err
}

// DeleteIndex drops an index with all its records. NotFound; PermissionDenied when protected. It is gone on return;
// shards that could not be told yet drop their records later.
func (n *Node) DeleteIndex(ctx context.Context, name string) error {
	ix, ok := n.Index(name)
	if !ok {
		return errNoIndex(name)
	}
	if _, err := n.meta.propose(ctx, &metaCommand{op: metaDeleteIndex, indexID: ix.ID}); err != nil {
		return err
	}
	if err := n.aligner.alignAll(ctx); err != nil {
		n.logger.Warn("dropping an index goes on in the background", "index", ix.ID, "err", err)
		n.aligner.wake()
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
