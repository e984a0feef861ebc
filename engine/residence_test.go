package engine

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/internal/errs"
)

// order is a command about where tenant 1 lives.
func order(op Op, id, attempt uint64) *Command {
	return &Command{Op: op, Key: Key{Tenant: TenantID{1}}, Move: Move{id, attempt}, Epoch: 7}
}

// TestOrders gives orders one after the other to a shard in which the tenant lives. Those of an attempt that is over are refused,
// repeated ones are not, whatever the shard went through in between.
func TestOrders(t *testing.T) {
	const fence, unfence, leave, forget, stage = OpFenceTenant, OpUnfenceTenant, OpLeaveTenant, OpForgetTenant, OpStageTenant
	type step struct {
		op      Op
		id, try uint64
		done    bool
		then    Standing
	}
	for name, steps := range map[string][]step{
		"moved away and back": {
			{fence, 1, 1, true, Fenced}, {leave, 1, 1, true, Left}, {leave, 1, 1, true, Left}, {fence, 1, 1, false, Left}, {unfence, 1, 1, false, Left},
			{stage, 1, 1, false, Left}, {stage, 2, 1, true, Staged}, {forget, 1, 1, false, Staged}, {stage, 2, 1, true, Staged}, {OpSettleTenant, 2, 1, false, Staged},
			{forget, 2, 1, true, Left}, {forget, 2, 1, true, Left}, {stage, 2, 1, false, Left}, {stage, 2, 2, true, Staged},
		},
		"aborted": {
			{fence, 1, 1, true, Fenced}, {fence, 1, 1, true, Fenced}, {unfence, 1, 1, true, Home}, {unfence, 1, 1, true, Home}, {fence, 1, 1, false, Home},
			{leave, 1, 1, false, Home}, {fence, 1, 2, true, Fenced}, {unfence, 1, 1, false, Fenced}, {fence, 2, 1, true, Fenced}, {leave, 1, 2, false, Fenced},
		},
		"aborted before it is fenced": {{unfence, 3, 1, true, Home}, {fence, 3, 1, false, Home}, {fence, 2, 9, false, Home}, {fence, 3, 2, true, Fenced}},
		"never this shard's business": {
			{leave, 1, 1, false, Home}, {OpSettleTenant, 1, 1, false, Home}, {stage, 1, 1, false, Home}, {forget, 1, 1, false, Home}, {fence, 0, 1, false, Home},
		},
		"orders of a copy for a tenant that is fenced": {
			{fence, 1, 1, true, Fenced}, {stage, 2, 1, false, Fenced}, {forget, 1, 1, false, Fenced}, {OpSettleTenant, 1, 1, false, Fenced},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := onceShard(t)
			require.NoError(t, s.apply(upsertOnce(1, 1, nil)).Err)
			for i, st := range steps {
				before := s.shard.Residence(TenantID{1})
				a := s.apply(order(st.op, st.id, st.try))
				what := fmt.Sprintf("step %d: %+v: %v", i, st, a.Err)
				require.Equal(t, st.done, a.Err == nil, what)
				after := s.shard.Residence(TenantID{1})
				require.Equal(t, st.then, after.Standing, what)
				if !st.done {
					require.Equal(t, before, after, what)
				}
				switch i % 3 {
				case 0:
					require.NoError(t, s.shard.flush())
				case 1:
					s.restart(true)
				}
				require.Equal(t, after, s.shard.Residence(TenantID{1}), what)
			}
			s.restart(false)
		})
	}
}

