package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/internal/errs"
)

// newPeers makes links of a node that finds the others made by the same function.
type newPeers func(node string) peers

// testPeers is what every implementation of peers must do.
func testPeers(t *testing.T, network func(t *testing.T) newPeers) {
	for name, test := range map[string]func(t *testing.T, build newPeers){
		"answers":            testAnswers,
		"errors":             testErrors,
		"by address":         testByAddress,
		"unreached":          testUnreached,
		"patience ends":      testPatienceEnds,
		"caller leaves":      testCallerLeaves,
		"callee leaves":      testCalleeLeaves,
		"many at once":       testManyAtOnce,
		"large":              testLarge,
		"raft":               testRaftOverPeers,
		"group opened again": testGroupOpenedAgain,
	} {
		t.Run(name, func(t *testing.T) { test(t, network(t)) })
	}
}

// started makes and starts the links of a node whose method 1 is h.
func started(t *testing.T, build newPeers, node string, h handler) peers {
	p := build(node)
	if h != nil {
		p.handle(methodStatus, h)
	}
	require.NoError(t, p.start())
	t.Cleanup(func() { require.NoError(t, p.close()) })
	return p
}

func echo(_ context.Context, from string, request, dst []byte) ([]byte, error) {
	return append(append(append(dst, from...), ':'), request...), nil
}

func testAnswers(t *testing.T, build newPeers) {
	a := started(t, build, "a", echo)
	b := started(t, build, "b", echo)
	for i := range 3 {
		request := fmt.Appendf(nil, "question %d", i)
		dst := []byte("before ")
		got, err := a.call(t.Context(), "b", methodStatus, request, dst)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("before a:question %d", i), string(got))
	}
	got, err := b.call(t.Context(), "a", methodStatus, nil, nil)
	require.NoError(t, err)
	require.Equal(t, "b:", string(got))
}

func testErrors(t *testing.T, build newPeers) {
	var answer error
	a := started(t, build, "a", nil)
	started(t, build, "b", func(context.Context, string, []byte, []byte) ([]byte, error) { return nil, answer })

	answer = errs.New(errs.QuotaExceeded, "too many").WithHint("have fewer").WithRetryAfter(3 * time.Second)
	_, err := a.call(t.Context(), "b", methodStatus, nil, nil)
	require.EqualError(t, err, "too many")
	require.Equal(t, errs.QuotaExceeded, errs.KindOf(err))
	require.Equal(t, "have fewer", errs.HintOf(err))
	var typed *errs.Error
	require.ErrorAs(t, err, &typed)
	require.Equal(t, 3*time.Second, typed.RetryAfter)

	answer = fmt.Errorf("update: %w", newNotLeaderError("shard 7", "c"))
	_, err = a.call(t.Context(), "b", methodStatus, nil, nil)
	var elsewhere *notLeaderError
	require.ErrorAs(t, err, &elsewhere)
	require.Equal(t, "c", elsewhere.leader)
	require.Equal(t, errs.Unavailable, errs.KindOf(err))

	_, err = a.call(t.Context(), "b", methodQuery, nil, nil)
	require.Equal(t, errs.FailedPrecondition, errs.KindOf(err), "no such method: %v", err)

	answer = nil
	_, err = a.call(t.Context(), "b", methodStatus, nil, nil)
	require.NoError(t, err, "an error does not spoil the link")
}

func testByAddress(t *testing.T, build newPeers) {
	a := started(t, build, "a", nil)
	b := started(t, build, "b", echo)
	got, err := a.callAddr(t.Context(), b.addr(), methodStatus, []byte("x"), nil)
	require.NoError(t, err)
	require.Contains(t, string(got), ":x")
}

func testUnreached(t *testing.T, build newPeers) {
	a := started(t, build, "a", nil)
	build("b")                                                            // never started
	soon, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond) // over TCP the connection is made, and no more
	defer cancel()
	_, err := a.call(soon, "b", methodStatus, nil, nil)
	require.Equal(t, errs.Unavailable, errs.KindOf(err), "not started: %v", err)
	_, err = a.call(t.Context(), "nobody", methodStatus, nil, nil)
	require.Equal(t, errs.Unavailable, errs.KindOf(err), "unknown: %v", err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = a.call(ctx, "b", methodStatus, nil, nil)
	require.Equal(t, errs.Canceled, errs.KindOf(err), "not even tried: %v", err)
}

