package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/sync/errgroup"

	"github.com/croftdb/croft/internal/client"
	"github.com/croftdb/croft/internal/errs"
)

// upserter is the part of an index that an import needs.
type upserter interface {
	UpsertEncoded(ctx context.Context, namespace string, vectors []jsontext.Value) (int, error)
}

// importRun moves rows from a reader to an index. One goroutine reads and cuts batches, some send them, and the
// caller's own puts the answers back in order: only what is contiguous counts as done.
type importRun struct {
	rows        rowReader
	index       upserter
	dim         int // of the index; 0: any
	batch       int // records of a request
	concurrency int
	maxRejects  int64 // 0: no limit
	statePath   string
	rejects     *rejectFile
	state       importState
	tell        progress
}

// batch is a run of rows that is sent as one request.
type batch struct {
	seq     int
	rows    []row
	rejects []reject // rows of its span that were not worth sending
	next    position // behind its last row
}

// outcome is the answer to a batch.
type outcome struct {
	batch
	stored []row
}

// run imports all rows. On an error or when ctx ends, the state on disk says how far it came.
func (im *importRun) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	batches := make(chan batch, im.concurrency)
	outcomes := make(chan outcome, im.concurrency)
	g.Go(func() error {
		defer close(batches)
		return im.read(ctx, batches)
	})
	g.Go(func() error {
		defer close(outcomes)
		senders, ctx := errgroup.WithContext(ctx)
		for range im.concurrency {
			senders.Go(func() error { return im.sendAll(ctx, batches, outcomes) })
		}
		return senders.Wait()
	})
	g.Go(func() error { return im.collect(outcomes) })
	err := g.Wait()
	return firstError(err, im.saveState())
}

func firstError(list ...error) error {
	for _, err := range list {
		if err != nil {
			return err
		}
	}
	return nil
}

// read cuts the rows into batches.
func (im *importRun) read(ctx context.Context, out chan<- batch) error {
	b := batch{}
	room := im.room()
	flush := func() error {
		select {
		case out <- b:
			b, room = batch{seq: b.seq + 1, next: b.next}, im.room()
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for {
		r, err := im.rows.next()
		if err != nil {
			if len(b.rows)+len(b.rejects) > 0 {
				err = firstError(flush(), err)
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if size := len(r.record) + 1; len(b.rows) > 0 && size > room || len(b.rows) == im.batch || len(b.rejects) == im.batch {
			if err := flush(); err != nil {
				return err
			}
		}
		room -= len(r.record) + 1
		im.sort(&b, r)
	}
}

func (im *importRun) room() int {
	return client.MaxBody - client.UpsertOverhead(im.state.Target.Namespace)
}

// sort puts a row among those to send or those rejected.
func (im *importRun) sort(b *batch, r row) {
	if r.bad == "" && im.dim > 0 && r.dim != im.dim {
		r.bad = fmt.Sprintf("it has %d values, the index takes %d", r.dim, im.dim)
	}
	if r.bad == "" {
		b.rows = append(b.rows, r)
	} else {
		b.rejects = append(b.rejects, reject{Row: r.number, ID: r.id, Reason: r.bad})
	}
	b.next = position{number: r.number + 1, offset: r.end}
}

func (im *importRun) sendAll(ctx context.Context, in <-chan batch, out chan<- outcome) error {
	for b := range in {
		o := outcome{batch: b}
		if err := im.send(ctx, b.rows, &o); err != nil {
			return err
		}
		slices.SortFunc(o.rejects, func(x, y reject) int { return cmp.Compare(x.Row, y.Row) })
		select {
		case out <- o:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// send stores rows. Those that the server will never take are found by halving and rejected, the others stored.
func (im *importRun) send(ctx context.Context, rows []row, o *outcome) error {
	if len(rows) == 0 {
		return nil
	}
	records := make([]jsontext.Value, len(rows))
	for i, r := range rows {
		records[i] = r.record
	}
	_, err := im.index.UpsertEncoded(ctx, im.state.Target.Namespace, records)
	switch {
	case err == nil:
		o.stored = append(o.stored, rows...)
		return nil
	case !errs.Is(err, errs.Invalid) && !errs.Is(err, errs.TooLarge):
		return err
	case len(rows) == 1:
		o.rejects = append(o.rejects, reject{Row: rows[0].number, ID: rows[0].id, Reason: err.Error()})
		return nil
	}
	if err := im.send(ctx, rows[:len(rows)/2], o); err != nil {
		return err
	}
	return im.send(ctx, rows[len(rows)/2:], o)
}

// saveEvery is how much work is done again after a kill, at most.
const saveEvery = time.Second

// collect takes outcomes until the channel is closed, and counts those without a gap before them.
func (im *importRun) collect(outcomes <-chan outcome) error {
	waiting := map[int]outcome{}
	next := 0
	saved := time.Now()
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	for {
		select {
		case o, open := <-outcomes:
			if !open {
				return nil
			}
			waiting[o.seq] = o
		case <-ticker.C:
			im.tell.tick(im.state)
		}
		for o, ok := waiting[next]; ok; o, ok = waiting[next] {
			delete(waiting, next)
			next++
			if err := im.advance(o); err != nil {
				return err
			}
		}
		if time.Since(saved) >= saveEvery {
			if err := im.saveState(); err != nil {
				return err
			}
			saved = time.Now()
		}
	}
}

// advance counts an outcome that all rows before it have been counted.
func (im *importRun) advance(o outcome) error {
	if err := im.rejects.add(o.rejects); err != nil {
		return err
	}
	s := &im.state
	s.Row, s.Offset = o.next.number, o.next.offset
	s.Stored += int64(len(o.stored))
	s.Rejected += int64(len(o.rejects))
	s.RejectsBytes = im.rejects.size
	if n := len(o.stored); n > 0 {
		s.LastID = o.stored[n-1].id
	}
	im.tell.advanced(*s)
	if im.maxRejects > 0 && s.Rejected > im.maxRejects {
		return errs.New(errs.Invalid, "over %s were rejected, the last because: %s", counted(im.maxRejects, "row"), o.rejects[len(o.rejects)-1].Reason).
			WithHint("see %s; --max-rejects 0 goes on whatever comes", im.rejects.path)
	}
	return nil
}

// saveState makes the progress durable, rejects first: the state tells how many of their bytes count.
func (im *importRun) saveState() error {
	if err := im.rejects.sync(); err != nil {
		return fmt.Errorf("list rejects: %w", err)
	}
	return im.state.save(im.statePath)
}
