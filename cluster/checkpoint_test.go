package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/cluster/internal/raftlog"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/faultdisk"
	"github.com/croftdb/croft/internal/vfs"
)

// checkpointNode is a node with one replica of shard 3, or the place for one, on a network of its own.
type checkpointNode struct {
	t      testing.TB
	id     string
	dir    string
	peers  *memoryPeers
	engine *engine.Engine
	shard  atomic.Pointer[shard]
	server *checkpointServer
	fetch  *checkpointFetcher
	spoil  func(request []byte) error // asked before each request is answered
}

const (
	checkpointShard   = 3
	checkpointCluster = "test-cluster"
)

func newCheckpointNode(t testing.TB, network *memoryNetwork, id string) *checkpointNode {
	n := &checkpointNode{t: t, id: id, dir: t.TempDir(), peers: network.peers(id)}
	var err error
	n.engine, err = engine.Open(engine.Options{Logger: testLogger(), GraphAbove: 1 << 20}) // a graph that grows would differ between checkpoints
	require.NoError(t, err)
	n.server = n.newServer()
	n.fetch = newCheckpointFetcher(checkpointCluster, vfs.OS(), n.peers, 0)
	n.fetch.pause = time.Millisecond
	n.peers.handle(methodCheckpoint, func(ctx context.Context, from string, request, dst []byte) ([]byte, error) {
		if n.spoil != nil {
			if err := n.spoil(request); err != nil {
				return dst, err
			}
		}
		return n.server.answer(ctx, from, request, dst)
	})
	require.NoError(t, n.peers.start())
	t.Cleanup(n.stop)
	return n
}

func (n *checkpointNode) newServer() *checkpointServer {
	replica := func(uint16) *shard { return n.shard.Load() }
	return newCheckpointServer(checkpointCluster, replica, func(uint16, offer) {}, 0, testLogger())
}

func (n *checkpointNode) options(create bool) groupOptions {
	return groupOptions{
		disk: vfs.OS(), name: shardName(checkpointShard), identity: checkpointOwner(checkpointCluster, checkpointShard), node: raft.ServerID(n.id), create: create,
		tick: 500 * time.Millisecond, segmentSize: 64 << 10, transports: n.peers, fail: newFailure(testLogger()),
		append: &observed{}, grown: func() {}, logger: testLogger(), ctx: context.Background(), call: n.peers.call,
	}
}

// open starts the current incarnation of the replica.
func (n *checkpointNode) open(create bool) {
	current, err := currentIncarnation(vfs.OS(), n.dir, checkpointShard)
	require.NoError(n.t, err)
	require.NoError(n.t, removeOldIncarnations(vfs.OS(), n.dir, checkpointShard, current))
	sh, err := openShard(context.Background(), n.engine, checkpointShard, shardDir(n.dir, checkpointShard, current), n.options(create))
	require.NoError(n.t, err)
	n.shard.Store(sh)
}

// close stops the replica.
func (n *checkpointNode) close() {
	sh := n.shard.Swap(nil)
	if sh == nil {
		return
	}
	require.NoError(n.t, sh.group.beginShutdown().Error())
	require.NoError(n.t, sh.group.log.Close())
	require.NoError(n.t, sh.engine.Close())
}

func (n *checkpointNode) stop() {
	n.server.close()
	n.close()
	require.NoError(n.t, n.peers.close())
	require.NoError(n.t, n.engine.Close())
}

// next is the incarnation that a checkpoint would become.
func (n *checkpointNode) next() uint64 {
	found, err := incarnations(vfs.OS(), n.dir, checkpointShard)
	require.NoError(n.t, err)
	if len(found) == 0 {
		return 1
	}
	return found[len(found)-1] + 1
}

// adopt fetches a checkpoint and starts from it.
func (n *checkpointNode) adopt(from string) error {
	next := n.next()
	staged, err := n.fetch.fetch(n.t.Context(), from, checkpointShard, 0, stagingDir(n.dir, checkpointShard, next), nil)
	if err != nil {
		return err
	}
	if err := staged.install(n.t.Context(), n.options(false), hardState{}, shardDir(n.dir, checkpointShard, next)); err != nil {
		return err
	}
	n.open(false)
	return nil
}

