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

// demo is a real server in a process of its own, with sample data.
type demo struct {
	nodes  int
	shards int
	listen string
	keep   string
}

func (a *app) demoCommand() *cobra.Command {
	d := demo{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Start a server with sample data, gone when you stop it",
		Example: `  croft demo
  croft demo --listen 127.0.0.1:5280 --keep ./demo-data`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if d.nodes != 1 {
				return usagef("--nodes %d: a demo of several nodes comes with replication", d.nodes).withHint("leave --nodes out")
			}
			return a.runDemo(cmd.Context(), d)
		},
	}
	f := cmd.Flags()
	f.IntVar(&d.nodes, "nodes", 1, "nodes, each a process; only 1 until replication is there")
	f.IntVar(&d.shards, "shards", 5, "shards")
	f.StringVar(&d.listen, "listen", "127.0.0.1:5080", "address of the API")
	f.StringVar(&d.keep, "keep", "", "keep the data in this directory")
	return cmd
}

// runDemo starts the server, fills it, says what to try, and waits to be stopped.
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
	a.say("croft %s demo - 1 node, %s - data in %s (%s)", buildInfo().Version, counted(d.shards, "shard"), dir, d.fate())
	begun := time.Now()
	srv, err := a.startServer(ctx, d, dir, key)
	if err != nil {
		return demoStopped(ctx, err)
	}
	defer func() { err = firstError(err, srv.stop()) }()
	a.say("  starting   ready%*s", 56, seconds(begun))
	if err := a.saveKey(srv.url, key); err != nil {
		a.note("  the key is not saved for other terminals: %v", err)
	}
	defer a.forgetKey(srv.url, key)
	if err := a.load(ctx, srv.url, key); err != nil {
		return demoStopped(ctx, err)
	}
	a.explain(srv.url, key)
	return a.await(ctx, srv)
}

// demoStopped makes Ctrl-C the orderly end that it is.
func demoStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (a *app) await(ctx context.Context, srv *childServer) error {
	select {
	case <-ctx.Done():
		a.say("\nstopping")
		return nil
	case <-srv.exited:
		return errs.New(errs.Internal, "the server ended by itself: %s", srv.describeExit()).WithHint("the end of its log:\n%s", srv.logTail())
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
func (a *app) explain(url, key string) {
	self, address := commandName(), ""
	if url != defaultURL {
		address = " --url " + url
	}
	a.say("  API        %s          key: %s", url, key)
	a.say("  SDK        export PINECONE_API_KEY=%s PINECONE_CONTROLLER_HOST=%s", key, url)
	a.say("  Metrics    %s/metrics", url)
	a.say("Try next, in another terminal:")
	for _, line := range []string{
		"query " + demoIndex + " -n tenant-0001 --id doc-1 -k 3",
		"query " + demoIndex + ` -n tenant-0001 --id doc-1 -k 3 --filter '{"lang":"de","year":{"$gte":2023}}'`,
		"fetch " + demoIndex + " doc-1 -n tenant-0001 -o json",
		"stats " + demoIndex + " --top 5",
	} {
		a.say("  %s %s%s", self, line, address)
	}
	a.say("Ctrl-C stops and cleans up")
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
