package cluster

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/errs"
)

// openUnmanaged opens a node in which nothing brings replicas to what is wanted.
func openUnmanaged(t testing.TB) *Node {
	opts := testOptions(t.TempDir())
	opts.unmanaged = true
	return openNode(t, opts)
}

// plugIn gives a node its links, as Open does for those that have a listener.
func plugIn(t testing.TB, n *Node, p peers) {
	n.peers = p
	n.registerVerbs()
	require.NoError(t, p.start())
	t.Cleanup(func() { require.NoError(t, p.close()) })
}

// gateway is a node that carries no shard and takes its metadata from home, to which all its requests go.
func gateway(t testing.TB, home *Node, link func(id string) peers) *Node {
	n := openUnmanaged(t)
	own := n.local.current.Swap(&replicaMap{})
	t.Cleanup(func() { n.local.current.Store(own) })
	n.meta.fsm.publish(copyState(home.meta.state()))
	n.meta.creator.propose = func(ctx context.Context, c *metaCommand) (metaResult, error) {
		res, err := home.proposeMeta(ctx, c)
		n.meta.fsm.publish(copyState(home.meta.state()))
		return res, err
	}
	plugIn(t, n, link(n.id.NodeID))
	return n
}

// copyState is s with a channel of its own, since every state is superseded once.
func copyState(s *state) *state {
	c := *s
	c.superseded = make(chan struct{})
	return &c
}

// twoNodes are a node that leads all shards and another that has none.
func twoNodes(t testing.TB) (home, away *Node, network *memoryNetwork) {
	network = newMemoryNetwork()
	link := func(id string) peers { return network.peers(id) }
	home = openUnmanaged(t)
	plugIn(t, home, link(home.id.NodeID))
	createIndex(t, home, "i")
	away = gateway(t, home, link)
	return home, away, network
}

