package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/croftdb/croft/bench"
)

// contestant is a library with settings, and what was measured of it.
type contestant struct {
	library library
	with    settings
	index   *built
	process *process
	laps    map[int]*samples // by ef
	last    reply
}

// samples are the figures of one ef, one of each per round.
type samples struct {
	recall              float64
	qps, p50, p99, many []float64
}

func (s *samples) add(one reply) {
	s.qps = append(s.qps, one.QPS)
	s.p50 = append(s.p50, one.P50)
	s.p99 = append(s.p99, one.P99)
}

// race has all contestants measured in turns.
type race struct {
	opts        *options
	data        *bench.Dataset
	store       *store
	contestants []*contestant
	limit       *limitReport
	notes       io.Writer
}

func newRace(o *options, notes io.Writer) (*race, error) {
	d, err := bench.OpenDataset(o.Dataset, o.K)
	if err != nil {
		return nil, err
	}
	r := &race{opts: o, data: d, notes: notes}
	for _, name := range o.Peers {
		l, err := libraryNamed(name)
		if err != nil {
			return nil, err
		}
		r.enter(l)
	}
	if o.Before != "" {
		r.enter(beforeLibrary(o.Before))
	}
	return r, nil
}

// enter adds a library with all of its settings.
func (r *race) enter(l library) {
	if !l.supports(r.data.Metric) {
		fmt.Fprintf(r.notes, "%s is left out: it has no metric %v\n", l.name, r.data.Metric)
		return
	}
	for _, with := range r.opts.settingsOf(&l) {
		r.contestants = append(r.contestants, &contestant{library: l, with: with, laps: map[int]*samples{}})
	}
}

func (r *race) run(ctx context.Context) (_ *report, err error) {
	defer func() { err = errors.Join(err, r.data.Close()) }()
	if r.store, err = openStore(r.opts.Cache, r.opts.Dataset, r.data, r.opts.K); err != nil {
		return nil, err
	}
	if err := r.build(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	for round := range r.opts.Rounds {
		fmt.Fprintf(r.notes, "round %d of %d\n", round+1, r.opts.Rounds)
		if err := r.round(round); err != nil {
			return nil, err
		}
	}
	report := newReport(r)
	if r.opts.BuildRounds > 0 {
		if err := r.stop(); err != nil { // what is in memory would slow the builds
			return nil, err
		}
		err = report.rebuild(ctx, r)
	}
	return report, err
}

// build builds the indexes that are not in the store, one after the other.
func (r *race) build(ctx context.Context) error {
	for _, c := range r.contestants {
		fmt.Fprintf(r.notes, "%s %s: ", c.library.name, c.with)
		var err error
		if c.index, err = r.store.index(ctx, &c.library, c.with, c.library.builders(r.opts.BuildThreads)); err != nil {
			return err
		}
		fmt.Fprintf(r.notes, "built in %.1f s by %d threads\n", c.index.Seconds, c.index.Threads)
	}
	return nil
}

// open starts a process for each index. With a memory limit, croft's comes last: the limit may be a share of another's.
func (r *race) open(ctx context.Context) error {
	for _, c := range r.contestants {
		var group *cgroup
		if r.opts.Limit != "" && c.library.name == croftName {
			var err error
			if group, err = r.confine(c); err != nil {
				return err
			}
		}
		if err := r.openOne(ctx, c, group); err != nil {
			return err
		}
	}
	return nil
}

func (r *race) openOne(ctx context.Context, c *contestant, group *cgroup) error {
	program, err := c.library.executable()
	if err != nil {
		return err
	}
	p, err := start(ctx, program, r.store.task(&c.library, c.with, c.index.path, 1), group)
	if err != nil {
		return errors.Join(err, group.remove())
	}
	c.process = p
	if c.last, err = p.reply(); err != nil {
		return c.fault(err)
	}
	return nil
}

// confine makes the group that croft's process runs in, after its files have left the page cache: pages are charged to
// the group that brings them in.
func (r *race) confine(c *contestant) (*cgroup, error) {
	r.limit = &limitReport{}
	for _, other := range r.contestants {
		if whole := other.last.Whole; other.process != nil && (r.limit.Hnswlib == 0 || whole < r.limit.Hnswlib) {
			r.limit.Hnswlib = whole
		}
	}
	var err error
	if r.limit.Limit, err = limitOf(r.opts.Limit, r.limit.Hnswlib); err != nil {
		return nil, err
	}
	err = dropCaches(r.notes, filepath.Join(r.store.dir, rowsFile), filepath.Join(r.store.dir, scalesFile), c.index.path)
	if err != nil {
		return nil, err
	}
	return newCgroup(r.limit.Limit)
}

// round measures every point once. Contestants take turns at each ef, so that whatever else the machine does meets all
// of them; who begins changes from round to round.
func (r *race) round(n int) error {
	for _, ef := range r.opts.Efs {
		for i := range r.contestants {
			c := r.contestants[(i+n)%len(r.contestants)]
			if err := r.measure(c, ef); err != nil {
				return c.fault(err)
			}
		}
	}
	return nil
}

// measure adds one sample. Answers are judged once: they are the same each time.
func (r *race) measure(c *contestant, ef int) error {
	s := c.laps[ef]
	first := s == nil
	one, err := c.process.ask(request{Ef: ef, Threads: 1, Lap: r.opts.Lap, CPU: r.opts.Clock == cpuClock, Answers: first})
	if err != nil {
		return err
	}
	if first {
		s = &samples{}
		c.laps[ef] = s
		if s.recall, err = judge(r.data, one.Answers, r.opts.K); err != nil {
			return err
		}
	}
	s.add(one)
	c.last = one
	if r.opts.Threads == 1 {
		return nil
	}
	many, err := c.process.ask(request{Ef: ef, Threads: r.opts.Threads, Lap: r.opts.Lap})
	s.many = append(s.many, many.QPS)
	return err
}

// stop ends all processes that run.
func (r *race) stop() error {
	var faults []error
	for _, c := range r.contestants {
		if c.process == nil {
			continue
		}
		if g := c.process.group; g != nil {
			r.limit.Peak = g.peak()
		}
		if err := c.process.stop(); err != nil {
			faults = append(faults, c.fault(err))
		}
		c.process = nil
	}
	return errors.Join(faults...)
}

func (c *contestant) fault(err error) error {
	return fmt.Errorf("%s %s: %w", c.library.name, c.with, err)
}

// bytes returns the size of the saved index.
func (c *contestant) bytes() int64 {
	info, err := os.Stat(c.index.path)
	if err != nil {
		return 0
	}
	return info.Size()
}
