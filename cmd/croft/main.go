// Command croft is the vector store's one binary: the server, a demo, and a client for both.
//
// Each verb has a file of its own; serve.go reads as a table of contents of the system. What a verb may touch of the
// world (streams, environment) is in an app, so that there is no global state. Conventions: data goes to stdout,
// everything else to stderr; exit codes are in exit.go. Nobody imports this package.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := interruptible(context.Background())
	a := newApp(os.Stdin, os.Stdout, os.Stderr, os.LookupEnv)
	code := a.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// interruptible is canceled by the first SIGINT or SIGTERM; a second one ends the process at once.
func interruptible(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(exitInterrupted)
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel()
	}
}
