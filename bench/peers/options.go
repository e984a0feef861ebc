package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/croftdb/croft/internal/errs"
)

// options say what to race. Zero fields stand for their defaults.
type options struct {
	Dataset      string        // folder, see bench.Dataset
	Cache        string        // folder for built indexes, default in the user's cache
	JSON         bool          // print JSON instead of tables
	Rounds       int           // default 3
	Best         bool          // a point is the best of its rounds, not the median
	Clock        string        // wall or cpu, default wall
	Grid         string        // small or full, default full
	Threads      int           // searchers measured beside one, default 1: none
	BuildThreads int           // default 2
	BuildRounds  int           // rebuilds of the best two, in turns; 0 takes the times of the first builds
	Lap          time.Duration // least time that a point is measured in a round
	K            int           // neighbours a query, default 10
	Peers        []string      // names of libraries, default all
	Croft        []settings    // default the grid's
	Others       []settings    // of all other libraries, default the grid's
	Before       string        // another build of this command, whose croft is raced as well
	Efs          []int         // default the grid's
	Recalls      []float64     // that ratios are taken at, default 0.90, 0.95 and 0.99
	Limit        string        // memory of croft's process: bytes, or 1/N of hnswlib's; "" for none
}

// defaultLap is long enough to even out a shared machine: a pass over 1,000 fast queries lasts 30 ms.
const defaultLap = 300 * time.Millisecond

// Clocks that rates are taken by.
const (
	wallClock = "wall"
	cpuClock  = "cpu"
)

// grids are the settings and breadths to measure.
var grids = map[string]struct {
	settings []settings
	efs      []int
}{
	"small": {[]settings{links(16, 200)}, []int{10, 16, 24, 40, 64, 96, 160, 256}},
	"full": {
		[]settings{links(16, 200), links(16, 400), links(32, 200), links(32, 400)},
		[]int{10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512},
	},
}

// parseOptions reads the command line.
func parseOptions(args []string, usage io.Writer) (*options, error) {
	var o options
	f := flag.NewFlagSet("peers", flag.ContinueOnError)
	f.SetOutput(usage)
	f.StringVar(&o.Dataset, "dataset", "", "`folder` of the data set: base, query, neighbours, metric")
	f.StringVar(&o.Cache, "cache", "", "`folder` for built indexes (default in the user's cache)")
	f.BoolVar(&o.JSON, "json", false, "print JSON")
	f.IntVar(&o.Rounds, "rounds", 0, "rounds; each point is the median (default 3)")
	f.BoolVar(&o.Best, "best", false, "each point is the best of its rounds: for machines with other work to do")
	f.StringVar(&o.Clock, "clock", "", "wall; cpu: rates by the time that a searcher ran, which other work on the machine touches less (default wall)")
	f.StringVar(&o.Grid, "grid", "", "small: M 16, efConstruction 200; full: M 16 and 32, efConstruction 200 and 400 (default full)")
	f.IntVar(&o.Threads, "threads", 0, "measure this many searchers on as many cores, too")
	f.IntVar(&o.BuildThreads, "build-threads", 0, "threads that build (default 2)")
	f.IntVar(&o.BuildRounds, "build-rounds", 0, "rebuild the best of hnswlib and croft this often, in turns, for the ratio of their times")
	f.DurationVar(&o.Lap, "lap", defaultLap, "least `time` that a point is measured in a round, in whole passes over the queries")
	f.IntVar(&o.K, "k", 0, "neighbours a query (default 10)")
	f.StringVar(&o.Limit, "memory-limit", "", "race croft in a control group of so many `bytes`, or 1/N of hnswlib's, against hnswlib without")
	list(f, "peers", "comma-separated `names` (default all)", &o.Peers, ",", text[string])
	list(f, "croft", "croft's `settings`, fields of hnsw.Config, as in M=16,EfConstruction=200; may be repeated", &o.Croft, "", text[settings])
	list(f, "others", "`settings` of the other libraries, as in M=16,EfConstruction=200; may be repeated", &o.Others, "", text[settings])
	f.StringVar(&o.Before, "before", "", "another build of this `program`, whose croft is raced as well")
	list(f, "efs", "comma-separated `breadths` of the walk", &o.Efs, ",", strconv.Atoi)
	list(f, "recalls", "comma-separated `recalls` for the ratios (default 0.90,0.95,0.99)", &o.Recalls, ",", number)
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, errs.New(errs.Invalid, "unexpected argument %q", f.Arg(0))
	}
	if err := o.ensureDefaults(); err != nil {
		return nil, err
	}
	return &o, o.validate()
}

func text[T ~string](s string) (T, error) { return T(s), nil }

func number(s string) (float64, error) { return strconv.ParseFloat(s, 64) }

