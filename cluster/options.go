package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/certs"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/tracing"
	"github.com/croftdb/croft/internal/vfs"
	"github.com/croftdb/croft/tenancy"
	"github.com/croftdb/croft/tenancy/audit"
)

// maxShards is the most replicas that one node carries: each costs goroutines, files and 8 MiB of log.
const maxShards = 256

// Options of a node. Zero fields get their defaults from Open.
type Options struct {
	Dir         string                                               // data directory, made if missing
	Shards      int                                                  // shards of a new data directory; 0: 16. An existing one keeps its own number
	Placement   Rules                                                // of tenants in a new cluster; SetRules changes them later
	Engine      engine.Options                                       // shared by all shards
	Gate        func(tenancy.AdmissionOptions) (tenancy.Gate, error) // makes what decides whether and when requests run, with this node's part of its options; nil: all run at once
	DiskReserve int64                                                // bytes of free disk below which upserts and updates are refused; 0: 256 MiB; negative: off
	Logger      *slog.Logger
	Registerer  prometheus.Registerer
	Tracer      *tracing.Tracer // of spans; nil: none
	SegmentSize int             // of raft logs in bytes; 0: 8 MiB
	LogRetain   int64           // bytes of log kept per group before a marker is set; 0: 64 MiB
	RaftTick    time.Duration   // after which silence voters elect another leader; 0: see tickFor

	PeerListen     string        // host:port for other nodes; empty: this node stays alone
	PeerAdvertise  string        // host:port where others reach it; empty: where it listens
	PeerTLS        certs.Files   // needed where PeerListen is not loopback; zero: none
	Join           string        // host:port of a member, for an empty directory
	JoinToken      string        // from NewJoinToken of a member
	URL            string        // where clients reach this node, for Info
	Zone           string        // replicas of a shard are kept in different zones
	Replicas       int           // of each shard: 1, 3 or 5; 0: 3 when there are three nodes, else 1. Noted by the first node of a cluster
	CheckpointRate int64         // bytes per second in which this node hands out shards' files; 0: 64 MiB; negative: no limit
	CacheBytes     int64         // of all tenants' results that this node keeps; 0: 256 MiB; negative: none
	ThrottleHot    bool          // the gate holds back tenants that compute more than their share
	UsageEvery     time.Duration // how often what tenants have used is written down: as much is lost in a crash; 0: 5 s
	ReplaceAfter   time.Duration // how long a node may be gone before its replicas are made elsewhere; 0: 10 min; negative: for ever
	Audit          audit.Options // bounds of this node's audit log
	UndeleteFor    time.Duration // how long a deleted tenant is kept; 0: 24 h
	MoveRate       int64         // bytes per second in which this node hands out tenants that are moved; 0: 64 MiB; negative: no limit
	MovesPerNode   int           // migrations that a node may have under way; 0: 2
	KeepMoved      time.Duration // how long the copy of a tenant is kept that has moved elsewhere; 0: 7 days

	// What simulations put in the place of the machine. They stay in this package: a directory that was made on another
	// disk than the real one has other formats of raft's and the engine's metadata, and no other process can open it.
	network   func(node string) peers // links; nil: over TCP
	unmanaged bool                    // the test says itself what the node carries
	disk      vfs.FS                  // of Dir, for the engine too; nil: the real one
	applied   func(appliedEntry)      // is told of each command that a shard's replica is given; nil: nobody looks
	decided   func(decidedEntry)      // is told of each command that the metadata plane's replica is given; nil: nobody looks
	stepping  func(*migration)        // is asked before each step of a migration, and may wait; nil: nobody is
}

func (o Options) withDefaults() Options {
	setDefault(&o.Shards, 16)
	setDefault(&o.DiskReserve, 256<<20)
	setDefault(&o.SegmentSize, 8<<20)
	setDefault(&o.LogRetain, 64<<20)
	setDefault(&o.CheckpointRate, 64<<20)
	setDefault(&o.ReplaceAfter, 10*time.Minute)
	setDefault(&o.UndeleteFor, 24*time.Hour)
	setDefault(&o.MoveRate, 64<<20)
	setDefault(&o.MovesPerNode, 2)
	setDefault(&o.KeepMoved, 7*24*time.Hour)
	setDefault(&o.CacheBytes, 256<<20)
	setDefault(&o.UsageEvery, 5*time.Second)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.disk == nil {
		o.disk = vfs.OS()
	}
	o.Engine.FS, o.Engine.InMemory = o.disk, o.disk != vfs.OS()
	if o.Engine.Logger == nil {
		o.Engine.Logger = o.Logger
	}
	if o.Engine.Registerer == nil {
		o.Engine.Registerer = o.Registerer
	}
	return o
}

const (
	shortTick  = 500 * time.Millisecond
	tickGroups = 16 // that shortTick is for
	moreTick   = 40 * time.Millisecond
	longTick   = 3 * time.Second
)

// tickFor is the tick of a cluster that began with a number of shards: each group sends some ten heartbeats a tick to each
// follower, and beyond tickGroups each group adds moreTick, so that heartbeats grow no further. All nodes have the same, by the
// number in node.json.
func tickFor(shards int) time.Duration {
	return min(shortTick+moreTick*time.Duration(max(0, shards-tickGroups)), longTick)
}

// pace is how often a node looks whether the cluster is as it should be.
func (o *Options) pace() time.Duration { return max(o.RaftTick, 50*time.Millisecond) }

func setDefault[T ~int | ~int64 | ~float32](p *T, v T) {
	if *p == 0 {
		*p = v
	}
}

func (o *Options) validate() error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	check(o.Dir != "", "no data directory is given")
	check(o.Shards >= 1 && o.Shards <= maxShards, "%d shards, must be 1 to %d", o.Shards, maxShards)
	check(o.SegmentSize >= 64<<10 && o.SegmentSize <= 1<<30, "log segments of %d bytes, must be 64 KiB to 1 GiB", o.SegmentSize)
	check(o.UndeleteFor > 0, "deleted tenants kept for %s, must be positive", o.UndeleteFor)
	check(o.MovesPerNode > 0, "%d migrations of a node at the same time, must be positive", o.MovesPerNode)
	check(o.KeepMoved > 0, "copies of tenants that have moved kept for %s, must be positive", o.KeepMoved)
	check(o.UsageEvery >= 10*time.Millisecond, "usage written down every %s, must be at least 10ms", o.UsageEvery)
	check(o.LogRetain > 0, "%d bytes of log retained, must be positive", o.LogRetain)
	check(o.RaftTick == 0 || o.RaftTick >= 5*time.Millisecond, "raft tick of %s, must be at least 5ms", o.RaftTick)
	check(o.Replicas == 0 || o.Replicas == 1 || o.Replicas == 3 || o.Replicas == 5, "%d replicas, must be 1, 3 or 5, or 0 to follow the number of nodes", o.Replicas)
	check(o.Join == "" || o.PeerListen != "" || o.network != nil, "a node that joins needs an address for its peers")
	if err := o.Placement.validate(); err != nil {
		faults = append(faults, err)
	}
	return errs.Wrap(errs.Invalid, errors.Join(faults...), "options of a node")
}