func testPatienceEnds(t *testing.T, build newPeers) {
	a := started(t, build, "a", nil)
	deadlines := newQueue[bool]()
	started(t, build, "b", func(ctx context.Context, _ string, _, dst []byte) ([]byte, error) {
		_, ok := ctx.Deadline()
		deadlines.put(ok)
		<-ctx.Done()
		return dst, ctx.Err()
	})
	var err error = errs.New(errs.Unavailable, "not called yet")
	for patience := 20 * time.Millisecond; errs.Is(err, errs.Unavailable); patience *= 2 { // too short for a slow machine to connect
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err = a.call(ctx, "b", methodStatus, nil, nil)
		cancel()
	}
	require.Contains(t, []errs.Kind{errs.OutcomeUnknown, errs.DeadlineExceeded}, errs.KindOf(err), "%v", err)
	require.True(t, deadlines.get(), "the handler knows the deadline")
}

func testCallerLeaves(t *testing.T, build newPeers) {
	a := started(t, build, "a", nil)
	entered, ended := newQueue[bool](), newQueue[error]()
	started(t, build, "b", func(ctx context.Context, _ string, _, dst []byte) ([]byte, error) {
		entered.put(true)
		<-ctx.Done()
		ended.put(ctx.Err())
		return dst, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { entered.get(); cancel() }()
	_, err := a.call(ctx, "b", methodStatus, nil, nil)
	require.Equal(t, errs.OutcomeUnknown, errs.KindOf(err), "%v", err)
	require.ErrorIs(t, ended.get(), context.Canceled)
}

func testCalleeLeaves(t *testing.T, build newPeers) {
	a := started(t, build, "a", nil)
	b := build("b")
	entered := newQueue[bool]()
	b.handle(methodStatus, func(ctx context.Context, _ string, _, dst []byte) ([]byte, error) {
		entered.put(true)
		<-ctx.Done()
		return dst, ctx.Err()
	})
	require.NoError(t, b.start())
	closed := newQueue[error]()
	go func() { entered.get(); closed.put(b.close()) }()
	_, err := a.call(t.Context(), "b", methodStatus, nil, nil)
	require.Contains(t, []errs.Kind{errs.OutcomeUnknown, errs.Canceled}, errs.KindOf(err), "%v", err)
	require.NoError(t, closed.get())
	_, err = a.call(t.Context(), "b", methodStatus, nil, nil)
	require.Equal(t, errs.Unavailable, errs.KindOf(err), "%v", err)
}

func testManyAtOnce(t *testing.T, build newPeers) {
	a := started(t, build, "a", echo)
	started(t, build, "b", echo)
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			var dst []byte
			for j := range 20 {
				var err error
				request := fmt.Appendf(nil, "%d.%d", i, j)
				dst, err = a.call(t.Context(), "b", methodStatus, request, dst[:0])
				if err != nil || string(dst) != "a:"+string(request) {
					t.Errorf("%s: got %q, %v", request, dst, err)
				}
			}
		})
	}
	wg.Wait()
}

func testLarge(t *testing.T, build newPeers) {
	a := started(t, build, "a", echo)
	started(t, build, "b", echo)
	request := bytes.Repeat([]byte("0123456789abcdef"), maxEntry/16)
	got, err := a.call(t.Context(), "b", methodStatus, request, nil)
	require.NoError(t, err)
	require.True(t, bytes.Equal(request, got[2:]))
}

func testRaftOverPeers(t *testing.T, build newPeers) {
	trio := newTrio(t, build)
	leader := trio.leader(nil)
	require.NoError(t, leader.Apply([]byte("one"), 0).Error())
	for _, r := range trio.rafts {
		trio.await(func() bool { return r.AppliedIndex() >= leader.AppliedIndex() })
	}
}

func testGroupOpenedAgain(t *testing.T, build newPeers) {
	trio := newTrio(t, build)
	leader := trio.leader(nil)
	var other string
	for id, r := range trio.rafts {
		if r != leader {
			other = id
		}
	}
	require.NoError(t, trio.rafts[other].Shutdown().Error())
	require.NoError(t, leader.Apply([]byte("while it is away"), 0).Error())
	trio.open(other)
	trio.await(func() bool { return trio.rafts[other].AppliedIndex() >= leader.AppliedIndex() })
}

