package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// checkpointTaker gets the checkpoints that leaders offer to replicas of this node. Transfers run in the background; the
// reconciler begins them and puts what they have brought into the replicas' places, since it alone opens and closes these.
type checkpointTaker struct {
	node    *Node
	fetcher *checkpointFetcher
	logger  *slog.Logger

	mu      sync.Mutex
	closed  bool
	offers  map[uint16]offer
	running map[uint16]*transferRun
	ready   map[uint16]*stagedReplica
	work    sync.WaitGroup
}

// offer is a leader's word that its log does not reach back to a replica.
type offer struct {
	from  string
	least uint64 // the entry that a checkpoint must reach
}

// sourcePatience is how long the node that a checkpoint comes from may say nothing when another offers one, too. A source
// that has been cut off may otherwise be waited for until openPatience is over, while the group needs this replica.
const sourcePatience = 10 * time.Second

// transferRun is a transfer under way.
type transferRun struct {
	from  string
	stop  context.CancelFunc
	heard atomic.Int64 // when the source last answered, or the transfer began, in ns since 1970
}

func newTransferRun(from string, stop context.CancelFunc) *transferRun {
	r := &transferRun{from: from, stop: stop}
	r.note()
	return r
}

func (r *transferRun) note() { r.heard.Store(time.Now().UnixNano()) }

// outdone reports whether the offer of another node is better than waiting on.
func (r *transferRun) outdone(o offer) bool {
	return r.from != o.from && time.Since(time.Unix(0, r.heard.Load())) > sourcePatience
}

func newCheckpointTaker(n *Node) *checkpointTaker {
	return &checkpointTaker{
		node: n, fetcher: newCheckpointFetcher(n.id.ClusterID, n.opts.disk, n.peers, n.opts.DiskReserve), logger: n.logger,
		offers: map[uint16]offer{}, running: map[uint16]*transferRun{}, ready: map[uint16]*stagedReplica{},
	}
}

// answerCheckpoint serves methodCheckpoint.
func (n *Node) answerCheckpoint(ctx context.Context, from string, request, dst []byte) ([]byte, error) {
	if err := n.checkCaller(from); err != nil {
		return dst, err
	}
	return n.checkpoints.answer(ctx, from, request, dst)
}

// note remembers an offer until the reconciler comes by. The latest one counts.
func (t *checkpointTaker) note(id uint16, o offer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.offers[id] = o
}

// openedMarker is what raft reads a marker by. It knows the place in memory where raft looks up, after it has sent the
// marker to a replica, from which entry on that replica gets the log.
type openedMarker struct {
	io.ReadCloser
	meta *raft.SnapshotMeta
}

// offerCheckpoint takes the place of sending a marker, which is what raft does for a replica that the log does not reach
// back to. If the replica stands at a marker of its own that the log does reach, it has got its checkpoint, and raft is
// told that it was installed, with that place: by itself raft would never again look where the replica is, and a marker
// of this node's is never just where that one's is. Else the replica notes the offer, and raft asks again.
func (g *group) offerCheckpoint(node string, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	first, err := g.log.FirstIndex()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(g.opts.ctx, g.opts.tick)
	defer cancel()
	least := min(max(first, 1), args.LastLogIndex) // the entry before the next one is looked up in the log, or is the marker's
	request := codec.AppendUvarint(codec.AppendUvarint([]byte{checkpointOffer}, uint64(g.opts.shard)), least)
	b, err := g.opts.call(ctx, node, methodCheckpoint, request, nil)
	if err != nil {
		return err
	}
	r := codec.NewReader(b)
	at, term := r.Uvarint(), r.Uvarint()
	if err := r.Done(); err != nil {
		return err
	}
	if at == 0 {
		g.behind.Store(node, true)
		return errs.New(errs.FailedPrecondition, "node %s needs a checkpoint of %s: the log does not reach back far enough", node, g.name)
	}
	g.behind.Delete(node)
	if resp.Term = max(term, args.Term); term <= args.Term {
		data.(*openedMarker).meta.Index = at
		resp.Success = true
	}
	return nil
}

// forget drops an offer that was made to the replica before the present one.
func (t *checkpointTaker) forget(id uint16) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.offers, id)
}

// step begins the transfers that were offered and puts those that have ended into place.
func (t *checkpointTaker) step(ctx context.Context) error {
	t.mu.Lock()
	ready, offers := t.ready, t.offers
	t.ready, t.offers = map[uint16]*stagedReplica{}, map[uint16]offer{}
	t.mu.Unlock()
	var errAll error
	for _, id := range slices.Sorted(maps.Keys(ready)) {
		errAll = errors.Join(errAll, t.node.adopt(ctx, id, ready[id]))
		t.forget(id)
	}
	for id, o := range offers {
		if sh := t.node.replica(id); sh != nil && ready[id] == nil {
			t.begin(sh, o)
		}
	}
	return errAll
}

