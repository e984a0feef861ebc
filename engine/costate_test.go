package engine

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/internal/errs"
)

func keep(tenant byte, name, value string) CostateEntry {
	return CostateEntry{TenantID{tenant}, name, []byte(value)}
}

// allCostate returns all that is kept in a shard, by tenant and name.
func allCostate(t require.TestingT, s *Shard) (all []CostateEntry) {
	var after TenantID
	for {
		tenants, err := s.CostateTenants(after, 2)
		require.NoError(t, err)
		for _, after = range tenants {
			found, err := s.ScanCostate(after, "", "")
			require.NoError(t, err)
			all = append(all, found...)
		}
		if len(tenants) < 2 {
			return all
		}
	}
}

func TestCostateBounds(t *testing.T) {
	s := inMemory(t, Options{})
	put := func(term uint64, es ...CostateEntry) error {
		return s.apply(&Command{Op: OpCostate, Term: term, Costate: es}).Err
	}
	require.NoError(t, put(5, keep(1, "a", "1"), keep(1, strings.Repeat("n", MaxCostateName), strings.Repeat("v", MaxCostateValue))))
	want := allCostate(t, s.shard)
	for name, c := range map[string]struct {
		kind    errs.Kind
		term    uint64
		entries []CostateEntry
	}{
		"a leader of before": {errs.FailedPrecondition, 4, []CostateEntry{keep(1, "a", "2")}},
		"no name":            {errs.Invalid, 5, []CostateEntry{keep(1, "a", "2"), keep(1, "", "2")}},
		"a long name":        {errs.TooLarge, 5, []CostateEntry{keep(1, "a", "2"), keep(1, strings.Repeat("n", MaxCostateName+1), "2")}},
		"a long value":       {errs.TooLarge, 5, []CostateEntry{keep(1, "a", "2"), keep(1, "b", strings.Repeat("v", MaxCostateValue+1))}},
		"many entries":       {errs.TooLarge, 5, slices.Repeat([]CostateEntry{keep(1, "a", "2")}, MaxCostateEntries+1)},
	} {
		require.Equal(t, c.kind, errs.KindOf(put(c.term, c.entries...)), name)
		require.Equal(t, want, allCostate(t, s.shard), "%s: all or none", name)
	}
	require.NoError(t, put(6, keep(1, "a", "3")))
}

// TestCostateTermIsKept shows that the fence against earlier leaders outlives a restart.
func TestCostateTermIsKept(t *testing.T) {
	s := newSubject(t, Options{})
	require.NoError(t, s.apply(&Command{Op: OpCostate, Term: 9, Costate: []CostateEntry{keep(1, "a", "1")}}).Err)
	s.restart(false)
	require.Error(t, s.apply(&Command{Op: OpCostate, Term: 8, Costate: []CostateEntry{keep(1, "a", "2")}}).Err)
	v, err := s.shard.Costate(TenantID{1}, "a")
	require.NoError(t, err)
	require.Equal(t, "1", string(v))
}

// TestCostateModel compares what is kept with a plain map, over flushes, stops and crashes.
func TestCostateModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newSubject(t, Options{})
		model := map[byte]map[string]string{}
		tenants, names := rapid.ByteRange(0, 3), rapid.SampledFrom([]string{"a", "a1", "a2", "b", "\xff", "c/1"})
		rt.Repeat(map[string]func(*rapid.T){
			"flush":   func(*rapid.T) { require.NoError(rt, s.shard.flush()) },
			"freeze":  func(*rapid.T) { s.shard.freeze() }, // as when the disk is full
			"restart": func(rt *rapid.T) { s.restart(rapid.Bool().Draw(rt, "crash")) },
			"keep": func(rt *rapid.T) {
				c := &Command{Op: OpCostate, Term: 1}
				for range rapid.IntRange(1, 4).Draw(rt, "entries") {
					tenant := tenants.Draw(rt, "tenant")
					e := CostateEntry{Tenant: TenantID{tenant, 1}}
					switch rapid.IntRange(0, 5).Draw(rt, "what") {
					case 0:
						delete(model, tenant)
					case 1:
						e.Name = names.Draw(rt, "name")
						delete(model[tenant], e.Name)
					default:
						e.Name = names.Draw(rt, "name")
						value := strconv.Itoa(rapid.IntRange(0, 99).Draw(rt, "value"))
						if value == "0" {
							value = ""
						}
						e.Value = []byte(value)
						if model[tenant] == nil {
							model[tenant] = map[string]string{}
						}
						model[tenant][e.Name] = value
					}
					c.Costate = append(c.Costate, e)
				}
				require.NoError(rt, s.apply(c).Err)
			},
			"": func(rt *rapid.T) {
				var want []CostateEntry
				for _, tenant := range slices.Sorted(maps.Keys(model)) {
					for _, name := range slices.Sorted(maps.Keys(model[tenant])) {
						want = append(want, CostateEntry{TenantID{tenant, 1}, name, []byte(model[tenant][name])})
					}
				}
				require.Equal(rt, want, allCostate(rt, s.shard))
				tenant, name := tenants.Draw(rt, "tenant"), names.Draw(rt, "name")
				v, err := s.shard.Costate(TenantID{tenant, 1}, name)
				require.NoError(rt, err)
				stored, ok := model[tenant][name]
				require.Equal(rt, []any{stored, ok}, []any{string(v), v != nil})
				some, err := s.shard.ScanCostate(TenantID{tenant, 1}, "a", "b")
				require.NoError(rt, err)
				n := 0
				for name := range model[tenant] {
					if name >= "a" && name < "b" {
						n++
					}
				}
				require.Len(rt, some, n)
			},
		})
	})
}