// script is one use of each verb, told as text, so that what two nodes answer can be compared.
var script = []struct {
	name string
	run  func(ctx context.Context, t testing.TB, n *Node, ix Index, ns string) (any, error)
}{
	{"upsert", func(ctx context.Context, t testing.TB, n *Node, ix Index, ns string) (any, error) {
		w, err := n.Upsert(ctx, ix, ns, []engine.Record{record(t, 1), record(t, 2), record(t, 3), record(t, 4)})
		return w.Affected, err
	}},
	{"query", func(ctx context.Context, t testing.TB, n *Node, ix Index, ns string) (any, error) {
		q := engine.Query{Vector: []float32{2.2, 0}, K: 2, IncludeValues: true, IncludeMetadata: true, Filter: parseFilter(t, `{"x":{"$gt":1}}`)}
		var res engine.Result
		_, err := n.Query(ctx, ix, ns, &q, &res)
		res.Distances, res.Read, res.Stored = 0, 0, 0 // what it cost is counted at home, and does not travel
		if err == nil {
			require.NotZero(t, res.Tenant)
			res.Tenant = engine.TenantID{} // each namespace has its own
		}
		return res, err
	}},
	{"query too large", func(ctx context.Context, t testing.TB, n *Node, ix Index, ns string) (any, error) {
		var res engine.Result
		_, err := n.Query(ctx, ix, ns, &engine.Query{Vector: []float32{2, 0}, K: 2, MaxBytes: 1}, &res)
		require.ErrorIs(t, err, engine.ErrAnswerTooLarge)
		return nil, err
	}},
	{"query of another dimension", func(ctx context.Context, t testing.TB, n *Node, ix Index, ns string) (any, error) {
		var res engine.Result
		_, err := n.Query(ctx, ix, ns, &engine.Query{Vector: []float32{2}, K: 2}, &res)
		return nil, err
	}},
	{"query of nobody", func(ctx context.Context, t testing.TB, n *Node, ix Index, ns string) (any, error) {
		var res engine.Result
		shard, err := n.Query(ctx, ix, "nobody", &engine.Query{Vector: []float32{2, 0}, K: 2}, &res)
		return fmt.Sprint(shard, res), err
	}},
	{"fetch", func(ctx context.Context, t testing.TB, n *Node, ix Index, ns string) (any, error) {
		return n.Fetch(ctx, ix, ns, []string{"id0003", "none", "id0001"})
	}},
	{"update", func(ctx context.Context, t testing.TB, n *Node, ix Index, ns string) (any, error) {
		m, err := metadata.Make(metadata.Field{Key: "y", Value: metadata.BoolValue(true)})
		require.NoError(t, err)
		w, err := n.Update(ctx, ix, ns, "id0001", []float32{9, 9}, nil, m)
		return w.Affected, err
	}},
	{"update nobody", func(ctx context.Context, t testing.TB, n *Node, ix Index, ns string) (any, error) {
		return n.Update(ctx, ix, "nobody", "id0001", []float32{9, 9}, nil, nil)
	}},
	{"try an update by filter", func(ctx context.Context, t testing.TB, n *Node, ix Index, ns string) (any, error) {
		w, err := n.UpdateWhere(ctx, ix, ns, parseFilter(t, `{"x":{"$lt":3}}`), nil, true)
		return w.Affected, err
	}},
	{"update by filter", func(ctx context.Context, t testing.TB, n *Node, ix Index, ns string) (any, error) {
		m, err := metadata.Make(metadata.Field{Key: "z", Value: metadata.StringsValue("a", "b")})
		require.NoError(t, err)
		w, err := n.UpdateWhere(ctx, ix, ns, parseFilter(t, `{"x":{"$lt":3}}`), m, false)
		return w.Affected, err
	}},
	{"scan", func(ctx context.Context, t testing.TB, n *Node, ix Index, ns string) (any, error) {
		recs, more, err := n.Scan(ctx, ix, ns, "id", "id0001", parseFilter(t, `{"x":{"$lt":4}}`), 1)
		return fmt.Sprint(recs, more), err
	}},
	{"delete", func(ctx context.Context, t testing.TB, n *Node, ix Index, ns string) (any, error) {
		w, err := n.Delete(ctx, ix, ns, []string{"id0003", "none"})
		return w.Affected, err
	}},
	{"scan ids", func(ctx context.Context, t testing.TB, n *Node, ix Index, ns string) (any, error) {
		ids, more, err := n.ScanIDs(ctx, ix, ns, "", "", 2)
		return fmt.Sprint(ids, more), err
	}},
	{"delete by filter", func(ctx context.Context, t testing.TB, n *Node, ix Index, ns string) (any, error) {
		w, err := n.DeleteWhere(ctx, ix, ns, parseFilter(t, `{"y":true}`))
		return w.Affected, err
	}},
	{"create namespace", func(ctx context.Context, t testing.TB, n *Node, ix Index, ns string) (any, error) {
		made, err := n.CreateNamespace(ctx, ix, ns+"-made")
		return made.Stats.Records, err
	}},
	{"create it again", func(ctx context.Context, t testing.TB, n *Node, ix Index, ns string) (any, error) {
		_, err := n.CreateNamespace(ctx, ix, ns)
		require.True(t, errs.Is(err, errs.AlreadyExists), "%v", err)
		return nil, nil
	}},
	{"describe", func(ctx context.Context, t testing.TB, n *Node, ix Index, ns string) (any, error) {
		d, err := n.DescribeNamespace(ctx, ix, ns)
		return fmt.Sprint(d.Name == ns, d.Stats.Records), err
	}},
	{"describe the default", func(ctx context.Context, t testing.TB, n *Node, ix Index, ns string) (any, error) {
		return n.DescribeNamespace(ctx, ix, DefaultNamespace)
	}},
	{"describe nobody", func(ctx context.Context, t testing.TB, n *Node, ix Index, ns string) (any, error) {
		return n.DescribeNamespace(ctx, ix, "nobody")
	}},
	{"namespaces", func(ctx context.Context, t testing.TB, n *Node, ix Index, ns string) (any, error) {
		page, more, total, err := n.Namespaces(ctx, ix, ns, ns, 1)
		require.Equal(t, []string{ns + "-made"}, names(page))
		return fmt.Sprint(more, total), err
	}},
	{"stats", func(ctx context.Context, t testing.TB, n *Node, ix Index, ns string) (any, error) {
		all, err := n.IndexStats(ctx, ix)
		require.Contains(t, names(all), ns)
		require.NotContains(t, names(all), ns+"-made")
		return nil, err
	}},
	{"delete all", func(ctx context.Context, t testing.TB, n *Node, ix Index, ns string) (any, error) {
		w, err := n.DeleteAll(ctx, ix, ns)
		return w.Affected, err
	}},
	{"delete namespace", func(ctx context.Context, t testing.TB, n *Node, ix Index, ns string) (any, error) {
		return nil, n.DeleteNamespace(ctx, ix, ns)
	}},
	{"delete the default namespace", func(ctx context.Context, t testing.TB, n *Node, ix Index, ns string) (any, error) {
		return n.DeleteAll(ctx, ix, DefaultNamespace)
	}},
	{"use what is gone", func(ctx context.Context, t testing.TB, n *Node, ix Index, ns string) (any, error) {
		_, err := n.Delete(ctx, ix, ns, []string{"a"})
		require.True(t, errs.Is(err, errs.NotFound), "%v", err)
		return nil, nil
	}},
}

