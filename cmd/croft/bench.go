package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/bench"
)

func (a *app) benchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure",
		Example: `  croft bench recall --dataset ./mnist-784
  croft bench recall --dataset ./mnist-784 --target http://127.0.0.1:5080`,
	}
	cmd.AddCommand(a.benchRecallCommand(), a.benchFiltersCommand(), a.benchChurnCommand(), a.benchDataCommand(), a.benchPlotCommand(),
		a.benchRingCommand(), a.benchIdleCommand(), a.benchReplicaCommand(), a.benchTenantsCommand(), a.benchNeighboursCommand(), a.benchSearchCommand(),
		a.benchMigrateCommand())
	return group(cmd)
}

// least is a flag's value and the smallest that it may have.
type least struct {
	flag       string
	value, min int
}

func checkLeast(flags []least) error {
	for _, f := range flags {
		if f.value < f.min {
			return usagef("--%s is %d, must be at least %d", f.flag, f.value, f.min)
		}
	}
	return nil
}

// benchFlags are the flags of `croft bench recall`.
type benchFlags struct {
	opts   bench.RecallOptions
	target string
	apiKey string
	index  string
	keep   bool
}

func (a *app) benchRecallCommand() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "recall --dataset DIR",
		Short: "Measure recall and speed on a data set with exact answers",
		Long: `DIR holds base.fvecs or base.bvecs, query.fvecs or query.bvecs, gt10.ivecs or gt100.ivecs, and a file "metric" with
l2, cosine or ip. Without --target an index is built in this process; with it, one on a running server.`,
		Example: `  croft bench recall --dataset ./mnist-784 --ef 32,64,128
  croft bench recall --dataset ./mnist-784 --target http://127.0.0.1:5080 --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.opts.Dataset == "" {
				return usagef("a benchmark needs --dataset")
			}
			if f.target != "" && (cmd.Flags().Changed("m") || cmd.Flags().Changed("ef-construction") ||
				cmd.Flags().Changed("bits") || cmd.Flags().Changed("threads")) {
				return usagef("--m, --ef-construction, --bits and --threads are for an index in this process; a server builds with its own")
			}
			if err := f.refuseZeros(); err != nil {
				return err
			}
			report, err := a.recall(cmd.Context(), f)
			if err != nil {
				return err
			}
			return a.printRecall(report)
		},
	}
	f.addFlags(cmd)
	return cmd
}

func (f *benchFlags) addFlags(cmd *cobra.Command) {
	f.opts.EnsureDefaults()
	s := cmd.Flags()
	s.StringVar(&f.opts.Dataset, "dataset", "", "directory of the data set (required)")
	s.IntVarP(&f.opts.K, "k", "k", f.opts.K, "neighbours a query")
	s.IntSliceVar(&f.opts.Efs, "ef", f.opts.Efs, "breadths of the graph search")
	s.IntVar(&f.opts.M, "m", f.opts.M, "links per node of the graph")
	s.IntVar(&f.opts.EfConstruction, "ef-construction", f.opts.EfConstruction, "breadth while building")
	s.IntVar(&f.opts.Bits, "bits", 0, "width of the graph's codes, -1 for none (default the graph's)")
	s.IntVar(&f.opts.Runs, "runs", f.opts.Runs, "rounds over all queries; the median counts")
	s.IntVar(&f.opts.Threads, "threads", f.opts.Threads, "goroutines that build")
	s.StringVar(&f.target, "target", "", "measure the server at this URL")
	s.StringVar(&f.apiKey, "api-key", "", "its key (else as for other verbs)")
	s.StringVar(&f.index, "index", "", "with --target: query this index, which holds the data set already")
	s.BoolVar(&f.keep, "keep", false, "with --target: keep the index that was made")
}

// refuseZeros tells a number given as 0 from one that was not given, as RecallOptions cannot.
func (f *benchFlags) refuseZeros() error {
	o := &f.opts
	for name, value := range map[string]int{"k": o.K, "m": o.M, "ef-construction": o.EfConstruction, "runs": o.Runs, "threads": o.Threads} {
		if value < 1 {
			return usagef("--%s is %d, must be at least 1", name, value)
		}
	}
	return nil
}

func (a *app) recall(ctx context.Context, f benchFlags) (_ *bench.RecallReport, err error) {
	if f.target == "" {
		if err := checkKernel(); err != nil {
			return nil, err
		}
		return bench.Recall(ctx, f.opts)
	}
	c, err := a.connect(connection{url: f.target, apiKey: f.apiKey}, importRetries)
	if err != nil {
		return nil, err
	}
	d, err := bench.OpenDataset(f.opts.Dataset, f.opts.K)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	target, err := bench.NewHTTP(ctx, c, bench.HTTPOptions{Metric: d.Metric, Dim: d.Base.Dim(), Index: f.index, Keep: f.keep})
	if err != nil {
		return nil, err
	}
	a.note("index %s on %s", target.Index(), c.URL())
	defer func() { err = firstError(err, target.Close()) }()
	return bench.Measure(ctx, d, target, f.opts)
}

func (a *app) printRecall(r *bench.RecallReport) error {
	if a.format == "table" {
		return r.Print(a.stdout)
	}
	l := listing{value: r, items: itemsOf(r.Points), header: []string{"ef", "recall", "qps", "p50_us", "p99_us"}}
	for _, p := range r.Points {
		l.rows = append(l.rows, []string{strconv.Itoa(p.Ef), fmt.Sprintf("%.4f", p.Recall), fmt.Sprintf("%.1f", p.QPS),
			fmt.Sprintf("%.1f", p.P50), fmt.Sprintf("%.1f", p.P99)})
	}
	return a.print(l)
}
