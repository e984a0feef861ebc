package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/croftdb/croft/internal/client"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// demo is a real cluster of separate processes, with sample data.
type demo struct {
	nodes    int
	shards   int
	replicas int // 0: by the number of nodes
	listen   string
	keep     string
	rate     sizeValue // of checkpoints; 0: a server's default
	serve    []string  // more flags of the servers
}

func defaultDemo() demo { return demo{nodes: 3, shards: 5, listen: "127.0.0.1:5080"} }

func (a *app) demoCommand() *cobra.Command {
	d := defaultDemo()
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Start a cluster with sample data, gone when you stop it",
		Long: `Each node is a process with its own disk and sockets, node N at the address of --listen with 200·(N-1) added to the port.
Nothing is restarted by itself: kill nodes and start them again from another terminal, and see what still answers.`,
		Example: `  croft demo
  croft demo kill 2`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := d.validate(); err != nil {
				return err
			}
			return a.runDemo(cmd.Context(), d)
		},
	}
	f := cmd.Flags()
	f.IntVar(&d.nodes, "nodes", d.nodes, "nodes, each a process, 1 to 9")
	f.IntVar(&d.shards, "shards", d.shards, "shards, 1 to 256")
	f.IntVar(&d.replicas, "replicas", d.replicas, "nodes that hold each shard: 1, 3 or 5 (default 3 with three nodes or more, else 1)")
	f.StringVar(&d.listen, "listen", d.listen, "address of the first node's API")
	f.StringVar(&d.keep, "keep", "", "keep the data in this directory")
	cmd.AddCommand(a.demoVerbCommand("kill", "Kill a node of the demo, as kill -9 does"),
		a.demoVerbCommand("start", "Start a node of the demo that was killed"))
	return cmd
}

func (d demo) validate() error {
	_, port, err := splitAddress(d.listen)
	switch {
	case err != nil:
		return usagef("--listen: %w", err)
	case d.nodes < 1 || d.nodes > 9:
		return usagef("--nodes is %d, must be 1 to 9", d.nodes)
	case d.nodes > 1 && port == 0:
		return usagef("--listen %s leaves the port open, which only a demo of one node can", d.listen)
	case d.nodes > 1 && !isLoopback(d.listen):
		return usagef("--listen %s is not loopback, where nodes need certificates", d.listen).
			withHint("`croft serve` runs nodes on a network")
	case port+portsPerServer*d.nodes > 65536:
		return usagef("--listen %s leaves no room for the ports of %s", d.listen, counted(d.nodes, "node"))
	case d.replicas > d.nodes:
		return usagef("--replicas %d needs as many nodes, there are %d", d.replicas, d.nodes)
	}
	return nil
}

// wantReplicas is how many nodes will hold each shard.
func (d demo) wantReplicas() int {
	switch {
	case d.replicas > 0:
		return d.replicas
	case d.nodes >= 3:
		return 3
	}
	return 1
}

// runDemo starts the nodes, fills them, says what to try, and waits to be stopped.
func (a *app) runDemo(ctx context.Context, d demo) (err error) {
	dir, remove, err := d.directory()
	if err != nil {
		return err
	}
	defer func() { err = firstError(err, remove()) }()
	key, err := demoKey(dir)
	if err != nil {
		return err
	}
	c, err := newDemoCluster(d, dir, key)
	if err == nil {
		err = c.probe()
	}
	if err != nil {
		return err
	}
	a.say("croft %s demo - %s, %s, %s - data in %s (%s)", buildInfo().Version, counted(d.nodes, "node"), counted(d.shards, "shard"),
		counted(d.wantReplicas(), "replica"), dir, d.fate())
	begun := time.Now()
	defer func() { err = firstError(err, c.stop()) }()
	if err := c.start(ctx); err != nil {
		return demoStopped(ctx, err)
	}
	shut, err := a.openControl(c)
	if err != nil {
		return err
	}
	defer shut()
	if err := a.settleDemo(ctx, c); err != nil {
		return demoStopped(ctx, err)
	}
	a.say("  starting   %-50s%9s", c.readyText(), seconds(begun))
	for _, url := range c.urls() {
		if err := a.saveKey(url, key); err != nil {
			a.note("  the key is not saved for other terminals: %v", err)
		}
		defer a.forgetKey(url, key)
	}
	if err := a.load(ctx, c.url(), key); err != nil {
		return demoStopped(ctx, err)
	}
	a.explain(c)
	a.await(ctx, c)
	return nil
}

