package engine

import (
	"bytes"
	"maps"
	"slices"

	"github.com/croftdb/croft/engine/internal/store"
	"github.com/croftdb/croft/internal/codec"
)

// dropTenant drops every partition of a tenant and notes that it was dropped. The note stays for ever: ids are not used again,
// and an entry of a writer that has not heard of the drop may come at any time.
func (a *applier) dropTenant(t TenantID) {
	s, m := a.shard, a.shard.active
	if s.away(t) != nil { // a copy: what is kept beside it is kept at the tenant's home
		m.keep(&CostateEntry{Tenant: t})
	}
	a.dropAll(func(k Key) bool { return k.Tenant == t })
	m.once.clear(t)
	if s.residents.find(t) != nil {
		s.setResidence(t, nil) // the note says it all
	}
	if _, ok := m.dropped[t]; !ok {
		m.dropped[t] = struct{}{}
		m.bytes += droppedBytes
	}
	s.countBuffer()
}

// droppedBytes is about what a note costs in memory.
const droppedBytes = 48

// tenantDropped reports whether a tenant was dropped. It is asked where a partition is to be made, which is seldom, so that
// notes need no memory once they are stored. The caller holds mu.
func (s *Shard) tenantDropped(t TenantID) (dropped bool, err error) {
	for _, m := range [...]*memtable{s.active, s.frozen} {
		if m != nil && !dropped {
			_, dropped = m.dropped[t]
		}
	}
	if dropped {
		return true, nil
	}
	err = s.kv.View(func(tx store.Tx) error {
		v, err := tx.Get(bucketDropped, t[:])
		dropped = v != nil
		return err
	})
	return dropped, err
}

// commitDropped writes the notes.
func (f *flushing) commitDropped(tx store.RW) error {
	for _, t := range slices.SortedFunc(maps.Keys(f.mem.dropped), compareTenants) {
		if err := tx.Put(bucketDropped, t[:], []byte{1}); err != nil {
			return err
		}
	}
	return nil
}

// deletePrefix removes all whose key begins with prefix.
func deletePrefix(tx store.RW, b store.Bucket, prefix []byte) error {
	var doomed [][]byte
	err := tx.Ascend(b, prefix, func(k, _ []byte) (bool, error) {
		if !bytes.HasPrefix(k, prefix) {
			return false, nil
		}
		doomed = append(doomed, bytes.Clone(k))
		return true, nil
	})
	for _, k := range doomed {
		if err == nil {
			err = tx.Delete(b, k)
		}
	}
	return err
}

// addDropped adds the tenants that were dropped.
func (d *Digest) addDropped(tx store.Tx) error {
	return tx.Ascend(bucketDropped, nil, func(k, _ []byte) (bool, error) {
		d.addHash(codec.AppendBytes([]byte("dropped"), k))
		return true, nil
	})
}
