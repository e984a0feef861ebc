package engine

// Partition returns the figures of one partition, if there is one. ErrStaged, ErrLeft: its tenant lives elsewhere.
func (s *Shard) Partition(key Key) (st PartitionStats, ok bool, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p, err := s.find(key)
	if p == nil {
		return PartitionStats{}, false, err
	}
	return p.stats(), true, nil
}

// Seen returns what searches of a partition see now: the number of its incarnation, which none has had before, and its version.
// It takes no lock. ok is false while the partition is not in memory, or its tenant lives elsewhere.
func (s *Shard) Seen(key Key) (number, version uint64, ok bool) {
	p, err := s.find(key)
	if p == nil || err != nil {
		return 0, 0, false
	}
	sp := p.space.Load()
	if sp == nil {
		return 0, 0, false
	}
	v := sp.view.Load()
	return v.number, v.version, true
}

// Partitions returns the figures of all partitions of an index (0: of all), in no order, without those of tenants that live elsewhere.
func (s *Shard) Partitions(index IndexID) (all []PartitionStats) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.registry.all(func(p *partition) bool {
		if (index == 0 || p.key.Index == index) && s.away(p.key.Tenant) == nil {
			all = append(all, p.stats())
		}
		return true
	})
	return all
}

// stats tells the figures of the partition. The caller holds Shard.mu.
func (p *partition) stats() PartitionStats {
	st := PartitionStats{Key: p.key, Records: p.head.Records, Bytes: p.head.Bytes, Version: p.head.Version, Indexed: p.head.Records}
	if sp := p.space.Load(); sp != nil {
		v := sp.view.Load()
		if v.graph != nil {
			st.Indexed = p.head.Records - min(p.head.Records, uint64(len(v.pending)))
			st.Ef, st.SampledRecall = v.graph.EfFor(10, DefaultRecall), sp.sampled.recall()
		}
	}
	return st
}

// Stats returns the shard's figures.
func (s *Shard) Stats() Stats {
	st := Stats{
		BufferBytes:  uint64(s.bufferBytes()),
		AppliedIndex: s.applied.Load(),
		FlushedIndex: s.flushed.Load(),
	}
	s.mu.RLock()
	var loaded []*space
	s.registry.all(func(p *partition) bool {
		ps := p.stats()
		if s.away(p.key.Tenant) == nil {
			st.Partitions++
			st.Records += ps.Records
			st.Indexed += ps.Indexed
			st.Bytes += ps.Bytes
		} else {
			st.AwayPartitions++
			st.AwayRecords += ps.Records
			st.AwayBytes += ps.Bytes
		}
		if sp := p.space.Load(); sp != nil {
			loaded = append(loaded, sp)
		}
		return true
	})
	s.mu.RUnlock()
	st.Loaded = len(loaded)
	for _, sp := range loaded {
		st.ResidentBytes += uint64(sp.bytes())
	}
	for _, b := range *s.blocks.table.Load() {
		if b.seg != nil {
			st.Segments++
			st.SegmentBytes += uint64(b.seg.Size())
		}
	}
	return st
}
