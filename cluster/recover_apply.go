package cluster

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

// ApplyRecovery carries out a node's part of a plan. The plan is stored first; until all of it is done the node does not
// start, and the same call goes on after a crash. FailedPrecondition: the directory has changed since it was inspected.
func ApplyRecovery(dir string, p *RecoveryPlan, logger *slog.Logger) (err error) {
	s, err := openStopped(vfs.OS(), dir, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return s.apply(p)
}

func (s *stopped) apply(p *RecoveryPlan) error {
	if err := s.begin(p); err != nil {
		return err
	}
	for i := range p.Groups {
		g := &p.Groups[i]
		if g.Keep != s.id.NodeID {
			continue
		}
		if err := s.step(g.Name()); err != nil {
			return err
		}
		change := s.takeOver
		if g.Fate == FateEmptied {
			change = s.found
		}
		if err := change(p, g); err != nil {
			return errs.Wrap(errs.KindOf(err), err, "recover %s", g.Name())
		}
	}
	if err := s.step("identity"); err != nil {
		return err
	}
	if err := s.refuse(p.lostIDs()); err != nil {
		return err
	}
	if err := s.step("end"); err != nil {
		return err
	}
	if err := s.disk.Rename(recoveryPath(s.dir), filepath.Join(s.dir, "recovered-"+p.ID+".json")); err != nil {
		return err
	}
	return s.disk.SyncDir(s.dir)
}

// begin stores the plan, unless it is there.
func (s *stopped) begin(p *RecoveryPlan) error {
	switch pending, err := pendingRecovery(s.disk, s.dir); {
	case err != nil:
		return err
	case pending != nil && pending.ID != p.ID:
		return errs.New(errs.FailedPrecondition, "another recovery was begun in %s", s.dir).
			WithHint("finish it first: `croft recover --data %s`", s.dir)
	case pending != nil:
		return nil
	}
	switch {
	case p.Format != recoverFormat:
		return errs.New(errs.FailedPrecondition, "the plan has format %d, this version reads %d", p.Format, recoverFormat)
	case p.ClusterID != s.id.ClusterID || !slices.Contains(p.Survivors, s.id.NodeID):
		return errs.New(errs.FailedPrecondition, "the plan is not for node %s of cluster %s", s.id.NodeID, s.id.ClusterID)
	}
	if err := s.unchanged(p); err != nil {
		return err
	}
	if err := s.step("plan"); err != nil {
		return err
	}
	return vfs.WriteAtomic(s.disk, recoveryPath(s.dir), func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(p)
	})
}

// unchanged compares the replicas that are to be kept with what the plan was made for.
func (s *stopped) unchanged(p *RecoveryPlan) error {
	in, err := s.inspect()
	if err != nil {
		return err
	}
	for i := range p.Groups {
		g := &p.Groups[i]
		if g.Keep != s.id.NodeID || g.Fate != FateKept {
			continue
		}
		if r := in.replica(g.Shard); r.State != ReplicaWhole || r.Last != g.Last || r.LastTerm != g.LastTerm {
			return errs.New(errs.FailedPrecondition, "%s has changed since it was inspected", g.Name()).
				WithHint("the node must not run in between: inspect it again and make another plan")
		}
	}
	return nil
}

// takeOver makes this node the only voter of a group. The term and the vote come first, the entries in one append.
func (s *stopped) takeOver(p *RecoveryPlan, g *GroupPlan) error {
	dir := metaDir(s.dir)
	if g.Shard != MetadataGroup {
		dir = raftDir(shardDir(s.dir, uint16(g.Shard), s.id.replicas()[uint16(g.Shard)].Number))
	}
	return s.readGroup(g.Shard, dir, func(sg *stoppedGroup) error {
		var now Replica
		if err := sg.describe(&now); err != nil {
			return err
		}
		if now.LastTerm == g.Term {
			return nil // done before a crash
		}
		if now.Last != g.Last || now.LastTerm != g.LastTerm {
			return errs.New(errs.FailedPrecondition, "the log ends at entry %d of term %d, the plan is for entry %d of term %d", now.Last, now.LastTerm, g.Last, g.LastTerm)
		}
		h := hardState{term: g.Term, voteTerm: g.Term, candidate: []byte(sg.node)}
		if err := h.write(sg.log); err != nil {
			return err
		}
		if err := sg.log.SetUint64(keyFloor, 0); err != nil { // nobody has more of the log
			return err
		}
		if err := s.step("entries of " + g.Name()); err != nil {
			return err
		}
		return sg.log.StoreLogs(p.entries(g, sg.node))
	})
}

// entries are what a group's log goes on with: the configuration, and in the metadata plane what else there is to know.
func (p *RecoveryPlan) entries(g *GroupPlan, node raft.ServerID) []*raft.Log {
	alone := raft.Configuration{Servers: []raft.Server{{ID: node, Address: raft.ServerAddress(node)}}}
	logs := []*raft.Log{{
		Index: g.Last + 1, Term: g.Term, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(alone), AppendedAt: p.At,
	}}
	if g.Shard != MetadataGroup {
		return logs
	}
	c := &metaCommand{op: metaRecover}
	c.recovery = recovery{id: p.ID, node: string(node), at: p.At, lost: p.lostIDs()}
	for _, g := range p.Groups[1:] {
		c.places = append(c.places, placement{uint16(g.Shard), g.Replicas})
	}
	return append(logs, &raft.Log{Index: g.Last + 2, Term: g.Term, Type: raft.LogCommand, Data: appendMetaCommand(nil, c), AppendedAt: p.At})
}

// found lets a shard begin anew on this node, without data.
func (s *stopped) found(_ *RecoveryPlan, g *GroupPlan) error {
	id := uint16(g.Shard)
	i := s.id.replicas()[id]
	if i.State == replicaFounding {
		return nil
	}
	return s.note(s.id.with(id, incarnation{Number: i.Number + 1, State: replicaFounding}))
}

func (s *stopped) note(id identity) error {
	if err := id.save(s.disk, s.dir); err != nil {
		return err
	}
	s.id = id
	return nil
}

// refuse lets the node never answer others again, nor look for them.
func (s *stopped) refuse(lost []string) error {
	id := s.id
	id.Refused = sortedNodes(slices.Concat(id.Refused, lost))
	if err := s.note(id); err != nil {
		return err
	}
	book, err := openAddressBook(s.disk, s.dir)
	if err != nil {
		return err
	}
	known := maps.Clone(*book.known.Load())
	maps.DeleteFunc(known, func(node, _ string) bool { return slices.Contains(lost, node) })
	return book.note(known)
}
