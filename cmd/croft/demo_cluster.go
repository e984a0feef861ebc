package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/croftdb/croft/internal/client"
	"github.com/croftdb/croft/internal/errs"
)

// demoCluster is the nodes of a demo: separate processes with their own disks and sockets. Nothing is restarted by
// itself. Its verbs may be called at any time, also while it stops.
type demoCluster struct {
	opts demo
	dir  string
	key  string
	ends chan string // what to say of nodes that ended

	mu      sync.Mutex // guards what follows, and what changes of nodes
	nodes   []*demoNode
	control demoState // without nodes; empty until there is one
	stopped bool
}

// demoNode is one of them, running or not.
type demoNode struct {
	number int
	listen string
	peer   string // "": it has no peers
	data   string
	server *childServer // the latest; nil before the first
	url    string       // once it has served
	id     string       // in the cluster, where somebody has looked
}

func (n *demoNode) name() string { return fmt.Sprintf("node-%d", n.number) }

func (n *demoNode) running() bool { return n.server != nil && !n.server.hasExited() }

// newDemoCluster lays out ports: node n has those of the first, 200·(n-1) further up.
func newDemoCluster(d demo, dir, key string) (*demoCluster, error) {
	c := &demoCluster{opts: d, dir: dir, key: key, ends: make(chan string, d.nodes)}
	host, port, err := splitAddress(d.listen)
	if err != nil {
		return nil, usagef("--listen: %w", err)
	}
	for i := range d.nodes {
		n := &demoNode{number: i + 1, listen: d.listen}
		n.data = filepath.Join(dir, n.name())
		if d.nodes > 1 {
			base := port + portsPerServer*i
			n.listen = net.JoinHostPort(host, strconv.Itoa(base))
			n.peer = net.JoinHostPort(host, strconv.Itoa(base+peerPortOffset))
		}
		c.nodes = append(c.nodes, n)
	}
	return c, nil
}

// probe sees that all ports are free, so that a demo is not found half-way to lack one.
func (c *demoCluster) probe() error {
	for _, n := range c.nodes {
		for _, address := range []string{n.listen, n.peer} {
			if address == "" {
				continue
			}
			if err := probe(address); err != nil {
				return err
			}
		}
	}
	return nil
}

// startTimeout bounds the start of a demo's nodes; they have little to recover.
const startTimeout = 30 * time.Second

// start starts all nodes. Those that belong to a cluster already start at once, since each may need the others; new
// ones join when the cluster answers.
func (c *demoCluster) start(ctx context.Context) error {
	var members, joining []*demoNode
	for _, n := range c.nodes {
		if n.number == 1 || n.hasIdentity() {
			members = append(members, n)
		} else {
			joining = append(joining, n)
		}
	}
	if err := c.startAll(ctx, members); err != nil {
		return err
	}
	return c.startAll(ctx, joining)
}

func (c *demoCluster) startAll(ctx context.Context, nodes []*demoNode) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range nodes {
		g.Go(func() error {
			if err := c.run(ctx, n, startTimeout); err != nil {
				return fmt.Errorf("%s: %w", n.name(), err)
			}
			return nil
		})
	}
	return g.Wait()
}

// run starts the process of a node that does not run, and waits until it serves.
func (c *demoCluster) run(ctx context.Context, n *demoNode, patience time.Duration) error {
	server, err := c.launch(ctx, n)
	if err != nil {
		return err
	}
	url, err := server.awaitReady(ctx, patience)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n.url = url
	return nil
}

// hasIdentity reports whether a node has been part of a cluster.
func (n *demoNode) hasIdentity() bool {
	_, err := os.Stat(filepath.Join(n.data, "node.json"))
	return err == nil
}

func (c *demoCluster) launch(ctx context.Context, n *demoNode) (*childServer, error) {
	args, env, err := c.settings(ctx, n)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.stopped:
		return nil, errs.New(errs.FailedPrecondition, "the demo is stopping")
	case n.running():
		return nil, errs.New(errs.FailedPrecondition, "%s runs already, with process id %d", n.name(), n.server.cmd.Process.Pid)
	}
	if n.server, err = launchServer(filepath.Join(c.dir, n.name()+".log"), args, env); err != nil {
		return nil, err
	}
	go c.watch(n, n.server)
	return n.server, c.saveLocked()
}