// TestEveryVerbOnEveryNode: a node that leads nothing answers as the one that leads everything.
func TestEveryVerbOnEveryNode(t *testing.T) {
	home, away, _ := twoNodes(t)
	ix, ok := away.Index("i")
	require.True(t, ok)
	for _, level := range []Consistency{Leader, Strong, Any} {
		ctx := WithReading(t.Context(), &Reading{Consistency: level})
		for _, step := range script {
			want, wantErr := step.run(ctx, t, home, ix, "at home "+level.String())
			got, err := step.run(ctx, t, away, ix, "away "+level.String())
			require.Equal(t, want, got, step.name)
			require.Equal(t, fmt.Sprint(wantErr), fmt.Sprint(err), step.name)
			require.Equal(t, errs.KindOf(wantErr), errs.KindOf(err), step.name)
		}
	}
}

// TestAnswersTellTheirAge: who asks learns up to where the shard had applied its log, wherever it was asked.
func TestAnswersTellTheirAge(t *testing.T) {
	home, away, _ := twoNodes(t)
	ix, _ := away.Index("i")
	w := upsert(t, away, ix, "ns", 1)
	for _, n := range []*Node{home, away} {
		for _, level := range []Consistency{Leader, Strong, Any} {
			r := Reading{Consistency: level}
			_, err := n.Fetch(WithReading(t.Context(), &r), ix, "ns", []string{"id0001"})
			require.NoError(t, err)
			require.Equal(t, Staleness{Applied: w.LSN}, r.Staleness)
		}
	}
}

// TestHintIsFollowed: a node that does not lead is asked once, and then the one that it names; the next request goes
// there at once.
func TestHintIsFollowed(t *testing.T) {
	home, away, network := twoNodes(t)
	ix, _ := away.Index("i")
	bystander := gateway(t, home, func(id string) peers { return network.peers(id) })
	calls := countCalls(away)
	for shard := range uint16(3) {
		away.noteLeader(shard, bystander.id.NodeID)
	}
	w := upsert(t, away, ix, "ns", 1)
	require.Equal(t, map[string]int{bystander.id.NodeID: 1, home.id.NodeID: 1}, calls.counts())
	require.Equal(t, home.id.NodeID, away.leaderOf(uint16(w.Shard)))
	require.Equal(t, []string{"id0001"}, scanIDs(t, away, ix, "ns"))
	require.Equal(t, map[string]int{bystander.id.NodeID: 1, home.id.NodeID: 2}, calls.counts())
}

// callCounter counts a node's calls by whom they went to.
type callCounter struct {
	peers
	mu sync.Mutex
	to map[string]int
}

func countCalls(n *Node) *callCounter {
	c := &callCounter{peers: n.peers, to: map[string]int{}}
	n.peers = c
	return c
}

func (c *callCounter) call(ctx context.Context, to string, m method, request, dst []byte) ([]byte, error) {
	c.mu.Lock()
	c.to[to]++
	c.mu.Unlock()
	return c.peers.call(ctx, to, m, request, dst)
}

func (c *callCounter) counts() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.to)
}

// TestNoLoop: two nodes that each take the other for the leader do not send a request to and fro.
func TestNoLoop(t *testing.T) {
	home, a, network := twoNodes(t)
	ix, _ := a.Index("i")
	upsert(t, a, ix, "ns", 1)
	b := gateway(t, home, func(id string) peers { return network.peers(id) })
	for shard := range uint16(3) {
		a.noteLeader(shard, b.id.NodeID)
		b.noteLeader(shard, a.id.NodeID)
	}
	ofA, ofB := countCalls(a), countCalls(b)
	r, ok := a.route(&ix, "ns")
	require.True(t, ok)
	err := a.attempt(t.Context(), &r, &fetchVerb{ids: []string{"id0001"}})
	require.True(t, errs.Is(err, errs.Unavailable), "%v", err)
	require.Equal(t, map[string]int{b.id.NodeID: 1}, ofA.counts())
	require.Empty(t, ofB.counts(), "who is asked asks nobody")
}

