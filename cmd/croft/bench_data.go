package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/croftdb/croft/bench"
)

// rotated is the name of the data set that is made from another one.
const rotated = "rotated"

// benchDataFlags are the flags of `croft bench data`.
type benchDataFlags struct {
	opts bench.DataOptions
	from string
}

func (a *app) benchDataCommand() *cobra.Command {
	var f benchDataFlags
	cmd := &cobra.Command{
		Use:   "data NAME --out DIR",
		Short: "Make a data set with exact answers from a seed",
		Long: `NAME is ` + strings.Join(recipeNames(), ", ") + `; or ` + rotated + `, which turns the data set of --from by a random rotation, so that its
values are any numbers while all distances stay. The same seed gives the same files on every machine.`,
		Example: `  croft bench data clustered-1536 --out ./clustered-1536
  croft bench data rotated --from ./mnist-784 --out ./rotated-mnist`,
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.opts.Name = args[0]
			if err := f.check(cmd); err != nil {
				return err
			}
			return a.benchData(cmd.Context(), f)
		},
	}
	s := cmd.Flags()
	s.StringVar(&f.opts.Out, "out", "", "directory to make (required)")
	s.Uint64Var(&f.opts.Seed, "seed", 1, "seed of all random numbers")
	s.IntVar(&f.opts.Count, "count", 0, "base vectors (default as many as the data set is known for)")
	s.IntVar(&f.opts.Queries, "queries", 1000, "queries")
	s.StringVar(&f.from, "from", "", "data set to rotate")
	return cmd
}

func recipeNames() []string {
	var names []string
	for _, r := range bench.Recipes() {
		names = append(names, r.Name)
	}
	return names
}

// check refuses flags that do not go together.
func (f *benchDataFlags) check(cmd *cobra.Command) error {
	changed := cmd.Flags().Changed
	switch {
	case f.opts.Out == "":
		return usagef("a data set needs --out")
	case f.opts.Name == rotated && f.from == "":
		return usagef("%s needs --from, the data set to rotate", rotated)
	case f.opts.Name == rotated && (changed("count") || changed("queries")):
		return usagef("--count and --queries are for generated data sets; a rotated one has as many as its source")
	case f.opts.Name != rotated && f.from != "":
		return usagef("--from is for %s only", rotated)
	case changed("count") && f.opts.Count < 1, f.opts.Queries < 1:
		return usagef("--count and --queries must be at least 1")
	}
	return nil
}

func (a *app) benchData(ctx context.Context, f benchDataFlags) error {
	shown := a.newStages()
	defer shown.done()
	var report *bench.DataReport
	var err error
	if f.opts.Name == rotated {
		report, err = bench.Rotate(ctx, bench.RotateOptions{From: f.from, Out: f.opts.Out, Seed: f.opts.Seed, Progress: shown.show})
	} else {
		f.opts.Progress = shown.show
		report, err = bench.Generate(ctx, f.opts)
	}
	if err != nil {
		return err
	}
	shown.done()
	return a.print(listing{value: report, header: []string{"PATH", "METRIC", "N", "DIM", "QUERIES", "LID"}, rows: [][]string{{
		report.Path, report.Metric, thousands(report.N), thousands(report.Dim), thousands(report.Queries), fmt.Sprintf("%.1f", report.LID),
	}}})
}

// stages shows the progress of work in stages: a bar for each on a terminal, else a line now and then, or nothing.
type stages struct {
	a     *app
	bar   *progressbar.ProgressBar // of the current stage, nil where nobody watches one
	stage string
	last  time.Time // of a line
}

func (a *app) newStages() *stages { return &stages{a: a, last: time.Now()} }

// show is a bench.Progress.
func (s *stages) show(stage string, done, total int) {
	switch {
	case s.a.quiet:
	case s.a.noProgress || !isTerminal(s.a.stderr) || s.a.getenv("TERM") == "dumb":
		s.line(stage, done, total)
	default:
		s.draw(stage, done, total)
	}
}

func (s *stages) line(stage string, done, total int) {
	if time.Since(s.last) >= progressEvery {
		s.last = time.Now()
		s.a.note("%s: %s of %s", stage, thousands(done), thousands(total))
	}
}

func (s *stages) draw(stage string, done, total int) {
	if s.stage != stage {
		s.done()
		s.stage = stage
		s.bar = progressbar.NewOptions(total,
			progressbar.OptionSetWriter(s.a.stderr),
			progressbar.OptionSetDescription(stage),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionSetPredictTime(true),
			progressbar.OptionSetWidth(30),
			progressbar.OptionOnCompletion(func() { _, _ = io.WriteString(s.a.stderr, "\n") }))
	}
	_ = s.bar.Set(done) // a bar that cannot be drawn is no reason to stop
}

// done ends the current stage's bar.
func (s *stages) done() {
	if s.bar != nil {
		_ = s.bar.Exit()
		s.bar = nil
	}
}
