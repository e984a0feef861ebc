package tenancy

import (
	"math"
	"time"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// Figure is one of the things that are counted for a tenant. Numbers are on disk: append only.
type Figure uint8

const (
	// Queries are searches that ran, from the cache too.
	Queries Figure = iota
	// Reads are fetches and lists.
	Reads
	// Writes are requests that change records.
	Writes
	// Upserted are records stored or changed.
	Upserted
	// Deleted are records removed.
	Deleted
	// ReadUnits are Pinecone's measure of what reads cost.
	ReadUnits
	// WrittenBytes are those of writes as they go through the log.
	WrittenBytes
	// ScannedBytes are those of the vectors and codes that searches measured, and of the payload that was read.
	ScannedBytes
	// Distances are vectors and codes that searches measured.
	Distances
	// ComputeNanos is processor time, see Event.
	ComputeNanos
	// CacheHits are searches answered from the cache.
	CacheHits
	// Refused are requests that were not let in, and writes beyond what may be stored.
	Refused
	// Violations are requests that missed their deadline.
	Violations
	// Errors are requests that failed by no fault of the caller.
	Errors
	// Expired are requests whose deadline passed while they waited: among Violations, and not among queries, reads or writes.
	Expired
	// Foreign are requests for what is another tenant's. They were refused, as those of the next four; see Denial.
	Foreign
	// System are requests for what is the store's, or that of all tenants.
	System
	// Unpermitted are requests for what is in reach, but not for the credential's role.
	Unpermitted
	// ExpiredKeys are requests with a credential that was good once.
	ExpiredKeys
	// UnknownKeys are requests with a wrong secret for the id of the tenant's key, or with a key of a tenant that is deleted; of no
	// tenant those with no credential, or one that is not known: made up, or revoked.
	UnknownKeys
	// Targeted are requests of others for what is the tenant's. They were refused.
	Targeted
	// Checked are answers that were found to be the tenant's own before they were sent to it.
	Checked
	// Strayed are answers that were found to be another's. They were not sent.
	Strayed

	figureCount
)

var figureNames = [figureCount]string{
	Queries: "queries", Reads: "reads", Writes: "writes", Upserted: "upserted", Deleted: "deleted", ReadUnits: "read_units",
	WrittenBytes: "written_bytes", ScannedBytes: "scanned_bytes", Distances: "distances", ComputeNanos: "compute_ns",
	CacheHits: "cache_hits", Refused: "refused", Violations: "violations", Errors: "errors", Expired: "expired",
	Foreign: "foreign", System: "system", Unpermitted: "unpermitted", ExpiredKeys: "expired_keys", UnknownKeys: "unknown_keys", Targeted: "targeted",
	Checked: "checked", Strayed: "strayed",
}

func (f Figure) String() string { return figureNames[f] }

// Figures returns all of them.
func Figures() []Figure {
	all := make([]Figure, figureCount)
	for f := range all {
		all[f] = Figure(f)
	}
	return all
}

// Latencies are counted in buckets half an octave wide, the first up to latencyFloor and the last without end, so that a
// percentile is off by a fifth at most.
const (
	latencyBuckets = 40
	latencyOctave  = 2
	latencyFloor   = 64 * time.Microsecond
)

// Stored is what a tenant keeps.
type Stored struct{ Vectors, Bytes uint64 }

func (s Stored) atLeast(o Stored) Stored {
	return Stored{max(s.Vectors, o.Vectors), max(s.Bytes, o.Bytes)}
}

// Usage is what a tenant has used in some time. The zero Usage is nothing.
type Usage struct {
	Counts  [figureCount]uint64
	Latency [latencyBuckets]uint32 // requests by the time they took at the tenant's home
	Peak    Stored                 // the most that was stored
	End     Stored                 // what was stored at the end
}

// Add takes in what came later, or at the same time on another node, which knows nothing of what is stored.
func (u *Usage) Add(later *Usage) {
	u.Count(later)
	u.Peak = u.Peak.atLeast(later.Peak)
	u.End = later.End
}

// Count takes in what was counted elsewhere, and leaves what is stored as it is.
func (u *Usage) Count(o *Usage) {
	for f := range u.Counts {
		u.Counts[f] += o.Counts[f]
	}
	for b := range u.Latency {
		u.Latency[b] += o.Latency[b]
	}
}

// Keep notes what is stored now.
func (u *Usage) Keep(s Stored) {
	u.Peak, u.End = u.Peak.atLeast(s), s
}

// Observe counts a request that took some time.
func (u *Usage) Observe(took time.Duration) { u.Latency[latencyBucket(took)]++ }

func latencyBucket(took time.Duration) int {
	if took <= latencyFloor {
		return 0
	}
	return min(int(latencyOctave*math.Log2(float64(took)/float64(latencyFloor)))+1, latencyBuckets-1)
}

// Percentile is the time that a share of the requests did not exceed, about; 0 if there were none.
func (u *Usage) Percentile(share float64) time.Duration {
	total := uint64(0)
	for _, n := range u.Latency {
		total += uint64(n)
	}
	rank := uint64(math.Ceil(share * float64(total)))
	for b, n := range u.Latency {
		if uint64(n) >= rank && rank > 0 {
			return time.Duration(float64(latencyFloor) * math.Exp2((float64(b)-0.5)/latencyOctave)).Round(time.Microsecond)
		}
		rank -= min(rank, uint64(n))
	}
	return 0
}

const usageVersion = 1

// AppendUsage appends the form in which usage is stored and travels: docs/format/usage.md.
func AppendUsage(b []byte, u *Usage) []byte {
	b = append(b, usageVersion, byte(figureCount))
	for _, n := range u.Counts {
		b = codec.AppendUvarint(b, n)
	}
	for _, n := range [...]uint64{u.Peak.Vectors, u.Peak.Bytes, u.End.Vectors, u.End.Bytes} {
		b = codec.AppendUvarint(b, n)
	}
	at := len(b)
	b = append(b, 0)
	for bucket, n := range u.Latency {
		if n > 0 {
			b[at]++
			b = codec.AppendUvarint(append(b, byte(bucket)), uint64(n))
		}
	}
	return b
}

// ReadUsage reads what AppendUsage has written. One of a later version is refused; figures that are not known are left out.
func ReadUsage(r *codec.Reader) (u Usage) {
	if v := r.Byte(); v != usageVersion && r.Err() == nil {
		r.Fail(errs.New(errs.FailedPrecondition, "usage has version %d, this croft knows %d", v, usageVersion))
	}
	for f := range r.Byte() {
		if n := r.Uvarint(); f < byte(figureCount) {
			u.Counts[f] = n
		}
	}
	u.Peak.Vectors, u.Peak.Bytes, u.End.Vectors, u.End.Bytes = r.Uvarint(), r.Uvarint(), r.Uvarint(), r.Uvarint()
	for range r.Byte() {
		bucket, n := r.Byte(), r.Uvarint()
		if bucket < latencyBuckets {
			u.Latency[bucket] = uint32(min(n, math.MaxUint32))
		}
	}
	return u
}

// Event is one request as it is counted.
type Event struct {
	Class    Class
	Outcome  Outcome
	Removes  bool   // a write that removes records
	Written  int64  // bytes of a write in the log
	Units    int64  // read units
	Declined bool   // it was not let in
	Stored   Stored // what the tenant keeps after a write
}

// compute is the processor time of a request. Reads are taken to need one from beginning to end. A write mostly waits for the
// log; what it takes is reckoned from its size: an upsert of one record, and each byte of a large one, on 2 shared cores.
func (e *Event) compute() time.Duration {
	if e.Class == Write {
		return 200*time.Microsecond + time.Duration(e.Written)*10*time.Nanosecond
	}
	return max(e.Outcome.Took, 0)
}

// note counts a request. One that was neither refused nor done is none: it will be tried again.
func (u *Usage) note(e *Event) {
	late := errs.Is(e.Outcome.Err, errs.DeadlineExceeded)
	switch {
	case e.Declined && late: // while it waited
		u.Counts[Violations]++
		u.Counts[Expired]++
		return
	case e.Declined, errs.Is(e.Outcome.Err, errs.QuotaExceeded):
		u.Counts[Refused]++
		return
	}
	if errs.Is(e.Outcome.Err, errs.Unavailable) {
		return
	}
	if e.Class == Write {
		u.Keep(e.Stored)
	}
	u.Observe(e.Outcome.Took)
	u.Counts[ComputeNanos] += uint64(e.compute())
	u.Counts[Distances] += uint64(e.Outcome.Distances)
	u.Counts[ScannedBytes] += uint64(e.Outcome.Bytes)
	u.Counts[WrittenBytes] += uint64(e.Written)
	u.Counts[ReadUnits] += uint64(e.Units)
	u.noteClass(e)
	if e.Outcome.Err == nil {
		return
	}
	switch errs.KindOf(e.Outcome.Err) {
	case errs.DeadlineExceeded:
		u.Counts[Violations]++
	case errs.Internal, errs.Corrupt, errs.OutcomeUnknown:
		u.Counts[Errors]++
	}
}

func (u *Usage) noteClass(e *Event) {
	switch {
	case e.Class == Search:
		u.Counts[Queries]++
		if e.Outcome.Cached {
			u.Counts[CacheHits]++
		}
	case e.Class == Read:
		u.Counts[Reads]++
	case e.Removes:
		u.Counts[Writes]++
		u.Counts[Deleted] += uint64(e.Outcome.Affected)
	default:
		u.Counts[Writes]++
		u.Counts[Upserted] += uint64(e.Outcome.Affected)
	}
}
