package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// idleFlags are the flags of `croft bench idle`.
type idleFlags struct {
	demo    demo
	seconds int
	warmup  int
}

// idleReport says what nodes cost that nobody asks anything.
type idleReport struct {
	Shards   int        `json:"shards"`
	Replicas int        `json:"replicas"`
	Seconds  float64    `json:"seconds"`
	Nodes    []idleNode `json:"nodes"`
}

// idleNode is one process.
type idleNode struct {
	Node       int     `json:"node"`
	Groups     int     `json:"groups"`
	CPU        float64 `json:"cpu_percent"` // of a core, user and system
	Resident   int64   `json:"resident_bytes"`
	Heap       int64   `json:"heap_bytes"`
	Goroutines int     `json:"goroutines"`
}

func (a *app) benchIdleCommand() *cobra.Command {
	f := idleFlags{demo: demo{nodes: 1, shards: 64, listen: "127.0.0.1:6080"}, seconds: 30, warmup: 20}
	cmd := &cobra.Command{
		Use:   "idle",
		Short: "Measure what a server costs that nobody asks anything",
		Long: `Starts real server processes in a temporary directory, waits until all replicas are there and for --warmup seconds more, and then
reads what the kernel counts of each process over --seconds. Nothing else should run on the machine. Linux only.`,
		Example: `  croft bench idle --shards 64
  croft bench idle --nodes 3 --shards 64 --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case f.seconds < 1:
				return usagef("--seconds is %d, must be at least 1", f.seconds)
			case f.demo.shards < 1 || f.demo.shards > 256:
				return usagef("--shards is %d, must be 1 to 256", f.demo.shards)
			case f.warmup < 0:
				return usagef("--warmup is %d, must not be negative", f.warmup)
			}
			report, err := a.idle(cmd.Context(), f)
			if err != nil {
				return err
			}
			return a.printIdle(report)
		},
	}
	s := cmd.Flags()
	s.IntVar(&f.demo.shards, "shards", f.demo.shards, "shards, 1 to 256")
	s.IntVar(&f.demo.nodes, "nodes", f.demo.nodes, "nodes, each a process; with three, each shard has three replicas")
	s.StringVar(&f.demo.listen, "listen", f.demo.listen, "address of the first node's API; node N is 200·(N-1) ports further")
	s.IntVar(&f.seconds, "seconds", f.seconds, "how long to measure")
	s.IntVar(&f.warmup, "warmup", f.warmup, "seconds to wait before")
	return cmd
}

func (a *app) idle(ctx context.Context, f idleFlags) (_ *idleReport, err error) {
	c, stop, err := a.startMeasured(ctx, f.demo)
	if err != nil {
		return nil, err
	}
	defer func() { err = firstError(err, stop()) }()
	a.note("measuring for %d s, in %d s", f.seconds, f.warmup)
	if err := pauseFor(ctx, time.Duration(f.warmup)*time.Second); err != nil {
		return nil, err
	}
	begun := time.Now()
	before, err := c.times()
	if err == nil {
		err = pauseFor(ctx, time.Duration(f.seconds)*time.Second)
	}
	if err != nil {
		return nil, err
	}
	after, err := c.times()
	if err != nil {
		return nil, err
	}
	took := time.Since(begun)
	report := &idleReport{Shards: f.demo.shards, Replicas: f.demo.wantReplicas(), Seconds: took.Seconds()}
	for i, n := range c.nodes {
		values, err := scrape(ctx, n.url)
		if err != nil {
			return nil, err
		}
		report.Nodes = append(report.Nodes, idleNode{
			Node: n.number, Groups: f.demo.shards*f.demo.wantReplicas()/f.demo.nodes + 1,
			CPU: 100 * (after[i].cpu - before[i].cpu).Seconds() / took.Seconds(), Resident: after[i].resident,
			Heap: int64(values["go_memstats_heap_inuse_bytes"]), Goroutines: int(values["go_goroutines"]),
		})
	}
	return report, nil
}

// times reads what the kernel counts of each node's process.
func (c *demoCluster) times() (all []processTimes, err error) {
	for _, n := range c.nodes {
		t, err := timesOf(n.server.cmd.Process.Pid)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

// pauseFor waits, unless ctx ends.
func pauseFor(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *app) printIdle(r *idleReport) error {
	l := listing{value: r, items: itemsOf(r.Nodes), header: []string{"NODE", "GROUPS", "CPU", "RESIDENT", "HEAP", "GOROUTINES"}}
	for _, n := range r.Nodes {
		l.rows = append(l.rows, []string{strconv.Itoa(n.Node), strconv.Itoa(n.Groups), fmt.Sprintf("%.2f %%", n.CPU), bytesText(n.Resident),
			bytesText(n.Heap), thousands(n.Goroutines)})
	}
	return a.print(l)
}
