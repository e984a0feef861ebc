package engine

import (
	"context"
	"io"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
)

// stageAll copies a tenant that lives in one shard into another, in batches of about size bytes, and returns how many.
func stageAll(t testing.TB, from, to *subject, tenant TenantID, m Move, size int) (batches uint64) {
	require.NoError(t, to.apply(&Command{Op: OpStageTenant, Key: Key{Tenant: tenant}, Move: m}).Err)
	x, err := from.shard.ExportTenant(context.Background(), tenant)
	require.NoError(t, err)
	defer func() { require.NoError(t, x.Close()) }()
	for !to.shard.Residence(tenant).Copy.Copied {
		c, err := x.Next(size)
		require.NoError(t, err)
		c.Move = m
		require.NoError(t, to.apply(c).Err)
		batches++
	}
	_, err = x.Next(size)
	require.Error(t, err)
	return batches
}

// tailOf is what a shard's log did to a tenant behind an entry, up to another.
func tailOf(s *subject, tenant TenantID, m Move, from, to uint64) *Command {
	tail := &Tail{From: from, To: to}
	for _, b := range s.log[from:to] {
		if cmd, concerns := TailCommand(b, tenant); concerns {
			tail.Commands = append(tail.Commands, cmd)
		}
	}
	return &Command{Op: OpStageTail, Key: Key{Tenant: tenant}, Move: m, Tail: tail}
}

// handOver fences a tenant whose copy is complete, lets the copy catch up and settles it.
func handOver(t testing.TB, from, to *subject, tenant TenantID, m Move) {
	key := Key{Tenant: tenant}
	require.NoError(t, from.apply(&Command{Op: OpFenceTenant, Key: key, Move: m}).Err)
	d, err := from.shard.TenantDigest(tenant)
	require.NoError(t, err)
	require.NoError(t, to.apply(tailOf(from, tenant, m, to.shard.Residence(tenant).Copy.Position, d.Applied)).Err)
	require.NoError(t, to.apply(&Command{Op: OpStageReady, Key: key, Move: m, Digest: &d}).Err)
	require.NoError(t, to.apply(&Command{Op: OpSettleTenant, Key: key, Move: m, Epoch: m.ID}).Err)
	require.NoError(t, from.apply(&Command{Op: OpLeaveTenant, Key: key, Move: m, Epoch: m.ID}).Err)
}

// TestMove moves a tenant with records of two indexes, answers and co-state to a shard that has not heard of any of it, and on
// while it is written to.
func TestMove(t *testing.T) {
	for _, size := range []int{1, 300, 1 << 20} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			from, to := inMemory(t, Options{}), inMemory(t, Options{})
			rng := rand.New(rand.NewPCG(1, 1))
			for n := range 150 {
				from.apply(mixed(rng, n))
			}
			from.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 2, Metric: ann.DotProduct}})
			from.apply(&Command{Op: OpUpsert, Key: testKey(1, 2), Records: []Record{{ID: "s", Sparse: Sparse{Indices: []uint32{3}, Values: []float32{1}}}}})
			from.apply(&Command{Op: OpCreatePartition, Key: testKey(1, 1)})
			for key := range byte(20) {
				require.NoError(t, from.apply(&Command{Op: OpDelete, Key: testKey(1, 1), Targets: []Target{{ID: "id-1"}}, Once: onceOf(key, key, int64(key))}).Err)
			}
			tenant, m := TenantID{1}, Move{1, 1}
			batches := stageAll(t, from, to, tenant, m, size)
			require.Equal(t, size == 1<<20, batches == 4, "%d batches", batches)
			for n := range 150 {
				from.apply(mixed(rng, n+150))
			}
			handOver(t, from, to, tenant, m)
			want, err := from.shard.TenantDigest(tenant)
			require.NoError(t, err)
			got, err := to.shard.TenantDigest(tenant)
			require.NoError(t, err)
			require.Equal(t, want.Sum(), got.Sum())
			require.Equal(t, want.Partitions, got.Partitions)
			readBack(t, to.shard)
			again := to.apply(&Command{Op: OpDelete, Key: testKey(1, 1), Once: onceOf(7, 7, 99)})
			require.True(t, again.Repeated)
			require.LessOrEqual(t, again.First, to.shard.AppliedIndex(), "it is an entry of this log")
			for _, s := range []*subject{from, to} {
				before, _, err := s.shard.Digest(t.Context())
				require.NoError(t, err)
				s.restart(true)
				after, _, err := s.shard.Digest(t.Context())
				require.NoError(t, err)
				require.Equal(t, before, after)
			}
			require.NoError(t, from.apply(&Command{Op: OpForgetTenant, Key: Key{Tenant: tenant}, Move: m}).Err)
			upkeep(from.shard)
			records, _ := from.shard.TenantFigures(tenant)
			require.Zero(t, records)
			recount(t, from.shard)
			stageAll(t, to, from, tenant, Move{2, 1}, size)
			handOver(t, to, from, tenant, Move{2, 1})
			got, err = from.shard.TenantDigest(tenant)
			require.NoError(t, err)
			require.Equal(t, want.Sum(), got.Sum(), "there and back")
		})
	}
}

