package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

// LostReplicas lists the replicas of a stopped node whose files are gone or cannot be read, and those of the shards named. Such a
// node does not start. FailedPrecondition: no other node is to have what is lost.
func LostReplicas(dir string, shards []int, logger *slog.Logger) (_ []Replica, err error) {
	s, err := openStopped(vfs.OS(), dir, logger)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return s.lost(shards)
}

func (s *stopped) lost(shards []int) ([]Replica, error) {
	in, err := s.inspect()
	if err != nil {
		return nil, err
	}
	var lost []Replica
	for _, r := range in.Groups {
		named := slices.Contains(shards, r.Shard)
		if r.State != ReplicaMissing && r.State != ReplicaDamaged && !named || s.notedLost(r.Shard) {
			continue
		}
		if named && r.State == ReplicaNone {
			return nil, errs.New(errs.NotFound, "the node has no replica of %s", r.Name())
		}
		if err := s.elsewhere(in, &r); err != nil {
			return nil, err
		}
		lost = append(lost, r)
	}
	return lost, nil
}

// notedLost reports whether a replica has been given up before.
func (s *stopped) notedLost(shard int) bool {
	if shard == MetadataGroup {
		return s.id.Meta.State == replicaLost
	}
	return s.id.replicas()[uint16(shard)].State == replicaLost
}

// elsewhere reports an error if no other node is to have a group's data, as far as is known here.
func (s *stopped) elsewhere(in *Inspection, r *Replica) error {
	others := func(nodes []string) bool {
		return slices.ContainsFunc(nodes, func(id string) bool { return id != s.id.NodeID })
	}
	book, err := openAddressBook(s.disk, s.dir)
	if err != nil {
		return err
	}
	if others(r.Placed) || in.replica(MetadataGroup).State != ReplicaWhole && others(book.nodes()) || r.Shard == MetadataGroup && others(book.nodes()) {
		return nil
	}
	return errs.New(errs.FailedPrecondition, "this node has the only replica of %s, which cannot be filled by another", r.Name()).
		WithHint("restore the data directory from a backup")
}

// GiveUpReplicas notes as lost what LostReplicas lists, and moves what is left of the files to the directory aside. The node
// then starts without these replicas, and begins them anew once their groups do without it. A crash leaves some of
// them moved and not noted: missing, for the next call.
func GiveUpReplicas(dir string, shards []int, logger *slog.Logger) (lost []Replica, err error) {
	s, err := openStopped(vfs.OS(), dir, logger)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return s.giveUp(shards)
}

func (s *stopped) giveUp(shards []int) ([]Replica, error) {
	lost, err := s.lost(shards)
	if err != nil {
		return nil, err
	}
	at := time.Now().UTC().Format("20060102T150405Z")
	for _, r := range lost {
		if err := s.step(r.Name()); err != nil {
			return nil, err
		}
		id, files, aside := s.id, metaDir(s.dir), "meta-"+at
		if r.Shard == MetadataGroup {
			id.Meta = incarnation{Number: id.Meta.Number + 1, State: replicaLost}
		} else {
			i := id.replicas()[uint16(r.Shard)]
			files, aside = shardDir(s.dir, uint16(r.Shard), i.Number), fmt.Sprintf("shard-%d-%d-%s", r.Shard, i.Number, at)
			id = id.with(uint16(r.Shard), i.as(replicaLost))
		}
		if err := s.moveAside(files, aside); err != nil {
			return nil, err
		}
		if err := s.step("identity for " + r.Name()); err != nil {
			return nil, err
		}
		if err := s.note(id); err != nil {
			return nil, err
		}
	}
	return lost, nil
}

// moveAside keeps a directory for whoever wants to look into it.
func (s *stopped) moveAside(dir, name string) error {
	if there, err := existsDir(s.disk, dir); err != nil || !there {
		return err
	}
	to := filepath.Join(s.dir, "aside")
	if err := s.disk.MkdirAll(to); err != nil {
		return err
	}
	if err := s.disk.Rename(dir, filepath.Join(to, name)); err != nil {
		return err
	}
	return errors.Join(s.disk.SyncDir(to), s.disk.SyncDir(filepath.Dir(dir)))
}
