package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/bench"
)

func (a *app) benchChurnCommand() *cobra.Command {
	var opts bench.ChurnOptions
	opts.EnsureDefaults()
	cmd := &cobra.Command{
		Use:   "churn --dataset DIR",
		Short: "Measure a graph whose vectors have all been replaced",
		Long: `Builds a graph in this process, replaces every vector several times - the new one is inserted, the old one deleted, its slot
repaired away and used again - and compares recall, speed and memory with a graph built from the same vectors.`,
		Example: `  croft bench churn --dataset ./clustered-1536
  croft bench churn --dataset ./mnist-784 --rounds 5 --ef 16,64 --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkMeasured(cmd, opts.Dataset); err != nil {
				return err
			}
			shown := a.newStages()
			defer shown.done()
			opts.Progress = shown.show
			report, err := bench.Churn(cmd.Context(), opts)
			if err != nil {
				return err
			}
			shown.done()
			return a.printChurn(report)
		},
	}
	s := cmd.Flags()
	s.StringVar(&opts.Dataset, "dataset", "", "directory of the data set (required)")
	s.IntVarP(&opts.K, "k", "k", opts.K, "neighbours a query")
	s.IntSliceVar(&opts.Efs, "ef", opts.Efs, "breadths of the graph search")
	s.IntVar(&opts.M, "m", 0, "links per node of the graph (default the graph's)")
	s.IntVar(&opts.EfConstruction, "ef-construction", 0, "breadth while building (default the graph's)")
	s.IntVar(&opts.Rounds, "rounds", opts.Rounds, "times that every vector is replaced")
	s.IntVar(&opts.Threads, "threads", opts.Threads, "goroutines that insert")
	s.IntVar(&opts.Runs, "runs", opts.Runs, "laps of each graph; the median counts")
	s.DurationVar(&opts.Lap, "lap", opts.Lap, "least time of a lap")
	s.Uint64Var(&opts.Seed, "seed", 1, "seed of the order of replacements")
	return cmd
}

func (a *app) printChurn(r *bench.ChurnReport) error {
	a.note("%s  %s  %s x %d  kernel %s  every vector replaced %d times in %.1f s, %.1f s of it repair, longest step %.1f ms", r.Dataset, r.Metric,
		thousands(r.N), r.Dim, r.Kernel, r.Rounds, r.ChurnSeconds, r.RepairSeconds, r.LongestRepair)
	a.note("memory %.2f of a fresh graph's, %s slots; fresh graph built in %.1f s", r.MemoryRatio, thousands(r.Slots), r.FreshSeconds)
	l := listing{value: r, items: itemsOf(r.Points), header: []string{"EF", "RECALL", "FRESH RECALL", "QPS", "FRESH QPS", "RATIO"}}
	for _, p := range r.Points {
		l.rows = append(l.rows, []string{strconv.Itoa(p.Ef), fmt.Sprintf("%.4f", p.Recall), fmt.Sprintf("%.4f", p.FreshRecall),
			fmt.Sprintf("%.1f", p.QPS), fmt.Sprintf("%.1f", p.FreshQPS), fmt.Sprintf("%.2f", p.Ratio)})
	}
	return a.print(l)
}
