package engine

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine/internal/store"
	"github.com/croftdb/croft/internal/errs"
)

// TestDropTenant drops a tenant with partitions of two indexes: nothing of it is left, and nothing that comes late makes it
// again, whatever the shard went through since.
func TestDropTenant(t *testing.T) {
	s := onceShard(t)
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 2, Dim: 2, Metric: ann.Cosine}})
	gone, other := testKey(1, 1), testKey(2, 1)
	for _, k := range []Key{gone, testKey(1, 2), other} {
		for i, rec := range []string{"a", "b"} {
			a := s.apply(&Command{Op: OpUpsert, Key: k, Records: []Record{{ID: rec, Values: []float32{1, 2}}}, Once: onceOf(byte(k.Index)*10+byte(i), 1, 1000)})
			require.NoError(t, a.Err)
		}
	}
	require.NoError(t, s.apply(&Command{Op: OpCostate, Costate: []CostateEntry{keep(1, "bill", "1")}}).Err)
	require.NoError(t, s.shard.flush())
	require.NoError(t, s.apply(upsertOnce(1, 1, onceOf(9, 9, 2000))).Err, "an answer that is not yet on disk")

	drop := &Command{Op: OpDropTenant, Key: Key{Tenant: gone.Tenant}}
	require.Equal(t, 5, s.apply(drop).Affected)
	for name, between := range map[string]func(){
		"at once":       func() {},
		"after a flush": func() { require.NoError(t, s.shard.flush()) },
		"after a stop":  func() { s.restart(false) },
		"after a crash": func() { s.restart(true) },
		"dropped again": func() { require.Equal(t, 0, s.apply(drop).Affected) },
	} {
		between()
		for _, late := range []*Command{
			upsertOnce(1, 1, nil), upsertOnce(1, 1, onceOf(9, 9, 3000)), upsertOnce(1, 1, onceOf(10, 1, 3000)),
			{Op: OpCreatePartition, Key: testKey(1, 2)}, {Op: OpDeleteAll, Key: gone},
		} {
			a := s.apply(late)
			require.Equal(t, errs.NotFound, errs.KindOf(a.Err), "%s: %+v", name, late)
			require.False(t, a.Repeated)
		}
		_, there, err := s.shard.Partition(gone)
		require.NoError(t, err)
		require.False(t, there)
		p, _, err := s.shard.Partition(other)
		require.NoError(t, err)
		require.EqualValues(t, 2, p.Records)
		require.True(t, s.apply(upsertOnce(2, 1, onceOf(10, 1, 3000))).Repeated, name)
	}
	v, err := s.shard.Costate(gone.Tenant, "bill")
	require.NoError(t, err)
	require.Equal(t, "1", string(v))
	require.NoError(t, s.shard.flush())
	require.NoError(t, s.shard.kv.View(func(tx store.Tx) error {
		return tx.Ascend(bucketOnce, nil, func(k, _ []byte) (bool, error) {
			require.NotEqual(t, string(gone.Tenant[:]), string(k[1:17]), "answers of its writes are gone")
			return true, nil
		})
	}))
}

// TestDropIsInTheDigest: a replica that has not heard of a drop has another digest, although neither holds anything.
func TestDropIsInTheDigest(t *testing.T) {
	s := onceShard(t)
	before, _, err := s.shard.Digest(context.Background())
	require.NoError(t, err)
	s.apply(&Command{Op: OpDropTenant, Key: Key{Tenant: TenantID{1}}})
	after, _, err := s.shard.Digest(context.Background())
	require.NoError(t, err)
	require.NotEqual(t, before, after)
}