// list defines a flag that appends to a slice; separator "" takes each value whole.
func list[T any](f *flag.FlagSet, name, usage string, to *[]T, separator string, parse func(string) (T, error)) {
	f.Func(name, usage, func(value string) error {
		parts := []string{value}
		if separator != "" {
			parts = strings.Split(value, separator)
		}
		for _, part := range parts {
			x, err := parse(strings.TrimSpace(part))
			if err != nil {
				return err
			}
			*to = append(*to, x)
		}
		return nil
	})
}

func (o *options) ensureDefaults() error {
	for field, value := range map[*int]int{&o.Rounds: 3, &o.Threads: 1, &o.BuildThreads: 2, &o.K: 10} { // any order: fields are apart
		if *field == 0 {
			*field = value
		}
	}
	o.Grid = cmp.Or(o.Grid, "full")
	o.Clock = cmp.Or(o.Clock, wallClock)
	if o.Peers == nil {
		o.Peers = names(libraries())
		if o.Limit != "" {
			o.Peers = []string{"hnswlib", "croft"}
		}
	}
	if o.Recalls == nil {
		o.Recalls = []float64{0.90, 0.95, 0.99}
	}
	if o.Efs == nil {
		o.Efs = grids[o.Grid].efs
	}
	slices.Sort(o.Efs)
	o.Efs = slices.Compact(o.Efs)
	if o.Croft == nil {
		o.Croft = grids[o.Grid].settings
		if o.Limit != "" {
			o.Croft = o.Croft[:min(1, len(o.Croft))]
		}
	}
	if o.Others == nil {
		o.Others = grids[o.Grid].settings
	}
	return o.ensureCache()
}

func (o *options) ensureCache() error {
	if o.Cache != "" {
		return nil
	}
	dir, err := os.UserCacheDir()
	o.Cache = filepath.Join(dir, "croft-peers")
	return err
}

// validate reports everything that is wrong.
func (o *options) validate() error {
	var faults []error
	check := func(name string, value, low, high int) {
		if value < low || value > high {
			faults = append(faults, fmt.Errorf("%s %d is outside %d to %d", name, value, low, high))
		}
	}
	if o.Dataset == "" {
		faults = append(faults, errors.New("--dataset names no folder"))
	}
	if _, ok := grids[o.Grid]; !ok {
		faults = append(faults, fmt.Errorf("grid %q is neither small nor full", o.Grid))
	}
	if o.Clock != wallClock && o.Clock != cpuClock {
		faults = append(faults, fmt.Errorf("clock %q is neither wall nor cpu", o.Clock))
	}
	if o.Clock == cpuClock && (o.Threads > 1 || o.Limit != "") {
		faults = append(faults, errors.New("--clock cpu does not see threads wait for each other or the disk: leave --threads and --memory-limit out"))
	}
	check("rounds", o.Rounds, 1, 1000)
	check("threads", o.Threads, 1, 1024)
	check("build-threads", o.BuildThreads, 1, 1024)
	check("build-rounds", o.BuildRounds, 0, 1000)
	check("k", o.K, 1, 100)
	for _, ef := range o.Efs {
		check("ef", ef, 1, 1<<16)
	}
	for _, r := range o.Recalls {
		if !(r > 0 && r <= 1) {
			faults = append(faults, fmt.Errorf("recall %g is not above 0 and up to 1", r))
		}
	}
	for _, name := range o.Peers {
		_, err := libraryNamed(name)
		faults = append(faults, err)
	}
	faults = append(faults, o.validateLimit())
	return errs.Wrap(errs.Invalid, errors.Join(faults...), "peers")
}

func (o *options) validateLimit() error {
	if o.Limit == "" {
		return nil
	}
	_, err := limitOf(o.Limit, 1<<40)
	switch {
	case err != nil:
		return err
	case o.Before != "":
		return errors.New("--memory-limit goes without --before")
	case !slices.Equal(o.Peers, []string{"hnswlib", "croft"}):
		return errors.New("--memory-limit races hnswlib and croft alone: leave --peers out")
	case len(o.Croft) != 1:
		return errors.New("--memory-limit takes one --croft: processes that share mapped vectors would share what they are charged")
	}
	return nil
}

// limitOf reads bytes, or a share of a whole as 1/N.
func limitOf(s string, whole int64) (int64, error) {
	parts, share := strings.CutPrefix(s, "1/")
	n, err := strconv.ParseInt(parts, 10, 64)
	if err != nil || n <= 0 {
		return 0, errs.New(errs.Invalid, "memory limit %q is neither a number of bytes nor 1/N", s)
	}
	if share {
		return whole / n, nil
	}
	return n, nil
}

// settingsOf returns what a library is built with.
func (o *options) settingsOf(l *library) []settings {
	if l.remote() == croftName {
		return o.Croft
	}
	return o.Others
}