func (n *checkpointNode) write(from, to int) {
	key := engine.Key{Tenant: engine.TenantID{1}, Index: 1}
	if from == 0 {
		n.propose(&engine.Command{Op: engine.OpDefineIndex, Schema: engine.Schema{ID: 1, Dim: 256, Metric: ann.Euclidean}})
	}
	for i := from; i < to; i += 10 {
		c := &engine.Command{Op: engine.OpUpsert, Key: key}
		for j := range 10 {
			v := make([]float32, 256)
			for k := range v {
				v[k] = float32((i+j)*k%97) + float32(k)
			}
			c.Records = append(c.Records, engine.Record{ID: fmt.Sprint("id-", i+j), Values: v})
		}
		n.propose(c)
	}
}

func (n *checkpointNode) propose(c *engine.Command) {
	_, err := n.shard.Load().propose(n.t.Context(), c)
	require.NoError(n.t, err)
}

func (n *checkpointNode) digest() (engine.Digest, uint64) {
	d, at, err := n.shard.Load().engine.Digest(context.Background())
	require.NoError(n.t, err)
	return d, at
}

// newLeader is a node that leads the shard, whose log begins behind what it holds.
func newLeader(t testing.TB, network *memoryNetwork, id string, records int) *checkpointNode {
	n := newCheckpointNode(t, network, id)
	n.open(true)
	g := n.shard.Load().group
	require.NoError(t, g.awaitLeader(t.Context()))
	n.write(0, records)
	require.NoError(t, g.trim(64<<10))
	first, err := g.log.FirstIndex()
	require.NoError(t, err)
	require.Greater(t, first, uint64(2), "the log still has everything: the test shows nothing")
	return n
}

// join adds a replica to the leader's group and waits until it has applied what the leader has.
func (n *checkpointNode) join(leader *checkpointNode, vote bool) {
	r := leader.shard.Load().group.raft()
	add := r.AddNonvoter
	if vote {
		add = r.AddVoter
	}
	require.NoError(n.t, add(raft.ServerID(n.id), raft.ServerAddress(n.id), 0, time.Minute).Error())
	n.catchUp(leader)
}

func (n *checkpointNode) catchUp(leader *checkpointNode) {
	want := leader.shard.Load().engine.AppliedIndex()
	require.Eventually(n.t, func() bool { return n.shard.Load().engine.AppliedIndex() >= want }, time.Minute, time.Millisecond)
}

func requireEqualReplicas(t testing.TB, a, b *checkpointNode) {
	da, at := a.digest()
	db, bt := b.digest()
	require.Equal(t, at, bt)
	require.Equal(t, da, db)
}

// TestReplicaByCheckpoint brings a replica to life that the log alone could not: it takes part in the group, survives a
// restart, leads it and serves a checkpoint itself.
func TestReplicaByCheckpoint(t *testing.T) {
	network := newMemoryNetwork()
	a := newLeader(t, network, "a", 1000)
	b := newCheckpointNode(t, network, "b")
	require.NoError(t, b.adopt("a"))
	requireEqualReplicas(t, a, b)
	b.join(a, false)
	a.write(1000, 1200)
	b.catchUp(a)
	requireEqualReplicas(t, a, b)

	b.close()
	a.write(1200, 1300)
	b.open(false)
	b.join(a, true)
	requireEqualReplicas(t, a, b)

	require.NoError(t, a.shard.Load().group.raft().LeadershipTransferToServer("b", "b").Error())
	require.NoError(t, b.shard.Load().group.awaitLeader(t.Context()))
	b.write(1300, 1400)
	a.catchUp(b)
	requireEqualReplicas(t, a, b)

	c := newCheckpointNode(t, network, "c")
	require.NoError(t, c.adopt("b"))
	c.join(b, true)
	requireEqualReplicas(t, b, c)
}

// TestFollowerWipedComesBack wipes a replica's directory, lets the leader's log be trimmed, and fetches a checkpoint.
func TestFollowerWipedComesBack(t *testing.T) {
	network := newMemoryNetwork()
	a := newLeader(t, network, "a", 300)
	b := newCheckpointNode(t, network, "b")
	require.NoError(t, b.adopt("a"))
	b.join(a, false)
	b.close()
	require.NoError(t, os.RemoveAll(shardDir(b.dir, checkpointShard, 1)))
	a.write(300, 900)
	require.NoError(t, a.shard.Load().group.trim(64<<10))
	require.NoError(t, b.adopt("a"))
	b.catchUp(a)
	requireEqualReplicas(t, a, b)
}

