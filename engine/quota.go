package engine

import (
	"math"

	"github.com/croftdb/croft/engine/internal/store"
	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// StorageLimit bounds what a tenant may store in a shard, over all indexes. It is kept in co-state, under the one name that the
// engine reads itself: so Apply goes by the limit that was last sent through the log, on every replica alike.
type StorageLimit struct {
	Records uint64
	Bytes   uint64 // as PartitionStats counts them
}

// StorageLimitName is the name in co-state. A value that cannot be read limits nothing.
const StorageLimitName = "storage-limit"

// NoStorageLimit limits nothing.
var NoStorageLimit = StorageLimit{math.MaxUint64, math.MaxUint64}

// StorageLimitEntry is the co-state that puts a limit in force.
func StorageLimitEntry(t TenantID, l StorageLimit) CostateEntry {
	e := CostateEntry{Tenant: t, Name: StorageLimitName}
	if l != NoStorageLimit {
		e.Value = codec.AppendUvarint(codec.AppendUvarint(nil, l.Records), l.Bytes)
	}
	return e
}

func readStorageLimit(v []byte) StorageLimit {
	r := codec.NewReader(v)
	l := StorageLimit{r.Uvarint(), r.Uvarint()}
	if v == nil || r.Done() != nil {
		return NoStorageLimit
	}
	return l
}

// StorageLimit returns the limit that is in force for a tenant.
func (s *Shard) StorageLimit(t TenantID) (StorageLimit, error) {
	v, err := s.Costate(t, StorageLimitName)
	return readStorageLimit(v), err
}

// storageLimit is StorageLimit under mu and in a view.
func (s *Shard) storageLimit(tx store.Tx, t TenantID) (StorageLimit, error) {
	for _, m := range [...]*memtable{s.active, s.frozen} {
		if v, sure := m.kept(t, StorageLimitName); sure {
			return readStorageLimit(v), nil
		}
	}
	v, err := tx.Get(bucketCostate, costateKey(t, StorageLimitName))
	return readStorageLimit(v), err
}

// stored adds up what a tenant has. Indexes are few. The caller holds mu.
func (s *Shard) stored(t TenantID) (sum StorageLimit) {
	for id := range s.schemas { // any order: a sum
		if p := s.registry.find(Key{t, id}); p != nil {
			sum.Records += p.head.Records
			sum.Bytes += p.head.Bytes
		}
	}
	return sum
}

// Fits tells in advance whether a command would be refused for its tenant's StorageLimit: QuotaExceeded. ErrFenced, ErrStaged,
// ErrLeft: it would be refused for where the tenant lives. Apply decides anew.
func (s *Shard) Fits(c *Command) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.barred(c.Key.Tenant); err != nil {
		return err
	}
	schema := s.schemas[c.Key.Index]
	if schema == nil {
		return nil
	}
	a := &applier{shard: s, part: s.registry.find(c.Key)}
	if a.part == nil {
		a.part = s.newPartition(c.Key, schema, head{})
	}
	var ok bool
	err := s.kv.View(func(tx store.Tx) (err error) {
		a.tx = tx
		ok, err = a.fits(c)
		return err
	})
	if err == nil && !ok {
		err = a.out.Err
	}
	return err
}

// fits refuses what would let a tenant store more than it may. What makes it store less, or no more, is never refused.
func (a *applier) fits(c *Command) (bool, error) {
	limit, err := a.shard.storageLimit(a.tx, c.Key.Tenant)
	if err != nil || limit == NoStorageLimit {
		return true, err
	}
	records, size, err := a.growth(c)
	if err != nil {
		return false, err
	}
	have := a.shard.stored(c.Key.Tenant)
	switch {
	case records > 0 && have.Records+uint64(records) > limit.Records:
		return a.refuse(errs.QuotaExceeded, "the quota is %d records: %d are stored, and the request adds %d", limit.Records, have.Records, records), nil
	case size > 0 && have.Bytes+uint64(size) > limit.Bytes:
		return a.refuse(errs.QuotaExceeded, "the quota is %d bytes: %d are stored, and the request adds %d", limit.Bytes, have.Bytes, size), nil
	}
	return true, nil
}

// growth is by how many records and bytes a command lets its partition grow; less than 0 if it shrinks.
func (a *applier) growth(c *Command) (records, size int64, err error) {
	if c.Op == OpUpdate {
		size, err = a.updateGrowth(&c.Update)
		return 0, size, err
	}
	dim, seen := a.part.schema.Dim, make(map[string]int64, len(c.Records))
	for i := range c.Records {
		rec := &c.Records[i]
		before, again := seen[rec.ID]
		if !again {
			old, existed, err := a.lookup(rec.ID)
			if err != nil {
				return 0, 0, err
			}
			if existed {
				before = int64(old.size(rec.ID, dim))
			} else {
				records++
			}
		}
		seen[rec.ID] = int64(logicalSize(rec.ID, dim, len(rec.Values) > 0, rec.Sparse, binaryOf(rec.Metadata)))
		size += seen[rec.ID] - before
	}
	return records, size, nil
}

func binaryOf(m metadata.Map) []byte {
	if m == nil {
		return nil
	}
	return metadata.AppendBinary(nil, m)
}

// updateGrowth takes each target for one that is named once.
func (a *applier) updateGrowth(u *Update) (size int64, err error) {
	dim := a.part.schema.Dim
	for _, t := range u.Targets {
		old, ok, err := a.target(t)
		if err != nil {
			return 0, err
		}
		if !ok {
			continue
		}
		meta, sparse := old.meta, old.sparse
		if u.SetMetadata != nil {
			m, err := old.metadata()
			if err != nil {
				return 0, err
			}
			meta = binaryOf(metadata.Merge(m, u.SetMetadata))
		}
		if u.Sparse != nil {
			sparse = *u.Sparse
		}
		size += int64(logicalSize(t.ID, dim, old.place != 0 || len(u.Values) > 0, sparse, meta)) - int64(old.size(t.ID, dim))
	}
	return size, nil
}
