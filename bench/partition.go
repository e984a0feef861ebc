package bench

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"strconv"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/errs"
)

const (
	batchRows  = 200                   // records of one command
	pollEvery  = 50 * time.Millisecond // while a graph is built
	unlimited  = 1 << 50               // bytes of memory: nothing is to be dropped while it is measured
	buildStage = "graph"
)

// partition is one partition of an engine in this process, without a log, in a directory of its own that goes with it.
type partition struct {
	dir    string
	engine *engine.Engine
	shard  *engine.Shard
	schema engine.Schema
	above  int // records above which the engine makes a graph
	index  uint64
	key    engine.Key
	result engine.Result
}

// openPartition makes an empty partition; graphAbove 0 stands for the engine's default.
func openPartition(schema engine.Schema, graphAbove int) (_ *partition, err error) {
	schema.ID = 1
	p := &partition{schema: schema, above: cmp.Or(graphAbove, 4096), key: engine.Key{Index: schema.ID}}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.dir, err = os.MkdirTemp("", "croft-bench-*"); err != nil {
		return nil, err
	}
	options := engine.Options{
		GraphAbove: p.above, MemoryBudget: unlimited, IdleAfter: math.MaxInt64, Logger: slog.New(slog.DiscardHandler),
	}
	if p.engine, err = engine.Open(options); err != nil {
		return nil, err
	}
	if p.shard, err = p.engine.OpenShard(p.dir); err != nil {
		return nil, err
	}
	return p, p.apply(&engine.Command{Op: engine.OpDefineIndex, Schema: schema})
}

// close removes the partition's files.
func (p *partition) close() error {
	var err error
	if p.engine != nil {
		err = p.engine.Close()
	}
	return errors.Join(err, os.RemoveAll(p.dir))
}

func (p *partition) apply(c *engine.Command) error {
	p.index++
	done, err := p.shard.Apply(p.index, engine.AppendCommand(nil, c))
	return errors.Join(err, done.Err)
}

// load stores all rows of base, id = row number, with the fields that fields gives them.
func (p *partition) load(ctx context.Context, base *slab, fields func(row int) metadata.Map, progress Progress) error {
	n := len(base.scales)
	for first := 0; first < n; first += batchRows {
		c := &engine.Command{Op: engine.OpUpsert, Key: p.key}
		for row := first; row < min(first+batchRows, n); row++ {
			values, _ := base.Vector(uint32(row))
			c.Records = append(c.Records, engine.Record{ID: strconv.Itoa(row), Values: values, Metadata: fields(row)})
		}
		if err := p.shard.Admit(ctx, engine.EncodedSize(c)); err != nil {
			return err
		}
		if err := p.apply(c); err != nil {
			return err
		}
		progress.tell("records", min(first+batchRows, n), n)
	}
	if _, err := p.shard.Flush(ctx); err != nil {
		return err
	}
	return p.settle(ctx, progress)
}

// settle waits until the graph holds every record, if there are enough of them for one.
func (p *partition) settle(ctx context.Context, progress Progress) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	probe := make([]float32, p.schema.Dim)
	for {
		if _, err := p.query(ctx, &engine.Query{Vector: probe, K: 1}); err != nil {
			return err
		}
		stats, _, err := p.shard.Partition(p.key)
		if err != nil {
			return err
		}
		if flat := p.result.Plan == engine.PlanFlat; stats.Records <= uint64(p.above) || !flat && stats.Indexed == stats.Records {
			return nil
		} else if !flat {
			progress.tell(buildStage, int(stats.Indexed), int(stats.Records))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// getUsedTo asks queries over and over until the engine has measured what such searches take, if there is a graph: before, it
// makes walks broader than they need be.
func (p *partition) getUsedTo(ctx context.Context, queries [][]float32, k int) error {
	for {
		for _, values := range queries {
			if _, err := p.query(ctx, &engine.Query{Vector: values, K: k}); err != nil {
				return err
			}
		}
		stats, _, err := p.shard.Partition(p.key)
		if err != nil || p.result.Plan == engine.PlanFlat || stats.SampledRecall > 0 {
			return err
		}
	}
}

// query answers with row numbers, valid until the next call.
func (p *partition) query(ctx context.Context, q *engine.Query) ([]engine.Match, error) {
	err := p.shard.Query(ctx, p.key, q, &p.result)
	return p.result.Matches, err
}

// rowsOf appends the row numbers of matches to dst.
func rowsOf(dst []uint32, matches []engine.Match) ([]uint32, error) {
	for i := range matches {
		row, err := strconv.ParseUint(matches[i].ID, 10, 32)
		if err != nil {
			return dst, errs.New(errs.Internal, "id %q is no row number", matches[i].ID)
		}
		dst = append(dst, uint32(row))
	}
	return dst, nil
}
