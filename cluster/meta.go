package cluster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"path/filepath"
	"sync/atomic"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

const metaName = "metadata"

// metaPlane is this node's replica of the metadata plane. Reads are of the local copy and touch no disk and no lock.
type metaPlane struct {
	group   *group
	fsm     *metaFSM
	creator *tenantCreator
	untold  atomic.Uint64 // changes that were committed, and of which followers may not have heard
}

func metaDir(data string) string { return filepath.Join(data, "meta") }

func openMeta(data string, o groupOptions, seen func(decidedEntry)) (*metaPlane, error) {
	fsm := newMetaFSM()
	fsm.seen = seen
	o.dir, o.fsm, o.restore = metaDir(data), fsm, true
	g, err := openGroup(o)
	if err != nil {
		return nil, err
	}
	return &metaPlane{group: g, fsm: fsm}, nil
}

// state is the newest state applied here.
func (m *metaPlane) state() *state { return m.fsm.state.Load() }

// propose commits a command and returns the state machine's answer.
func (m *metaPlane) propose(ctx context.Context, c *metaCommand) (metaResult, error) {
	return m.proposeBytes(ctx, appendMetaCommand(nil, c))
}

// proposeBytes proposes an encoded command, which it keeps.
func (m *metaPlane) proposeBytes(ctx context.Context, cmd []byte) (metaResult, error) {
	answer, err := m.group.propose(ctx, cmd)
	if err != nil {
		return metaResult{}, err
	}
	m.spread()
	res := answer.(metaResult)
	return res, res.err
}

// spread has the followers hear at once of what was committed: raft tells them with the next entry, or a commitTimeout later,
// and a tenant is to be served everywhere before that. The next entry is an empty one, unless another change is on its way anyhow; of
// several that are due, one does for all.
func (m *metaPlane) spread() {
	if m.group.sole.Load() || m.untold.Add(1) > 1 {
		return
	}
	if m.group.begin() != nil {
		return // it is stopping
	}
	go func() {
		defer m.group.inflight.Done()
		for done := false; !done; {
			untold := m.untold.Load()
			_ = m.group.barrier(m.group.opts.ctx) // who leads no more has nobody to tell
			done = m.untold.CompareAndSwap(untold, 0)
		}
	}()
}

// init lays out a new cluster; one that is laid out already is left as it is.
func (m *metaPlane) init(ctx context.Context, clusterID string, shards int, rules Rules) error {
	if s := m.state(); s.clusterID != "" {
		return checkCluster(s, clusterID)
	}
	ids := make([]uint16, shards)
	for i := range ids {
		ids[i] = uint16(i)
	}
	_, err := m.propose(ctx, &metaCommand{
		op: metaInit, clusterID: clusterID, shards: ids, ring: newRing(ids), shardCommand: shardCommand{rules: rules},
	})
	return err
}

func checkCluster(s *state, clusterID string) error {
	if s.clusterID == clusterID {
		return nil
	}
	return errs.New(errs.Corrupt, "the metadata plane is of cluster %s, the node of cluster %s", s.clusterID, clusterID).WithHint("meta or node.json came from another node")
}

// tenant returns the tenant of that name, and makes it if there is none.
func (m *metaPlane) tenant(ctx context.Context, name string) (*tenant, error) {
	if t, ok := m.state().tenant(name); ok {
		return t, nil
	}
	if err := m.creator.create(ctx, name); err != nil {
		return nil, err
	}
	if t, ok := m.state().tenant(name); ok {
		return t, nil
	}
	return nil, errs.New(errs.Internal, "tenant %q was created and is not there", name)
}

// newTenantID draws an id that no other tenant has had.
func newTenantID() (id engine.TenantID) {
	rand.Read(id[:]) // never fails, see its documentation
	return id
}

// newName draws an identifier of n random bytes in hexadecimal.
func newName(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}
