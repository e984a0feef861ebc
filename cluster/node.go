// Package cluster owns where things live and how they are agreed on.
package cluster

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/engine/filter"
	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/tenancy"
)

// DefaultNamespace is the tenant that requests without a namespace mean.
const DefaultNamespace = "__default__"

// Options of a node.
type Options struct {
	Dir         string         // data directory, made if missing
	Shards      int            // shards of a new data directory; 0: 16. An existing one keeps its own number
	Engine      engine.Options // shared by all shards
	DiskReserve int64          // bytes of free disk below which upserts and updates are refused; 0: 256 MiB; negative: off
	Logger      *slog.Logger
	Registerer  prometheus.Registerer
	SegmentSize int           // of raft logs in bytes; 0: 8 MiB
	LogRetain   int64         // bytes of log kept per group before a marker is set; 0: 64 MiB
	RaftTick    time.Duration // heartbeat and election timeout of single-voter groups; 0: 100 ms
}

// Node is one process's part of the cluster: a replica of the metadata plane and of its shards.
type Node struct{}

// Open starts the node in opts.Dir and returns when the metadata plane and all shards have a leader and have
// applied their logs.
func Open(ctx context.Context, opts Options) (*Node, error) { panic("not yet") }

// Close flushes and stops everything, shards first.
func (n *Node) Close() error { panic("not yet") }

// Failed is closed when a store of this node is poisoned; Failure tells why. The process must exit.
func (n *Node) Failed() <-chan struct{} { panic("not yet") }

// Failure is the first fault that poisoned the node.
func (n *Node) Failure() error { panic("not yet") }

// Ready lists failing checks, none when the node serves everything.
func (n *Node) Ready() []Check { panic("not yet") }

// Check is one condition of readiness.
type Check struct {
	Name string // e.g. "shard 7 leader"
	Err  error  // nil: passed
}

// Index is an index as the metadata plane holds it.
type Index struct {
	ID                 engine.IndexID
	Name               string
	Dim                int // 0 for sparse
	Metric             ann.Metric
	Sparse             bool // vector_type sparse
	M                  int
	EfConstruction     int
	EfSearch           int
	DeletionProtection bool
	Tags               map[string]string
	Spec               []byte // the "spec" object of the request, as JSON, echoed
	Port               int    // offset 1..40 of its own port, 0: none left
	CreatedAt          time.Time
}

// IndexPatch changes an index; nil fields stay. A tag with an empty value is removed.
type IndexPatch struct {
	DeletionProtection *bool
	Tags               map[string]string
	Spec               []byte
}

// CreateIndex defines an index in the metadata plane and in every shard. ID, Port and CreatedAt are set by it.
// AlreadyExists if the name is taken, Invalid if a field is out of bounds.
func (n *Node) CreateIndex(ctx context.Context, ix Index) (Index, error) { panic("not yet") }

// ConfigureIndex changes an index. NotFound if there is none.
func (n *Node) ConfigureIndex(ctx context.Context, name string, p IndexPatch) (Index, error) {
	panic("not yet")
}

// DeleteIndex drops an index with all its records. NotFound; PermissionDenied when protected.
func (n *Node) DeleteIndex(ctx context.Context, name string) error { panic("not yet") }

// Index returns an index by name, from memory.
func (n *Node) Index(name string) (Index, bool) { panic("not yet") }

// IndexByPort returns an index by the offset of its port, from memory.
func (n *Node) IndexByPort(port int) (Index, bool) { panic("not yet") }

// Indexes returns all indexes, by name.
func (n *Node) Indexes() []Index { panic("not yet") }

// WatchIndexes calls f with all indexes now and after each change, from one goroutine, until stop is called.
func (n *Node) WatchIndexes(f func([]Index)) (stop func()) { panic("not yet") }

// Written is the answer of a write.
type Written struct {
	Affected int
	LSN      uint64 // index of the entry in its shard's log
	Shard    int
}

// Upsert stores records in a namespace, which is created if missing; the whole request is one log entry.
func (n *Node) Upsert(ctx context.Context, ix Index, namespace string, recs []engine.Record) (Written, error) {
	panic("not yet")
}