// begin starts a transfer into the next incarnation of a replica, unless one is under way. One whose source is silent while
// another node offers a checkpoint is given up, and the next offer taken.
func (t *checkpointTaker) begin(sh *shard, o offer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if run := t.running[sh.id]; run != nil && run.outdone(o) {
		t.logger.Warn("the node that a checkpoint comes from does not answer, another offers one", "shard", sh.id, "node", run.from, "other", o.from)
		run.stop()
	}
	if t.closed || t.running[sh.id] != nil {
		return
	}
	ctx, stop := context.WithCancel(t.node.ctx)
	run := newTransferRun(o.from, stop)
	t.running[sh.id] = run
	number := t.node.id.replicas()[sh.id].Number + 1
	t.work.Go(func() {
		defer stop()
		r, err := t.take(ctx, sh, o, number, run)
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.running, sh.id)
		if err == nil {
			t.ready[sh.id] = r
		} else if t.node.ctx.Err() == nil {
			t.logger.Warn("fetching a checkpoint failed, it goes on with the next offer", "shard", sh.id, "node", o.from, "err", err)
		}
	})
}

// take fetches a checkpoint and makes it a directory that only has to be named in node.json.
func (t *checkpointTaker) take(ctx context.Context, sh *shard, o offer, number uint64, run *transferRun) (*stagedReplica, error) {
	n, fetcher := t.node, *t.fetcher
	fetcher.heard = run.note
	t.logger.Info("fetching a checkpoint", "shard", sh.id, "node", o.from, "index", o.least)
	r, err := fetcher.fetch(ctx, o.from, sh.id, o.least, stagingDir(n.opts.Dir, sh.id, number), func(m *checkpointMark) error { return m.supersedes(sh) })
	if err != nil {
		return nil, err
	}
	h, err := readHardState(sh.group.log)
	if err != nil {
		return nil, err
	}
	dir := shardDir(n.opts.Dir, sh.id, number)
	if err := removeReplica(n.opts.disk, dir); err != nil { // installed, and not named before a crash
		return nil, err
	}
	r.number = number
	return r, r.install(ctx, n.replicaOptions(sh.id), h, dir)
}

// replicaOptions are those of a replica that is there.
func (n *Node) replicaOptions(id uint16) groupOptions {
	o := n.groupOptions(shardName(id))
	o.create = false
	return o
}

// adopt puts an installed checkpoint into its replica's place: the old one votes until here, and from its last word on the
// new one does. The commit point is node.json. An error after the old one has stopped poisons the node, which then starts
// from whichever of the two is named.
func (n *Node) adopt(ctx context.Context, id uint16, r *stagedReplica) error {
	sh := n.replica(id)
	if sh == nil || n.id.replicas()[id].Number+1 != r.number {
		return nil // closed meanwhile; the next start removes the directory
	}
	if err := sh.group.beginShutdown().Error(); err != nil {
		return err
	}
	if err := r.mark.supersedes(sh); err != nil {
		return errors.Join(err, sh.group.resume())
	}
	err := n.replace(ctx, sh, r)
	if err != nil {
		n.fail.Poison(fmt.Errorf("put a checkpoint into the place of %s: %w", sh.group.name, err))
	}
	return err
}

func (n *Node) replace(ctx context.Context, sh *shard, r *stagedReplica) error {
	h, err := readHardState(sh.group.log)
	if err := errors.Join(err, sh.group.log.Close()); err != nil {
		return err
	}
	old, dir := n.id.replicas()[sh.id].Number, shardDir(n.opts.Dir, sh.id, r.number)
	o := n.replicaOptions(sh.id)
	o.dir = raftDir(dir)
	if err := noteHardState(o, h); err != nil {
		return err
	}
	if err := n.noteReplica(sh.id, incarnation{Number: r.number, State: replicaOpen}); err != nil {
		return err
	}
	if err := sleep(ctx, o.lease()); err != nil {
		return nil // the node is closing, and its next start opens the new replica
	}
	next, err := openShard(n.ctx, n.engine, sh.id, dir, o)
	if err != nil {
		return err
	}
	n.local.put(sh.id, next)
	n.logger.Info("replica continues from a checkpoint", "shard", sh.id, "index", r.mark.index)
	n.retire(sh, shardDir(n.opts.Dir, sh.id, old))
	return nil
}

// close waits for the transfers, whose context has ended.
func (t *checkpointTaker) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.work.Wait()
}
