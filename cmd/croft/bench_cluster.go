package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/croftdb/croft/bench"
	"github.com/croftdb/croft/internal/client"
	"github.com/croftdb/croft/internal/errs"
)

// startMeasured starts a cluster of real processes for a benchmark, waits until all replicas are there, and returns it with
// what stops it and removes its data.
func (a *app) startMeasured(ctx context.Context, d demo) (_ *demoCluster, stop func() error, err error) {
	if err := d.validate(); err != nil {
		return nil, nil, err
	}
	dir, remove, err := d.directory()
	if err != nil {
		return nil, nil, err
	}
	key, err := demoKey(dir)
	var c *demoCluster
	if err == nil {
		c, err = newDemoCluster(d, dir, key)
	}
	if err == nil {
		err = c.probe()
	}
	if err != nil {
		return nil, nil, firstError(err, remove())
	}
	stop = func() error { return firstError(c.stop(), remove()) }
	bounded, cancel := context.WithTimeout(ctx, measuredStart)
	defer cancel()
	a.note("starting %s with %s", counted(d.nodes, "node"), counted(d.shards, "shard"))
	if err = c.start(bounded); err == nil {
		err = c.settle(bounded)
	}
	if err != nil {
		return nil, nil, firstError(err, stop())
	}
	return c, stop, nil
}

// measuredStart bounds the start of a cluster that is measured, which may have many groups.
const measuredStart = 5 * time.Minute

// clients are one client for each node, by number from 0. consistency is that of their reads, empty for the default.
func (c *demoCluster) clients(consistency string) (all []*client.Client, err error) {
	for _, u := range c.urls() {
		api, err := client.New(client.Options{URL: u, APIKey: c.key, Consistency: consistency})
		if err != nil {
			return nil, err
		}
		all = append(all, api)
	}
	return all, nil
}

// hosts are the addresses of all nodes' APIs, as host and port.
func (c *demoCluster) hosts() (all []string, err error) {
	for _, u := range c.urls() {
		at, err := url.Parse(u)
		if err != nil {
			return nil, err
		}
		all = append(all, at.Host)
	}
	return all, nil
}

// upsertDrawn stores the first n base vectors of a drawer, "v0" and on.
func upsertDrawn(ctx context.Context, ix *client.Index, tenant string, d *bench.Drawer, n int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for first := 0; first < n && ctx.Err() == nil; first += bench.DrawnBlock {
		rows := d.Base(first / bench.DrawnBlock)
		rows = rows[:min(len(rows), n-first)]
		per := min(500, max(1, client.MaxBody/(16*len(rows[0])))) // a value takes up to 16 bytes of text
		for at := 0; at < len(rows); at += per {
			var batch []client.Vector
			for i, row := range rows[at:min(len(rows), at+per)] {
				batch = append(batch, client.Vector{ID: "v" + strconv.Itoa(first+at+i), Values: row})
			}
			g.Go(func() error {
				_, err := ix.Upsert(ctx, tenant, batch)
				return err
			})
		}
	}
	return g.Wait()
}

// awaitGraphs waits until no node puts vectors into a graph any more. What is left beside is the newest, scanned exactly.
func (c *demoCluster) awaitGraphs(ctx context.Context) error {
	const calm = 3 // looks
	var last []float64
	for same := 0; same < calm; {
		var now []float64
		for _, n := range c.nodes {
			values, err := scrape(ctx, n.url)
			if err != nil {
				return err
			}
			now = append(now, values["croft_engine_graph_inserts_total"])
		}
		if same++; !slices.Equal(now, last) {
			same, last = 0, now
		}
		if err := pauseFor(ctx, time.Second); err != nil {
			return err
		}
	}
	return nil
}

// scrape reads a server's metrics, each summed up over its labels.
func scrape(ctx context.Context, url string) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Timeout: time.Minute}).Do(req)
	if err != nil {
		return nil, errs.Wrap(errs.Unavailable, err, "read the metrics of %s", url)
	}
	defer resp.Body.Close()
	return parseMetrics(resp.Body)
}

// parseMetrics reads lines "name value" and "name{labels} value".
func parseMetrics(r io.Reader) (map[string]float64, error) {
	values := map[string]float64{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		name, _, _ := strings.Cut(line[:at], "{")
		v, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return nil, errs.Wrap(errs.Internal, err, "read metric %s", name)
		}
		values[name] += v
	}
	return values, lines.Err()
}

// processTimes is what the kernel counts of a process.
type processTimes struct {
	cpu      time.Duration // user and system
	resident int64         // bytes
}

// clockTick is the kernel's unit of times in /proc, 10 ms on all of Linux.
const clockTick = 10 * time.Millisecond

// timesOf reads /proc, so it works on Linux alone.
func timesOf(pid int) (processTimes, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return processTimes{}, errs.Wrap(errs.FailedPrecondition, err, "measure a process, which needs Linux's /proc")
	}
	return parseTimes(string(b), int64(os.Getpagesize()))
}

// parseTimes reads a line of /proc/<pid>/stat. The name of the program, in parentheses, may hold anything.
func parseTimes(stat string, page int64) (processTimes, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:]) // from the third field on
	if len(fields) < 22 {
		return processTimes{}, errs.New(errs.Internal, "%q is not the state of a process", stat)
	}
	var n [3]int64
	for i, at := range []int{14, 15, 24} { // utime, stime, rss in pages
		v, err := strconv.ParseInt(fields[at-3], 10, 64)
		if err != nil {
			return processTimes{}, errs.Wrap(errs.Internal, err, "read field %d of the state of a process", at)
		}
		n[i] = v
	}
	return processTimes{time.Duration(n[0]+n[1]) * clockTick, n[2] * page}, nil
}
