package cluster

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// Open starts the node in opts.Dir. A node alone returns when the metadata plane and all shards have a leader and have
// applied their logs. One of several returns when it knows the metadata plane's state, and has waited a while for
// leaders; Ready tells of those that are still missing. FailedPrecondition: another process uses the directory, or the
// cluster refuses the node; Corrupt: what is in the directory cannot be trusted.
func Open(ctx context.Context, opts Options) (_ *Node, err error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	started := time.Now()
	n := &Node{opts: opts, logger: opts.Logger, fail: newFailure(opts.Logger), local: newReplicaSet(), queries: meters{started: started}}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open node in %s: %w", opts.Dir, err), n.Close())
		}
	}()
	if err := n.openDir(); err != nil {
		return nil, err
	}
	if err := n.openPeers(ctx); err != nil {
		return nil, err
	}
	if opts.Gate != nil {
		n.shares.node = n
		if n.gate, err = opts.Gate(tenancy.AdmissionOptions{Book: hourBook{n}, Lender: &n.shares}); err != nil {
			return nil, err
		}
		opts.Engine.Turn = n.buildTurn
	}
	if n.metrics, err = newMetrics(n, opts.Registerer); err != nil {
		return nil, err
	}
	if opts.CacheBytes >= 0 {
		n.cache = tenancy.NewCache(tenancy.CacheOptions{Bytes: opts.CacheBytes})
	}
	n.usage = newUsageLedger(n, opts.UsageEvery)
	n.trimmer = newTrimmer(opts.LogRetain, n.groups, opts.Logger)
	opts.Engine.Failed = n.fail.Poison // a leader whose engine refuses writes would never apply one that tells
	if n.engine, err = engine.Open(opts.Engine); err != nil {
		return nil, err
	}
	if err := n.openGroups(); err != nil {
		return nil, err
	}
	if err := n.link(ctx, started); err != nil {
		return nil, err
	}
	if err := n.awaitReady(ctx); err != nil {
		return nil, err
	}
	if err := n.id.complete(opts.disk, opts.Dir); err != nil {
		return nil, err
	}
	for _, r := range n.meta.state().recoveries {
		n.logger.Warn("the cluster was recovered from the loss of a majority", "at", r.at, "node", r.node, "lost", r.lost)
	}
	if !opts.unmanaged {
		n.manage()
	}
	return n, nil
}

// openDir takes the directory's lock and reads or draws the node's identity.
func (n *Node) openDir() (err error) {
	dir, disk := n.opts.Dir, n.opts.disk
	if err := disk.MkdirAll(dir); err != nil {
		return err
	}
	if n.lock, err = disk.Lock(filepath.Join(dir, "LOCK")); err != nil {
		return err
	}
	n.disk = newDiskGuard(n.opts.DiskReserve, func() (uint64, error) { return disk.Free(dir) })
	if n.book, err = openAddressBook(disk, dir); err != nil {
		return err
	}
	if err := checkRecovered(disk, dir); err != nil {
		return err
	}
	if n.id, err = loadIdentity(disk, dir, n.opts.Shards, n.opts.Join != ""); err != nil {
		return err
	}
	n.life = drawLife()
	n.keyUses = openKeyUses(disk, dir, n.logger)
	if err := n.openAudit(); err != nil {
		return err
	}
	return n.id.begin(disk, dir)
}

