package systest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// writer is a client that writes to a namespace of its own.
type writer struct {
	index, ns string
	dim       int
	ids       int // ids are drawn from so many
	batch     int // most records of an upsert
	sparse    bool
	fill      int // bytes of metadata on top: what makes the log long enough to be trimmed
	*history

	rng *rand.Rand
	seq int // numbers writes, so that each value is written once
}

// fleet is a load: small namespaces, one large enough for a graph, and one with sparse values.
type fleet []*writer

var indexes = []struct {
	name, metric string
	dim          int
}{{"l2", "euclidean", 8}, {"cos", "cosine", 16}, {"dot", "dotproduct", 4}}

func newFleet(rng *rand.Rand, small, large int) fleet {
	var f fleet
	add := func(w writer) {
		w.history, w.rng = newHistory(), rand.New(rand.NewPCG(rng.Uint64(), 0))
		f = append(f, &w)
	}
	for i := range small {
		add(writer{index: "l2", ns: fmt.Sprintf("small-%d", i), dim: 8, ids: 300, batch: 20})
	}
	if large > 0 {
		add(writer{index: "cos", ns: "large", dim: 16, ids: large, batch: 400})
	}
	add(writer{index: "l2", ns: "bulk", dim: 8, ids: 40, batch: 10, fill: 20_000})
	add(writer{index: "dot", ns: "sparse", dim: 4, ids: 100, batch: 5, sparse: true})
	return f
}

func createIndexes(t *testing.T, c conn) {
	t.Helper()
	for _, ix := range indexes {
		require.NoError(t, c.createIndex(t.Context(), ix.name, ix.metric, ix.dim))
	}
}

// run writes until the context ends or a write is not acknowledged. It always waits for the answer to its last write.
// The error is for what no fault explains.
func (w *writer) run(ctx context.Context, c conn) error {
	c = c.index(w.index)
	for ctx.Err() == nil {
		o := w.next()
		path, body := o.request(w.ns)
		w.begin(o)
		err := c.call(context.WithoutCancel(ctx), http.MethodPost, path, body, nil)
		var no *refused
		switch {
		case err == nil:
			w.acknowledge()
		case errors.As(err, &no) && !no.unknown():
			return fmt.Errorf("%s %v: %w", path, body, err)
		default:
			return nil // a broken connection, or an answer that says that the outcome is not known
		}
	}
	return nil
}

// next draws a write. Only the writer itself settles its history, so it may be read here.
func (w *writer) next() op {
	w.seq++
	held := len(w.settled)
	switch draw := w.rng.IntN(100); {
	case held < w.ids/2 || draw < 60:
		return op{upsert: w.records()}
	case draw < 75:
		return op{update: &record{ID: w.held(), Values: w.vector(0), Metadata: map[string]any{"w": float64(w.seq), "u": "é\n"}}}
	case draw < 80:
		return op{tag: w.tag(), set: map[string]any{"w": float64(w.seq), "seen": true}}
	case draw < 93:
		return op{delete: []string{w.held(), w.id()}}
	case draw < 99 || w.ids > 1000:
		return op{tag: w.tag()}
	default:
		return op{all: true}
	}
}

func (w *writer) records() []record {
	out := map[string]record{}
	for i := range 1 + w.rng.IntN(w.batch) {
		r := record{ID: w.id(), Values: w.vector(i), Metadata: map[string]any{"w": float64(w.seq), "tag": w.tag(), "i": float64(i)}}
		if w.fill > 0 {
			r.Metadata["fill"] = filling[:w.fill]
		}
		if w.sparse {
			r.Sparse = &sparse{Indices: []uint32{3, uint32(10 + w.rng.IntN(1000)), 4_000_000_000}, Values: []float32{0.25, 0.5, float32(w.seq)}}
		}
		out[r.ID] = r
	}
	return slices.Collect(maps.Values(out))
}

var filling = strings.Repeat("0123456789abcdef", 2048)

// vector returns values that no other write has, and whose direction is far from that of all others: the number of
// the write is in it, but small.
func (w *writer) vector(i int) []float32 {
	v := make([]float32, w.dim)
	for j := range v {
		v[j] = w.rng.Float32() - 0.5
	}
	v[0], v[1] = float32(w.seq)/(1<<16), float32(i)/(1<<10)
	return v
}

func (w *writer) id() string  { return fmt.Sprintf("r%05d", w.rng.IntN(w.ids)) }
func (w *writer) tag() string { return fmt.Sprintf("t%d", w.rng.IntN(max(8, w.ids/40))) }

// held returns the id of a record that is there.
func (w *writer) held() string {
	ids := slices.Sorted(maps.Keys(w.settled))
	return ids[w.rng.IntN(len(ids))]
}

// run lets all writers write; the function that it returns waits for them.
func (f fleet) run(ctx context.Context, c conn) (wait func() error) {
	var g errgroup.Group
	for _, w := range f {
		g.Go(func() error { return w.run(ctx, c) })
	}
	return g.Wait
}

