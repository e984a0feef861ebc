package cluster

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path/filepath"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

// dataFormat is the version of the data directory's layout.
const dataFormat = 1

// identity is node.json: who this node is, and which replicas it has. Who it is never changes once complete.
type identity struct {
	ClusterID string `json:"cluster_id"`
	NodeID    string `json:"node_id"`
	Format    int    `json:"format"`
	Shards    int    `json:"shards"`
	// Complete is false while the directory is being made. From then on a group without files has lost them, and the
	// node refuses to start instead of making an empty one in its place.
	Complete bool `json:"complete"`
	// Joining is set until a cluster has let this node in.
	Joining bool `json:"joining,omitempty"`
	// Starts counts the starts of this node. The cluster knows the number, and by it an older copy of the directory.
	Starts uint64 `json:"starts,omitempty"`
	// Refused nodes were given up as lost: they are not answered, whatever the metadata plane knows of them.
	Refused []string `json:"refused,omitempty"`
	// Meta is the replica of the metadata plane, if it is not whole.
	Meta incarnation `json:"meta,omitzero"`
	// Replicas that are or were on this node, none where it has just joined. Nil in the directory of a node that has always
	// been alone: then it has all shards, in their first incarnation.
	Replicas map[uint16]incarnation `json:"replicas,omitzero"`
}

// incarnation is one life of a replica on this node.
type incarnation struct {
	Number uint64 `json:"number"` // of its directory, never used twice
	State  string `json:"state"`
	// Term, Leader and Floor are of a replica that follows another one of the same group here: it begins in that term, with its
	// vote for that leader, and without the entry Floor it has no part in elections.
	Term   uint64 `json:"term,omitempty"`
	Leader string `json:"leader,omitempty"`
	Floor  uint64 `json:"floor,omitempty"`
}

// as is the incarnation in another state.
func (i incarnation) as(state string) incarnation { return incarnation{Number: i.Number, State: state} }

// begins is what a replica must not vote against although its log does not say so.
func (i incarnation) begins() hardState {
	if i.Leader == "" {
		return hardState{}
	}
	return hardState{term: i.Term, voteTerm: i.Term, candidate: []byte(i.Leader), floor: i.Floor}
}

const (
	replicaMaking   = "making"   // its directory may be missing or half made
	replicaFounding = "founding" // as making, and it begins a new group instead of waiting for a leader
	replicaOpen     = "open"
	replicaGone     = "gone" // its directory may be removed
	replicaLost     = "lost" // its files are gone; the next begins only when its group does without it, see rejoin
)

// replicas returns the incarnations of this node, all shards of it.
func (id *identity) replicas() map[uint16]incarnation {
	if id.Replicas != nil || id.Joining {
		return id.Replicas
	}
	state := replicaMaking
	if id.Complete {
		state = replicaOpen
	}
	all := make(map[uint16]incarnation, id.Shards)
	for i := range uint16(id.Shards) {
		all[i] = incarnation{Number: 1, State: state}
	}
	return all
}

// with returns a copy that notes an incarnation.
func (id identity) with(shard uint16, i incarnation) identity {
	all := maps.Clone(id.replicas())
	if all == nil {
		all = map[uint16]incarnation{}
	}
	all[shard] = i
	id.Replicas = all
	return id
}

func identityPath(dir string) string { return filepath.Join(dir, "node.json") }

// loadIdentity reads node.json, or draws an identity for a directory without data.
func loadIdentity(disk vfs.FS, dir string, shards int, join bool) (identity, error) {
	b, err := vfs.ReadFile(disk, identityPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return newIdentity(disk, dir, shards, join)
	}
	if err != nil {
		return identity{}, err
	}
	var id identity
	if err := json.Unmarshal(b, &id); err != nil {
		return identity{}, errs.Wrap(errs.Corrupt, err, "read %s", identityPath(dir))
	}
	if id.Format != dataFormat {
		return identity{}, errs.New(errs.FailedPrecondition, "the data directory has format %d, this version reads %d", id.Format, dataFormat).
			WithHint("start the version of croft that wrote it")
	}
	if id.NodeID == "" || !id.Joining && (id.ClusterID == "" || id.Shards < 1 || id.Shards > maxShards) {
		return identity{}, errs.New(errs.Corrupt, "%s is incomplete", identityPath(dir))
	}
	return id, nil
}

func newIdentity(disk vfs.FS, dir string, shards int, join bool) (identity, error) {
	for _, name := range []string{"meta", "shards"} {
		there, err := vfs.Exists(disk, filepath.Join(dir, name))
		if err != nil {
			return identity{}, err
		}
		if there {
			return identity{}, errs.New(errs.Corrupt, "there is data in %s, but no node.json", dir).
				WithHint("restore node.json from a backup, or choose an empty directory")
		}
	}
	id := identity{ClusterID: newName(16), NodeID: newName(8), Format: dataFormat, Shards: shards}
	if join {
		id = identity{NodeID: id.NodeID, Format: dataFormat, Joining: true}
	}
	return id, id.save(disk, dir)
}

// begin counts a start.
func (id *identity) begin(disk vfs.FS, dir string) error {
	id.Starts++
	return id.save(disk, dir)
}

// complete notes that all groups are there.
func (id *identity) complete(disk vfs.FS, dir string) error {
	if id.Complete && id.Meta.State != replicaMaking {
		return nil
	}
	id.Complete, id.Meta = true, incarnation{}
	return id.save(disk, dir)
}

func (id identity) save(disk vfs.FS, dir string) error {
	return vfs.WriteAtomic(disk, identityPath(dir), func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(id)
	})
}
