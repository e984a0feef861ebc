package tenancy

import (
	"context"
	"time"
)

// ID is a tenant's id, which is never used for another.
type ID = [16]byte

// Class is the kind of work that a request asks for.
type Class uint8

const (
	// Search is a query: it reads many vectors and returns few.
	Search Class = iota
	// Read is a fetch, a list or a count.
	Read
	// Write goes through the shard's log.
	Write
	// Build puts vectors into a graph, in the background.
	Build
	// Hit is a query that is answered from the cache: it counts against quotas, and waits for nobody.
	Hit
	// Part is one partition's part of a search over many tenants: it takes turns like a search, on the account of who searches,
	// and was let in by the whole.
	Part

	classCount
)

// free reports whether a class counts against no quota: no client waits for the one request.
func (c Class) free() bool { return c == Build || c == Part }

// classNames are how metrics and traces call classes.
var classNames = [classCount]string{"search", "read", "write", "build", "hit", "part"}

// String names a class.
func (c Class) String() string { return classNames[c] }

// Request is a request as it is seen at its tenant's home, before it does anything.
type Request struct {
	Tenant   ID
	Name     string // of the tenant, for errors
	Shard    uint16
	Term     uint64 // of the home: another one may have led in between, and written to the Book
	Settings *Settings
	Replicas int // of the shard, where this one answers and is not the home, which counts; 0: this is the home
	Class    Class
	Cost     time.Duration // estimate of the processor time that it takes; 0: what such requests have taken so far
	Bytes    int64         // of memory that it holds while it waits and runs
}

// Gate decides at a tenant's home whether and when a request runs.
type Gate interface {
	// Enter waits for the request's turn. Errors: RateLimited, Unavailable (queue full, breaker open: nothing was done), ctx's
	// own, or what the Book says. It fills in what is to be told of the tenant's quota, also when it refuses. Leave must be
	// called once if there is no error.
	Enter(ctx context.Context, r *Request, told *Receipt) (Pass, error)
}

// Pass is the right to run. It must not be used after Leave.
type Pass interface {
	// Degraded reports whether the request is over its quota and runs with less effort.
	Degraded() bool
	// Leave gives the right back and says what came of it.
	Leave(o Outcome)
}

// Outcome is what a request that ran has cost.
type Outcome struct {
	Took      time.Duration // from Enter's return
	Distances int64         // vectors measured
	Bytes     int64         // read of vectors and payload
	Affected  int           // records written or removed
	Cached    bool          // answered from the cache
	Err       error         // what the caller got
}

// CacheState is what the result cache had to do with an answer.
type CacheState uint8

// States of a cache, as headers show them.
const (
	CacheNone CacheState = iota // not asked
	CacheMiss
	CacheHit
)

// String is how headers and traces call it; one of a later version is as good as none.
func (s CacheState) String() string {
	switch s {
	case CacheMiss:
		return "miss"
	case CacheHit:
		return "hit"
	}
	return "none"
}

// Receipt is what the answer to a request tells of it, in headers; it travels from the home to the node that was asked.
type Receipt struct {
	Cache     CacheState
	Limit     int64 // of the quota that is nearest to its end; 0: none limits
	Remaining int64
	Reset     time.Duration // until it is whole again
	Closed    time.Duration // for how long nothing of the tenant is let in, so that others may refuse by themselves
	Degraded  bool
	ReadUnits int64
}

// Book keeps tenants' hourly windows where the next home finds them: in the shard's own log.
type Book interface {
	// Window returns what homes have written last, once no other can write any more; the zero Window if nothing was. term is
	// that of this home, whose writes it admits from then on.
	Window(ctx context.Context, shard uint16, t ID) (w Window, term uint64, err error)
	// Write returns once w outlives this home. A failed Write may have taken effect.
	Write(ctx context.Context, shard uint16, term uint64, t ID, w Window) error
}

// Window is the hour in which a tenant's requests are counted.
type Window struct {
	Begin int64 // of the first request, in ns since 1970
	Taken int64 // requests that homes have taken leases for, let in or not
}