// TestLeaderIsFoundAfterADeadEnd: the hint leads to a node that is gone; the other replicas are asked in turn.
func TestLeaderIsFoundAfterADeadEnd(t *testing.T) {
	_, away, _ := twoNodes(t)
	ix, _ := away.Index("i")
	upsert(t, away, ix, "ns", 1)
	for shard := range uint16(3) {
		away.noteLeader(shard, "gone")
	}
	require.Equal(t, []string{"id0001"}, scanIDs(t, away, ix, "ns"))
}

// TestOutcomes: what was surely not done is Unavailable, what may have been is OutcomeUnknown; a read is never in doubt.
func TestOutcomes(t *testing.T) {
	home, away, network := twoNodes(t)
	ix, _ := away.Index("i")
	upsert(t, away, ix, "ns", 1)
	write := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := away.Upsert(ctx, ix, "ns", []engine.Record{record(t, 2)})
		return err
	}
	read := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := away.Fetch(ctx, ix, "ns", []string{"id0001"})
		return err
	}
	network.cut(away.id.NodeID, home.id.NodeID)
	require.True(t, errs.Is(write(), errs.Unavailable))
	require.True(t, errs.Is(read(), errs.Unavailable))
	network.healAll()
	require.Equal(t, []string{"id0001"}, scanIDs(t, away, ix, "ns"))

	network.cut(home.id.NodeID, away.id.NodeID) // the request arrives, the answer does not
	err := write()
	require.True(t, errs.Is(err, errs.OutcomeUnknown), "%v", err)
	err = read()
	require.True(t, errs.Is(err, errs.DeadlineExceeded), "%v", err)
	network.healAll()
	require.Equal(t, []string{"id0001", "id0002"}, scanIDs(t, away, ix, "ns"), "it was done, once")
}

// TestGatherNamesSilentShards: a list without some shards is an error, not a shorter list.
func TestGatherNamesSilentShards(t *testing.T) {
	home, away, network := twoNodes(t)
	ix, _ := away.Index("i")
	upsert(t, away, ix, "ns", 1)
	network.cut(away.id.NodeID, home.id.NodeID)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := away.IndexStats(ctx, ix)
	require.True(t, errs.Is(err, errs.Unavailable), "%v", err)
	require.ErrorContains(t, err, "shards 0, 1, 2 of 3")
	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, _, _, err = away.Namespaces(ctx, ix, "", "", 10)
	require.True(t, errs.Is(err, errs.Unavailable), "%v", err)
}

// TestStaleRouteIsRefused: a request for a shard that its tenant has left waits until the caller knows the new home.
func TestStaleRouteIsRefused(t *testing.T) {
	home, away, _ := twoNodes(t)
	ix, _ := away.Index("i")
	w := upsert(t, away, ix, "ns", 1)
	tenant, ok := home.meta.state().tenant("ns")
	require.True(t, ok)
	moved := int32(w.Shard+1) % 3
	_, err := home.proposeMeta(t.Context(), &metaCommand{op: metaPin, tenantID: tenant.id, pin: moved})
	require.NoError(t, err)

	r, _ := away.route(&ix, "ns")
	v := &applyVerb{labels: labels{"i", "ns"}, grows: true, command: &engine.Command{Op: engine.OpUpsert, Key: r.key, Records: []engine.Record{record(t, 2)}}}
	err = away.attempt(t.Context(), &r, v)
	require.True(t, errs.Is(err, errs.Unavailable), "%v", err)
	require.ErrorContains(t, err, "has moved")

	done := make(chan Written)
	go func() { done <- upsert(t, away, ix, "ns", 3) }()
	away.meta.fsm.publish(copyState(home.meta.state()))
	require.EqualValues(t, moved, (<-done).Shard)
}

// TestBadRequestsAreRefused: bytes that are no request change nothing and kill nobody.
func TestBadRequestsAreRefused(t *testing.T) {
	home, _, _ := twoNodes(t)
	h := head{shard: 1, key: engine.Key{Index: 1}}
	for m, newVerb := range verbs {
		for _, request := range [][]byte{nil, {9}, h.append(nil), append(h.append(nil), 0xff, 0xff, 0xff)} {
			_, err := home.answer(t.Context(), newVerb(), request, nil)
			require.True(t, errs.Is(err, errs.Corrupt), "method %d, % x: %v", m, request, err)
		}
		missing := head{shard: 77}
		v := newVerb()
		if apply, ok := v.(*applyVerb); ok {
			apply.encoded = []byte{0}
		}
		_, err := home.answer(t.Context(), newVerb(), v.appendRequest(missing.append(nil)), nil)
		require.True(t, errs.Is(err, errs.Unavailable), "method %d: %v", m, err)
	}
}
