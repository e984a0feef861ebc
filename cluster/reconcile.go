package cluster

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/longlock"
	"github.com/croftdb/croft/internal/vfs"
)

const (
	// changesAtOnce bounds the groups whose configuration a node changes at the same time.
	changesAtOnce = 8
	// retireAfter is how long a replica that was closed is kept for the reads that still hold it. No request lives as long.
	retireAfter = 2 * time.Minute
	// handEvery is the least time between two transfers of a shard's leadership, in election timeouts.
	handEvery = 10
)

// reconciler brings what this node has to what the metadata plane wants: its replicas, and the configuration and the
// leader of the groups that it leads. It compares anew with each look, so whatever failed or was cut short is tried again.
type reconciler struct {
	node   *Node
	pace   time.Duration
	logger *slog.Logger

	led    map[uint16]bool      // shards that were led at the last look
	told   uint64               // state.indexesAt of the last look
	epoch  uint64               // of a node alone: that of the last look
	handed map[uint16]time.Time // when leadership of a shard was last handed on
}

func newReconciler(n *Node) *reconciler {
	return &reconciler{
		node: n, pace: n.opts.pace(), logger: n.logger, led: map[uint16]bool{}, handed: map[uint16]time.Time{},
	}
}

// run looks when the metadata plane changes and, unless the node is alone, at its pace.
func (c *reconciler) run(ctx context.Context) {
	for n := c.node; ; {
		s := n.meta.state()
		var tick <-chan time.Time
		var grown <-chan struct{}
		if s.alone() && n.meta.group.sole.Load() {
			grown = s.superseded
			c.warn(ctx, c.stepAlone(ctx, s))
		} else {
			tick = time.After(c.pace)
			c.warn(ctx, c.step(ctx, s))
		}
		select {
		case <-tick:
		case <-grown:
		case <-ctx.Done():
			return
		}
	}
}

func (c *reconciler) warn(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		c.logger.Warn("bringing replicas to what is wanted failed, it goes on", "err", err)
	}
}

// stepAlone looks whether shards have been added or taken out: nothing else is up to a node that has no other.
func (c *reconciler) stepAlone(ctx context.Context, s *state) error {
	if s.epoch == c.epoch {
		return nil
	}
	err := errors.Join(c.openWanted(ctx, s), c.closeUnwanted(ctx, s))
	if err == nil {
		c.epoch = s.epoch
		c.node.aligner.wake() // a new shard knows no indexes
	}
	return err
}

// step looks once.
func (c *reconciler) step(ctx context.Context, s *state) error {
	if s.clusterID == "" {
		return nil // nothing is known yet
	}
	n := c.node
	return errors.Join(
		n.book.noteMembers(s),
		n.register(ctx),
		c.openWanted(ctx, s),
		c.closeUnwanted(ctx, s),
		c.settle(ctx, s),
		n.taker.step(ctx),
	)
}

// openWanted opens the replicas that are wanted here.
func (c *reconciler) openWanted(ctx context.Context, s *state) error {
	var errAll error
	for _, p := range s.placed {
		if slices.Contains(p.replicas, c.node.id.NodeID) && c.node.replica(p.shard) == nil {
			c.logger.Info("opening replica", "shard", p.shard)
			errAll = errors.Join(errAll, c.node.openReplica(ctx, s, p.shard))
		}
	}
	return errAll
}

// closeUnwanted closes the replicas that are not wanted here, once their group does without them, and those of shards that
// were taken out.
func (c *reconciler) closeUnwanted(ctx context.Context, s *state) error {
	n := c.node
	var errAll error
	for _, sh := range n.replicas().sorted() {
		wanted := s.replicas(sh.id)
		if s.removedShard(sh.id) {
			c.logger.Info("closing replica of a shard that was taken out", "shard", sh.id)
			errAll = errors.Join(errAll, n.closeReplica(sh))
			continue
		}
		if len(wanted) == 0 || slices.Contains(wanted, n.id.NodeID) {
			continue
		}
		for _, st := range n.statuses(ctx, wanted, statusRequest{Shards: []uint16{sh.id}}) {
			g, ok := st.shard(sh.id)
			if ok && g.without(n.id.NodeID) {
				c.logger.Info("closing replica", "shard", sh.id)
				errAll = errors.Join(errAll, n.closeReplica(sh))
			}
		}
	}
	return errAll
}

