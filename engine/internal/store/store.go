// Package store owns the ordered key-value store under a shard's records: a small interface, a durable
// implementation on bbolt and an in-memory twin for simulation.
//
// It promises that an Update that returned nil is on disk; that each value read is the value written under that key of
// that bucket, by a CRC32C of its own (bbolt checks only its two meta pages); that a damaged page or a file truncated
// under its mapping ends in an error of kind Corrupt and not in the death of the process; and that after a commit
// failed nothing more is served until the store is opened anew, because what a failed fsync left on disk is unknown
// and trying again would report success for pages that the kernel has already dropped. The engine's shards call it. It
// never interprets keys or values, never retries a commit and starts no goroutine.
package store

import (
	"bytes"
	"errors"
	"io"
	"time"

	"github.com/croftdb/croft/internal/errs"
)

// Bucket is the number of a key space: the position of its name in Options.Buckets.
type Bucket uint8

// Limits of the store. They are bbolt's; the in-memory twin keeps them too.
const (
	MaxKey     = 32 << 10           // bytes of a key; at least 1
	MaxValue   = 1<<31 - 2 - crcLen // bytes of a value
	MaxBuckets = 32
)

// ErrPoisoned is in the chain of every error returned after a failed commit.
var ErrPoisoned = errors.New("store refuses all calls since a commit failed")

// KV is an ordered store with one writer and many readers. All methods may be called concurrently.
type KV interface {
	// View runs fn on an immutable state: the last one committed when View was called. A long View keeps replaced
	// pages from being reused and may hold up a growing file: read in short ranges.
	View(fn func(Tx) error) error
	// Update runs fn and, if it returned nil, makes its changes durable as a whole. An error or panic of fn discards
	// them. A failed commit has kind OutcomeUnknown (StorageFull when the disk is full) and poisons the store:
	// every later call fails with kind Unavailable, ErrPoisoned and the cause in its chain. Updates run one at a time;
	// calling Update or Close within fn deadlocks.
	Update(fn func(RW) error) error
	// Size returns the bytes that the store takes on disk, up to its last used page; 0 once it is closed.
	Size() int64
	// Close waits for running calls and releases the store; closing twice is harmless. Later calls have kind
	// Unavailable.
	Close() error
}

// Tx reads one state of the store. It and all that it returns are valid only until the function that it was given to
// returns; it belongs to one goroutine.
type Tx interface {
	// Get returns the value of key, nil if there is none; an empty value is not nil. A value that fails its checksum
	// is an error of kind Corrupt that names bucket and key.
	Get(b Bucket, key []byte) ([]byte, error)
	// Ascend calls fn for each key >= from in order until fn returns false or an error, which Ascend returns. Damage
	// ends it with kind Corrupt. fn must not change the store.
	Ascend(b Bucket, from []byte, fn func(k, v []byte) (more bool, err error)) error
	// Copy writes this state as a whole to w, in the form that the same implementation opens (Open, OpenMem). Checksums
	// of values go along and are not looked at.
	Copy(w io.Writer) error
}

// RW reads and changes the next state of the store; it reads its own writes. Keys and values may be reused by the caller
// after the call.
type RW interface {
	Tx
	// Put sets the value of key. Kind Invalid for an empty or too long key, TooLarge for a too long value.
	Put(b Bucket, key, value []byte) error
	// Delete removes key if it is there.
	Delete(b Bucket, key []byte) error
}

// Options are the settings of a store.
type Options struct {
	// Buckets names the key spaces, 1 to MaxBuckets of them. Bucket n is Buckets[n]; the names are stored, and missing
	// ones are created.
	Buckets []string
	// MapBytes is the address space reserved at the start, 1 GiB unless set: bbolt must wait for all readers to map a
	// file that outgrew it. Address space only; no memory and no disk.
	MapBytes int
	// GrowBytes is by how much the file grows at a time, 16 MiB unless set. The added space is a hole until written.
	GrowBytes int
	// LockTimeout is how long Open waits for another process to release the file, 1 s unless set.
	LockTimeout time.Duration
}

// EnsureDefaults fills in what is unset.
func (o *Options) EnsureDefaults() {
	if o.MapBytes == 0 {
		o.MapBytes = 1 << 30
	}
	if o.GrowBytes == 0 {
		o.GrowBytes = 16 << 20
	}
	if o.LockTimeout == 0 {
		o.LockTimeout = time.Second
	}
}

// Validate returns all faults of o, joined, of kind Invalid.
func (o *Options) Validate() error {
	var faults []error
	add := func(format string, args ...any) { faults = append(faults, errs.New(errs.Invalid, format, args...)) }
	if n := len(o.Buckets); n < 1 || n > MaxBuckets {
		add("store has %d buckets, want 1 to %d", n, MaxBuckets)
	}
	seen := map[string]bool{}
	for i, name := range o.Buckets {
		if name == "" || seen[name] {
			add("store bucket %d is named %q: names must be unique and not empty", i, name)
		}
		seen[name] = true
	}
	if o.MapBytes < 0 || o.GrowBytes < 0 || o.LockTimeout < 0 {
		add("store options must not be negative: MapBytes %d, GrowBytes %d, LockTimeout %v",
			o.MapBytes, o.GrowBytes, o.LockTimeout)
	}
	return errs.Wrap(errs.Invalid, errors.Join(faults...), "store options")
}

func (o Options) prepared() (Options, error) {
	o.Buckets = append([]string(nil), o.Buckets...)
	o.EnsureDefaults()
	return o, o.Validate()
}

const poisonHint = "look for disk errors in the system's log; once the disk is sound, open the store again"

// poisoned is the error of every call after the commit that failed with cause.
func poisoned(what string, cause error) *errs.Error {
	e := errs.New(errs.Unavailable, "%s: %v: %v", what, ErrPoisoned, cause).WithHint(poisonHint)
	e.Err = errors.Join(ErrPoisoned, cause)
	return e
}

// shown shortens a key for an error message.
func shown(key []byte) []byte {
	const most = 64
	if len(key) <= most {
		return key
	}
	return append(bytes.Clone(key[:most]), "..."...)
}
