// Package engine owns the shards on this disk.
package engine

import (
	"context"

	"github.com/croftdb/croft/engine/filter"
)

// Options of an engine: one per process, shared by its shards.
type Options struct {
	MemoryBudget int64 // bytes of search structures kept in memory; 0: 1 GiB
}

// Engine owns what the shards of a process share: builders, the memory budget, metrics.
type Engine struct{}

// Open starts an engine without shards.
func Open(opts Options) (*Engine, error) { panic("not yet") }

// Close closes every shard.
func (e *Engine) Close() error { panic("not yet") }

// OpenShard opens or creates the shard in dir and recovers it to its last flush; the caller replays its log from
// AppliedIndex()+1.
func (e *Engine) OpenShard(dir string) (*Shard, error) { panic("not yet") }

// Shard is a set of partitions with one log.
type Shard struct{}

// Apply executes one committed entry. Entries arrive in log order from one goroutine. One whose index is not above
// AppliedIndex is skipped: it is in the state already. A returned error is a broken disk, after which the shard
// refuses everything; refusals of the input are in Applied.Err.
func (s *Shard) Apply(index uint64, cmd []byte) (Applied, error) { panic("not yet") }

// AppliedIndex is the index of the last entry applied.
func (s *Shard) AppliedIndex() uint64 { panic("not yet") }

// Flush makes all that has been applied so far durable and returns the index up to which the log is not needed.
func (s *Shard) Flush(ctx context.Context) (uint64, error) { panic("not yet") }

// Admit waits until the shard's buffers have room for a write of size bytes, or fails with Unavailable or
// StorageFull. It is called before a write is proposed, never in Apply.
func (s *Shard) Admit(ctx context.Context, size int) error { panic("not yet") }

// Query searches a partition into res; a missing partition is an empty one.
func (s *Shard) Query(ctx context.Context, key Key, q *Query, res *Result) error { panic("not yet") }

// Fetch returns the records of ids that exist, in the order of ids.
func (s *Shard) Fetch(ctx context.Context, key Key, ids []string) ([]Record, error) {
	panic("not yet")
}

// Scan visits records in order of id, from after (exclusive) on, whose id has prefix and that match f (nil: all),
// until limit records were found. more tells whether another one follows.
func (s *Shard) Scan(ctx context.Context, key Key, prefix, after string, f *filter.Expr, limit int) (recs []Record, more bool, err error) {
	panic("not yet")
}

// ScanIDs is Scan for ids alone.
func (s *Shard) ScanIDs(ctx context.Context, key Key, prefix, after string, limit int) (ids []string, more bool, err error) {
	panic("not yet")
}

// Resolve returns the records that match f, to be named in an update or delete by filter.
func (s *Shard) Resolve(ctx context.Context, key Key, f *filter.Expr) ([]Target, error) {
	panic("not yet")
}

// Schema returns the schema of an index that this shard's log has defined.
func (s *Shard) Schema(id IndexID) (Schema, bool) { panic("not yet") }

// Schemas returns all indexes defined and not dropped, and the ids of the dropped ones.
func (s *Shard) Schemas() (defined []Schema, dropped []IndexID) { panic("not yet") }

// Partition returns the figures of one partition.
func (s *Shard) Partition(key Key) (PartitionStats, bool) { panic("not yet") }

// Partitions returns the figures of all partitions of an index (0: of all), in no order.
func (s *Shard) Partitions(index IndexID) []PartitionStats { panic("not yet") }

// Stats returns the shard's figures.
func (s *Shard) Stats() Stats { panic("not yet") }

// Close flushes and closes the shard.
func (s *Shard) Close() error { panic("not yet") }