// TestLaggingFollowerKeepsItsVote replaces a replica that is there, and has voted: term and vote go along, and the place
// of the old one is taken by one rename.
func TestLaggingFollowerKeepsItsVote(t *testing.T) {
	network := newMemoryNetwork()
	a := newLeader(t, network, "a", 300)
	b := newCheckpointNode(t, network, "b")
	require.NoError(t, b.adopt("a"))
	b.join(a, false)
	old := b.shard.Load()
	staged, err := b.fetch.fetch(t.Context(), "a", checkpointShard, 0, stagingDir(b.dir, checkpointShard, 2), nil)
	require.NoError(t, err)
	require.Equal(t, errs.FailedPrecondition, errs.KindOf(staged.mark.supersedes(old)), "its log reaches as far")

	b.close()
	a.write(300, 900)
	require.NoError(t, a.shard.Load().group.trim(64<<10))
	staged, err = b.fetch.fetch(t.Context(), "a", checkpointShard, 0, stagingDir(b.dir, checkpointShard, 2), nil)
	require.NoError(t, err)
	o := b.options(false)
	o.dir = raftDir(shardDir(b.dir, checkpointShard, 1))
	log, err := raftlog.Open(o.logOptions())
	require.NoError(t, err)
	require.NoError(t, log.SetUint64(keyTerm, 77))
	require.NoError(t, log.SetUint64(keyVoteTerm, 77))
	require.NoError(t, log.Set(keyCandidate, []byte("z")))
	h, err := readHardState(log)
	require.NoError(t, err)
	require.Equal(t, hardState{term: 77, voteTerm: 77, candidate: []byte("z")}, h)
	require.NoError(t, log.Close())
	require.NoError(t, staged.install(t.Context(), b.options(false), hardState{term: 5}, shardDir(b.dir, checkpointShard, 2)))
	o.dir = raftDir(shardDir(b.dir, checkpointShard, 2))
	require.NoError(t, noteHardState(o, h), "it has voted while it was replaced")
	b.open(false)
	again, err := readHardState(b.shard.Load().group.log)
	require.NoError(t, err)
	require.Equal(t, []byte("z"), again.candidate)
	require.EqualValues(t, 77, again.voteTerm)
	left, err := incarnations(vfs.OS(), b.dir, checkpointShard)
	require.NoError(t, err)
	require.Equal(t, []uint64{2}, left, "the old one is gone")
}

// TestInstallSurvivesPowerCuts cuts the power while checkpoints are fetched and installed one after the other. What the disk
// then holds is the last replica that was in place, or a later one: it opens at the checkpoint's entry and has its digest.
func TestInstallSurvivesPowerCuts(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	network := newMemoryNetwork()
	a := newLeader(t, network, "a", 300)
	want, applied := a.digest()
	disk := faultdisk.Mount(t, faultdisk.Options{})
	b := newCheckpointNode(t, network, "b")
	b.dir = disk.Dir()
	ctx, stop := context.WithCancel(t.Context())
	var installed atomic.Uint64
	var work sync.WaitGroup
	work.Go(func() {
		for next := uint64(1); ctx.Err() == nil; next++ {
			staged, err := b.fetch.fetch(ctx, "a", checkpointShard, 0, stagingDir(b.dir, checkpointShard, next), nil)
			if err == nil {
				err = staged.install(ctx, b.options(false), hardState{}, shardDir(b.dir, checkpointShard, next))
			}
			if err == nil {
				installed.Store(next)
				err = removeOldIncarnations(vfs.OS(), b.dir, checkpointShard, next)
			}
			if err != nil && ctx.Err() == nil {
				t.Errorf("install %d: %v", next, err)
				return
			}
		}
	})
	opened := 0
	for i := range 12 {
		for target := installed.Load() + uint64(rng.IntN(2)); installed.Load() < target && !t.Failed(); {
			runtime.Gosched()
		}
		least := installed.Load()
		dst := filepath.Join(t.TempDir(), strconv.Itoa(i))
		disk.Cut(rng, dst)
		current, err := currentIncarnation(vfs.OS(), dst, checkpointShard)
		require.NoError(t, err)
		found, err := incarnations(vfs.OS(), dst, checkpointShard)
		require.NoError(t, err)
		if least == 0 && len(found) == 0 {
			continue
		}
		require.GreaterOrEqual(t, current, least)
		c := newCheckpointNode(t, newMemoryNetwork(), "b")
		c.dir = dst
		c.open(false)
		d, at := c.digest()
		require.Equal(t, applied, at)
		require.Equal(t, want, d)
		c.close()
		opened++
	}
	require.Positive(t, opened)
	stop()
	work.Wait()
}

