package cluster

import (
	"log/slog"
	"sync"
)

// failure is the node's first fatal fault. A store whose write or sync failed cannot say what is on disk, so nothing
// may be acknowledged from then on and the process must exit: a second sync may succeed without the data (PostgreSQL
// calls it fsyncgate). The zero value is not usable; see newFailure.
type failure struct {
	logger *slog.Logger
	once   sync.Once
	failed chan struct{}
	err    error // written once before failed is closed
}

func newFailure(logger *slog.Logger) *failure {
	return &failure{logger: logger, failed: make(chan struct{})}
}

// poison records the first fault and wakes all who wait for one; later faults are dropped.
func (f *failure) Poison(err error) {
	f.once.Do(func() {
		f.err = err
		f.logger.Error("store poisoned, nothing is acknowledged any more", "err", err)
		close(f.failed)
	})
}

// done is closed by the first fault.
func (f *failure) done() <-chan struct{} { return f.failed }

// cause returns the first fault, nil while there is none.
func (f *failure) Cause() error {
	select {
	case <-f.failed:
		return f.err
	default:
		return nil
	}
}
