package engine

// Stored returns what a tenant keeps in the shard, over all indexes: records, and bytes of ids, values and metadata. Nothing
// of a tenant that lives elsewhere: a copy is not the tenant's to pay.
func (s *Shard) Stored(t TenantID) (records, bytes uint64) {
	if s.away(t) != nil {
		return 0, 0
	}
	return s.TenantFigures(t)
}