// step has each writer do one write, which must be acknowledged.
func (f fleet) step(t *testing.T, c conn) {
	t.Helper()
	for _, w := range f {
		w.write(t, c, w.next())
	}
}

func (w *writer) write(t *testing.T, c conn, o op) {
	t.Helper()
	path, body := o.request(w.ns)
	w.begin(o)
	require.NoError(t, c.index(w.index).call(t.Context(), http.MethodPost, path, body, nil))
	w.acknowledge()
}

func (f fleet) acked() (n int) {
	for _, w := range f {
		n += w.mark().acked
	}
	return n
}

func (f fleet) marks() []mark {
	out := make([]mark, len(f))
	for i, w := range f {
		out[i] = w.mark()
	}
	return out
}

func (f fleet) since(marks []mark) [][]op {
	out := make([][]op, len(f))
	for i, w := range f {
		out[i] = w.history.since(marks[i])
	}
	return out
}

// settle reads everything after a crash, compares it with what may be there, and goes on from that.
func (f fleet) settle(ctx context.Context, c conn) error {
	marks := f.marks()
	seen, err := f.check(ctx, c, marks, f.since(marks))
	if err != nil {
		return err
	}
	for i, w := range f {
		w.resolve(seen[i])
	}
	return nil
}

// check reads everything and compares it with what may be there.
func (f fleet) check(ctx context.Context, c conn, marks []mark, ops [][]op) ([]state, error) {
	seen := make([]state, len(f))
	var mu sync.Mutex
	var errs []error
	var all sync.WaitGroup
	for i, w := range f {
		all.Go(func() {
			s, err := w.observe(ctx, c.index(w.index))
			if err == nil {
				_, err = explain(marks[i].settled, ops[i], s)
			}
			mu.Lock()
			defer mu.Unlock()
			seen[i] = s
			if err != nil {
				errs = append(errs, fmt.Errorf("%s/%s: %w", w.index, w.ns, err))
			}
		})
	}
	all.Wait()
	return seen, errors.Join(errs...)
}

// observe reads the whole namespace, and sees that the ways to look at it agree.
func (w *writer) observe(ctx context.Context, c conn) (state, error) {
	ids, err := c.list(ctx, w.ns)
	if err != nil {
		return nil, err
	}
	s := state{}
	for part := range slices.Chunk(ids, fetchMost) {
		if err := c.fetch(ctx, w.ns, part, s); err != nil {
			return nil, err
		}
	}
	if len(s) != len(ids) {
		return nil, fmt.Errorf("%d ids are listed, %d of them are fetched", len(ids), len(s))
	}
	return s, errors.Join(w.agreeOnCount(ctx, c, s), w.agreeOnFilter(ctx, c, s), w.agreeOnNearest(ctx, c, s))
}

func (w *writer) agreeOnCount(ctx context.Context, c conn, s state) error {
	var stats struct {
		Namespaces map[string]struct{ VectorCount int }
	}
	if err := c.call(ctx, http.MethodPost, "/describe_index_stats", map[string]any{}, &stats); err != nil {
		return err
	}
	if n := stats.Namespaces[w.ns].VectorCount; n != len(s) {
		return fmt.Errorf("stats count %d records, %d are there", n, len(s))
	}
	return nil
}

func (w *writer) agreeOnFilter(ctx context.Context, c conn, s state) error {
	var found struct{ Vectors map[string]record }
	body := map[string]any{"namespace": w.ns, "limit": 10_000, "filter": map[string]any{"w": map[string]any{"$gte": 0}}}
	if err := c.call(ctx, http.MethodPost, "/vectors/fetch_by_metadata", body, &found); err != nil {
		return err
	}
	if d := difference(s, found.Vectors); d != "" {
		return fmt.Errorf("the filter finds something else: %s", d)
	}
	return nil
}

// agreeOnNearest asks for some records by their own values.
func (w *writer) agreeOnNearest(ctx context.Context, c conn, s state) error {
	if w.sparse {
		return nil // an inner product is not largest with itself
	}
	for id, r := range firstFew(s) {
		var found struct{ Matches []struct{ ID string } }
		body := map[string]any{"namespace": w.ns, "topK": 3, "vector": r.Values, "filter": map[string]any{"w": r.Metadata["w"], "i": r.Metadata["i"]}}
		if r.Metadata["i"] == nil {
			continue
		}
		if err := c.call(ctx, http.MethodPost, "/query", body, &found); err != nil {
			return err
		}
		if len(found.Matches) == 0 || found.Matches[0].ID != id {
			return fmt.Errorf("nearest to %s itself is %v", id, found.Matches)
		}
	}
	return nil
}

// firstFew yields a few records, always the same of equal states.
func firstFew(s state) map[string]record {
	out := map[string]record{}
	ids := slices.Sorted(maps.Keys(s))
	for i := 0; i < len(ids); i += 1 + len(ids)/5 {
		out[ids[i]] = s[ids[i]]
	}
	return out
}
