// Package cluster owns where things live and how they are agreed on: the metadata plane (a raft group that knows
// indexes, tenants, keys and the ring), the shard groups with their logs, and the way from a tenant's name to the
// shard that answers.
//
// It promises that a write is acknowledged only after it is committed to its shard's log, synced and applied; that
// the log is the only write-ahead log and bounded in bytes; that a lookup of a tenant touches memory alone; and that
// after the first failed write or sync of a store nothing is acknowledged any more (Failed). internal/api calls it,
// cmd/croft opens it. It never looks into a vector or a filter, which is the engine's business, and asks nobody
// whether a caller may do what he asks, which is tenancy's.
//
// DESIGN.md beside this file argues; docs/format/log.md and docs/format/meta.md describe what is on disk.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/vfs"
)

// DefaultNamespace is the tenant that requests without a namespace mean.
const DefaultNamespace = "__default__"

// Node is one process's part of the cluster: a replica of the metadata plane and of its shards.
//
// options.go, identity.go: what a node is told and what it remembers. meta*.go, state*.go: the metadata plane.
// ring.go, router.go: from a tenant to its shard. group.go, log*.go, fsm*.go, trim.go: raft groups and their logs.
// records.go, namespaces.go, indexes.go, keys.go: what callers ask for.
type Node struct {
	opts    Options
	id      identity
	logger  *slog.Logger
	lock    io.Closer
	fail    *failure
	disk    *diskGuard
	metrics *metrics

	engine  *engine.Engine
	meta    *metaPlane
	local   *replicaSet
	hints   leaderHints
	peers   peers
	trimmer *trimmer
	aligner *aligner

	refresher refresher

	ctx        context.Context // of all that runs in the background
	cancel     context.CancelFunc
	opened     atomic.Bool // all groups are there; what follows only reads them
	background sync.WaitGroup
	closing    sync.Once
	closeErr   error
}

// Open starts the node in opts.Dir and returns when the metadata plane and all shards have a leader and have
// applied their logs. FailedPrecondition: another process uses the directory; Corrupt: what is in it cannot be
// trusted.
func Open(ctx context.Context, opts Options) (_ *Node, err error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	n := &Node{opts: opts, logger: opts.Logger, fail: newFailure(opts.Logger), local: newReplicaSet()}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open node in %s: %w", opts.Dir, err), n.Close())
		}
	}()
	if err := n.openDir(); err != nil {
		return nil, err
	}
	if n.metrics, err = newMetrics(n, opts.Registerer); err != nil {
		return nil, err
	}
	n.trimmer = newTrimmer(opts.LogRetain, n.groups, opts.Logger)
	if n.engine, err = engine.Open(opts.Engine); err != nil {
		return nil, err
	}
	if err := n.openGroups(); err != nil {
		return nil, err
	}
	n.opened.Store(true)
	if err := n.awaitReady(ctx); err != nil {
		return nil, err
	}
	return n, n.id.complete(opts.Dir)
}

// openDir takes the directory's lock and reads or draws the node's identity.
func (n *Node) openDir() (err error) {
	dir := n.opts.Dir
	if err := dataFS.MkdirAll(dir); err != nil {
		return err
	}
	if n.lock, err = dataFS.Lock(filepath.Join(dir, "LOCK")); err != nil {
		return err
	}
	n.disk = newDiskGuard(n.opts.DiskReserve, func() (uint64, error) { return dataFS.Free(dir) })
	if n.id, err = loadIdentity(dir, n.opts.Shards); err != nil {
		return err
	}
	n.hints = make(leaderHints, n.id.Shards)
	n.peers = newAlone(n.id.NodeID)
	n.registerVerbs()
	return nil
}

// dataFS is the disk of the data directory.
var dataFS = vfs.OS()

// openGroups opens the metadata plane and all shards at once: each has files to make or to recover.
func (n *Node) openGroups() error {
	var g errgroup.Group
	g.Go(func() (err error) {
		o := n.groupOptions(metaName)
		n.meta, err = openMeta(n.opts.Dir, o)
		return err
	})
	shards := make([]*shard, n.id.Shards)
	for i := range shards {
		g.Go(func() (err error) {
			id := uint16(i)
			shards[i], err = openShard(n.ctx, n.engine, id, shardDir(n.opts.Dir, id, 1), n.groupOptions(shardName(id)))
			return err
		})
	}
	err := g.Wait()
	for i, s := range shards {
		if s != nil {
			n.local.put(uint16(i), s)
		}
	}
	return err
}

func (n *Node) groupOptions(name string) groupOptions {
	return groupOptions{
		name: name, identity: n.id.ClusterID + "/" + name, node: raft.ServerID(n.id.NodeID), create: !n.id.Complete,
		tick: n.opts.RaftTick, segmentSize: n.opts.SegmentSize, transports: n.peers,
		fail: n.fail, append: n.metrics.appendSeconds(name), grown: n.trimmer.wake, logger: n.logger,
	}
}

// awaitReady waits for leaders, lays out a new cluster, starts what runs in the background and finishes what a crash
// interrupted.
func (n *Node) awaitReady(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, group := range n.groups() {
		g.Go(func() error { return group.awaitLeader(gctx) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := n.meta.init(ctx, n.id.ClusterID, n.id.Shards); err != nil {
		return err
	}
	if err := n.register(ctx); err != nil {
		return err
	}
	n.meta.creator = newTenantCreator(n.ctx, n.changeMeta)
	n.background.Go(n.meta.creator.run)
	n.aligner = newAligner(n.meta.state, n.replicas, n.logger)
	n.background.Go(func() { n.trimmer.run(n.ctx) })
	dog := &watchdog{groups: n.groups, alone: func() bool { return n.meta.state().alone() }, fail: n.fail, logger: n.logger}
	n.background.Go(func() { dog.run(n.ctx) })
	if err := n.aligner.alignAll(ctx); err != nil {
		return err
	}
	n.background.Go(func() { n.aligner.run(n.ctx) })
	return nil
}

// groups returns every raft group of this node that is open, the metadata plane first.
func (n *Node) groups() []*group {
	var gs []*group
	if n.meta != nil {
		gs = append(gs, n.meta.group)
	}
	for _, s := range n.replicas().sorted() {
		gs = append(gs, s.group)
	}
	return gs
}

// Close flushes and stops everything, shards first. Other calls must have ended, or the engine closes under their
// hands; writes that nobody waits for any more are waited for. It may be called more than once.
func (n *Node) Close() error {
	n.closing.Do(func() { n.closeErr = n.close() })
	return n.closeErr
}

// close stops in this order: proposals end before raft does, or they would never be answered; raft ends before the
// logs it writes to; the engine ends after raft, which calls it, and flushes; the lock goes last.
func (n *Node) close() error {
	groups := n.groups()
	stopped := make([]raft.Future, len(groups))
	var wg sync.WaitGroup
	n.cancel() // no new snapshot, no flush on behalf of one
	for i, g := range groups {
		wg.Go(func() { stopped[i] = g.beginShutdown() })
	}
	wg.Wait()
	var err error
	for i, g := range groups {
		err = errors.Join(err, stopped[i].Error(), g.log.Close())
	}
	n.background.Wait()
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

// Failed is closed when a store of this node is poisoned; Failure tells why. The process must exit.
func (n *Node) Failed() <-chan struct{} { return n.fail.done() }

// Failure is the first fault that poisoned the node, nil while there is none.
func (n *Node) Failure() error { return n.fail.cause() }