var errKilled = errors.New("killed")

// TestTransferIsKilled breaks a transfer off at each tenth of it, in turn by the receiver giving up, by the link, and by
// the source forgetting the checkpoint. It ends all the same, and what was there is not asked for again.
func TestTransferIsKilled(t *testing.T) {
	network := newMemoryNetwork()
	a := newLeader(t, network, "a", 6000) // 6 MiB of rows
	b := newCheckpointNode(t, network, "b")
	target := stagingDir(b.dir, checkpointShard, 1)
	reads, attempts, answered := 0, 0, 0
	a.spoil = func(request []byte) error {
		if request[0] != checkpointRead {
			return nil
		}
		if reads++; reads > 1 {
			return errs.New(errs.NotFound, "%w", errKilled) // final for this attempt
		}
		answered++
		return nil
	}
	b.fetch.parallel = 1 // or those that succeed are given up with the first that fails
	for {
		attempts++
		reads = 0
		got, err := b.fetch.fetch(t.Context(), "a", checkpointShard, 0, target, nil)
		if err == nil {
			chunks := 0
			for i := range got.manifest.Files {
				chunks += len(got.manifest.Files[i].Sums)
			}
			require.Greater(t, attempts, 5)
			require.LessOrEqual(t, answered, chunks+chunks/2, "only what differs between checkpoints came twice")
			break
		}
		require.ErrorContains(t, err, errKilled.Error())
		require.Less(t, attempts, 50)
		switch attempts % 3 {
		case 0:
			a.server.close()
			a.server = a.newServer()
		case 1:
			network.cutBoth("a", "b")
			_, err := b.fetch.fetch(t.Context(), "a", checkpointShard, 0, target, nil)
			require.Equal(t, errs.Unavailable, errs.KindOf(err), "%v", err)
			network.heal("a", "b")
		}
	}
	a.spoil = nil
	require.NoError(t, os.MkdirAll(filepath.Join(raftDir(target), "snapshots", "of an install that was cut short"), 0o700))
	require.NoError(t, b.adopt("a"))
	b.join(a, false)
	requireEqualReplicas(t, a, b)
}

// TestCheckpointLeases bounds what a source holds, and for how long.
func TestCheckpointLeases(t *testing.T) {
	network := newMemoryNetwork()
	a := newLeader(t, network, "a", 200)
	open := func(from string) (uint64, error) {
		b, err := a.server.answer(t.Context(), from, codec.AppendUvarint(codec.AppendUvarint([]byte{checkpointOpen}, checkpointShard), 0), nil)
		if err != nil {
			return 0, err
		}
		return codec.NewReader(b).Uint64(), nil
	}
	read := func(token uint64) error {
		_, err := a.server.answer(t.Context(), "b", codec.AppendUvarint(codec.AppendUvarint(codec.AppendUint64([]byte{checkpointRead}, token), 0), 0), nil)
		return err
	}
	first, err := open("b")
	require.NoError(t, err)
	second, err := open("b")
	require.NoError(t, err, "the same node again")
	require.NoError(t, read(second))
	require.Equal(t, errs.NotFound, errs.KindOf(read(first)), "it took the first one's place")
	_, err = open("c")
	require.NoError(t, err)
	_, err = open("d")
	require.Equal(t, errs.Unavailable, errs.KindOf(err), "%v", err)

	_, err = a.server.answer(t.Context(), "b", codec.AppendUint64([]byte{checkpointClose}, second), nil)
	require.NoError(t, err)
	require.Equal(t, errs.NotFound, errs.KindOf(read(second)))
	held := a.shard.Load().engine.AppliedIndex()
	a.write(200, 900)
	require.NoError(t, a.shard.Load().group.trim(64<<10))
	firstIndex, err := a.shard.Load().group.log.FirstIndex()
	require.NoError(t, err)
	require.LessOrEqual(t, firstIndex, held, "the replica that starts there still finds its place")

	a.server.mu.Lock()
	tokens := len(a.server.open)
	for token := range a.server.open {
		a.server.open[token].timer.Reset(time.Millisecond)
	}
	a.server.mu.Unlock()
	require.Equal(t, 2, tokens)
	require.Eventually(t, func() bool {
		a.server.mu.Lock()
		defer a.server.mu.Unlock()
		return len(a.server.open) == 0
	}, time.Minute, time.Millisecond)
	require.Equal(t, uint64(1<<40), a.shard.Load().group.log.Until(1<<40))
	_, err = a.server.answer(t.Context(), "b", []byte{9}, nil)
	require.Equal(t, errs.FailedPrecondition, errs.KindOf(err))
}