// openPeers makes the links to other nodes, and joins the cluster that the node is told to join.
func (n *Node) openPeers(ctx context.Context) (err error) {
	name := n.id.ClusterID
	n.cluster.Store(&name)
	n.links = newLinks(n.isMember, silentAfter, n.logger)
	if n.peers, err = n.newPeers(); err != nil {
		return err
	}
	n.peers.handle(methodJoin, n.whenOpen(n.answerJoin))
	n.peers.handle(methodMeta, n.whenOpen(n.answerMeta))
	n.peers.handle(methodStatus, n.whenOpen(n.answerStatus))
	n.peers.handle(methodConfirm, n.whenOpen(n.answerConfirm))
	n.peers.handle(methodLast, n.whenOpen(n.answerLast))
	n.peers.handle(methodCheckpoint, n.whenOpen(n.answerCheckpoint))
	n.peers.handle(methodRejoin, n.whenOpen(n.answerRejoin))
	n.peers.handle(methodUsage, n.whenOpen(n.answerUsage))
	n.peers.handle(methodAudit, n.whenOpen(n.answerAudit))
	n.peers.handle(methodCache, n.whenOpen(n.answerCache))
	n.peers.handle(methodLoads, n.whenOpen(n.answerLoads))
	n.peers.handle(methodRoom, n.whenOpen(n.answerRoom))
	n.peers.handle(methodWarm, n.whenOpen(n.answerWarm))
	n.peers.handle(methodMoves, n.whenOpen(n.answerMoves))
	n.peers.handle(methodRouting, n.whenOpen(n.answerRouting))
	n.peers.handle(methodSearch, n.whenOpen(n.answerSearch))
	n.peers.handle(methodSearchTurn, n.whenOpen(n.answerSearchTurn))
	n.peers.handle(methodKeyUses, n.whenOpen(n.answerKeyUses))
	n.peers.handle(methodShares, n.whenOpen(n.answerShares))
	n.registerVerbs()
	switch {
	case n.id.Joining && n.opts.Join == "":
		return errs.New(errs.FailedPrecondition, "the node has begun to join a cluster").
			WithHint("start it with --join and a token, or with an empty directory")
	case n.id.Joining:
		err = n.join(ctx)
	case n.opts.Join != "":
		err = n.checkJoined(ctx)
	}
	if err == nil {
		err = n.checkIn(ctx)
	}
	if err == nil && n.id.Meta.State == replicaLost {
		err = n.rejoinMeta(ctx)
	}
	n.hints = make(leaderHints, maxShardIDs)
	setDefault(&n.opts.RaftTick, tickFor(n.id.Shards))
	return err
}

// newPeers makes links of the kind that the options ask for.
func (n *Node) newPeers() (peers, error) {
	switch {
	case n.opts.network != nil:
		return n.opts.network(n.id.NodeID), nil
	case n.opts.PeerListen == "":
		return loopback{raft.ServerID(n.id.NodeID)}, nil
	}
	p, err := openPeers(&n.opts, n.id.NodeID, n.clusterName, n.resolve, n.links)
	if err != nil {
		return nil, err // not p: an interface that holds nil is not nil
	}
	return p, nil
}

// resolve finds out where a node is reached.
func (n *Node) resolve(node string) (addr string, ok bool) {
	if n.opened.Load() {
		if m, known := n.meta.state().member(node); known && m.address != "" {
			return m.address, true
		}
	}
	addr = n.book.address(node)
	return addr, addr != ""
}

// silentAfter is how long a node does not answer raft before it is told of.
const silentAfter = 2 * time.Second

// isMember reports whether a node is one of the cluster, as far as this one knows.
func (n *Node) isMember(node string) bool {
	_, ok := n.resolve(node)
	return ok
}

// clusterName is what peers must name; empty while the node has not joined.
func (n *Node) clusterName() string { return *n.cluster.Load() }

// whenOpen refuses calls that come before the node can answer them.
func (n *Node) whenOpen(h handler) handler {
	return func(ctx context.Context, from string, request, dst []byte) ([]byte, error) {
		if !n.opened.Load() {
			return dst, errs.New(errs.Unavailable, "node %s is starting", n.id.NodeID).WithRetryAfter(retryLeader)
		}
		return h(ctx, from, request, dst)
	}
}

