package engine

import (
	"bytes"
	"maps"
	"slices"

	"github.com/croftdb/croft/engine/internal/store"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// CostateEntry sets what is kept of a tenant beside its records, under a name, or removes it. It is replicated, stored and
// shipped with them; the engine looks at none of it but the StorageLimit.
//
// Only a shard's leader proposes entries (OpCostate), whole values and no differences, from what it has read after it had
// applied an entry of its own term. Then one that is proposed twice does no harm; one that comes after a later leader's is
// refused by its term.
type CostateEntry struct {
	Tenant TenantID
	Name   string // empty, and no Value: all that is kept of the tenant goes
	Value  []byte // nil: it goes
}

// Bounds of co-state: names and values in bytes, and the entries of one command.
const (
	MaxCostateName    = 128
	MaxCostateValue   = 64 << 10
	MaxCostateEntries = 4096
)

// check refuses what is out of bounds.
func (e *CostateEntry) check() error {
	switch {
	case e.Name == "" && e.Value != nil:
		return errs.New(errs.Invalid, "co-state without a name")
	case len(e.Name) > MaxCostateName:
		return errs.New(errs.TooLarge, "the name of co-state has %d bytes, the limit is %d", len(e.Name), MaxCostateName)
	case len(e.Value) > MaxCostateValue:
		return errs.New(errs.TooLarge, "co-state %q has %d bytes, the limit is %d", e.Name, len(e.Value), MaxCostateValue)
	}
	return nil
}

// costatePart is what has changed of a tenant's co-state and is not yet in records.db.
type costatePart struct {
	cleared bool              // of what is older, nothing is left
	values  map[string][]byte // nil: removed
}

// costateBytes is about what a value costs in memory beside its bytes.
const costateBytes = 120

// keep enters e. The value is copied: the log may take back its memory.
func (m *memtable) keep(e *CostateEntry) {
	p := m.costate[e.Tenant]
	if p == nil || e.Name == "" {
		p = &costatePart{cleared: e.Name == "", values: map[string][]byte{}}
		m.costate[e.Tenant] = p
		m.bytes += costateBytes
	}
	if e.Name == "" {
		return
	}
	old, there := p.values[e.Name]
	if !there {
		m.bytes += int64(len(e.Name)) + costateBytes
	}
	m.bytes += int64(len(e.Value) - len(old))
	p.values[e.Name] = bytes.Clone(e.Value)
}

// kept is what a memtable says of a name; sure is false if it says nothing.
func (m *memtable) kept(tenant TenantID, name string) (value []byte, sure bool) {
	if m == nil || m.costate[tenant] == nil {
		return nil, false
	}
	p := m.costate[tenant]
	value, ok := p.values[name]
	return value, ok || p.cleared
}

// Costate returns what is kept of a tenant under a name, nil if there is nothing. ErrStaged, ErrLeft: the tenant lives elsewhere.
func (s *Shard) Costate(tenant TenantID, name string) (value []byte, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.away(tenant); err != nil {
		return nil, err
	}
	for _, m := range [...]*memtable{s.active, s.frozen} {
		if v, sure := m.kept(tenant, name); sure {
			return bytes.Clone(v), nil
		}
	}
	err = s.kv.View(func(tx store.Tx) error {
		v, err := tx.Get(bucketCostate, costateKey(tenant, name))
		value = bytes.Clone(v)
		return err
	})
	return value, err
}

// ScanCostate returns what is kept of a tenant under names from the first to before the last (empty: to the end), by name.
// ErrStaged, ErrLeft: the tenant lives elsewhere.
func (s *Shard) ScanCostate(tenant TenantID, first, last string) (found []CostateEntry, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.away(tenant); err != nil {
		return nil, err
	}
	err = s.kv.View(func(tx store.Tx) error {
		found, err = scanCostate(tx, tenant, first, last, s.frozen, s.active)
		return err
	})
	return found, err
}

// scanCostate is ScanCostate in a view, and in memtables that are newer, the oldest first.
func scanCostate(tx store.Tx, tenant TenantID, first, last string, mems ...*memtable) ([]CostateEntry, error) {
	values := map[string][]byte{}
	err := tx.Ascend(bucketCostate, costateKey(tenant, first), func(k, v []byte) (bool, error) {
		t, name := splitCostateKey(k)
		if t != tenant || last != "" && name >= last {
			return false, nil
		}
		values[name] = bytes.Clone(v)
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	for _, m := range mems {
		if m == nil || m.costate[tenant] == nil {
			continue
		}
		if m.costate[tenant].cleared {
			clear(values)
		}
		for name, v := range m.costate[tenant].values {
			if name >= first && (last == "" || name < last) {
				values[name] = bytes.Clone(v)
			}
		}
	}
	var found []CostateEntry
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if v := values[name]; v != nil {
			found = append(found, CostateEntry{tenant, name, v})
		}
	}
	return found, nil
}

// CostateTenants returns up to limit tenants of which something is kept, or was until lately, in order, after the given one,
// but for those that live elsewhere.
func (s *Shard) CostateTenants(after TenantID, limit int) (tenants []TenantID, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, m := range [...]*memtable{s.active, s.frozen} {
		if m == nil {
			continue
		}
		for t := range m.costate { // any order: sorted below
			if compareTenants(t, after) > 0 && s.away(t) == nil {
				tenants = append(tenants, t)
			}
		}
	}
	err = s.kv.View(func(tx store.Tx) error {
		next, found := after, true
		for n := 0; n < limit && found && err == nil; {
			if next, found, err = tenantAfter(tx, next); found && s.away(next) == nil {
				tenants = append(tenants, next)
				n++
			}
		}
		return err
	})
	slices.SortFunc(tenants, compareTenants)
	tenants = slices.Compact(tenants)
	return tenants[:min(len(tenants), limit)], err
}

// tenantAfter finds the next tenant of which records.db keeps something.
func tenantAfter(tx store.Tx, t TenantID) (next TenantID, found bool, err error) {
	for i := len(t) - 1; i >= 0; i-- { // the next higher number
		if t[i]++; t[i] != 0 {
			err = tx.Ascend(bucketCostate, t[:], func(k, _ []byte) (bool, error) {
				next, _ = splitCostateKey(k)
				found = true
				return false, nil
			})
			return next, found, err
		}
	}
	return next, false, nil
}

func compareTenants(a, b TenantID) int { return bytes.Compare(a[:], b[:]) }

func costateKey(tenant TenantID, name string) []byte {
	return append(tenant[:len(tenant):len(tenant)], name...)
}

func splitCostateKey(k []byte) (tenant TenantID, name string) {
	n := copy(tenant[:], k)
	return tenant, string(k[n:])
}

// commitCostate writes a memtable's co-state.
func (f *flushing) commitCostate(tx store.RW) error {
	for _, tenant := range slices.SortedFunc(maps.Keys(f.mem.costate), compareTenants) {
		if err := commitCostatePart(tx, tenant, f.mem.costate[tenant]); err != nil {
			return err
		}
	}
	return nil
}

func commitCostatePart(tx store.RW, tenant TenantID, p *costatePart) error {
	if p.cleared {
		if err := deletePrefix(tx, bucketCostate, tenant[:]); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.values)) {
		v := p.values[name]
		if err := putOrDelete(tx, bucketCostate, costateKey(tenant, name), v != nil, func() []byte { return v }); err != nil {
			return err
		}
	}
	return nil
}

// addCostate adds all co-state of a view.
func (d *Digest) addCostate(tx store.Tx) error {
	return tx.Ascend(bucketCostate, nil, func(k, v []byte) (bool, error) {
		d.addHash(append(codec.AppendBytes([]byte("costate"), k), v...))
		return true, nil
	})
}
