package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/bench"
)

func (a *app) benchFiltersCommand() *cobra.Command {
	var opts bench.FilterOptions
	opts.EnsureDefaults()
	cmd := &cobra.Command{
		Use:   "filters --dataset DIR",
		Short: "Measure search under filters that let few or many records pass",
		Long: `Builds an index in this process and asks under filters that 0.1, 1, 10, 50 and 90 % of the records match: chosen without
regard to the vectors (uncorrelated), and as those around one vector (correlated), for queries near to it and far from it.
The rates of the same queries without a filter, and of measuring every match, stand beside; RATIO is to the better of them.`,
		Example: `  croft bench filters --dataset ./clustered-1536
  croft bench filters --dataset ./clustered-1536 --ef 128 --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkMeasured(cmd, opts.Dataset); err != nil {
				return err
			}
			shown := a.newStages()
			defer shown.done()
			opts.Progress = shown.show
			report, err := bench.Filters(cmd.Context(), opts)
			if err != nil {
				return err
			}
			shown.done()
			return a.printFilters(report)
		},
	}
	s := cmd.Flags()
	s.StringVar(&opts.Dataset, "dataset", "", "directory of the data set (required)")
	s.IntVarP(&opts.K, "k", "k", opts.K, "neighbours a query")
	s.IntVar(&opts.Ef, "ef", 0, "breadth of graph walks (default what the engine chooses)")
	s.IntVar(&opts.M, "m", 0, "links per node of the graph (default the engine's)")
	s.IntVar(&opts.EfConstruction, "ef-construction", 0, "breadth while building (default the engine's)")
	s.IntVar(&opts.Runs, "runs", opts.Runs, "laps of each way to search; the median counts")
	s.DurationVar(&opts.Lap, "lap", opts.Lap, "least time of a lap")
	s.Uint64Var(&opts.Seed, "seed", 1, "seed of the filters")
	return cmd
}

// checkMeasured refuses a benchmark without a data set, flags given as 0 that cannot be, and a kernel that is not there.
func checkMeasured(cmd *cobra.Command, dataset string) error {
	if dataset == "" {
		return usagef("a benchmark needs --dataset")
	}
	for _, name := range []string{"k", "ef", "m", "ef-construction", "runs", "rounds", "threads"} {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed && f.Value.String() == "0" {
			return usagef("--%s is 0, must be at least 1", name)
		}
	}
	return checkKernel()
}

func (a *app) printFilters(r *bench.FilterReport) error {
	a.note("%s  %s  %s x %d  kernel %s  built in %.1f s  recall without a filter %.4f", r.Dataset, r.Metric, thousands(r.N), r.Dim,
		r.Kernel, r.BuildSeconds, r.UnfilteredRecall)
	l := listing{value: r, items: itemsOf(r.Cases),
		header: []string{"FILTER", "PERCENT", "QUERIES", "RECALL", "QPS", "UNFILTERED", "EXACT", "RATIO", "PLAN"}}
	for _, c := range r.Cases {
		l.rows = append(l.rows, []string{c.Filter, strconv.FormatFloat(c.Percent, 'g', -1, 64), c.Queries, fmt.Sprintf("%.4f", c.Recall),
			fmt.Sprintf("%.1f", c.QPS), fmt.Sprintf("%.1f", c.Unfiltered), fmt.Sprintf("%.1f", c.Exact), fmt.Sprintf("%.2f", c.Ratio), c.Plan})
	}
	return a.print(l)
}
