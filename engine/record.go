package engine

import (
	"encoding/hex"
	"fmt"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/hnsw"
	"github.com/croftdb/croft/engine/filter"
	"github.com/croftdb/croft/engine/metadata"
)

// TenantID is the 128-bit internal id of a tenant, never reused. Nothing below the router takes a tenant's name.
type TenantID [16]byte

func (t TenantID) String() string { return hex.EncodeToString(t[:]) }

// IndexID is the internal id of an index, given out by the metadata plane, never reused. Zero is no index.
type IndexID uint64

// Key names a partition: one tenant's records in one index.
type Key struct {
	Tenant TenantID
	Index  IndexID
}

func (k Key) String() string { return fmt.Sprintf("%s/%d", k.Tenant, k.Index) }

// Schema is what apply and the builders must know of an index. It reaches a shard through the shard's own log
// (DefineIndex) and never changes: what only searches depend on comes with the Query.
type Schema struct {
	ID             IndexID
	Dim            int        // 0 for a sparse index
	Metric         ann.Metric // DotProduct for a sparse index
	M              int        // links per node of the graph; 0: 16
	EfConstruction int        // 0: 200
	EfSearch       int        // default breadth of a graph search; 0: chosen for the recall that the query asks for
	Bits           int        // width of the codes that a graph is walked on: 1, 2, 4, 8, or NoCodes; 0: chosen by Dim
}

// NoCodes as Schema.Bits keeps no codes: walks read full vectors.
const NoCodes = hnsw.NoCodes

// Sparse is a sparse vector: indices ascending and unique, as many values.
type Sparse struct {
	Indices []uint32
	Values  []float32
}

// Record is what a client stores under an id.
type Record struct {
	ID       string
	Values   []float32 // Schema.Dim values, nil in a sparse index
	Sparse   Sparse
	Metadata metadata.Map
	Version  uint64 // set on reads: grows with every change in the partition, unique in it
}

// Query asks one partition for its nearest records. Exactly one of Vector and Sparse may be missing.
type Query struct {
	Vector          []float32
	Sparse          Sparse
	K               int
	Filter          *filter.Expr // nil: every record
	Ef              int          // breadth of a graph walk; 0: the schema's, else what Recall takes
	Recall          float32      // share of the true nearest that a graph walk is to find; 0: DefaultRecall
	IncludeValues   bool
	IncludeMetadata bool
	Bound           *Bound // what is worse is left out, since others have found enough that is better; nil: nothing is
	MaxBytes        int    // of ids, values and metadata in the answer, as they are in memory; 0: no limit, else Invalid beyond it
}

// DefaultRecall is what graph walks aim at when neither breadth nor recall is asked for.
const DefaultRecall = hnsw.DefaultRecall

// Match is one answer of a query. Record holds the id, and values and metadata where asked for.
type Match struct {
	Record
	Score float32 // as Metric.Score
}

// Plan names the way a query was executed.
type Plan string

const (
	// PlanEmpty is a query of a partition without records.
	PlanEmpty Plan = "empty"
	// PlanFlat is an exact scan of all records.
	PlanFlat Plan = "flat"
	// PlanGraph is a graph walk plus an exact scan of the growing buffer.
	PlanGraph Plan = "graph"
	// PlanFilterScan is an exact scan of the records that match the filter.
	PlanFilterScan Plan = "filter-scan"
	// PlanFilterCodes is a scan of the codes of the records that match the filter, which the vectors of those in doubt follow.
	PlanFilterCodes Plan = "filter-codes"
	// PlanFilterGraph is a graph walk with the filter inside.
	PlanFilterGraph Plan = "filter-graph"
	// PlanSparse is an exact pass over the postings of the query's sparse indices, with a dense scan if asked for.
	PlanSparse Plan = "sparse"
)

// Result is the answer of a query. It may be reused: its slices are overwritten and grow as needed.
type Result struct {
	Matches   []Match // best first, ties by id
	Plan      Plan
	Scanned   int      // vectors measured exactly
	Distances int      // vectors and codes measured
	Read      int      // bytes of what was measured, and of the payload
	Stored    uint64   // bytes that the partition keeps: of ids, values and metadata
	Version   uint64   // of the partition that was seen
	Tenant    TenantID // whose partition that was; zero: there was none
}

// PartitionStats is told without scanning.
type PartitionStats struct {
	Key     Key
	Records uint64
	Bytes   uint64 // logical size: ids, values, metadata
	Version uint64
	Indexed uint64 // records that the graph holds; Records when flat
	// Ef is the breadth of a graph walk that finds DefaultRecall of ten neighbours, by what was measured; 0 without graph.
	Ef int
	// SampledRecall is the share of the true nearest that a sample of searches has found since the partition was loaded;
	// 0 before any was sampled.
	SampledRecall float64
}

// Stats is a shard's figures.
type Stats struct {
	Partitions    int
	Loaded        int // partitions whose search structures are in memory
	Records       uint64
	Indexed       uint64 // of these, not waiting to get into a graph
	Bytes         uint64
	SegmentBytes  uint64 // on disk
	Segments      int
	ResidentBytes uint64 // search structures in memory, without mapped pages
	BufferBytes   uint64 // not yet flushed
	AppliedIndex  uint64
	FlushedIndex  uint64 // durable: the log is not needed up to here
	// Copies of tenants that live elsewhere: staged, or left behind. They count in what is on disk and in memory, and in none of
	// the first figures.
	AwayPartitions int
	AwayRecords    uint64
	AwayBytes      uint64
}
