package longlock_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/longlock"
)

// TestTimeGoesOn holds locks over a wait that only the bubble's clock ends, while others want them.
func TestTimeGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m longlock.Mutex
		var rw longlock.RWMutex
		var wg sync.WaitGroup
		start := time.Now()
		for range 3 {
			wg.Go(func() {
				m.Lock()
				defer m.Unlock()
				time.Sleep(time.Second)
			})
			wg.Go(func() {
				rw.Lock()
				defer rw.Unlock()
				time.Sleep(time.Second)
			})
			wg.Go(func() {
				rw.RLock()
				defer rw.RUnlock()
				time.Sleep(time.Millisecond)
			})
		}
		wg.Wait()
		require.GreaterOrEqual(t, time.Since(start), 3*time.Second, "one at a time")
		require.Less(t, time.Since(start), 4*time.Second, "readers together, and the two locks beside each other")
	})
}

func TestExclusion(t *testing.T) {
	var m longlock.Mutex
	var rw longlock.RWMutex
	var counts [2]int
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				m.Lock()
				counts[0]++
				m.Unlock()
				rw.Lock()
				counts[1]++
				rw.Unlock()
				rw.RLock()
				_ = counts[1]
				rw.RUnlock()
			}
		})
	}
	wg.Wait()
	require.Equal(t, [2]int{4000, 4000}, counts)
}

func TestTryLock(t *testing.T) {
	var m longlock.Mutex
	require.True(t, m.TryLock())
	require.False(t, m.TryLock())
	m.Unlock()
	require.True(t, m.TryLock())
}

func TestMisuse(t *testing.T) {
	var m longlock.Mutex
	require.Panics(t, m.Unlock)
	var rw longlock.RWMutex
	rw.RLock()
	require.Panics(t, rw.Unlock)
	rw.RUnlock()
	rw.Lock()
	require.Panics(t, rw.RUnlock)
}
