package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/api"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/tracing"
	"github.com/croftdb/croft/tenancy"
	"github.com/croftdb/croft/tenancy/audit"
)

func (a *app) serveCommand() *cobra.Command {
	cfg := defaultConfig()
	secrets := cfg.secretFlags()
	var path string
	cmd := &cobra.Command{
		Use:   "serve --data DIR",
		Short: "Run a server",
		Long: `Each flag may also be an environment variable (CROFT_DATA for --data), or a line of a YAML file (data: DIR); flags win
over the environment, the environment over the file. CROFT_<NAME>_FILE names a file that holds the value.

The first start makes an admin key and prints it, once: only its hash is stored. CROFT_ADMIN_KEY (or
CROFT_ADMIN_KEY_FILE) gives a key of your own instead.`,
		Example: `  croft serve --data ./data
  croft serve --data ./data --listen 127.0.0.1:5280 --shards 8`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s := settings{sets: []*pflag.FlagSet{cmd.LocalNonPersistentFlags(), secrets}, lookupEnv: a.lookupEnv, readFile: os.ReadFile}
			if err := s.load(a.configPath(path)); err != nil {
				return err
			}
			cfg.shardsGiven = cmd.Flags().Changed("shards")
			cfg.peers.settle(cfg.listen)
			if err := cfg.validate(); err != nil {
				return err
			}
			return a.serve(cmd.Context(), cfg)
		},
	}
	cfg.addFlags(cmd.Flags())
	cmd.Flags().StringVar(&path, "config", "", "YAML file of settings (CROFT_CONFIG; default /etc/croft/croft.yaml if it is there)")
	return cmd
}

// serve builds the floors from the ground up, serves until it is told to stop or the node fails, and stops them from
// the top down.
func (a *app) serve(ctx context.Context, cfg config) error {
	if err := checkKernel(); err != nil {
		return err
	}
	log := newLogger(a.stderr, cfg.logLevel, cfg.logFormat)
	raiseFileLimit(log)
	var f floors
	err := a.build(ctx, cfg, log, &f)
	if err == nil {
		log.Info("ready", "url", f.url, "data", cfg.data)
		fmt.Fprintln(a.stdout, readyPrefix+f.url)
		a.notify(log, "READY=1")
		err = a.untilStopped(ctx, cfg, &f)
		logStop(log, err)
		a.notify(log, "STOPPING=1")
	}
	if f.poisoned {
		return err // a store that failed must not be written to, not even to close it
	}
	return firstError(err, f.stop())
}

// checkKernel refuses a CROFT_KERNEL that this machine has not: slower ways would be taken for it in silence.
func checkKernel() error {
	if err := ann.CheckKernel(); err != nil {
		return &usageError{err: err}
	}
	return nil
}

// logUnsent tells that the last spans did not get through, which is no reason to end with an error.
func logUnsent(log *slog.Logger, err error) {
	if err != nil {
		log.Warn("spans are lost", "err", err)
	}
}

func logStop(log *slog.Logger, err error) {
	if err != nil {
		log.Error("stopping", "err", err)
		return
	}
	log.Info("stopping")
}

// build is the table of contents.
func (a *app) build(ctx context.Context, cfg config, log *slog.Logger, f *floors) error {
	// Ground: the disk, and the port, tried early so that a mistake is told before anything is opened.
	if err := probe(cfg.listen); err != nil {
		return err
	}
	dir, err := openDataDir(cfg.data)
	if err != nil {
		return err
	}
	f.add(dir.Close)
	dir.checkSpace(log, int64(cfg.diskReserve))
	registry := newRegistry()
	tracer, err := tracing.Open(ctx, tracing.Options{
		Endpoint: cfg.otlpEndpoint, Baggage: cfg.traceBaggage, Instance: firstNonEmpty(cfg.clientURL(), cfg.listen), Version: buildInfo().Version, Logger: log,
	})
	if err != nil {
		return err
	}
	f.add(func() error { logUnsent(log, tracer.Close()); return nil })

	// Floors 2 and 3: the shards, and the node that agrees on them.
	f.node, err = cluster.Open(ctx, cluster.Options{
		Dir:         cfg.data,
		Shards:      cfg.shards,
		Engine:      engine.Options{MemoryBudget: int64(cfg.memoryBudget), Logger: log, Registerer: registry},
		DiskReserve: int64(cfg.diskReserve),
		Gate:        cfg.gate(),
		CacheBytes:  int64(cfg.cacheBudget),
		UsageEvery:  cfg.usageEvery,
		ThrottleHot: cfg.throttleHot,
		Logger:      log,
		Registerer:  registry,
		Tracer:      tracer,

		PeerListen: cfg.peers.listen, PeerAdvertise: cfg.peers.advertise, PeerTLS: cfg.peers.files(),
		Join: cfg.peers.join, JoinToken: cfg.peers.joinToken,
		Placement: cfg.rules(), CheckpointRate: int64(cfg.peers.rate),
		Audit:    audit.Options{MaxBytes: int64(cfg.auditSize), MaxAge: cfg.auditKeep},
		Replicas: cfg.peers.replicas, Zone: cfg.peers.zone, URL: cfg.clientURL(),
	})
	if err != nil {
		return errs.Wrap(errs.KindOf(err), err, "open %s", cfg.data)
	}
	f.add(f.node.Close)
	cfg.warnOfShards(log, f.node.SharedShards())
	cfg.warnOfPlacement(log, f.node.Rules())

	// Floor 2: who may.
	auth, firstKey, err := authenticate(ctx, f.node, cfg.adminKey)
	if err != nil {
		return err
	}
	if err := f.openTokens(cfg.tokens, log, auth); err != nil {
		return err
	}

	// Floor 4: the API.
	if err := f.openAPI(cfg, log, registry, tracer, auth); err != nil {
		return err
	}
	if err := f.openDebug(cfg.debugListen); err != nil {
		return err
	}
	a.banner(cfg, f, firstKey)
	return nil
}

