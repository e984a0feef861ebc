package cluster

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

// fakeEngine applies nothing and fails on demand.
type fakeEngine struct {
	applied, flushed uint64
	err              error
}

func (e *fakeEngine) Apply(index uint64, _ []byte) (engine.Applied, error) {
	e.applied = index
	return engine.Applied{Index: index, Affected: 1}, e.err
}
func (e *fakeEngine) Flush(context.Context) (uint64, error) { return e.flushed, e.err }
func (e *fakeEngine) AppliedIndex() uint64                  { return e.applied }

func testShardFSM(e *fakeEngine) *shardFSM {
	return &shardFSM{engine: e, ctx: context.Background(), fail: newFailure(testLogger()), name: "shard 0"}
}

// takeMarker stores a snapshot of f as raft would.
func takeMarker(snaps raft.SnapshotStore, f raft.FSM, index uint64) error {
	sink, err := snaps.Create(1, index, 1, raft.Configuration{}, 1, nil)
	if err != nil {
		return err
	}
	s, err := f.Snapshot()
	if err == nil {
		err = s.Persist(sink)
	}
	if err != nil {
		return errors.Join(err, sink.Cancel())
	}
	s.Release()
	return sink.Close()
}

func TestMarkers(t *testing.T) {
	snaps, err := raft.NewFileSnapshotStoreWithLogger(t.TempDir(), 2, hclog.NewNullLogger())
	require.NoError(t, err)
	e := &fakeEngine{}
	f := testShardFSM(e)
	require.Equal(t, engine.Applied{Index: 7, Affected: 1}, f.Apply(&raft.Log{Index: 7}))
	require.NoError(t, checkMarker(snaps, 7, e), "no marker yet")
	require.Equal(t, errs.Corrupt, errs.KindOf(checkMarker(snaps, 6, e)), "the log lost an entry")

	e.flushed = 6
	require.ErrorContains(t, takeMarker(snaps, f, 9), "durable up to entry 6, want 7")
	require.NoError(t, checkMarker(snaps, 9, e), "a marker that was not finished is none")
	e.flushed = 7
	require.NoError(t, takeMarker(snaps, f, 9)) // 8 and 9 are no commands
	require.NoError(t, checkMarker(snaps, 9, e))
	require.NoError(t, checkMarker(snaps, 0, e), "the log may be empty behind a marker")
	e.applied = 6
	require.Equal(t, errs.Corrupt, errs.KindOf(checkMarker(snaps, 9, e)), "the engine lost an entry")

	e.err = errors.New("disk gone")
	require.ErrorIs(t, takeMarker(snaps, f, 10), e.err)
	require.Equal(t, errs.FailedPrecondition, errs.KindOf(f.Restore(io.NopCloser(bytes.NewReader(nil)))))
}

func TestBrokenEnginePoisons(t *testing.T) {
	e := &fakeEngine{err: errors.New("disk gone")}
	f := testShardFSM(e)
	err, ok := f.Apply(&raft.Log{Index: 3}).(error)
	require.True(t, ok)
	require.ErrorIs(t, err, e.err)
	require.ErrorIs(t, f.fail.Cause(), e.err)
	require.ErrorContains(t, f.fail.Cause(), "apply entry 3 of shard 0")
}

func TestMarkerFormat(t *testing.T) {
	b := appendMarker(nil, math.MaxUint64-1)
	require.Len(t, b, 13)
	flushed, err := decodeMarker(b)
	require.NoError(t, err)
	require.Equal(t, uint64(math.MaxUint64-1), flushed)
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		_, err := decodeMarker(bad)
		require.Equal(t, errs.Corrupt, errs.KindOf(err), "byte %d", i)
	}
	for i := range b {
		_, err := decodeMarker(b[:i])
		require.Equal(t, errs.Corrupt, errs.KindOf(err), "%d bytes", i)
	}
}

func TestMetaFSMRestores(t *testing.T) {
	snaps, err := raft.NewFileSnapshotStoreWithLogger(t.TempDir(), 2, hclog.NewNullLogger())
	require.NoError(t, err)
	f := newMetaFSM()
	ids := shardIDs(2)
	cmd := appendMetaCommand(nil, &metaCommand{op: metaInit, clusterID: "c", shards: ids, ring: newRing(ids)})
	before := f.state.Load()
	require.NoError(t, f.Apply(&raft.Log{Index: 4, Data: cmd}).(metaResult).err)
	<-before.superseded
	require.NoError(t, takeMarker(snaps, f, 4))
	metas, err := snaps.List()
	require.NoError(t, err)
	_, r, err := snaps.Open(metas[0].ID)
	require.NoError(t, err)
	g := newMetaFSM()
	require.NoError(t, g.Restore(r))
	require.Equal(t, appendState(nil, f.state.Load()), appendState(nil, g.state.Load()))
	require.Error(t, g.Restore(io.NopCloser(bytes.NewReader([]byte("damaged")))))
	require.Equal(t, uint64(4), g.state.Load().index, "a snapshot that is refused changes nothing")
}

func TestRaftLogger(t *testing.T) {
	var out bytes.Buffer
	l := raftLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo})), "shard 7")
	l.Info("routine")
	l.Warn("heartbeat timeout reached, starting election")
	require.Empty(t, out.String())
	l.Warn("odd", "term", 3)
	l.Named("raft").With("x", 1).Error("bad")
	require.Contains(t, out.String(), `level=WARN msg=odd group="shard 7" term=3`)
	require.Contains(t, out.String(), "level=ERROR msg=bad")
}
