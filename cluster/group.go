package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/croftdb/croft/cluster/internal/raftlog"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

// group is this node's replica of one raft group.
type group struct {
	name   string
	opts   groupOptions
	log    *raftlog.Log
	snaps  raft.SnapshotStore
	fail   *failure
	logger *slog.Logger

	instance    atomic.Pointer[raft.Raft] // replaced by restart
	reloading   sync.Mutex                // held while raft's settings are changed
	sole        atomic.Bool               // this node is the only voter; cleared before another gets a vote
	floor       atomic.Uint64             // entry that is lacking for elections, 0: none, see filled.go
	transferred atomic.Int64              // when leadership was last handed on, in nanoseconds since 1970; 0: settled since
	leases      leases
	standing    atomic.Pointer[standing] // while the leader is silent, see elector
	behind      sync.Map                 // nodes (string) that the log does not reach back to
	lost        sync.Map                 // nodes (string) that said that their replica is lost while they had a vote

	marked atomic.Uint64 // index of the newest snapshot
	quiet  atomic.Bool   // nothing is sent, see watchdog

	mu       sync.RWMutex // closed is set under it, proposals counted under its read side
	closed   bool
	inflight sync.WaitGroup // proposals that raft has not answered
}

type groupOptions struct {
	name        string
	disk        vfs.FS
	dir         string // holds log, stable store and snapshots
	identity    string // what the stable store must say it belongs to
	node        raft.ServerID
	create      bool      // the group may be new
	learner     bool      // a new one begins with an empty log and waits for a leader to fill it
	begins      hardState // of a new one that is a learner
	markers     bool      // snapshots hold no data, so they are not sent to other replicas
	shard       uint16
	ctx         context.Context
	call        func(ctx context.Context, to string, m method, request, dst []byte) ([]byte, error)
	restore     bool // load the newest snapshot into the state machine on start
	tick        time.Duration
	segmentSize int
	fsm         raft.FSM
	transports  transports
	links       *links
	fail        *failure
	append      raftlog.Observer
	grown       func()
	applied     func(appliedEntry)
	check       func(*group) error // last look before raft starts; may be nil
	logger      *slog.Logger
}

func (o *groupOptions) logOptions() raftlog.Options {
	return raftlog.Options{
		Disk: o.disk, Dir: o.dir, Name: o.name, SegmentSize: o.segmentSize, Fail: o.fail, Append: o.append, Grown: o.grown,
		Logger: raftLogger(o.logger, o.name),
	}
}

// retryLeader is the advice to a caller who found no leader: an election takes less.
const retryLeader = time.Second

// never is an interval for what raft shall not do by itself.
const never = 10 * 365 * 24 * time.Hour

// config deviates from raft's defaults where it says why.
func (o *groupOptions) config() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = o.node
	c.Logger = raftLogger(o.logger, o.name)
	// A leader steps down when it has heard of no majority for LeaderLeaseTimeout. Who reads has a lease of ours, so it may be as
	// long as raft allows: a shorter one takes followers whose disks are slow for gone, and another election for help.
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = o.tick, o.tick, o.tick
	c.CommitTimeout = o.commitTimeout()
	// Unbuffered: a proposal still in the buffer at shutdown would never be answered. Each proposal has a goroutine
	// of its own, so those that wait are group-committed all the same.
	c.BatchApplyCh = false
	c.MaxAppendEntries = 64
	c.ShutdownOnRemove = false // the reconciler closes what is not wanted
	c.NoLegacyTelemetry = true
	c.NoSnapshotRestoreOnStart = !o.restore
	// Snapshots are triggered by bytes, see trimmer; raft would count entries.
	c.SnapshotInterval, c.SnapshotThreshold, c.TrailingLogs = never, math.MaxUint64, math.MaxUint64
	// NotifyCh stays nil: raft blocks when it is not drained (Consul #6852).
	return c
}

// commitTimeout is how late an idle follower learns what is committed, up to twice; it costs a message per follower each time.
// Groups with a longer tick are many: there the messages of all of them count, see tickFor.
func (o *groupOptions) commitTimeout() time.Duration {
	if o.tick > shortTick && o.name != metaName {
		return o.tick / 4
	}
	return min(o.tick, 100*time.Millisecond)
}

// identityKey is where the stable store says to which replica it belongs.
var identityKey = []byte("croft/identity")