// settle takes the next step for each group led here that is not as wanted.
func (c *reconciler) settle(ctx context.Context, s *state) error {
	var due []*shard
	for _, sh := range c.node.replicas().sorted() {
		leads := sh.group.leads()
		if leads && !c.led[sh.id] {
			c.node.aligner.wake()   // the leader before may not have got round to it
			sh.group.behind.Clear() // what an earlier term of this leader's has found out
			sh.group.lost.Clear()   // who is still lost will say so again
		}
		c.led[sh.id] = leads
		if leads && !c.asWanted(s, sh) {
			due = append(due, sh)
		}
	}
	if s.indexesAt != c.told {
		c.told = s.indexesAt
		c.node.aligner.wake()
	}
	var g errgroup.Group // what fails for one group ends nothing of the others
	g.SetLimit(changesAtOnce)
	g.Go(func() error { return c.unstick(ctx) })
	if len(due) > 0 {
		all := c.ask(ctx, s, due)
		var handing longlock.Mutex // one leadership at a time, so that not all of a node's shards pause at once
		for _, sh := range due {
			g.Go(func() error { return c.change(ctx, s, sh, all, &handing) })
		}
	}
	return g.Wait()
}

// asWanted reports whether a group led here has the wanted voters and leader, and nobody whom its log cannot help.
func (c *reconciler) asWanted(s *state, sh *shard) bool {
	wanted := s.replicas(sh.id)
	st := sh.group.status()
	return len(wanted) == 0 || settled(&st, wanted) && wanted[0] == c.node.id.NodeID && len(st.Behind) == 0 && len(st.Lost) == 0
}

// ask gets the status of all replicas of some shards, those that are wanted and those that are there.
func (c *reconciler) ask(ctx context.Context, s *state, due []*shard) map[string]*nodeStatus {
	var nodes []string
	var req statusRequest
	for _, sh := range due {
		req.Shards = append(req.Shards, sh.id)
		st := sh.group.status()
		nodes = slices.Concat(nodes, s.replicas(sh.id), st.Voters, st.Learners)
	}
	slices.Sort(nodes)
	return c.node.statuses(ctx, slices.Compact(nodes), req)
}

// change takes one group's next step.
func (c *reconciler) change(ctx context.Context, s *state, sh *shard, all map[string]*nodeStatus, handing *longlock.Mutex) error {
	now := situation{self: c.node.id.NodeID, wanted: s.replicas(sh.id), own: sh.group.status(), others: map[string]groupStatus{}}
	for id, st := range all {
		if g, ok := st.shard(sh.id); ok && id != now.self {
			now.others[id] = g
		}
	}
	for _, node := range now.own.Behind { // those that are members are struck off when they have their checkpoint
		if !slices.Contains(slices.Concat(now.own.Voters, now.own.Learners), node) {
			sh.group.behind.Delete(node)
		}
	}
	sh.group.found(&now.own)
	next := now.next()
	if next.op == changeTransfer {
		handing.Lock()
		defer handing.Unlock()
		if !c.mayHand(sh) {
			return nil
		}
	}
	if next.op > changeWait {
		c.logger.Info("changing group", "shard", sh.id, "change", next.op.String(), "node", next.node)
	}
	return sh.group.carryOut(ctx, next)
}

// mayHand bounds how often a shard changes its leader on purpose.
func (c *reconciler) mayHand(sh *shard) bool {
	if time.Since(c.handed[sh.id]) < handEvery*c.node.opts.RaftTick {
		return false
	}
	c.handed[sh.id] = time.Now()
	return true
}

