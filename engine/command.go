package engine

import "github.com/croftdb/croft/engine/metadata"

// Op is the kind of a command, the first byte of its encoding. Numbers are on disk: append only.
type Op uint8

const (
	// OpDefineIndex makes the shard accept writes for Schema.
	OpDefineIndex Op = iota + 1
	// OpDropIndex drops every partition of Key.Index and refuses late writes to it for ever.
	OpDropIndex
	// OpCreatePartition makes an empty partition; nothing happens if it is there.
	OpCreatePartition
	// OpDropPartition drops Key with all its records.
	OpDropPartition
	// OpUpsert stores Records, each replacing the one of the same id.
	OpUpsert
	// OpUpdate changes existing records, see Update; unknown ids are passed over.
	OpUpdate
	// OpDelete removes Targets; unknown ids are passed over.
	OpDelete
	// OpDeleteAll removes every record of Key; the partition stays.
	OpDeleteAll
	// OpCostate keeps Costate, or removes it.
	OpCostate
	// OpDropTenant drops every partition of Key.Tenant and refuses late writes to it for ever. Co-state stays: it may be the
	// tenant's last bill.
	OpDropTenant

	// Those that follow bring a tenant, Key.Tenant, from one shard to another, by the attempt that Move names. Each is refused if
	// a later attempt has begun here, or the attempt has ended; repeating one is harmless. See DESIGN.md, "A tenant that moves".

	// OpStageTenant begins a copy of a tenant that does not live here. What is left of an earlier copy is dropped.
	OpStageTenant
	// OpStageRecords takes a batch of records into the copy, as they are stored at the source: Batch.
	OpStageRecords
	// OpStageBeside takes a batch of what is kept beside records into the copy: Batch.
	OpStageBeside
	// OpStageTail does to the copy what entries of the source's log have done to the tenant: Tail.
	OpStageTail
	// OpStageReady compares the copy with the source behind its fence: Digest. It is refused if they differ.
	OpStageReady
	// OpSettleTenant makes the copy the tenant itself, which lives here from then on, in Epoch.
	OpSettleTenant
	// OpFenceTenant refuses the tenant's writes from then on.
	OpFenceTenant
	// OpUnfenceTenant lets writes through again, and ends the attempt at the source.
	OpUnfenceTenant
	// OpLeaveTenant gives a fenced tenant up: from Epoch on it lives elsewhere. Its data stay as a copy.
	OpLeaveTenant
	// OpForgetTenant drops the copy of a tenant that has left or was staged, and ends the attempt. Late writes stay refused.
	OpForgetTenant
)

// Removes reports whether an encoded command takes records away.
func Removes(encoded []byte) bool {
	if len(encoded) == 0 {
		return false
	}
	switch Op(encoded[0] &^ onceFlag) {
	case OpDelete, OpDeleteAll, OpDropPartition, OpDropIndex:
		return true
	}
	return false
}

// Target names a record and, if Version is not zero, the version that it must still have.
type Target struct {
	ID      string
	Version uint64
}

// Update says what changes in each target: values and sparse values are replaced where given, metadata is merged
// key by key.
type Update struct {
	Targets     []Target
	Values      []float32
	Sparse      *Sparse
	SetMetadata metadata.Map // nil: unchanged
}

// Command is one entry of a shard's log, as the engine sees it. Time, chance and the outcome of filters are already
// in it; Apply depends on it and on the shard's state alone.
type Command struct {
	Op      Op
	Schema  Schema // OpDefineIndex
	Key     Key    // all others; OpDropIndex uses Key.Index, OpDropTenant Key.Tenant
	Records []Record
	Targets []Target       // OpDelete
	Update  Update         // OpUpdate
	Costate []CostateEntry // OpCostate
	Term    uint64         // OpCostate: in which the proposer leads; refused once there is an entry of a later one
	Move    Move           // those that bring a tenant to another shard
	Epoch   uint64         // OpSettleTenant, OpLeaveTenant
	Batch   *Batch         // OpStageRecords, OpStageBeside
	Tail    *Tail          // OpStageTail
	Digest  *TenantDigest  // OpStageReady
	Once    *Once          // nil: takes effect as often as it is proposed; not for those that name no partition, which change nothing the second time
}

// Applied is the answer of Apply, the same on every replica.
type Applied struct {
	Index    uint64 // of the log entry
	Affected int    // records stored, changed or removed
	Version  uint64 // of the partition afterwards
	Repeated bool   // a command with the same key had been applied before, at First; this one changed nothing
	First    uint64
	Err      error // a refusal that every replica makes alike (unknown index, wrong dimension, dropped)
}

// Moves reports whether an encoded command is about where a tenant lives.
func Moves(encoded []byte) bool { return len(encoded) > 0 && Op(encoded[0]).moves() }
