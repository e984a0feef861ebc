package engine

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/errs"
)

// quotaModel counts what a tenant stores as its user would.
type quotaModel struct {
	limit StorageLimit
	parts [2]map[string]Record // by index
}

func (m *quotaModel) count() (sum StorageLimit) {
	for _, part := range m.parts {
		for id, r := range part { // any order: a sum
			sum.Records++
			sum.Bytes += uint64(len(id) + 4*len(r.Values) + len(binaryOf(r.Metadata)))
		}
	}
	return sum
}

// try makes a change, and takes it back if that leads further over the limit.
func (m *quotaModel) try(part int, changed map[string]Record) (fits bool) {
	before, old := m.count(), m.parts[part]
	m.parts[part] = changed
	now := m.count()
	if now.Records > before.Records && now.Records > m.limit.Records || now.Bytes > before.Bytes && now.Bytes > m.limit.Bytes {
		m.parts[part] = old
		return false
	}
	return true
}

func (m *quotaModel) copyOf(part int) map[string]Record {
	c := map[string]Record{}
	for id, r := range m.parts[part] {
		c[id] = r
	}
	return c
}

func note(t testing.TB, rng *rand.Rand) metadata.Map {
	m, err := metadata.Make(metadata.Field{Key: "note", Value: metadata.StringValue(strings.Repeat("x", rng.IntN(200)))})
	require.NoError(t, err)
	return m
}

// TestStorageLimit compares what is refused with a plain count, over restarts and with a limit that changes.
func TestStorageLimit(t *testing.T) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 7))
		s := newSubject(t, Options{})
		dims := [2]int{2, 3}
		for i, dim := range dims {
			s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: IndexID(i + 1), Dim: dim, Metric: ann.Euclidean}})
			s.apply(&Command{Op: OpCreatePartition, Key: testKey(1, IndexID(i+1))})
		}
		tenant := TenantID{1}
		m := quotaModel{limit: NoStorageLimit, parts: [2]map[string]Record{{}, {}}}
		refusals := 0
		for n := range 400 {
			part := rng.IntN(2)
			k := Key{tenant, IndexID(part + 1)}
			changed := m.copyOf(part)
			var c *Command
			switch act := rng.IntN(20); {
			case act == 0:
				m.limit = []StorageLimit{{uint64(rng.IntN(40)), 1 << 40}, {1 << 40, uint64(rng.IntN(4000))}, {10, 1000}, NoStorageLimit}[rng.IntN(4)]
				require.NoError(t, s.apply(&Command{Op: OpCostate, Term: uint64(n), Costate: []CostateEntry{StorageLimitEntry(tenant, m.limit)}}).Err)
				got, err := s.shard.StorageLimit(tenant)
				require.NoError(t, err)
				require.Equal(t, m.limit, got)
				continue
			case act == 1:
				s.restart(rng.IntN(2) == 0)
				continue
			case act < 6:
				id := strconv.Itoa(rng.IntN(30))
				c = &Command{Op: OpDelete, Key: k, Targets: []Target{{ID: id}}}
				delete(changed, id)
			case act < 10:
				id := strconv.Itoa(rng.IntN(30))
				c = &Command{Op: OpUpdate, Key: k, Update: Update{Targets: []Target{{ID: id}}, SetMetadata: note(t, rng)}}
				if r, ok := changed[id]; ok {
					r.Metadata = metadata.Merge(r.Metadata, c.Update.SetMetadata)
					changed[id] = r
				}
			default:
				c = &Command{Op: OpUpsert, Key: k}
				for range 1 + rng.IntN(4) { // the same one twice, too
					r := Record{ID: strconv.Itoa(rng.IntN(30)), Values: make([]float32, dims[part]), Metadata: note(t, rng)}
					c.Records = append(c.Records, r)
					changed[r.ID] = r
				}
			}
			fits := m.try(part, changed)
			expected := s.shard.Fits(c)
			got := s.apply(c).Err
			if !fits {
				refusals++
				require.True(t, errs.Is(got, errs.QuotaExceeded), "seed %d, step %d: %v", seed, n, got)
				require.EqualError(t, expected, got.Error())
				continue
			}
			require.NoError(t, got, "seed %d, step %d", seed, n)
			if c.Op != OpDelete {
				require.NoError(t, expected)
			}
		}
		require.Equal(t, m.count(), s.shard.stored(tenant))
		require.NotZero(t, refusals)
		require.NoError(t, s.apply(&Command{Op: OpUpsert, Key: testKey(2, 1), Records: []Record{{ID: strings.Repeat("y", 500), Values: []float32{1, 2}}}}).Err, "another tenant")
	}
}