// Update changes one record; an unknown id changes nothing. NotFound if the namespace does not exist.
func (n *Node) Update(ctx context.Context, ix Index, namespace, id string, values []float32, sparse *engine.Sparse, set metadata.Map) (Written, error) {
	panic("not yet")
}

// UpdateWhere merges metadata into every record that matches f, or only counts them when dryRun is set.
func (n *Node) UpdateWhere(ctx context.Context, ix Index, namespace string, f *filter.Expr, set metadata.Map, dryRun bool) (Written, error) {
	panic("not yet")
}

// Delete removes records by id. NotFound if the namespace does not exist.
func (n *Node) Delete(ctx context.Context, ix Index, namespace string, ids []string) (Written, error) {
	panic("not yet")
}

// DeleteWhere removes every record that matches f.
func (n *Node) DeleteWhere(ctx context.Context, ix Index, namespace string, f *filter.Expr) (Written, error) {
	panic("not yet")
}

// DeleteAll removes every record of a namespace, which stays.
func (n *Node) DeleteAll(ctx context.Context, ix Index, namespace string) (Written, error) {
	panic("not yet")
}

// Query searches a namespace into res; a missing namespace is an empty one. It returns the shard asked.
func (n *Node) Query(ctx context.Context, ix Index, namespace string, q *engine.Query, res *engine.Result) (shard int, err error) {
	panic("not yet")
}

// Fetch returns the records of ids that exist.
func (n *Node) Fetch(ctx context.Context, ix Index, namespace string, ids []string) ([]engine.Record, error) {
	panic("not yet")
}

// Scan returns up to limit records that match f (nil: all) in order of id, after the given id.
func (n *Node) Scan(ctx context.Context, ix Index, namespace, prefix, after string, f *filter.Expr, limit int) (recs []engine.Record, more bool, err error) {
	panic("not yet")
}

// ScanIDs returns up to limit ids in order, after the given id.
func (n *Node) ScanIDs(ctx context.Context, ix Index, namespace, prefix, after string, limit int) (ids []string, more bool, err error) {
	panic("not yet")
}

// Namespace is one namespace of an index.
type Namespace struct {
	Name  string
	Stats engine.PartitionStats
	Shard int
}

// CreateNamespace makes an empty namespace. AlreadyExists if it is there.
func (n *Node) CreateNamespace(ctx context.Context, ix Index, name string) (Namespace, error) {
	panic("not yet")
}

// DeleteNamespace drops a namespace with its records. NotFound if it is not there.
func (n *Node) DeleteNamespace(ctx context.Context, ix Index, name string) error { panic("not yet") }

// DescribeNamespace returns one namespace. The default one always exists.
func (n *Node) DescribeNamespace(ix Index, name string) (Namespace, error) { panic("not yet") }

// Namespaces returns the namespaces of an index whose name has prefix, in order of name, after the given one; total
// counts all with the prefix.
func (n *Node) Namespaces(ix Index, prefix, after string, limit int) (page []Namespace, more bool, total int) {
	panic("not yet")
}

// IndexStats returns every namespace of an index that has records, in order of name.
func (n *Node) IndexStats(ix Index) []Namespace { panic("not yet") }

// AddKey stores an API key's hash. AlreadyExists if its id is taken.
func (n *Node) AddKey(ctx context.Context, k tenancy.Key) error { panic("not yet") }

// Key returns a stored key by its public id, from memory; it makes Node a tenancy.KeySource.
func (n *Node) Key(id string) (tenancy.Key, bool) { panic("not yet") }

// Keys counts the stored keys.
func (n *Node) Keys() int { panic("not yet") }

// Info describes the node for /v1/cluster.
func (n *Node) Info() Info { panic("not yet") }

// Info is what a node tells of itself and its shards.
type Info struct {
	ClusterID string      `json:"cluster_id"`
	NodeID    string      `json:"node_id"`
	Shards    []ShardInfo `json:"shards"`
}

// ShardInfo is one shard's figures.
type ShardInfo struct {
	ID      int          `json:"id"`
	Leader  string       `json:"leader"`
	State   string       `json:"state"`
	Stats   engine.Stats `json:"stats"`
	Tenants int          `json:"tenants"`
}
