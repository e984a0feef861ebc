package main

import (
	"bytes"
	"os"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/bench"
)

func (a *app) benchPlotCommand() *cobra.Command {
	var out, title string
	cmd := &cobra.Command{
		Use:   "plot FILE --out FILE",
		Short: "Draw the curves of a comparison with other indexes",
		Long:  `FILE is what bench/peers prints with --json. The drawing is an SVG with a line for each index, at its best settings.`,
		Example: `  croft bench plot mnist-784.json --out mnist-784.svg
  croft bench plot mnist-784.json --out mnist-784.svg --title "mnist-784, one core"`,
		Args: exactly("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			if out == "" {
				return usagef("a drawing needs --out")
			}
			return a.benchPlot(args[0], out, title)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file to write (required)")
	cmd.Flags().StringVar(&title, "title", "", "title (default the name of the data set)")
	return cmd
}

func (a *app) benchPlot(from, to, title string) error {
	report, err := os.Open(from)
	if err != nil {
		return err
	}
	defer report.Close()
	var svg bytes.Buffer
	if err := bench.Plot(report, title, &svg); err != nil {
		return err
	}
	if err := writeFileAtomically(to, svg.Bytes(), 0o644); err != nil {
		return err
	}
	a.note("%s: %s", to, bytesText(int64(svg.Len())))
	return a.print(done())
}
