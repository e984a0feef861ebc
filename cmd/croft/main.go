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
	"time"
)

func main() {
	ctx, stop := interruptible(context.Background())
	a := newApp(os.Stdin, os.Stdout, os.Stderr, os.LookupEnv)
	code := a.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// sameSignal is the time within which a second signal is the first one delivered twice, as timeout(1) and some shells
// do: to the process, and to its group.
const sameSignal = 200 * time.Millisecond

// interruptible is canceled by the first SIGINT or SIGTERM; a second one ends the process at once.
func interruptible(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		for first := time.Now(); time.Since(first) < sameSignal; {
			<-signals
		}
		os.Exit(exitInterrupted)
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel()
	}
}