// TestStandings tells what is answered to readers and writers of a tenant, and that its neighbour notices nothing.
func TestStandings(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		orders      []*Command
		read, write error
	}{
		"home":     {nil, nil, nil},
		"fenced":   {[]*Command{order(OpFenceTenant, 1, 1)}, nil, ErrFenced},
		"unfenced": {[]*Command{order(OpFenceTenant, 1, 1), order(OpUnfenceTenant, 1, 1)}, nil, nil},
		"left":     {[]*Command{order(OpFenceTenant, 1, 1), order(OpLeaveTenant, 1, 1)}, ErrLeft, ErrLeft},
		"gone":     {[]*Command{order(OpFenceTenant, 1, 1), order(OpLeaveTenant, 1, 1), order(OpForgetTenant, 1, 1)}, ErrLeft, ErrLeft},
		"staged":   {[]*Command{order(OpFenceTenant, 1, 1), order(OpLeaveTenant, 1, 1), order(OpStageTenant, 2, 1)}, ErrStaged, ErrStaged},
	} {
		t.Run(name, func(t *testing.T) {
			s := onceShard(t)
			for _, tenant := range []byte{1, 2} {
				require.NoError(t, s.apply(upsertOnce(tenant, 2, onceOf(1, 1, 1000))).Err)
				require.NoError(t, s.apply(&Command{Op: OpCostate, Costate: []CostateEntry{keep(tenant, "a", "1")}}).Err)
			}
			for _, o := range c.orders {
				require.NoError(t, s.apply(o).Err)
			}
			for tenant, want := range map[byte]struct{ read, write error }{1: {c.read, c.write}, 2: {}} {
				for what, err := range reads(ctx, s.shard, testKey(tenant, 1)) {
					require.Truef(t, errors.Is(err, want.read) && (want.read == nil) == (err == nil), "%s: %v", what, err)
					require.True(t, err == nil || errs.Is(err, errs.Unavailable))
				}
				before, err := s.shard.TenantDigest(TenantID{tenant})
				require.NoError(t, err)
				for _, w := range writesOf(tenant) {
					err := s.apply(w).Err
					require.Truef(t, errors.Is(err, want.write) && (want.write == nil) == (err == nil), "%+v: %v", w, err)
				}
				after, err := s.shard.TenantDigest(TenantID{tenant})
				require.NoError(t, err)
				require.Equal(t, want.write != nil, before.Sum() == after.Sum())
				records, _ := s.shard.Stored(TenantID{tenant})
				require.Equal(t, want.read == nil, records > 0)
			}
			listed := len(s.shard.Partitions(1))
			require.Equal(t, c.read == nil, listed == 2, "%d partitions are listed", listed)
			require.Len(t, s.shard.Tenants(TenantID{}, 9), 2, "all are, for who asks where tenants live")
		})
	}
}

// reads does all reads of a partition.
func reads(ctx context.Context, s *Shard, k Key) map[string]error {
	found := map[string]error{}
	found["query"] = s.Query(ctx, k, &Query{Vector: []float32{1, 2}, K: 1}, &Result{})
	_, found["fetch"] = s.Fetch(ctx, k, []string{"0"})
	_, _, found["scan"] = s.Scan(ctx, k, "", "", nil, 9)
	_, _, found["scan ids"] = s.ScanIDs(ctx, k, "", "", 9)
	_, found["resolve"] = s.Resolve(ctx, k, nil)
	_, _, found["partition"] = s.Partition(k)
	_, found["costate"] = s.Costate(k.Tenant, "a")
	_, found["scan costate"] = s.ScanCostate(k.Tenant, "", "")
	_, _, found["answered"] = s.Answered(k.Tenant, onceOf(1, 1, 1000))
	return found
}

// writesOf are writes of all kinds; the last leaves nothing.
func writesOf(tenant byte) []*Command {
	k := testKey(tenant, 1)
	return []*Command{
		upsertOnce(tenant, 1, nil),
		{Op: OpCreatePartition, Key: k},
		{Op: OpUpdate, Key: k, Update: Update{Targets: []Target{{ID: "0"}}, Values: []float32{3, 4}}},
		{Op: OpDelete, Key: k, Targets: []Target{{ID: "1"}}},
		{Op: OpCostate, Costate: []CostateEntry{keep(tenant, "a", "2")}},
		upsertOnce(tenant, 2, onceOf(1, 1, 1000)),
		{Op: OpDeleteAll, Key: k, Once: onceOf(2, 2, 1000)},
		upsertOnce(tenant, 3, nil),
	}
}

