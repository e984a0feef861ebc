package engine

// Stored returns what a tenant keeps in the shard, over all indexes: records, and bytes of ids, values and metadata.
func (s *Shard) Stored(t TenantID) (records, bytes uint64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for id, sc := range s.schemas { // any order: a sum
		if sc.ID == 0 {
			continue
		}
		if p := s.registry.find(Key{t, id}); p != nil {
			records += p.head.Records
			bytes += p.head.Bytes
		}
	}
	return records, bytes
}
