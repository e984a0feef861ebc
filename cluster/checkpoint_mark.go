package cluster

import (
	"errors"

	"github.com/hashicorp/raft"

	"github.com/croftdb/croft/cluster/internal/raftlog"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// checkpointMark is where a checkpoint stands in its group's log: what a replica that starts from it must know.
type checkpointMark struct {
	applied            uint64 // last command in the files
	index, term        uint64 // the log continues behind this entry; no command lies between it and applied
	configuration      raft.Configuration
	configurationIndex uint64
}

// markPoint is what markFor has to know from before the checkpoint was made.
type markPoint struct{ index, term uint64 } // of the newest marker; zero: none

func (g *group) markPoint() (p markPoint, err error) {
	metas, err := g.snaps.List()
	if err == nil && len(metas) > 0 {
		p = markPoint{metas[0].Index, metas[0].Term}
	}
	return p, err
}

// markFor finds the place of a checkpoint that holds the commands up to applied. before is the group's markPoint from
// before it was made: a marker beyond applied then means that what lies between are no commands.
func (g *group) markFor(applied uint64, before markPoint) (m checkpointMark, err error) {
	m = checkpointMark{applied: applied, index: before.index, term: before.term}
	if applied > before.index {
		m.index = applied
		m.term, err = g.termOf(applied)
	}
	switch {
	case errors.Is(err, raft.ErrLogNotFound):
		return m, errs.New(errs.Unavailable, "the log of %s was trimmed while the checkpoint was made", g.name).WithRetryAfter(retryLeader)
	case err != nil:
		return m, err
	case m.index == 0:
		return m, errs.New(errs.FailedPrecondition, "%s has nothing in it yet: its log is all there is", g.name)
	}
	return m, g.settledConfiguration(&m)
}

func (g *group) termOf(index uint64) (uint64, error) {
	var e raft.Log
	err := g.log.GetLog(index, &e)
	return e.Term, err
}

// settledConfiguration adds the group's configuration, once it is committed: a replica that begins with one takes it for
// good. It may be younger than the files: as its entry is committed, it comes with the log behind them.
func (g *group) settledConfiguration(m *checkpointMark) error {
	before, errBefore := g.configuredAt()
	f := g.raft().GetConfiguration()
	if err := f.Error(); err != nil {
		return errs.Wrap(errs.Unavailable, err, "read the configuration of %s", g.name)
	}
	after, errAfter := g.configuredAt()
	if err := errors.Join(errBefore, errAfter); err != nil {
		return err
	}
	if before != after || after > g.raft().CommitIndex() {
		return errs.New(errs.Unavailable, "the configuration of %s is being changed", g.name).WithRetryAfter(retryLeader)
	}
	m.configuration, m.configurationIndex = f.Configuration(), after
	return nil
}

func (m *checkpointMark) append(b []byte) []byte {
	for _, v := range [...]uint64{m.applied, m.index, m.term, m.configurationIndex, uint64(len(m.configuration.Servers))} {
		b = codec.AppendUvarint(b, v)
	}
	for _, s := range m.configuration.Servers {
		b = append(b, byte(s.Suffrage))
		b = codec.AppendString(codec.AppendString(b, string(s.ID)), string(s.Address))
	}
	return b
}

func readMark(r *codec.Reader) (m checkpointMark) {
	m.applied, m.index, m.term, m.configurationIndex = r.Uvarint(), r.Uvarint(), r.Uvarint(), r.Uvarint()
	m.configuration.Servers = make([]raft.Server, r.Count(3))
	for i := range m.configuration.Servers {
		s := &m.configuration.Servers[i]
		s.Suffrage = raft.ServerSuffrage(r.Byte())
		s.ID, s.Address = raft.ServerID(r.String()), raft.ServerAddress(r.String())
		if s.Suffrage > raft.Staging {
			r.Fail(errs.New(errs.Corrupt, "server %q has suffrage %d", s.ID, s.Suffrage))
		}
	}
	if m.index < m.applied || m.index == 0 || m.term == 0 {
		r.Fail(errs.New(errs.Corrupt, "checkpoint of entry %d at entry %d of term %d", m.applied, m.index, m.term))
	}
	return m
}

// hardState is what a replica must never forget, whatever becomes of its files: the term that it is in and its vote.
type hardState struct {
	term, voteTerm uint64
	candidate      []byte
	floor          uint64 // entry that it must have before it takes part in elections, see filled.go
}

// The keys of raft's stable store.
var (
	keyTerm      = []byte("CurrentTerm")
	keyVoteTerm  = []byte("LastVoteTerm")
	keyCandidate = []byte("LastVoteCand")
	keyFloor     = []byte("croft/floor") // ours
)

// readHardState reads what raft has stored. The group's raft must have stopped.
func readHardState(l *raftlog.Log) (h hardState, err error) {
	var errTerm, errVote, errCandidate, errFloor error
	h.term, errTerm = l.GetUint64(keyTerm)
	h.voteTerm, errVote = l.GetUint64(keyVoteTerm)
	h.candidate, errCandidate = l.Get(keyCandidate)
	h.floor, errFloor = l.GetUint64(keyFloor)
	return h, errors.Join(errTerm, errVote, errCandidate, errFloor)
}

// noteHardState gives a replica that does not run yet the term and vote of the one that it takes the place of. Those were
// read once more since its files were written, after that one's raft had stopped.
func noteHardState(o groupOptions, h hardState) (err error) {
	o.fail = newFailure(o.logger)
	log, err := raftlog.Open(o.logOptions())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	return h.write(log)
}

// write stores a term, a vote and a floor, unless the log has later ones.
func (h *hardState) write(log *raftlog.Log) error {
	has, err := readHardState(log)
	if err != nil {
		return err
	}
	if h.floor > has.floor { // first: without it the vote would not count
		err = log.SetUint64(keyFloor, h.floor)
	}
	if h.term > has.term {
		err = errors.Join(err, log.SetUint64(keyTerm, h.term))
	}
	if h.voteTerm > has.voteTerm {
		err = errors.Join(err, log.Set(keyCandidate, h.candidate), log.SetUint64(keyVoteTerm, h.voteTerm))
	}
	return err
}

// write makes the raft files of a replica that continues behind the mark: no entries, one marker, the term and vote of h.
// All is durable on return.
func (m *checkpointMark) write(o groupOptions, h hardState) (err error) {
	o.fail = newFailure(o.logger) // a disk that fails here fails the transfer, not yet the node
	log, err := raftlog.Open(o.logOptions())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	snaps, err := openSnapshots(o.disk, o.dir, raftLogger(o.logger, o.name))
	if err != nil {
		return err
	}
	err = errors.Join(log.Set(identityKey, []byte(o.identity)), log.SetUint64(keyTerm, m.term), h.write(log))
	if err != nil {
		return err
	}
	return m.writeMarker(snaps, o.node)
}

func (m *checkpointMark) writeMarker(snaps *snapshots, node raft.ServerID) error {
	trans := loopback{node}.open("") // only asked how to write an address
	sink, err := snaps.Create(1, m.index, m.term, m.configuration, m.configurationIndex, trans)
	if err != nil {
		return err
	}
	if _, err := sink.Write(appendMarker(nil, m.applied)); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// supersedes reports whether a replica may be replaced by a checkpoint at the mark: never by an older state, and never
// when its own log goes on behind the mark, since what it has acknowledged from there would be forgotten.
func (m *checkpointMark) supersedes(old *shard) error {
	if applied, marked := old.engine.AppliedIndex(), old.group.marked.Load(); m.applied < applied || m.index <= marked {
		return errs.New(errs.FailedPrecondition, "the checkpoint ends at entry %d, the replica of %s is at entry %d",
			m.index, old.group.name, max(applied, marked))
	}
	switch term, err := old.group.termOf(m.index); {
	case errors.Is(err, raft.ErrLogNotFound):
		return nil
	case err != nil:
		return err
	case term == m.term:
		return errs.New(errs.FailedPrecondition, "the replica of %s has entry %d of the checkpoint in its log: nothing is lacking",
			old.group.name, m.index)
	}
	return nil // entries of a leader that was deposed
}