// TestDropWins drops a tenant in each standing: no order about where it lives is obeyed any more, and a copy takes its co-state
// along.
func TestDropWins(t *testing.T) {
	all := []*Command{
		order(OpFenceTenant, 1, 1), order(OpLeaveTenant, 1, 1), order(OpStageTenant, 2, 1), order(OpForgetTenant, 2, 1),
	}
	for n := range len(all) + 1 {
		s := onceShard(t)
		require.NoError(t, s.apply(upsertOnce(1, 1, onceOf(1, 1, 1000))).Err)
		require.NoError(t, s.apply(&Command{Op: OpCostate, Costate: []CostateEntry{keep(1, "bill", "1")}}).Err)
		for _, o := range all[:n] {
			require.NoError(t, s.apply(o).Err)
		}
		require.NoError(t, s.apply(&Command{Op: OpDropTenant, Key: Key{Tenant: TenantID{1}}}).Err)
		require.Zero(t, s.shard.Residence(TenantID{1}))
		v, err := s.shard.Costate(TenantID{1}, "bill")
		require.NoError(t, err)
		require.Equal(t, n < 2, v != nil, "the last bill is at home, after %d orders", n)
		for _, late := range append(all, order(OpStageTenant, 9, 9), upsertOnce(1, 1, nil)) {
			require.Equal(t, errs.NotFound, errs.KindOf(s.apply(late).Err), "%+v", late)
		}
		s.restart(true)
		require.Empty(t, s.shard.Tenants(TenantID{}, 9))
	}
}

// batchOf is one batch of every kind of thing.
func batchOf(tenant TenantID, number uint64) (records, beside *Batch) {
	records = &Batch{Number: number, Position: 5, seq: 9, version: 4, records: []stagedRecord{
		{id: "a", version: 3, values: []float32{1, 2}, meta: []byte{}}, {id: "b", version: 9, values: []float32{3, 4}, sparse: Sparse{Indices: []uint32{7}, Values: []float32{1}}, meta: []byte{0}},
	}}
	beside = &Batch{Number: number, Position: 5, Last: true}
	beside.beside = beside.beside.filled(tenant)
	return records, beside
}

func (b beside) filled(tenant TenantID) beside {
	b.origin = origin{fenced: true, move: Move{3, 4}, closed: true, term: 5}
	b.schemas = []Schema{{ID: 3, Dim: 2, Metric: ann.Cosine, Bits: NoCodes}}
	b.dropped = []IndexID{4}
	b.use = onceUse{keys: 2, now: 1000}
	b.answers = []keyedAnswer{{[16]byte{1}, onceAnswer{body: [16]byte{2}, at: 900, seq: 1, index: 7, affected: 3, version: 4}}}
	b.costate = []CostateEntry{{tenant, "a", []byte("1")}}
	return b
}

// moveCommands are commands of each kind about where a tenant lives.
func moveCommands(tenant TenantID) []*Command {
	records, beside := batchOf(tenant, 1)
	cmds := []*Command{
		{Op: OpStageRecords, Key: Key{tenant, 1}, Batch: records},
		{Op: OpStageBeside, Batch: beside},
		{Op: OpStageTail, Tail: &Tail{From: 5, To: 9, Commands: [][]byte{AppendCommand(nil, upsertOnce(tenant[0], 1, nil)), {}}}},
		{Op: OpStageReady, Digest: &TenantDigest{Applied: 9, Partitions: []PartitionDigest{{1, 2, 3, 4, 5, Digest{6, 7}}}, Beside: Digest{8, 9}}},
		{Op: OpSettleTenant, Epoch: 3}, {Op: OpLeaveTenant, Epoch: 3},
	}
	for _, op := range []Op{OpStageTenant, OpFenceTenant, OpUnfenceTenant, OpForgetTenant} {
		cmds = append(cmds, &Command{Op: op})
	}
	for _, c := range cmds {
		c.Key.Tenant, c.Move = tenant, Move{2, 1}
	}
	return cmds
}

