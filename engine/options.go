package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/croftdb/croft/internal/vfs"
)

// Options of an engine: one per process, shared by its shards. Zero fields get their defaults from Open.
type Options struct {
	// MemoryBudget bounds the search structures (graphs, ids, filter postings) kept in memory, in bytes; partitions
	// that were not used for longest are dropped first. Default 1 GiB. Mapped vectors are the page cache's.
	MemoryBudget int64
	// GraphAbove is the number of records above which a partition gets a graph, FlatBelow the one below which it
	// loses it again. Defaults 4096 and 2048: below, an exact scan is as fast.
	GraphAbove, FlatBelow int
	// FlushBytes is the size at which a shard's growing buffer is written out, in bytes; default 16 MiB. Twice as
	// much may be held while a flush runs.
	FlushBytes int64
	// FlushAfter is the age at which it is written out however small; default 5 s.
	FlushAfter time.Duration
	// IdleAfter is the time without a query or write after which a partition is dropped from memory even when the
	// budget has room; default 10 min.
	IdleAfter time.Duration
	// BuildThreads insert into graphs; default GOMAXPROCS, of which one pauses while queries run.
	BuildThreads int
	// FS is the disk; default vfs.OS(). The record store is on the real one unless InMemory is set.
	FS vfs.FS
	// InMemory keeps the record store in memory and a journal of it on FS, for simulation: bbolt knows only the real disk.
	InMemory bool
	// Turn returns when a step of maintenance of a partition may begin, and what is to be called after it. It holds up nobody
	// else: the builder holds no lock meanwhile. Default at once.
	Turn func(ctx context.Context, key Key) (done func())
	// Failed is told of each shard that is poisoned by a fault of its disk, also where that happened in the background, and
	// must not wait; default nobody. Such a shard refuses everything, so nothing else would tell.
	Failed func(error)
	// Logger gets what happens in the background; default slog.Default().
	Logger *slog.Logger
	// Registerer gets the engine's metrics; default none.
	Registerer prometheus.Registerer
}

func (o Options) withDefaults() Options {
	setDefault(&o.MemoryBudget, 1<<30)
	setDefault(&o.GraphAbove, 4096)
	setDefault(&o.FlatBelow, o.GraphAbove/2)
	setDefault(&o.FlushBytes, 16<<20)
	setDefault(&o.FlushAfter, 5*time.Second)
	setDefault(&o.IdleAfter, 10*time.Minute)
	setDefault(&o.BuildThreads, runtime.GOMAXPROCS(0))
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

func setDefault[T ~int | ~int64](p *T, v T) {
	if *p == 0 {
		*p = v
	}
}

func (o Options) validate() error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	check(o.MemoryBudget >= 1<<20, "memory budget is %d bytes, must be at least 1 MiB", o.MemoryBudget)
	check(o.GraphAbove > 0, "graph threshold is %d, must be positive", o.GraphAbove)
	check(o.FlatBelow < o.GraphAbove, "flat threshold %d must be below the graph threshold %d", o.FlatBelow, o.GraphAbove)
	check(o.FlushBytes > 0, "flush size is %d bytes, must be positive", o.FlushBytes)
	check(o.BuildThreads > 0, "build threads are %d, must be positive", o.BuildThreads)
	return errors.Join(faults...)
}
