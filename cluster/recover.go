package cluster

import (
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/croftdb/croft/cluster/internal/raftlog"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

// What is here and in recover_*.go works on the data directories of stopped nodes, after a group has lost its majority:
// DESIGN.md, "The loss of a majority".

// Inspection is what a stopped node's data directory has of the cluster.
type Inspection struct {
	Format    int       `json:"format"`
	ClusterID string    `json:"cluster_id"`
	NodeID    string    `json:"node_id"`
	At        time.Time `json:"at"`
	// Members of the cluster by the newest metadata in the directory, without those that were removed.
	Members []InspectedNode `json:"members"`
	Shards  []int           `json:"shards"` // of the cluster, by the same metadata
	Groups  []Replica       `json:"groups"` // the metadata plane first, then the shards in order
}

// InspectedNode is a member of the cluster.
type InspectedNode struct {
	ID      string `json:"id"`
	Address string `json:"address,omitempty"`
	URL     string `json:"url,omitempty"`
}

// MetadataGroup is the Shard of the metadata plane's group.
const MetadataGroup = -1

// Replica is a stopped node's replica of one group.
type Replica struct {
	Shard  int      `json:"shard"` // or MetadataGroup
	State  string   `json:"state"`
	Fault  string   `json:"fault,omitempty"`  // of one that is damaged
	Placed []string `json:"placed,omitempty"` // nodes that are to carry the shard, by the newest metadata

	Term     uint64    `json:"term"`      // that the replica is in
	Last     uint64    `json:"last"`      // entry in its log
	LastTerm uint64    `json:"last_term"` // of that entry
	LastAt   time.Time `json:"last_at,omitzero"`
	Marker   uint64    `json:"marker"` // entry up to which its data are on disk, and agreed on
	Voters   []string  `json:"voters,omitempty"`
	Learners []string  `json:"learners,omitempty"`
}

// States of a Replica.
const (
	ReplicaWhole   = "whole"
	ReplicaEmpty   = "empty"   // no leader has filled it
	ReplicaMissing = "missing" // its files are gone
	ReplicaDamaged = "damaged" // its files cannot be used
	ReplicaNone    = "none"    // there is none on this node
)

// recoverFormat is the version of inspections and plans.
const recoverFormat = 1

// Name is how people call the group.
func (r *Replica) Name() string { return groupTitle(r.Shard) }

func groupTitle(shard int) string {
	if shard == MetadataGroup {
		return metaName
	}
	return shardName(uint16(shard))
}

// replica finds what the node has of a group.
func (in *Inspection) replica(shard int) *Replica {
	for i := range in.Groups {
		if in.Groups[i].Shard == shard {
			return &in.Groups[i]
		}
	}
	return &Replica{Shard: shard, State: ReplicaNone}
}

// stopped is a node's data directory that no process uses.
type stopped struct {
	disk   vfs.FS
	dir    string
	id     identity
	lock   io.Closer
	logger *slog.Logger
	step   func(string) error // called between the steps of a change; tests stop there
}

// openStopped locks the directory of a node that does not run. FailedPrecondition: it does, or there is no node.
func openStopped(disk vfs.FS, dir string, logger *slog.Logger) (_ *stopped, err error) {
	there, err := vfs.Exists(disk, identityPath(dir))
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, errs.New(errs.NotFound, "there is no node in %s: it has no node.json", dir).WithHint("give the data directory of a stopped node with --data")
	}
	s := &stopped{disk: disk, dir: dir, logger: logger, step: func(string) error { return nil }}
	if s.lock, err = disk.Lock(filepath.Join(dir, "LOCK")); err != nil {
		return nil, errs.Wrap(errs.FailedPrecondition, err, "the node in %s runs: stop it first", dir)
	}
	if s.id, err = loadIdentity(disk, dir, 1, false); err == nil && (s.id.Joining || !s.id.Complete) {
		err = errs.New(errs.FailedPrecondition, "the node in %s has never been part of a cluster", dir)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close gives the directory free.
func (s *stopped) Close() error { return s.lock.Close() }

// Inspect looks at the data directory of a stopped node. It changes nothing but what a start would mend.
func Inspect(dir string, logger *slog.Logger) (_ *Inspection, err error) {
	s, err := openStopped(vfs.OS(), dir, logger)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return s.inspect()
}

func (s *stopped) inspect() (*Inspection, error) {
	in := &Inspection{Format: recoverFormat, ClusterID: s.id.ClusterID, NodeID: s.id.NodeID, At: time.Now().UTC()}
	meta, st := s.inspectMeta()
	in.Groups = append(in.Groups, meta)
	ids := slices.Collect(maps.Keys(s.id.replicas()))
	if st != nil {
		for _, m := range st.members {
			if m.state != memberRemoved {
				in.Members = append(in.Members, InspectedNode{m.id, m.address, m.url})
			}
		}
		for _, id := range st.shards {
			in.Shards = append(in.Shards, int(id))
		}
		ids = append(ids, st.shards...)
	}
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		r := s.inspectShard(id)
		if st != nil {
			r.Placed = st.replicas(id)
		}
		in.Groups = append(in.Groups, r)
	}
	return in, nil
}

func (s *stopped) inspectShard(id uint16) Replica {
	i, ok := s.id.replicas()[id]
	switch {
	case !ok || i.State != replicaOpen && i.State != replicaLost:
		return Replica{Shard: int(id), State: ReplicaNone}
	case i.State == replicaLost:
		return Replica{Shard: int(id), State: ReplicaMissing}
	}
	r := Replica{Shard: int(id)}
	dir := shardDir(s.dir, id, i.Number)
	r.note(s.readGroup(int(id), raftDir(dir), func(g *stoppedGroup) error {
		err := g.describe(&r)
		if err != nil || r.Marker == 0 {
			return err
		}
		if there, err := vfs.Exists(s.disk, filepath.Join(dir, "records.db")); err != nil || !there {
			return errors.Join(err, errs.New(errs.Corrupt, "records.db is missing"))
		}
		return nil
	}))
	return r
}

// inspectMeta returns also the state that the metadata plane has when all of the log counts, nil if there is none.
func (s *stopped) inspectMeta() (Replica, *state) {
	r := Replica{Shard: MetadataGroup}
	if s.id.Meta.State == replicaLost {
		r.State = ReplicaMissing
		return r, nil
	}
	var st *state
	r.note(s.readGroup(MetadataGroup, metaDir(s.dir), func(g *stoppedGroup) (err error) {
		if err := g.describe(&r); err != nil {
			return err
		}
		st, err = g.replay()
		return err
	}))
	return r, st
}

// note sets the state of a replica that could not be read.
func (r *Replica) note(err error) {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		*r = Replica{Shard: r.Shard, State: ReplicaMissing}
	case err != nil:
		*r = Replica{Shard: r.Shard, State: ReplicaDamaged, Fault: err.Error()}
	case r.Last == 0:
		r.State = ReplicaEmpty
	default:
		r.State = ReplicaWhole
	}
}