// TestReadyStays sends a copy that was compared with its source what comes late: the next entries of the source's log, which are other
// tenants', and another comparison. It can be settled all the same, since its home may have been flipped.
func TestReadyStays(t *testing.T) {
	from, to := inMemory(t, Options{}), inMemory(t, Options{})
	rng := rand.New(rand.NewPCG(1, 1))
	for n := range 50 {
		from.apply(mixed(rng, n))
	}
	tenant, m := TenantID{1}, Move{1, 1}
	key := Key{Tenant: tenant}
	stageAll(t, from, to, tenant, m, 1<<20)
	require.NoError(t, from.apply(&Command{Op: OpFenceTenant, Key: key, Move: m}).Err)
	compare := func() {
		d, err := from.shard.TenantDigest(tenant)
		require.NoError(t, err)
		require.NoError(t, to.apply(&Command{Op: OpStageReady, Key: key, Move: m, Digest: &d}).Err)
	}
	at := uint64(len(from.log))
	require.NoError(t, to.apply(tailOf(from, tenant, m, to.shard.Residence(tenant).Copy.Position, at)).Err)
	compare()
	ready := to.shard.Residence(tenant)
	require.True(t, ready.Copy.Ready)
	for n := range 20 {
		from.apply(mixed(rng, n))
	}
	require.NoError(t, to.apply(tailOf(from, tenant, m, at, uint64(len(from.log)))).Err)
	require.Equal(t, ready, to.shard.Residence(tenant))
	compare()
	require.Equal(t, ready, to.shard.Residence(tenant))
	to.restart(true)
	require.NoError(t, to.apply(&Command{Op: OpSettleTenant, Key: key, Move: m, Epoch: 1}).Err)
}

// TestMoveShipsGraph finds all records of a partition that was moved in the graph that came along, and the same answers.
func TestMoveShipsGraph(t *testing.T) {
	opts := Options{GraphAbove: 50, FlatBelow: 10, Logger: quiet()}
	from, to := newSubject(t, opts), newSubject(t, opts)
	fillGraph(from, 600)
	want := queryAll(from, 20)
	key, m := testKey(1, 1), Move{1, 1}
	stageAll(t, from, to, key.Tenant, m, 1<<20)
	shipGraph(t, from.shard, to.shard, key)
	require.NoError(t, to.shard.Warm(t.Context(), key))
	handOver(t, from, to, key.Tenant, m)

	sp := to.shard.registry.find(key).space.Load()
	v := sp.view.Load()
	require.NotNil(t, v.graph)
	require.Equal(t, 600, v.graph.Len())
	require.Empty(t, v.pending)
	require.Equal(t, want, queryAll(to, 20))
	require.Zero(t, to.engine.graphInserts.Load(), "nothing was built")
}

// shipGraph brings a partition's graph from one shard to another.
func shipGraph(t testing.TB, from, to *Shard, key Key) {
	g, err := from.ExportGraph(key)
	require.NoError(t, err)
	defer func() { require.NoError(t, g.Close()) }()
	require.NoError(t, to.ImportGraph(context.Background(), key, io.NewSectionReader(g, 0, g.Size)))
}