// openGroup starts the replica. It has no leader yet; see awaitLeader.
func openGroup(o groupOptions) (_ *group, err error) {
	log, err := raftlog.Open(o.logOptions())
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start %s: %w", o.name, err), log.Close())
		}
	}()
	g := &group{name: o.name, opts: o, log: log, fail: o.fail, logger: o.logger}
	if g.snaps, err = openSnapshots(o.disk, o.dir, raftLogger(o.logger, o.name)); err != nil {
		return nil, err
	}
	if err := g.bootstrap(&o); err != nil {
		return nil, err
	}
	if err := g.readMarker(); err != nil {
		return nil, err
	}
	if o.check != nil {
		if err := o.check(g); err != nil {
			return nil, err
		}
	}
	return g, g.run(&o)
}

// run starts a raft instance. A replica that is the only voter elects itself at once.
func (g *group) run(o *groupOptions) error {
	if err := g.readFloor(); err != nil {
		return err
	}
	r, err := startRaft(o, g)
	if err != nil {
		return err
	}
	g.instance.Store(r)
	g.noteFilled()
	if g.floor.Load() > 0 {
		return nil
	}
	return g.setSole(soleVoter(g.servers(), o.node))
}

// raft is the present instance.
func (g *group) raft() *raft.Raft { return g.instance.Load() }

// bootstrap makes a new group with this node as its only voter, or checks that an existing one is the one meant: a
// directory put in another's place, or one that lost its files, must not start to vote.
func (g *group) bootstrap(o *groupOptions) error {
	exists, err := raft.HasExistingState(g.log, g.log, g.snaps)
	if err != nil {
		return err
	}
	if !exists && !o.create {
		if heard, err := g.log.Get(identityKey); err == nil && string(heard) == o.identity {
			return nil // a learner that no leader has found yet
		}
		return errs.New(errs.Corrupt, "the raft state of %s in %s is gone", o.name, o.dir).WithHint(
			"a node of several: give up what is lost with `croft recover --data DIR --lost-replicas`, and the others fill it again; a node alone: restore the whole data directory from a backup")
	}
	if exists && !o.create {
		return g.checkIdentity(o)
	}
	if exists && o.learner {
		return errors.Join(g.checkIdentity(o), o.begins.write(g.log))
	}
	if exists {
		if half, err := g.halfBootstrapped(); err != nil || !half {
			return errors.Join(err, g.checkIdentity(o))
		}
	}
	if err := g.log.Set(identityKey, []byte(o.identity)); err != nil {
		return err
	}
	if o.learner {
		return o.begins.write(g.log)
	}
	// The address is the id: peers know where it is.
	servers := []raft.Server{{ID: o.node, Address: raft.ServerAddress(o.node)}}
	trans := loopback{o.node}.open(o.name) // only asked how to write an address
	return raft.BootstrapCluster(o.config(), g.log, g.log, g.snaps, trans, raft.Configuration{Servers: servers})
}

// halfBootstrapped reports whether a crash cut an earlier bootstrap short, between the term and the configuration
// entry, and takes the term back.
func (g *group) halfBootstrapped() (bool, error) {
	last, err := g.log.LastIndex()
	if err != nil || last > 0 {
		return false, err
	}
	return true, g.log.SetUint64([]byte("CurrentTerm"), 0) // raft's keyCurrentTerm
}

func (g *group) checkIdentity(o *groupOptions) error {
	got, err := g.log.Get(identityKey)
	if err != nil {
		return err
	}
	if string(got) != o.identity {
		return errs.New(errs.Corrupt, "%s belongs to %q, not to %q", o.dir, got, o.identity).
			WithHint("directories were swapped or copied from another node: put them back")
	}
	return nil
}

// startRaft calls raft.NewRaft, which reads the whole log, panics when it cannot, and on a poisoned store ends its
// goroutine (see raftlog.Store): so it gets one of its own.
func startRaft(o *groupOptions, g *group) (r *raft.Raft, err error) {
	trans := guardTransport(o, g)
	defer func() {
		if err != nil {
			err = errors.Join(err, trans.Close())
		}
	}()
	done := make(chan struct{})
	go func() {
		returned := false
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("raft did not start: %v", p)
			} else if !returned { // the store ended this goroutine
				err = g.fail.Cause()
			}
		}()
		store := g.log.ForRaft(g.snaps)
		c := o.config()
		if g.floor.Load() > 0 {
			c.HeartbeatTimeout, c.ElectionTimeout = never, never
		}
		r, err = raft.NewRaft(c, o.fsm, store, store, g.snaps, trans)
		returned = true
	}()
	<-done
	return r, err
}

// awaitLeader waits until this replica leads its group and has applied all that is in its log.
func (g *group) awaitLeader(ctx context.Context) error {
	for {
		err := g.barrier(ctx)
		if err == nil {
			return nil
		}
		if !errors.Is(err, raft.ErrNotLeader) && !errors.Is(err, raft.ErrLeadershipLost) {
			return errs.Wrap(errs.KindOf(err), err, "wait for a leader of %s", g.name)
		}
		select {
		case <-g.raft().LeaderCh():
		case <-g.fail.done():
			return g.fail.Cause()
		case <-ctx.Done():
			return errs.Wrap(errs.KindOf(ctx.Err()), ctx.Err(), "wait for a leader of %s", g.name)
		}
	}
}

