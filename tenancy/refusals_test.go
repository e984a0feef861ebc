package tenancy

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/internal/errs"
)

func TestRefusals(t *testing.T) {
	c := newClock()
	f := &Refusals{Now: c.now, Chance: func() float64 { return 0 }}
	one, two := tenantID(1), tenantID(2)
	require.True(t, f.Quiet())

	f.Close(one, &Receipt{Limit: 7, Closed: 20 * time.Millisecond})
	require.False(t, f.Quiet())
	var told Receipt
	_, err := f.Check(one, 10, &told)
	require.True(t, errs.Is(err, errs.RateLimited), "%v", err)
	require.Equal(t, int64(7), told.Limit)
	wait, err := f.Check(two, 11, &told)
	require.NoError(t, err)
	require.Zero(t, wait)

	f.Told(10, time.Second)
	c.add(100 * time.Millisecond)
	_, err = f.Check(one, 10, &told)
	require.True(t, errs.Is(err, errs.RateLimited), "it came too early: %v", err)
	wait, err = f.Check(one, 12, &told)
	require.NoError(t, err)
	require.Zero(t, wait, "another request, and the door is open again")

	c.add(time.Second)
	require.True(t, f.Quiet())
	wait, err = f.Check(one, 10, &told)
	require.NoError(t, err)
	require.Zero(t, wait, "it came when it was to")
	require.Empty(t, f.held)
	require.Zero(t, f.all)
}

// TestFloodIsSlowedDown: of many requests that were never refused before, the first are told at once.
func TestFloodIsSlowedDown(t *testing.T) {
	c := newClock()
	f := &Refusals{Now: c.now, Chance: func() float64 { return 0.5 }}
	f.Close(tenantID(1), &Receipt{Closed: 500 * time.Millisecond})
	refused, held := 0, 0
	for key := range uint64(1000) {
		wait, err := f.Check(tenantID(1), 1000+key, &Receipt{})
		if err != nil {
			refused++
			continue
		}
		require.Equal(t, 1500*time.Millisecond, wait)
		held++
	}
	require.Equal(t, heldByTenant, held)
	require.Equal(t, 1000-heldByTenant, refused, "the first fifty, and those that found no room")
	_, err := f.Check(tenantID(2), 1, &Receipt{})
	require.NoError(t, err)
}

func TestRefusalsAreBounded(t *testing.T) {
	c := newClock()
	f := &Refusals{Now: c.now}
	for i := range 2 * closedMost {
		f.Close(tenantID(i), &Receipt{Closed: time.Second})
	}
	require.Len(t, f.closed, closedMost)
	c.add(2 * time.Second)
	f.Close(tenantID(1), &Receipt{Closed: time.Second})
	require.Len(t, f.closed, 1, "what is over makes room")

	f.Told(7, time.Minute)
	for range refusedAtOnce {
		_, err := f.Check(tenantID(9), 7, &Receipt{})
		require.True(t, errs.Is(err, errs.RateLimited), "%v", err)
	}
	for range heldByTenant {
		wait, err := f.Check(tenantID(9), 7, &Receipt{})
		require.NoError(t, err)
		require.Equal(t, heldLongest, wait)
	}
	_, err := f.Check(tenantID(9), 7, &Receipt{})
	require.True(t, errs.Is(err, errs.RateLimited), "%v", err)
}

// TestShut refuses by the tenant alone what Check would refuse, in the same numbers, and leaves to Check what is to wait.
func TestShut(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := newClock()
		f := &Refusals{Now: c.now, Chance: func() float64 { return 0.5 }}
		model := &Refusals{Now: c.now, Chance: f.Chance}
		refused := uint64(0)
		for range rapid.IntRange(1, 400).Draw(rt, "requests") {
			switch rapid.IntRange(0, 20).Draw(rt, "step") {
			case 0:
				told := &Receipt{Limit: 7, Closed: time.Duration(rapid.IntRange(1, 500).Draw(rt, "ms")) * time.Millisecond}
				f.Close(tenantID(1), told)
				model.Close(tenantID(1), told)
			case 1:
				c.add(time.Duration(rapid.IntRange(1, 1500).Draw(rt, "ms")) * time.Millisecond)
			case 2:
				require.Zero(rt, f.Shut(tenantID(2), &Receipt{}), "another's door is open")
			default:
				var told, want Receipt
				again := f.Shut(tenantID(1), &told)
				wait, err := model.Check(tenantID(1), 0, &want)
				require.Equal(rt, err != nil, again > 0, "wait %s", wait)
				if again > 0 {
					refused++
					require.Equal(rt, want, told)
					require.GreaterOrEqual(rt, again, time.Second)
					continue
				}
				passed, err := f.Check(tenantID(1), 0, &told)
				require.NoError(rt, err)
				require.Equal(rt, wait, passed)
			}
		}
		now, held := f.Counts()
		then, heldThen := model.Counts()
		require.Equal(rt, []uint64{refused, heldThen, then}, []uint64{now, held, now})
	})
}

func BenchmarkShut(b *testing.B) {
	f := &Refusals{Now: func() time.Time { return time.Unix(1, 0) }}
	f.Close(tenantID(1), &Receipt{Closed: time.Minute})
	for key := range uint64(refusedAtOnce + heldByTenant) {
		_, _ = f.Check(tenantID(1), key, &Receipt{})
	}
	var told Receipt
	b.ReportAllocs()
	for b.Loop() {
		if f.Shut(tenantID(1), &told) == 0 {
			b.Fatal("let through")
		}
	}
}
