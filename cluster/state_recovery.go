package cluster

import (
	"slices"
	"time"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// recovery is a time when the metadata plane had lost its majority and was begun again with one replica, see recover.go.
type recovery struct {
	id   string // of the plan
	node string // whose replica it goes on with
	at   time.Time
	lost []string // nodes given up
}

// maxRecoveries bounds those that are remembered: the latest.
const maxRecoveries = 32

// recover removes the nodes that were given up and says where the shards are from now on.
func (s *state) recover(r recovery, places []placement) error {
	if slices.ContainsFunc(s.recoveries, func(o recovery) bool { return o.id == r.id }) {
		return nil
	}
	for _, id := range r.lost {
		if m, ok := s.member(id); ok {
			m.state = memberRemoved
			s.putMember(m)
		}
	}
	for _, p := range places {
		if !s.hasShard(p.shard) {
			return errs.New(errs.NotFound, "there is no shard %d", p.shard)
		}
		if !slices.Equal(s.replicas(p.shard), p.replicas) {
			s.place(p.shard, p.replicas)
		}
	}
	for _, p := range s.placed {
		if err := checkReplicas(s, p.replicas); err != nil {
			return errs.Wrap(errs.Invalid, err, "shard %d after the recovery", p.shard)
		}
	}
	s.epoch++
	s.recoveries = append(slices.Clone(s.recoveries), r)
	s.recoveries = s.recoveries[max(0, len(s.recoveries)-maxRecoveries):]
	s.reviewBounds() // replicas stand where they are
	return nil
}

func appendRecovery(b []byte, r *recovery) []byte {
	b = appendTime(codec.AppendString(codec.AppendString(b, r.id), r.node), r.at)
	return appendStrings(b, r.lost)
}

func readRecovery(r *codec.Reader) recovery {
	return recovery{id: r.String(), node: r.String(), at: readTime(r), lost: readStrings(r)}
}

func appendRecoveries(b []byte, all []recovery) []byte {
	b = codec.AppendUvarint(b, uint64(len(all)))
	for i := range all {
		b = appendRecovery(b, &all[i])
	}
	return b
}

func readRecoveries(r *codec.Reader) (all []recovery) {
	for range r.Count(11) {
		all = append(all, readRecovery(r))
	}
	return all
}

func appendPlacement(b []byte, p *placement) []byte {
	return appendStrings(codec.AppendUvarint(b, uint64(p.shard)), p.replicas)
}

func readPlacement(r *codec.Reader) placement {
	return placement{shard: uint16(r.Uvarint()), replicas: readStrings(r)}
}

func appendPlacements(b []byte, all []placement) []byte {
	b = codec.AppendUvarint(b, uint64(len(all)))
	for i := range all {
		b = appendPlacement(b, &all[i])
	}
	return b
}

func readPlacements(r *codec.Reader) (all []placement) {
	for range r.Count(2) {
		all = append(all, readPlacement(r))
	}
	return all
}