func (g *group) barrier(ctx context.Context) error {
	_, err := g.await(ctx, func() (any, error) { return nil, g.raft().Barrier(0).Error() })
	return err
}

// leads reports whether this replica is the leader, by its own view.
func (g *group) leads() bool { return g.raft().State() == raft.Leader }

// propose commits cmd and returns what the state machine answered. Errors are of kind Unavailable when nothing was
// done, StorageFull when the log had no room, OutcomeUnknown when cmd may yet be committed.
func (g *group) propose(ctx context.Context, cmd []byte) (any, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	answer, err := g.await(ctx, func() (any, error) {
		f := g.raft().Apply(cmd, 0)
		if err := f.Error(); err != nil {
			return nil, err
		}
		return f.Response(), nil
	})
	if err != nil {
		return nil, g.proposalError(err)
	}
	if fault, ok := answer.(error); ok { // the only place where a state machine's fault is told from its answer
		return nil, errs.Wrap(errs.OutcomeUnknown, fault, "apply to %s", g.name)
	}
	return answer, nil
}

// await runs call, which waits for raft, until it returns, ctx ends or the node fails. raft's futures cannot be
// given up, so call goes on in its own goroutine until raft answers; shutdown waits for these.
func (g *group) await(ctx context.Context, call func() (any, error)) (any, error) {
	if err := g.begin(); err != nil {
		return nil, err
	}
	type result struct {
		answer any
		err    error
	}
	done := make(chan result, 1)
	go func() {
		defer g.inflight.Done()
		answer, err := call()
		done <- result{answer, err}
	}()
	select {
	case r := <-done:
		return r.answer, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-g.fail.done():
		return nil, g.fail.Cause()
	}
}

func (g *group) begin() error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.closed {
		return errs.New(errs.Unavailable, "%s is stopping", g.name)
	}
	if err := g.fail.Cause(); err != nil {
		return errs.Wrap(errs.Unavailable, err, "%s is stopping", g.name)
	}
	g.inflight.Add(1)
	return nil
}

// proposalError turns raft's answer to a proposal into one of ours. raft's own errors say nothing of whether the entry
// may still be committed; only those listed are given before it is in the log.
func (g *group) proposalError(err error) error {
	switch {
	case errs.Is(err, errs.StorageFull), errs.Is(err, errs.Unavailable):
		return err
	case errors.Is(err, raft.ErrNotLeader):
		return g.errNotLed()
	case errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return errs.New(errs.Unavailable, "%s has no leader here: %w", g.name, err).WithRetryAfter(retryLeader)
	}
	// ErrLeadershipLost, ErrRaftShutdown, a poisoned store, the end of the caller's patience.
	return errs.New(errs.OutcomeUnknown, "write to %s: %w", g.name, err).
		WithHint("the write may or may not have taken effect: read before repeating it")
}

// beginShutdown refuses new proposals, waits for those under way unless the node has failed, and stops raft.
func (g *group) beginShutdown() raft.Future {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	idle := make(chan struct{})
	go func() { g.inflight.Wait(); close(idle) }()
	select {
	case <-idle:
	case <-g.fail.done():
	}
	return g.raft().Shutdown()
}

// readMarker notes the index of the newest snapshot.
func (g *group) readMarker() error {
	snaps, err := g.snaps.List()
	if err == nil && len(snaps) > 0 {
		g.marked.Store(snaps[0].Index)
	}
	return err
}

// ready says what keeps the group from serving: it has no leader that this replica knows of.
func (g *group) ready() error {
	if g.leads() || g.leader() != "" {
		return nil
	}
	return errs.New(errs.Unavailable, "%s is %s", g.name, g.stateName())
}

// stateName is this replica's role in lower case.
func (g *group) stateName() string { return strings.ToLower(g.raft().State().String()) }

// leader is the node id of the leader, empty if none is known.
func (g *group) leader() string {
	_, id := g.raft().LeaderWithID()
	return string(id)
}

// raftDir is where a replica keeps its log.
func raftDir(replica string) string { return filepath.Join(replica, "raft") }

// configuredAt is the index of the newest configuration that this replica knows, or a little above. raft may take up to a
// moment longer to go by it.
func (g *group) configuredAt() (uint64, error) {
	if at := g.log.Configured(); at > 0 {
		return at, nil
	}
	metas, err := g.snaps.List()
	if err != nil || len(metas) == 0 {
		return 0, err
	}
	return metas[0].ConfigurationIndex, nil
}