func TestMoveCommandsRoundTrip(t *testing.T) {
	for _, c := range moveCommands(TenantID{1}) {
		b := AppendCommand(nil, c)
		got, err := DecodeCommand(b)
		require.NoError(t, err)
		if c.Batch != nil && c.Batch.records == nil && c.Op == OpStageRecords {
			got.Batch.records = nil
		}
		require.Equal(t, c, got)
		for n := range b {
			_, err := DecodeCommand(b[:n])
			require.Equal(t, errs.Corrupt, errs.KindOf(err), "cut to %d bytes of %d", n, len(b))
		}
		require.LessOrEqual(t, len(b), EncodedSize(c)+128)
	}
}

// TestTailCommand says of each kind of entry what it does to tenant 1.
func TestTailCommand(t *testing.T) {
	k := testKey(1, 1)
	for _, c := range []struct {
		entry    *Command
		concerns bool
	}{
		{upsertOnce(1, 1, nil), true}, {upsertOnce(2, 1, nil), false}, {upsertOnce(1, 1, onceOf(1, 1, 1)), true}, {upsertOnce(2, 1, onceOf(1, 1, 1)), false},
		{&Command{Op: OpDeleteAll, Key: k}, true}, {&Command{Op: OpDropPartition, Key: k}, true}, {&Command{Op: OpCreatePartition, Key: k}, true},
		{&Command{Op: OpDropTenant, Key: k}, true}, {&Command{Op: OpDropTenant, Key: testKey(2, 1)}, false},
		{&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: 2, Metric: ann.Cosine}}, true}, {&Command{Op: OpDropIndex, Key: k}, true},
		{order(OpFenceTenant, 1, 1), true}, {order(OpUnfenceTenant, 1, 1), true}, {order(OpLeaveTenant, 1, 1), false}, {order(OpStageTenant, 1, 1), false},
	} {
		b := AppendCommand(nil, c.entry)
		got, concerns := TailCommand(b, TenantID{1})
		require.Equal(t, c.concerns, concerns, "%+v", c.entry)
		if concerns {
			require.Equal(t, b, got)
		}
	}
	mixed := &Command{Op: OpCostate, Term: 4, Costate: []CostateEntry{keep(2, "a", "1"), keep(1, "b", "2"), {TenantID{1}, "c", nil}}}
	got, concerns := TailCommand(AppendCommand(nil, mixed), TenantID{1})
	require.True(t, concerns)
	cut, err := DecodeCommand(got)
	require.NoError(t, err)
	require.Equal(t, &Command{Op: OpCostate, Term: 4, Costate: mixed.Costate[1:]}, cut)
	for _, b := range [][]byte{nil, {0}, {255}, {byte(OpUpsert)}} {
		_, concerns := TailCommand(b, TenantID{1})
		require.False(t, concerns)
	}
}

// FuzzResidence reads anything as where a tenant lives; what can be read is written as it was understood.
func FuzzResidence(f *testing.F) {
	f.Add((&Residence{Standing: Left, Move: Move{1, 2}, Closed: true, Epoch: 3}).encode())
	f.Add((&Residence{Standing: Staged, Move: Move{1, 2}, Copy: Copy{
		Position: 4, Batches: 5, Copied: true, Ready: true, Digest: Digest{6, 7}, origin: origin{true, Move{8, 9}, true, 10}, index: 11, id: "id",
	}}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeResidence(b)
		if err != nil {
			require.Equal(t, errs.Corrupt, errs.KindOf(err))
			return
		}
		again, err := decodeResidence(r.encode())
		require.NoError(t, err)
		require.Equal(t, r, again)
	})
}
