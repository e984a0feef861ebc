package cluster

import (
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
)

// moveCommand is the part of a metaCommand that is about migrations.
type moveCommand struct {
	moves  []wantedMove // metaPlanMoves
	reason string       // metaPlanMoves
	by     string       // metaPlanMoves
	toRing bool         // metaPlanMoves
	undoes uint64       // metaPlanMoves
	at     time.Time    // metaPlanMoves: the proposer's clock
	step   moveStep     // metaStepMove
}

// wantedMove names a tenant and the shard where it is to live.
type wantedMove struct {
	tenant engine.TenantID
	to     uint16
}

// moveStep brings a migration to its next phase.
type moveStep struct {
	id      uint64
	attempt uint64 // that it is a step of; of moveAborting also 0, for any
	phase   movePhase
	at      time.Time // the proposer's clock
	fault   string    // why an attempt or the whole is given up, or which nodes it is begun without
	limit   int       // of moveStaging: migrations that a node may have under way
	copied  uint64    // bytes that have come to the target
	failed  uint64    // requests that have failed meanwhile

	fence  uint64 // of moveFlipped: entry of the source's log
	source string // of moveFlipped: digest of the tenant at the source
	target string // and at the target

	until time.Time // of moveSettled: how long the source keeps its copy
}

func appendMoveCommand(b []byte, op metaOp, c *moveCommand) []byte {
	if op == metaStepMove {
		return appendMoveStep(b, &c.step)
	}
	b = codec.AppendUvarint(b, uint64(len(c.moves)))
	for _, w := range c.moves {
		b = codec.AppendUvarint(append(b, w.tenant[:]...), uint64(w.to))
	}
	b = codec.AppendString(codec.AppendString(b, c.reason), c.by)
	b = codec.AppendUvarint(append(b, boolByte(c.toRing)), c.undoes)
	return appendTime(b, c.at)
}

func readMoveCommand(r *codec.Reader, op metaOp) (c moveCommand) {
	if op == metaStepMove {
		c.step = readMoveStep(r)
		return c
	}
	for range r.Count(17) {
		var w wantedMove
		copy(w.tenant[:], r.Raw(len(w.tenant)))
		w.to = uint16(r.Uvarint())
		c.moves = append(c.moves, w)
	}
	c.reason, c.by = readMoveText(r), readMoveText(r)
	c.toRing, c.undoes = r.Byte() != 0, r.Uvarint()
	c.at = readTime(r)
	return c
}

// readMoveText reads what people are told, cut where it is too long.
func readMoveText(r *codec.Reader) string {
	text := r.String()
	return text[:min(len(text), maxMoveText)]
}

func appendMoveStep(b []byte, c *moveStep) []byte {
	b = codec.AppendUvarint(codec.AppendUvarint(b, c.id), c.attempt)
	b = appendTime(append(b, byte(c.phase)), c.at)
	b = codec.AppendUvarint(codec.AppendString(b, c.fault), uint64(c.limit))
	b = codec.AppendUvarint(codec.AppendUvarint(b, c.copied), c.failed)
	switch c.phase {
	case moveFlipped:
		b = codec.AppendUvarint(b, c.fence)
		b = codec.AppendString(codec.AppendString(b, c.source), c.target)
	case moveSettled:
		b = appendTime(b, c.until)
	}
	return b
}

func readMoveStep(r *codec.Reader) moveStep {
	c := moveStep{id: r.Uvarint(), attempt: r.Uvarint(), phase: movePhase(r.Byte()), at: readTime(r)}
	c.fault, c.limit = readMoveText(r), readInt(r)
	c.copied, c.failed = r.Uvarint(), r.Uvarint()
	switch c.phase {
	case moveFlipped:
		c.fence = r.Uvarint()
		c.source, c.target = r.String(), r.String()
	case moveSettled:
		c.until = readTime(r)
	}
	return c
}

// appendMoves encodes what version 7 of the snapshot added.
func appendMoves(b []byte, s *state) []byte {
	b = codec.AppendUvarint(b, s.nextMove)
	b = codec.AppendUvarint(b, uint64(len(s.moves)))
	for _, m := range s.moves {
		b = appendMigration(b, m)
	}
	return b
}

func readMoves(r *codec.Reader, s *state) {
	s.nextMove = r.Uvarint()
	for range r.Count(121) {
		m := readMigration(r)
		s.moves = append(s.moves, m)
		if t, ok := s.tenantByID(m.tenant); ok && m.phase.running() {
			s.setMoving(t, m.id)
		}
	}
}

func appendMigration(b []byte, m *migration) []byte {
	b = codec.AppendUvarint(b, m.id)
	b = codec.AppendString(append(b, m.tenant[:]...), m.name)
	for _, v := range []uint64{uint64(m.from), uint64(m.to), m.attempt, uint64(m.phase), m.undoes, m.entry, m.fence, m.epoch} {
		b = codec.AppendUvarint(b, v)
	}
	b = append(b, bits(m.toRing, m.ringed))
	for _, text := range []string{m.reason, m.by, m.fault, m.digest} {
		b = codec.AppendString(b, text)
	}
	for _, at := range m.begins[movePlanned:] {
		b = codec.AppendUint64(b, uint64(at))
	}
	b = codec.AppendUint64(b, uint64(m.kept))
	return codec.AppendUvarint(codec.AppendUvarint(b, m.copied), m.failed)
}

func readMigration(r *codec.Reader) *migration {
	m := &migration{id: r.Uvarint()}
	copy(m.tenant[:], r.Raw(len(m.tenant)))
	m.name = r.String()
	m.from, m.to, m.attempt = uint16(r.Uvarint()), uint16(r.Uvarint()), r.Uvarint()
	m.phase = movePhase(min(r.Uvarint(), 255))
	m.undoes, m.entry, m.fence, m.epoch = r.Uvarint(), r.Uvarint(), r.Uvarint(), r.Uvarint()
	flags := r.Byte()
	m.toRing, m.ringed = flags&1 != 0, flags&2 != 0
	for _, p := range []*string{&m.reason, &m.by, &m.fault, &m.digest} {
		*p = r.String()
	}
	for p := movePlanned; int(p) < len(m.begins); p++ {
		m.begins[p] = int64(r.Uint64())
	}
	m.kept = int64(r.Uint64())
	m.copied, m.failed = r.Uvarint(), r.Uvarint()
	return m
}