// unstick restarts the raft instances that a transfer of leadership has left refusing all writes.
func (c *reconciler) unstick(ctx context.Context) error {
	var errAll error
	for _, g := range c.node.groups() {
		if g.stuck(ctx) {
			errAll = errors.Join(errAll, g.restart())
		}
	}
	return errAll
}

// openReplica opens a new incarnation of a shard's replica, with an empty log for the leader to fill; or the first of all, of
// a shard that this node founds. It is noted before its directory is made, so that a start finds what a crash left. In the place
// of an earlier one it begins only with the group's leave.
func (n *Node) openReplica(ctx context.Context, s *state, id uint16) error {
	i := n.id.replicas()[id]
	if i.State != replicaMaking && i.State != replicaFounding {
		next, err := n.nextIncarnation(ctx, s, id, i)
		if err != nil {
			return err
		}
		i = next
		if err := n.noteReplica(id, i); err != nil {
			return err
		}
	}
	o := n.groupOptions(shardName(id))
	o.create, o.learner, o.begins = true, i.State != replicaFounding, i.begins()
	sh, err := openShard(n.ctx, n.engine, id, shardDir(n.opts.Dir, id, i.Number), o)
	if err != nil {
		return err
	}
	if !o.learner {
		err = sh.group.awaitLeader(ctx) // it elects itself at once
	}
	n.local.put(id, sh)
	return errors.Join(err, n.noteReplica(id, i.as(replicaOpen)))
}

// nextIncarnation is what follows a replica that was closed, was lost, or has never been.
func (n *Node) nextIncarnation(ctx context.Context, s *state, id uint16, last incarnation) (incarnation, error) {
	next := incarnation{Number: last.Number + 1, State: replicaMaking}
	if last.Number > 0 {
		leave, err := n.rejoin(ctx, shardName(id), append([]string{n.leaderOf(id)}, s.replicas(id)...))
		next.Term, next.Leader, next.Floor = leave.Term, leave.Leader, leave.Floor
		return next, err
	}
	if d, ok := s.dedicatedShard(id); ok && d.founder == n.id.NodeID && next.Number == 1 {
		next.State = replicaFounding
	}
	return next, nil
}

func (n *Node) noteReplica(id uint16, i incarnation) error {
	next := n.id.with(id, i)
	if err := next.save(n.opts.disk, n.opts.Dir); err != nil {
		return err
	}
	n.id.Replicas = next.Replicas
	return nil
}

// closeReplica stops a replica for good. Its engine and its files stay for a while, for reads under way.
func (n *Node) closeReplica(sh *shard) error {
	i := n.id.replicas()[sh.id]
	if err := n.noteReplica(sh.id, i.as(replicaGone)); err != nil {
		return err
	}
	n.local.put(sh.id, nil)
	err := errors.Join(sh.group.beginShutdown().Error(), sh.group.log.Close())
	n.retire(sh, shardDir(n.opts.Dir, sh.id, i.Number))
	return errs.Wrap(errs.KindOf(err), err, "close replica of shard %d", sh.id)
}

// retire closes the engine of a replica that was stopped, and removes its files, when nobody reads there any more.
func (n *Node) retire(sh *shard, dir string) {
	n.background.Go(func() {
		select {
		case <-time.After(retireAfter):
		case <-n.ctx.Done():
			return // the next start removes the files
		}
		if err := errors.Join(sh.engine.Close(), removeReplica(n.opts.disk, dir)); err != nil {
			n.logger.Warn("removing a replica's files failed, the next start tries again", "shard", sh.id, "err", err)
		}
	})
}

// removeReplica removes a replica's directory. It is renamed first: half a directory must not look like one.
func removeReplica(disk vfs.FS, dir string) error {
	aside := dir + ".gone"
	if err := disk.Rename(dir, aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return disk.RemoveAll(aside)
}