// stoppedGroup are the raft files of a group that does not run.
type stoppedGroup struct {
	log   *raftlog.Log
	snaps *snapshots
	node  raft.ServerID
}

// readGroup opens a group's raft files for f. An error that is fs.ErrNotExist: there are none.
func (s *stopped) readGroup(shard int, dir string, f func(*stoppedGroup) error) (err error) {
	if there, err := vfs.Exists(s.disk, raftlog.MetaPath(s.disk, dir)); err != nil || !there {
		return cmp.Or(err, fs.ErrNotExist)
	}
	name := groupTitle(shard)
	o := groupOptions{
		disk: s.disk, name: name, dir: dir, identity: s.id.ClusterID + "/" + name, segmentSize: Options{}.withDefaults().SegmentSize,
		fail: newFailure(s.logger), append: unobserved{}, grown: func() {}, logger: s.logger,
	}
	g := &stoppedGroup{node: raft.ServerID(s.id.NodeID)}
	if g.log, err = raftlog.Open(o.logOptions()); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.log.Close()) }()
	if err := (&group{log: g.log}).checkIdentity(&o); err != nil {
		return err
	}
	if g.snaps, err = openSnapshots(s.disk, dir, raftLogger(s.logger, name)); err != nil {
		return err
	}
	return f(g)
}

// unobserved takes measurements that nobody wants.
type unobserved struct{}

func (unobserved) Observe(float64) {}