// TestFetchRefuses names checkpoints that are not what was asked for.
func TestFetchRefuses(t *testing.T) {
	network := newMemoryNetwork()
	a := newLeader(t, network, "a", 200)
	b := newCheckpointNode(t, network, "b")
	dir := stagingDir(b.dir, checkpointShard, 1)
	_, err := b.fetch.fetch(t.Context(), "a", checkpointShard, 1<<40, dir, nil)
	require.Equal(t, errs.Unavailable, errs.KindOf(err), "the source is not that far: %v", err)
	b.fetch.cluster = "another"
	_, err = b.fetch.fetch(t.Context(), "a", checkpointShard, 0, dir, nil)
	require.Equal(t, errs.Corrupt, errs.KindOf(err), "%v", err)
	b.fetch.cluster = checkpointCluster
	b.fetch.spare = 1 << 60
	_, err = b.fetch.fetch(t.Context(), "a", checkpointShard, 0, dir, nil)
	require.Equal(t, errs.StorageFull, errs.KindOf(err), "%v", err)
	a.close()
	_, err = b.fetch.fetch(t.Context(), "a", checkpointShard, 0, dir, nil)
	require.Equal(t, errs.Unavailable, errs.KindOf(err), "%v", err)

	empty := newCheckpointNode(t, network, "empty")
	_, err = empty.fetch.fetch(t.Context(), "nobody", checkpointShard, 0, dir, nil)
	require.Equal(t, errs.Unavailable, errs.KindOf(err), "%v", err)
}

func TestMarkRoundTrip(t *testing.T) {
	m := checkpointMark{applied: 7, index: 9, term: 3, configurationIndex: 11, configuration: raft.Configuration{Servers: []raft.Server{
		{Suffrage: raft.Voter, ID: "a", Address: "a"}, {Suffrage: raft.Nonvoter, ID: "b", Address: "elsewhere"},
	}}}
	r := codec.NewReader(m.append(nil))
	require.Equal(t, m, readMark(r))
	require.NoError(t, r.Done())
	for _, bad := range []checkpointMark{{applied: 9, index: 7, term: 1}, {}, {index: 1}} {
		r := codec.NewReader(bad.append(nil))
		readMark(r)
		require.Error(t, r.Done())
	}
}

func FuzzMark(f *testing.F) {
	m := checkpointMark{applied: 7, index: 9, term: 3, configuration: raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "a"}}}}
	f.Add(m.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := codec.NewReader(b)
		m := readMark(r)
		if r.Done() != nil {
			return
		}
		again := codec.NewReader(m.append(nil))
		require.Equal(t, m, readMark(again))
		require.NoError(t, again.Done())
	})
}

func TestIncarnations(t *testing.T) {
	data := t.TempDir()
	current, err := currentIncarnation(vfs.OS(), data, 5)
	require.NoError(t, err)
	require.EqualValues(t, 1, current)
	require.NoError(t, removeOldIncarnations(vfs.OS(), data, 5, 1))
	for _, name := range []string{"1", "2", "10", "2.staged", "10.staged", "11.staged", "x", "03"} {
		require.NoError(t, os.MkdirAll(filepath.Join(data, "shards", "5", name, "raft"), 0o700))
	}
	current, err = currentIncarnation(vfs.OS(), data, 5)
	require.NoError(t, err)
	require.EqualValues(t, 10, current)
	require.NoError(t, removeOldIncarnations(vfs.OS(), data, 5, current))
	names, err := vfs.OS().ReadDir(filepath.Join(data, "shards", "5"))
	require.NoError(t, err)
	require.Equal(t, []string{"10", "11.staged", "x"}, names)
}

func TestPacer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := newPacer(1)
	require.NoError(t, p.wait(ctx, 1000), "the first is let through")
	cancel()
	require.ErrorIs(t, p.wait(ctx, 1), context.Canceled)
	require.NoError(t, newPacer(0).wait(ctx, 1<<40))
}