// settleDemo waits for replicas, but not for ever: a demo that lacks some still shows much.
func (a *app) settleDemo(ctx context.Context, c *demoCluster) error {
	if c.opts.nodes == 1 {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err := c.settle(bounded)
	if err != nil && ctx.Err() == nil {
		a.note("  not all replicas are up to date yet: %v", err)
		return nil
	}
	return err
}

// demoStopped makes Ctrl-C the orderly end that it is.
func demoStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// await tells of nodes that end until the demo is stopped.
func (a *app) await(ctx context.Context, c *demoCluster) {
	for {
		select {
		case said := <-c.ends:
			a.say("%s", said)
		case <-ctx.Done():
			a.say("\nstopping")
			return
		}
	}
}

// say prints what the demo is for: it is the verb's data.
func (a *app) say(format string, args ...any) { fmt.Fprintf(a.stdout, format+"\n", args...) }

func seconds(since time.Time) string { return fmt.Sprintf("%.1fs", time.Since(since).Seconds()) }

func (d demo) fate() string {
	if d.keep != "" {
		return "kept"
	}
	return "deleted on exit; --keep DIR to keep"
}

// directory is where the data go, and how to dispose of it.
func (d demo) directory() (dir string, remove func() error, err error) {
	if d.keep != "" {
		err := os.MkdirAll(d.keep, 0o750)
		return d.keep, func() error { return nil }, dirError(err)
	}
	dir, err = os.MkdirTemp("", "croft-demo-")
	return dir, func() error { return os.RemoveAll(dir) }, dirError(err)
}

func dirError(err error) error {
	return errs.Wrap(errs.Invalid, err, "make the demo's directory")
}

// demoKey is a key made for this demo; one that is kept uses its own again.
func demoKey(dir string) (string, error) {
	path := filepath.Join(dir, "demo.key")
	b, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	text, _ := tenancy.NewKey("demo", tenancy.RoleAdmin, time.Now())
	return text, writeFileAtomically(path, []byte(text+"\n"), 0o600)
}

// load fills the index over HTTP, unless a kept demo has it already.
func (a *app) load(ctx context.Context, url, key string) error {
	c, err := client.New(client.Options{URL: url, APIKey: key})
	if err != nil {
		return err
	}
	defer c.Close()
	begun := time.Now()
	if ix, err := c.Index(ctx, demoIndex); err == nil {
		stats, err := ix.Stats(ctx)
		if err == nil && stats.TotalVectorCount >= demoRecords {
			a.say("  found      %q with %s", demoIndex, counted(stats.TotalVectorCount, "vector"))
			return nil
		}
	} else if _, err := c.CreateIndex(ctx, client.CreateIndexRequest{Name: demoIndex, Dimension: demoDim, Metric: "cosine"}); err != nil {
		return err
	}
	ix, err := c.Index(ctx, demoIndex)
	if err != nil {
		return err
	}
	if err := loadTenants(ctx, ix); err != nil {
		return err
	}
	a.say("  loading    %q %s tenants (Zipf), %s vectors x %d-d%*s", demoIndex, thousands(demoTenants), thousands(demoRecords), demoDim, 12, seconds(begun))
	return nil
}

// loadTenants makes all data in one order, so that they are the same every time, and sends them several at once.
func loadTenants(ctx context.Context, ix *client.Index) error {
	const perRequest = 500
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	corpus := newDemoCorpus(demoSeed)
	for t, size := range demoTenantSizes(demoTenants, demoRecords) {
		var batch []client.Vector
		for n := 1; n <= size; n++ {
			doc, err := corpus.document(n)
			if err != nil {
				return err
			}
			batch = append(batch, doc)
			if len(batch) == perRequest || n == size {
				sent := batch
				g.Go(func() error {
					_, err := ix.Upsert(ctx, demoTenant(t), sent)
					return err
				})
				batch = nil
			}
		}
	}
	return g.Wait()
}

// explain says where things are and what to try next. It names only what is there.
func (a *app) explain(c *demoCluster) {
	urls := c.urls()
	a.say("  API        %s          key: %s", urls[0], c.key)
	if len(urls) > 1 {
		a.say("  Nodes      %s", c.listText())
	}
	a.say("  SDK        export PINECONE_API_KEY=%s PINECONE_CONTROLLER_HOST=%s", c.key, urls[0])
	a.say("  Metrics    %s/metrics", urls[0])
	a.say("Try next, in another terminal:")
	for _, line := range c.opts.suggestions(urls) {
		a.say("  %s", line)
	}
	a.say("Ctrl-C stops and cleans up")
}

// suggestions are commands to try.
func (d demo) suggestions(urls []string) []string {
	self, address := commandName(), ""
	if urls[0] != defaultURL {
		address = " --url " + urls[0]
	}
	lines := []string{
		self + " query " + demoIndex + " -n tenant-0001 --id doc-1 -k 3" + address,
		self + " query " + demoIndex + ` -n tenant-0001 --id doc-1 -k 3 --filter '{"lang":"de","year":{"$gte":2023}}'` + address,
		self + " fetch " + demoIndex + " doc-1 -n tenant-0001 -o json" + address,
		self + " stats " + demoIndex + " --top 5" + address,
	}
	if d.nodes == 1 {
		return lines
	}
	last := urls[len(urls)-1]
	return append(lines,
		self+" nodes list"+address,
		self+" shards list"+address,
		d.verb("kill", 1),
		self+" query "+demoIndex+" -n tenant-0001 --id doc-1 -k 3 --url "+last,
		d.verb("start", 1))
}

// verb is the command line that kills or starts a node of this demo.
func (d demo) verb(verb string, number int) string {
	line := fmt.Sprintf("%s demo %s %d", commandName(), verb, number)
	if d.listen != defaultDemo().listen {
		line += " --listen " + d.listen
	}
	return line
}

// commandName is how the user calls this program.
func commandName() string {
	exe, err := os.Executable()
	if err == nil && strings.Contains(exe, string(filepath.Separator)+"go-build") {
		return "go run ./cmd/croft"
	}
	if !strings.ContainsRune(os.Args[0], filepath.Separator) {
		return "croft"
	}
	return os.Args[0]
}