// describe tells where the replica stands, and by which configuration.
func (g *stoppedGroup) describe(r *Replica) error {
	h, err := readHardState(g.log)
	if err != nil {
		return err
	}
	r.Term = h.term
	metas, err := g.snaps.List()
	if err != nil {
		return err
	}
	var servers []raft.Server
	if len(metas) > 0 {
		r.Marker, r.Last, r.LastTerm = metas[0].Index, metas[0].Index, metas[0].Term
		servers = metas[0].Configuration.Servers
	}
	err = g.entries(r.Last+1, func(e *raft.Log) error {
		if e.Type == raft.LogConfiguration {
			servers = raft.DecodeConfiguration(e.Data).Servers
		}
		r.Last, r.LastTerm = e.Index, e.Term
		if !e.AppendedAt.IsZero() {
			r.LastAt = e.AppendedAt.UTC()
		}
		return nil
	})
	r.Voters, r.Learners = ids(servers, raft.Voter), ids(servers, raft.Nonvoter)
	return err
}

// entries reads the log from an entry on.
func (g *stoppedGroup) entries(from uint64, f func(*raft.Log) error) error {
	last, err := g.log.LastIndex()
	if err != nil {
		return err
	}
	for i := from; i <= last; i++ {
		var e raft.Log
		if err := g.log.GetLog(i, &e); err != nil {
			return err
		}
		if err := f(&e); err != nil {
			return err
		}
	}
	return nil
}

// replay returns the metadata plane's state after all entries.
func (g *stoppedGroup) replay() (*state, error) {
	st := newState()
	metas, err := g.snaps.List()
	if err != nil {
		return nil, err
	}
	if len(metas) > 0 {
		_, r, err := g.snaps.Open(metas[0].ID)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		b, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		if st, err = decodeState(b); err != nil {
			return nil, err
		}
	}
	first, err := g.log.FirstIndex()
	if err != nil || first == 0 {
		return st, err
	}
	return st, g.entries(max(first, st.index+1), func(e *raft.Log) error {
		if e.Type == raft.LogCommand {
			st, _ = executeMeta(st, e.Index, e.Data)
		}
		return nil
	})
}

// newer orders replicas by raft's rule for elections, and those that are equal by their nodes: whatever a survivor knows to
// be committed is in the log of the newest.
func (r *Replica) newer(node string, o *Replica, other string) bool {
	return cmp.Or(cmp.Compare(r.LastTerm, o.LastTerm), cmp.Compare(r.Last, o.Last), cmp.Compare(other, node)) > 0
}

// eraBits are the bits of a term that count elections. Those above count recoveries, so that a term of a recovery is one
// that no election has had or will have.
const eraBits = 32

// termOfRecovery is a term beyond all that a survivor knows, with a part of chance: two recoveries of one group never take
// the same.
func termOfRecovery(term uint64, chance uint32) uint64 {
	return (term>>eraBits+1)<<eraBits | uint64(chance&(math.MaxUint32>>1))
}

func recoveryPath(dir string) string { return filepath.Join(dir, "recover.json") }

// PendingRecovery returns the plan that was begun in a data directory and not finished, nil if there is none.
func PendingRecovery(dir string) (*RecoveryPlan, error) { return pendingRecovery(vfs.OS(), dir) }

func pendingRecovery(disk vfs.FS, dir string) (*RecoveryPlan, error) {
	b, err := vfs.ReadFile(disk, recoveryPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	p := new(RecoveryPlan)
	if err == nil {
		err = json.Unmarshal(b, p)
	}
	if err != nil {
		return nil, errs.Wrap(errs.Corrupt, err, "read %s", recoveryPath(dir))
	}
	return p, nil
}

// checkRecovered refuses to start a node in the middle of a recovery.
func checkRecovered(disk vfs.FS, dir string) error {
	p, err := pendingRecovery(disk, dir)
	if err != nil || p == nil {
		return err
	}
	return errs.New(errs.FailedPrecondition, "a recovery of %s was begun in %s and is not finished", p.At.Format(time.RFC3339), dir).
		WithHint("run `croft recover --data %s` again: it goes on where it was", dir)
}

// sortedNodes returns ids in order, each once.
func sortedNodes(ids []string) []string {
	s := slices.Clone(ids)
	slices.Sort(s)
	return slices.Compact(s)
}