// trio is three nodes' replicas of one raft group, with stores in memory.
type trio struct {
	t      *testing.T
	peers  map[string]peers
	rafts  map[string]*raft.Raft
	stores map[string]*raft.InmemStore
	tick   time.Duration                                       // after which silence another is elected
	log    func(node string, s *raft.InmemStore) raft.LogStore // what raft gets as its log
}

const trioTick = 200 * time.Millisecond

func newTrio(t *testing.T, build newPeers) *trio {
	return newTrioWith(t, trioTick, build, func(_ string, s *raft.InmemStore) raft.LogStore { return s })
}

func newTrioWith(t *testing.T, tick time.Duration, build newPeers, log func(string, *raft.InmemStore) raft.LogStore) *trio {
	x := &trio{t: t, peers: map[string]peers{}, rafts: map[string]*raft.Raft{}, stores: map[string]*raft.InmemStore{}, tick: tick, log: log}
	ids := []string{"a", "b", "c"}
	var servers []raft.Server
	for _, id := range ids {
		x.peers[id] = started(t, build, id, nil)
		x.stores[id] = raft.NewInmemStore()
		servers = append(servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
	}
	t.Cleanup(func() {
		for _, r := range x.rafts {
			require.NoError(t, r.Shutdown().Error())
		}
	})
	for _, id := range ids {
		x.open(id)
	}
	require.NoError(t, x.rafts["a"].BootstrapCluster(raft.Configuration{Servers: servers}).Error())
	return x
}

// open starts a node's replica, with the stores it had.
func (x *trio) open(id string) {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(id)
	c.Logger = hclog.NewNullLogger()
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = x.tick, x.tick, x.tick/2
	c.CommitTimeout = 10 * time.Millisecond
	s := x.stores[id]
	r, err := raft.NewRaft(c, discardFSM{}, x.log(id, s), s, raft.NewDiscardSnapshotStore(), x.peers[id].open("group"))
	require.NoError(x.t, err)
	x.rafts[id] = r
}

// leader waits for a leader other than not.
func (x *trio) leader(not *raft.Raft) (leader *raft.Raft) {
	x.await(func() bool {
		for _, r := range x.rafts {
			if r != not && r.State() == raft.Leader {
				leader = r
			}
		}
		return leader != nil
	})
	return leader
}

func (x *trio) await(cond func() bool) { await(x.t, cond) }

// await looks again and again, as raft tells nobody of most of what happens. It is not require.Eventually, whose
// goroutines outlive the test.
func await(t *testing.T, cond func() bool) {
	t.Helper()
	for range 3000 {
		if cond() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it did not happen within 30 s")
}

type discardFSM struct{}

func (discardFSM) Apply(*raft.Log) any                 { return nil }
func (discardFSM) Snapshot() (raft.FSMSnapshot, error) { return nil, errors.New("no snapshots") }
func (discardFSM) Restore(r io.ReadCloser) error       { return r.Close() }

// queue passes values from handlers to tests.
type queue[T any] struct{ c chan T }

func newQueue[T any]() queue[T] { return queue[T]{make(chan T, 16)} }

func (q queue[T]) put(v T) { q.c <- v }
func (q queue[T]) get() T  { return <-q.c }

func TestErrorsTravel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sent := &errs.Error{
			Kind:       rapid.SampledFrom(errs.Kinds()).Draw(t, "kind"),
			Message:    rapid.String().Draw(t, "message"),
			Hint:       rapid.String().Draw(t, "hint"),
			RetryAfter: time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "retry")),
		}
		if rapid.Bool().Draw(t, "elsewhere") {
			elsewhere := &notLeaderError{rapid.String().Draw(t, "leader"), sent}
			got, ok := readError(appendError(nil, elsewhere))
			require.True(t, ok)
			require.Equal(t, elsewhere, got)
			return
		}
		got, ok := readError(appendError(nil, sent))
		require.True(t, ok)
		require.Equal(t, sent, got)
	})
	got, ok := readError(appendError(nil, &errs.Error{Kind: 200, Message: "of a newer version"}))
	require.True(t, ok)
	require.Equal(t, errs.Internal, errs.KindOf(got))
}

func FuzzReadError(f *testing.F) {
	f.Add(appendError(nil, errs.New(errs.RateLimited, "slower").WithHint("wait").WithRetryAfter(time.Second)))
	f.Add(appendError(nil, newNotLeaderError("shard 1", "n2")))
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		err, ok := readError(b)
		if !ok {
			return
		}
		again, ok := readError(appendError(nil, err))
		require.True(t, ok)
		require.Equal(t, err, again)
	})
}
