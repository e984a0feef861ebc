// Command peers races croft's index against other libraries of its kind, on the same data, the same core and in turns.
//
// It owns the C++ shim that reaches hnswlib and faiss, a cache of built indexes, and the report: curves, build times,
// memory, and how many times croft's queries a second are those of the best other at the same recall. It promises that
// each index is alone in a process of its own, that all are asked the same queries by the same loop, and that answers
// are judged by package bench. People call it, and CI; it is a module of its own, so that nobody else needs a C++
// compiler. It never measures a server. README.md has the commands, DESIGN.md what fairness means here.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, in io.Reader, out, notes io.Writer) error {
	if len(args) == 2 && args[0] == childCommand {
		return runChild(ctx, args[1], in, out)
	}
	o, err := parseOptions(args, notes)
	if err != nil {
		return err
	}
	r, err := newRace(o, notes)
	if err != nil {
		return err
	}
	report, err := r.run(ctx)
	if err != nil {
		return err
	}
	if o.JSON {
		return report.writeJSON(out)
	}
	return report.print(out)
}