// settings are the arguments and variables of a node's process; a node without identity gets a token to join with.
func (c *demoCluster) settings(ctx context.Context, n *demoNode) (args, env []string, err error) {
	args = []string{"--data", n.data, "--listen", n.listen, "--shards", strconv.Itoa(c.opts.shards)}
	args = append(args, c.opts.serve...)
	env = []string{"CROFT_ADMIN_KEY=" + c.key}
	if n.peer == "" {
		return args, env, nil
	}
	if c.opts.rate != 0 {
		args = append(args, "--checkpoint-rate", c.opts.rate.String())
	}
	args = append(args, "--peer-listen", n.peer, "--replicas", strconv.Itoa(c.opts.replicas))
	if n.number == 1 || n.hasIdentity() {
		return args, env, nil
	}
	ticket, err := c.ticket(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("ask for a token to join with: %w", err)
	}
	return append(args, "--join", ticket.Join), append(env, "CROFT_JOIN_TOKEN="+ticket.Token), nil
}

// ticket asks a node that runs for a token to join it.
func (c *demoCluster) ticket(ctx context.Context) (client.JoinTicket, error) {
	api, err := client.New(client.Options{URL: c.url(), APIKey: c.key})
	if err != nil {
		return client.JoinTicket{}, err
	}
	defer api.Close()
	return api.AddNode(ctx, "")
}

// watch notes the end of a node that nobody had stopped.
func (c *demoCluster) watch(n *demoNode, s *childServer) {
	<-s.exited
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped || n.server != s {
		return
	}
	_ = c.saveLocked() // what it says of the dead is only for people to read
	said := fmt.Sprintf("  %s ended (%s); `%s` starts it again", n.name(), s.describeExit(), c.opts.verb("start", n.number))
	select {
	case c.ends <- said:
	default: // nobody has read the last ones yet
	}
}

// node finds a node by number.
func (c *demoCluster) node(number int) (*demoNode, error) {
	if number < 1 || number > len(c.nodes) {
		return nil, errs.New(errs.NotFound, "there is no node %d, the demo has %s", number, counted(len(c.nodes), "node"))
	}
	return c.nodes[number-1], nil
}

// killNode ends a node as a power cut of its process would.
func (c *demoCluster) killNode(n *demoNode) error {
	c.mu.Lock()
	s, running := n.server, n.running()
	c.mu.Unlock()
	if !running {
		return errs.New(errs.FailedPrecondition, "%s does not run", n.name())
	}
	s.kill()
	return nil
}

// restartNode starts a node that was killed, and reports whether it serves by now: with most of the others down it
// cannot yet.
func (c *demoCluster) restartNode(ctx context.Context, n *demoNode) (serves bool, err error) {
	err = c.run(ctx, n, 10*time.Second)
	if errs.Is(err, errs.DeadlineExceeded) {
		return false, nil
	}
	return err == nil, err
}

// url is the address of the first node that runs; of the first one when none does.
func (c *demoCluster) url() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.nodes {
		if n.running() && n.url != "" {
			return n.url
		}
	}
	return "http://" + c.nodes[0].listen
}

// urls are the addresses of all nodes.
func (c *demoCluster) urls() (all []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.nodes {
		if n.url != "" {
			all = append(all, n.url)
		}
	}
	return all
}

// stop ends all nodes in order, whoever started them, and takes no new ones.
func (c *demoCluster) stop() error {
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	faults := make([]error, len(c.nodes))
	var wg sync.WaitGroup
	for i, n := range c.nodes {
		if n.server == nil {
			continue
		}
		wg.Go(func() {
			if err := n.server.stop(); err != nil {
				faults[i] = fmt.Errorf("%s: %w", n.name(), err)
			}
		})
	}
	wg.Wait()
	return errors.Join(faults...)
}

// settle waits until every shard has as many replicas as it is to have, all of them up to date: from then on any node
// may be killed. The caller bounds it.
func (c *demoCluster) settle(ctx context.Context) error {
	api, err := client.New(client.Options{URL: c.url(), APIKey: c.key})
	if err != nil {
		return err
	}
	defer api.Close()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		info, err := api.Cluster(ctx)
		if err == nil && info.Settled(c.opts.wantReplicas()) {
			return nil
		}
		select {
		case <-ctx.Done():
			return firstError(err, errs.New(errs.DeadlineExceeded, "shards lack replicas"))
		case <-look.C:
		}
	}
}

// readyText names the nodes that have served.
func (c *demoCluster) readyText() string {
	var b strings.Builder
	for i := range c.urls() {
		fmt.Fprintf(&b, "%s ready  ", c.nodes[i].name())
	}
	return strings.TrimSpace(b.String())
}

// listText names the nodes and their addresses.
func (c *demoCluster) listText() string {
	var b strings.Builder
	for i, u := range c.urls() {
		fmt.Fprintf(&b, "%s %s   ", c.nodes[i].name(), u)
	}
	return strings.TrimSpace(b.String())
}