// warnOfShards tells of a setting without effect: how many shards a data directory has is settled when it is made. A node
// that joins takes the cluster's number, and may be started with the others' settings.
func (c *config) warnOfShards(log *slog.Logger, have int) {
	if c.shardsGiven && c.shards != have && c.peers.join == "" {
		log.Warn("--shards has no effect on a data directory that exists", "asked", c.shards, "shards", have)
	}
}

// rules are those of placement for a new cluster; validate has seen to the name.
func (c *config) rules() cluster.Rules {
	policy, _ := cluster.ParsePolicy(firstNonEmpty(c.placement, cluster.PolicyRing.String()))
	return cluster.Rules{Policy: policy}
}

// warnOfPlacement tells of a setting without effect: the rules are the cluster's, which is there already.
func (c *config) warnOfPlacement(log *slog.Logger, have cluster.Rules) {
	if c.placement != "" && c.placement != have.Policy.String() {
		log.Warn("--placement has no effect on a cluster that exists, `croft shards policy` changes it", "asked", c.placement, "placement", have.Policy.String())
	}
}

// floors is what serve has built.
type floors struct {
	node    *cluster.Node
	handler *api.Handler
	server  *api.Server
	url     string
	serving chan error // what Serve returned
	stops   []func() error

	poisoned bool // a store of the node has failed
}

// add says how the floor just built is stopped.
func (f *floors) add(stop func() error) { f.stops = append(f.stops, stop) }

// stop stops what was built, last first, and returns the first error.
func (f *floors) stop() (err error) {
	for i := len(f.stops) - 1; i >= 0; i-- {
		err = firstError(err, f.stops[i]())
	}
	f.stops = nil
	return err
}

func (f *floors) openAPI(cfg config, log *slog.Logger, registry *prometheus.Registry, tracer *tracing.Tracer, auth *tenancy.Authenticator) error {
	var err error
	f.handler, err = api.New(api.Options{
		Node: f.node, Auth: auth, Logger: log, Registerer: registry, Gatherer: registry, Tracer: tracer,
		Advertise: cfg.advertise, Version: buildInfo().Version,
	})
	if err != nil {
		return err
	}
	f.server, err = api.Listen(f.handler, api.ServerOptions{Listen: cfg.listen})
	if err != nil {
		return err
	}
	f.url = dialable(f.server.Addr())
	f.serving = make(chan error, 1)
	go func() { f.serving <- f.server.Serve() }()
	f.add(func() error { return f.drain(cfg.drainTimeout) })
	return nil
}

// drain refuses new requests and waits for those under way, but not for ever.
func (f *floors) drain(timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := f.server.Shutdown(ctx); err != nil && ctx.Err() == nil {
		return errs.Wrap(errs.Internal, err, "stop the API")
	}
	return nil
}

// untilStopped waits for a signal, the end of stdin if that is to stop us, or a failure.
func (a *app) untilStopped(ctx context.Context, cfg config, f *floors) error {
	parentGone := make(chan struct{})
	if cfg.stopWithStdin {
		go func() {
			_, _ = io.Copy(io.Discard, a.stdin) // its end is all that matters, however it comes
			close(parentGone)
		}()
	}
	select {
	case <-ctx.Done():
		return nil
	case <-parentGone:
		return nil
	case <-f.node.Failed():
		f.poisoned = true
		return errs.Wrap(errs.Internal, f.node.Failure(), "the node's store has failed, the process must end")
	case err := <-f.serving:
		return err
	}
}

// authenticate makes the authenticator. Where there is neither a key of the operator's nor a stored one, it makes one
// and returns its text, which nobody will see again.
func authenticate(ctx context.Context, node *cluster.Node, adminKey string) (auth *tenancy.Authenticator, firstKey string, err error) {
	auth = &tenancy.Authenticator{Source: node, Uses: node}
	if adminKey != "" {
		auth.Admin, err = tenancy.AdminHash(adminKey)
		return auth, "", err
	}
	if node.KeyCount() > 0 {
		return auth, "", nil
	}
	text, key := tenancy.NewKey("first admin key", tenancy.RoleAdmin, time.Now())
	return auth, text, node.AddKey(ctx, key)
}
