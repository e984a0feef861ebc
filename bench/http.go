package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/internal/client"
	"github.com/croftdb/croft/internal/errs"
)

// HTTPOptions says which index of a server to measure.
type HTTPOptions struct {
	Metric      ann.Metric
	Dim         int
	Index       string // one that holds the data set already; empty: one is made for the measurement
	Keep        bool   // leave the index that was made
	Batch       int    // records of a request, at most 1000; 0: 500. Requests are also kept below 2 MB
	Concurrency int    // requests under way at once while loading; 0: 4
}

// HTTP is a Target on a running server.
type HTTP struct {
	opts   HTTPOptions
	client *client.Client
	index  *client.Index
	made   bool
	bytes  float64 // per vector, in the server's memory; 0: not known
	ids    []uint32
}

// NewHTTP finds or makes the index; Close drops it again if it was made.
func NewHTTP(ctx context.Context, c *client.Client, o HTTPOptions) (*HTTP, error) {
	if o.Batch == 0 {
		o.Batch = 500
	}
	if o.Concurrency == 0 {
		o.Concurrency = 4
	}
	h := &HTTP{opts: o, client: c}
	name := o.Index
	if name == "" {
		name = "bench-" + strconv.FormatInt(time.Now().UnixMicro(), 36)
		if _, err := c.CreateIndex(ctx, client.CreateIndexRequest{Name: name, Dimension: o.Dim, Metric: o.Metric.String()}); err != nil {
			return nil, fmt.Errorf("create index: %w", err)
		}
		h.made = true
	}
	var err error
	if h.index, err = c.Index(ctx, name); err != nil {
		return nil, fmt.Errorf("find index: %w", err)
	}
	return h, h.check()
}

// check compares an index that was there with the data set.
func (h *HTTP) check() error {
	m := h.index.Model
	if m.Dimension != h.opts.Dim || m.Metric != h.opts.Metric.String() {
		return errs.New(errs.FailedPrecondition, "index %s takes %d values and measures by %s, the data set has %d values and wants %s",
			m.Name, m.Dimension, m.Metric, h.opts.Dim, h.opts.Metric)
	}
	return nil
}

// Index is the name of the index that is measured.
func (h *HTTP) Index() string { return h.index.Model.Name }

// dropTimeout bounds the removal of an index that was made: it must happen even if the measurement was canceled.
const dropTimeout = 30 * time.Second

// Close drops the index if it was made and is not to be kept.
func (h *HTTP) Close() error {
	if !h.made || h.opts.Keep {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), dropTimeout)
	defer cancel()
	return h.client.DeleteIndex(ctx, h.Index())
}

// Load implements Target. An index that was there is only counted.
func (h *HTTP) Load(ctx context.Context, base *Vectors) error {
	before, err := h.client.Shards(ctx)
	if err != nil {
		return err
	}
	if h.made {
		if err := h.upsertAll(ctx, base); err != nil {
			return err
		}
	}
	if err := h.count(ctx, base.Len()); err != nil {
		return err
	}
	after, err := h.settle(ctx)
	if err != nil {
		return err
	}
	if h.made {
		h.bytes = float64(after.ResidentBytes-before.ResidentBytes) / float64(base.Len())
	}
	return nil
}

func (h *HTTP) upsertAll(ctx context.Context, base *Vectors) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(h.opts.Concurrency)
	// A value prints as 13 bytes at most, a comma between two.
	perRequest := max(1, min(h.opts.Batch, client.MaxBody/(14*h.opts.Dim+64)))
	for row := 0; ; {
		batch, err := nextBatch(base, row, perRequest)
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			return g.Wait()
		}
		row += len(batch)
		g.Go(func() error {
			_, err := h.index.Upsert(ctx, "", batch)
			return err
		})
		if ctx.Err() != nil {
			return g.Wait()
		}
	}
}

// nextBatch reads up to n rows; the first has the given number.
func nextBatch(base *Vectors, row, n int) (batch []client.Vector, err error) {
	for len(batch) < n {
		values := make([]float32, base.Dim())
		if err := base.Next(values); err != nil {
			if errors.Is(err, io.EOF) {
				return batch, nil
			}
			return nil, err
		}
		batch = append(batch, client.Vector{ID: strconv.Itoa(row + len(batch)), Values: values})
	}
	return batch, nil
}

// count sees that the index holds what is to be measured.
func (h *HTTP) count(ctx context.Context, want int) error {
	stats, err := h.index.Stats(ctx)
	if err != nil {
		return err
	}
	if stats.TotalVectorCount != want {
		return errs.New(errs.FailedPrecondition, "index %s holds %d records, the data set has %d", h.Index(), stats.TotalVectorCount, want)
	}
	return nil
}

// settleEvery is the pause between two looks at a server that is still indexing, settleFor the longest wait.
const (
	settleEvery = 200 * time.Millisecond
	settleFor   = 10 * time.Minute
)

// settle waits until the server says that its graphs hold what they should, and returns its figures. Answers are
// right before that too, but slower than they will be.
func (h *HTTP) settle(ctx context.Context) (client.ShardStats, error) {
	ctx, cancel := context.WithTimeout(ctx, settleFor)
	defer cancel()
	for {
		s, err := h.client.Shards(ctx)
		if err != nil || s.Indexed == nil || *s.Indexed >= s.Records {
			return s, err
		}
		select {
		case <-time.After(settleEvery):
		case <-ctx.Done():
			return s, errs.New(errs.DeadlineExceeded, "the server has indexed %d of %d records after %v", *s.Indexed, s.Records, settleFor)
		}
	}
}

// Query implements Target.
func (h *HTTP) Query(ctx context.Context, vector []float32, k, ef int) ([]uint32, error) {
	res, err := h.index.Query(ctx, client.QueryRequest{Vector: vector, TopK: k, Ef: max(ef, k)})
	if err != nil {
		return nil, err
	}
	h.ids = h.ids[:0]
	for _, m := range res.Matches {
		id, err := strconv.ParseUint(m.ID, 10, 32)
		if err != nil {
			return nil, errs.New(errs.FailedPrecondition, "index %s holds a record %q that is no row of the data set", h.Index(), m.ID)
		}
		h.ids = append(h.ids, uint32(id))
	}
	return h.ids, nil
}

// BytesPerVector implements Sizer: search structures in the server's memory that came with the data set, without
// pages that it maps. 0 if the index was there before.
func (h *HTTP) BytesPerVector() float64 { return h.bytes }