// openGroups opens the metadata plane and all replicas at once: each has files to make or to recover.
func (n *Node) openGroups() error {
	var g errgroup.Group
	var mu sync.Mutex
	g.Go(func() (err error) {
		o := n.groupOptions(metaName)
		o.create, o.begins = o.create || n.id.Meta.State == replicaMaking, n.id.Meta.begins()
		n.meta, err = openMeta(n.opts.Dir, o, n.opts.decided)
		return err
	})
	for id, i := range n.id.replicas() {
		g.Go(func() error {
			dir := shardDir(n.opts.Dir, id, i.Number)
			switch i.State {
			case replicaGone:
				return removeReplica(n.opts.disk, dir)
			case replicaLost:
				return nil
			}
			if err := removeOldIncarnations(n.opts.disk, n.opts.Dir, id, i.Number); err != nil {
				return err
			}
			o := n.groupOptions(shardName(id))
			o.create = o.create || i.State == replicaMaking || i.State == replicaFounding
			o.learner, o.begins = o.learner && i.State != replicaFounding, i.begins()
			sh, err := openShard(n.ctx, n.engine, id, dir, o)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			n.local.put(id, sh)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return n.noteMade()
}

// noteMade notes the replicas that a crash had left half made and that are whole now: from here on, one without files has
// lost them.
func (n *Node) noteMade() error {
	for id := range n.replicas() { // any order: the last note has them all
		if i := n.id.Replicas[id]; i.State == replicaMaking || i.State == replicaFounding {
			if err := n.noteReplica(id, i.as(replicaOpen)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *Node) groupOptions(name string) groupOptions {
	return groupOptions{
		name: name, identity: n.id.ClusterID + "/" + name, node: raft.ServerID(n.id.NodeID), create: !n.id.Complete,
		learner: n.id.Replicas != nil, ctx: n.ctx, call: n.peers.call,
		disk: n.opts.disk, tick: n.opts.RaftTick, segmentSize: n.opts.SegmentSize, transports: n.peers, links: n.links,
		fail: n.fail, append: n.metrics.appendSeconds(name), grown: n.trimmer.wake, applied: n.opts.applied,
		logger: n.logger,
	}
}

// link lets other nodes in. A node that may have promised a leader not to elect another, and has forgotten that, stays deaf
// for as long as the promise may hold (see lease).
func (n *Node) link(ctx context.Context, started time.Time) error {
	n.loads = newShardLoads(n)
	n.meta.creator = newTenantCreator(n.ctx, n.loads.place, n.changeMeta)
	n.verifier = &verifier{node: n, logger: n.logger}
	n.healthWatch = &healthWatch{node: n, logger: n.logger}
	n.aligner = newAligner(n.meta.state, n.replicas, n.logger)
	n.taker = newCheckpointTaker(n)
	n.checkpoints = newCheckpointServer(n.id.ClusterID, n.replica, n.taker.note, n.opts.CheckpointRate, n.logger)
	n.leaving = newMoveSource(n.opts.MoveRate, n.logger)
	n.mover = newMover(n)
	n.opened.Store(true)
	for _, g := range n.groups() {
		if g.sole.Load() {
			continue
		}
		select {
		case <-time.After(time.Until(started.Add(g.opts.lease()))):
		case <-ctx.Done():
			return ctx.Err()
		}
		break
	}
	return n.peers.start()
}

// awaitReady waits for leaders, lays out a new cluster, starts what runs in the background and finishes what a crash
// interrupted.
func (n *Node) awaitReady(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, group := range n.groups() {
		if group.sole.Load() {
			g.Go(func() error { return group.awaitLeader(gctx) })
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := n.awaitMeta(ctx); err != nil {
		return err
	}
	n.background.Go(n.meta.creator.run)
	n.background.Go(func() { n.loads.run(n.ctx) })
	n.background.Go(func() { newPurger(n).run(n.ctx) })
	n.background.Go(func() { n.verifier.run(n.ctx) })
	n.background.Go(func() { n.healthWatch.run(n.ctx) })
	n.background.Go(func() { newBalancer(n).loop(n.ctx) })
	n.background.Go(func() { n.mover.run(n.ctx) })
	n.background.Go(func() { n.trimmer.run(n.ctx) })
	n.usage.start()
	dog := &watchdog{groups: n.groups, alone: func() bool { return n.meta.state().alone() }, fail: n.fail, logger: n.logger}
	n.background.Go(func() { dog.run(n.ctx) })
	silent := &elector{groups: n.groups, every: n.opts.RaftTick / 8}
	n.background.Go(func() { silent.run(n.ctx) })
	if err := n.aligner.begin(ctx); err != nil {
		return err
	}
	n.background.Go(func() { n.aligner.run(n.ctx) })
	return nil
}

// awaitMeta waits until this node knows the metadata plane's state, and lays out a new cluster.
func (n *Node) awaitMeta(ctx context.Context) error {
	if n.meta.group.sole.Load() {
		if err := n.meta.init(ctx, n.id.ClusterID, n.id.Shards, n.opts.Placement); err != nil {
			return err
		}
		return errors.Join(n.recount(), n.register(ctx), n.setReplication(ctx))
	}
	if err := n.freshMeta(ctx); err != nil {
		if s := n.meta.state(); s.clusterID == "" || errs.Is(err, errs.FailedPrecondition) {
			return err
		}
		// There is no leader to be found: serve what is known.
		n.logger.Warn("the metadata plane cannot be reached, starting with what was known", "err", err)
	}
	return checkCluster(n.meta.state(), n.id.ClusterID)
}

// metaPatience is how long a member waits for the metadata plane before it starts with what it knew; one that knows
// nothing waits for ever.
const metaPatience = 5 * time.Second

// freshMeta waits until the metadata plane's leader knows where this node is, and this node what that leader knew.
func (n *Node) freshMeta(ctx context.Context) error {
	patience := time.After(metaPatience)
	for {
		err := n.announce(ctx)
		if errs.Is(err, errs.FailedPrecondition) {
			return err
		}
		if err = n.Refresh(ctx); err == nil {
			err = n.register(ctx)
		}
		if err == nil || !errs.Is(err, errs.Unavailable) {
			return err
		}
		select {
		case <-patience:
			if n.meta.state().clusterID != "" {
				return err
			}
		case <-time.After(retryLeader / 10):
		case <-n.fail.done():
			return n.fail.Cause()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// manage starts what brings nodes and replicas to what is wanted.
func (n *Node) manage() {
	c, w := newReconciler(n), newSteward(n)
	n.managing.Go(func() { c.run(n.ctx) })
	n.managing.Go(func() { w.run(n.ctx) })
	n.managing.Go(func() { n.keepKeyUses(n.ctx) })
}

// Close flushes and stops everything, shards first. Other calls must have ended, or the engine closes under their
// hands; writes that nobody waits for any more are waited for. It may be called more than once.
func (n *Node) Close() error {
	n.closing.Do(func() { n.closeErr = n.close() })
	return n.closeErr
}

// close stops in this order: the counting of usage, which writes down what is left; what opens and closes groups; the links, whose handlers use all the rest; proposals, which
// would never be answered once raft has ended; raft before the logs it writes to; the engine after raft, which calls
// it, and flushes; the lock goes last.
func (n *Node) close() error {
	if n.usage != nil {
		n.usage.close()
	}
	n.cancel() // no new snapshot, no flush on behalf of one
	n.managing.Wait()
	if n.opened.Load() {
		n.saveKeyUses()
	}
	if n.taker != nil {
		n.taker.close()
	}
	n.handOver()
	var err error
	if n.peers != nil {
		err = n.peers.close()
	}
	if n.checkpoints != nil {
		n.checkpoints.close()
	}
	if n.leaving != nil {
		n.leaving.close()
	}
	groups := n.groups()
	stopped := make([]raft.Future, len(groups))
	var wg sync.WaitGroup
	for i, g := range groups {
		wg.Go(func() { stopped[i] = g.beginShutdown() })
	}
	wg.Wait()
	for i, g := range groups {
		err = errors.Join(err, stopped[i].Error(), g.log.Close())
	}
	n.background.Wait()
	if n.trail != nil {
		err = errors.Join(err, n.trail.Close())
	}
	if n.engine != nil {
		err = errors.Join(err, n.engine.Close())
	}
	if n.metrics != nil {
		n.metrics.close()
	}
	if n.lock != nil {
		err = errors.Join(err, n.lock.Close())
	}
	return err
}

// allCommitted reports whether a majority has all of this leader's log. Else a transfer may wait for a replica that is gone,
// in a goroutine that never ends (hashicorp/raft #696).
func (g *group) allCommitted() bool { return g.raft().CommitIndex() == g.raft().LastIndex() }

// handOver gives the groups that this node leads to others, which spares them the wait until it is missed.
func (n *Node) handOver() {
	if n.fail.Cause() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), n.opts.RaftTick)
	defer cancel()
	var wg sync.WaitGroup
	for _, g := range n.groups() {
		if g.leads() && !g.sole.Load() && g.allCommitted() {
			wg.Go(func() { _ = g.transfer(ctx, "") })
		}
	}
	wg.Wait()
}
