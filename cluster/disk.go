package cluster

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/croftdb/croft/internal/errs"
)

// diskSampling is how old a sample of the free space may be.
const diskSampling = time.Second

// diskGuard keeps a reserve of the disk for what frees space: deletes, flushes, rewrites.
type diskGuard struct {
	reserve int64 // bytes; negative: off
	free    func() (uint64, error)
	start   time.Time
	due     atomic.Int64 // nanoseconds since start of the next sample
	sampled atomic.Uint64
}

func newDiskGuard(reserve int64, free func() (uint64, error)) *diskGuard {
	d := &diskGuard{reserve: reserve, free: free, start: time.Now()}
	d.sampled.Store(math.MaxUint64)
	if reserve >= 0 {
		_ = d.sample() // a fault now is met again by the first write
	}
	return d
}

// check fails with StorageFull when the free space is below the reserve. A disk that cannot be asked is not full.
func (d *diskGuard) check() error {
	if d.reserve < 0 {
		return nil
	}
	if err := d.sample(); err != nil {
		return errs.Wrap(errs.Unavailable, err, "ask for free disk space")
	}
	free := d.sampled.Load()
	if free >= uint64(d.reserve) {
		return nil
	}
	return errs.New(errs.StorageFull, "the disk has %d bytes free, %d are kept in reserve: upserts and updates are refused", free, d.reserve).
		WithHint("delete records, make the disk larger or lower the reserve")
}

// sample measures at most once per diskSampling; others go on with the last figure meanwhile.
func (d *diskGuard) sample() error {
	now, due := int64(time.Since(d.start)), d.due.Load()
	if now < due || !d.due.CompareAndSwap(due, now+int64(diskSampling)) {
		return nil
	}
	free, err := d.free()
	if err == nil {
		d.sampled.Store(free)
	}
	return err
}
