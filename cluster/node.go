// Package cluster owns where things live and how they are agreed on: the metadata plane (a raft group that knows
// indexes, tenants, keys and the ring), the shard groups with their logs, and the way from a tenant's name to the
// shard that answers.
//
// It promises that a write is acknowledged only after it is committed to its shard's log, synced and applied; that
// the log is the only write-ahead log and bounded in bytes; that a lookup of a tenant touches memory alone; and that
// after the first failed write or sync of a store nothing is acknowledged any more (Failed). internal/api calls it,
// cmd/croft opens it. It never looks into a vector or a filter, which is the engine's business, and asks nobody
// whether a caller may do what he asks, which is tenancy's.
//
// DESIGN.md beside this file argues; docs/format/log.md and docs/format/meta.md describe what is on disk.
package cluster

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/tenancy"
	"github.com/croftdb/croft/tenancy/audit"
)

// DefaultNamespace is the tenant that requests without a namespace mean.
const DefaultNamespace = "__default__"

// Node is one process's part of the cluster: a replica of the metadata plane and of its shards.
//
// open.go, options.go, identity.go, addresses.go: how a node starts, what it is told and what it remembers. join.go,
// members.go, steward.go, placement.go, reconcile.go, change.go: which nodes there are, and what each of them carries. meta*.go, state*.go: the metadata plane.
// ring.go, router.go: from a tenant to its shard. group.go, log*.go, fsm*.go, trim.go: raft groups and their logs.
// records.go, namespaces.go, indexes.go, keys.go: what callers ask for.
type Node struct {
	opts    Options
	id      identity
	life    uint64 // drawn at this start
	logger  *slog.Logger
	lock    io.Closer
	fail    *failure
	disk    *diskGuard
	trail   *audit.Trail
	metrics *metrics

	engine  *engine.Engine
	gate    tenancy.Gate // nil: there is none
	meta    *metaPlane
	local   *replicaSet
	hints   leaderHints
	peers   peers
	links   *links
	cluster atomic.Pointer[string] // id of the cluster, for peers
	book    *addressBook
	keyUses *keyUses
	trimmer *trimmer
	aligner *aligner
	loads   *shardLoads

	verifier    *verifier
	healthWatch *healthWatch

	queries  meters
	searches searches
	usage    *usageLedger
	cache    *tenancy.Cache // nil: there is none
	hot      atomic.Int64   // tenants that take a large part of a shard that is led here

	refusals tenancy.Refusals
	shares   shares

	mover   *mover
	leaving *moveSource
	warms   warms

	checkpoints *checkpointServer
	taker       *checkpointTaker

	refresher refresher
	refreshed atomic.Bool // the metadata here has been as new as the leader's since the node was started

	ctx        context.Context // of all that runs in the background
	cancel     context.CancelFunc
	opened     atomic.Bool    // all groups are there; what follows only reads them
	managing   sync.WaitGroup // steward, reconciler and keepKeyUses: the first two open and close groups, so they end before the groups do
	background sync.WaitGroup
	closing    sync.Once
	closeErr   error
}

// groups returns every raft group of this node that is open, the metadata plane first.
func (n *Node) groups() []*group {
	var gs []*group
	if n.meta != nil {
		gs = append(gs, n.meta.group)
	}
	for _, s := range n.replicas().sorted() {
		gs = append(gs, s.group)
	}
	return gs
}

// Failed is closed when a store of this node is poisoned; Failure tells why. The process must exit.
func (n *Node) Failed() <-chan struct{} { return n.fail.done() }

// Failure is the first fault that poisoned the node, nil while there is none.
func (n *Node) Failure() error { return n.fail.Cause() }
