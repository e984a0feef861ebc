package cluster

import (
	"fmt"
	"slices"
	"sync"

	"github.com/croftdb/croft/internal/codec"
)

// simApplied sees to it that all replicas of a shard apply the same commands, each once and none left out, and that their
// engines answer alike. It is told of each command at once, so a fault shows when it happens, and not as a digest much later.
type simApplied struct {
	log *simLog

	mu     sync.Mutex
	shards map[string]*appliedLog
}

// appliedLog is what any replica of a shard has applied.
type appliedLog struct {
	indexes []uint64 // ascending: a replica that applies what nobody has before it has all before that
	entries map[uint64]simEntry
}

// simEntry is what must be alike for all replicas.
type simEntry struct {
	term   uint64
	sum    uint32 // of the command
	answer string
	by     *host // the first
}

func newSimApplied(log *simLog) *simApplied {
	return &simApplied{log: log, shards: map[string]*appliedLog{}}
}

func (a *simApplied) note(by *host, e appliedEntry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.shards[e.group]
	if s == nil {
		s = &appliedLog{entries: map[uint64]simEntry{}}
		a.shards[e.group] = s
	}
	if fault := s.note(by, e); fault != "" && !a.log.isBroken() { // what follows from a fault tells nothing
		a.log.violate("apply", "entry %d of %s, by %v at %d: %s", e.entry.Index, e.group, by, e.before, fault)
	}
}

// note returns what is wrong with it.
func (s *appliedLog) note(by *host, e appliedEntry) (fault string) {
	index, fresh := e.entry.Index, simEntry{term: e.entry.Term, sum: codec.CRC(e.entry.Data), answer: fmt.Sprintf("%+v", e.answer), by: by}
	known, ok := s.entries[index]
	at, _ := slices.BinarySearch(s.indexes, index)
	switch {
	case index <= e.before && e.answer.Version > 0:
		return "it is applied again"
	case ok && (known.term != fresh.term || known.sum != fresh.sum):
		return fmt.Sprintf("that of %v is of term %d with sum %08x, this one of %d with %08x", known.by, known.term, known.sum, fresh.term, fresh.sum)
	case index <= e.before:
		return "" // as after a restart
	case !ok && at < len(s.indexes):
		return fmt.Sprintf("others have gone on to %d without it", s.indexes[at])
	case at > 0 && s.indexes[at-1] > e.before:
		return fmt.Sprintf("%d was left out", s.indexes[at-1])
	case ok && known.answer != fresh.answer:
		return fmt.Sprintf("its answer is %s, that of %v is %s", fresh.answer, known.by, known.answer)
	case !ok:
		s.indexes, s.entries[index] = append(s.indexes, index), fresh
	}
	return ""
}
