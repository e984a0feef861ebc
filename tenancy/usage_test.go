package tenancy

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

func drawUsage(t *rapid.T) (u Usage) {
	some := rapid.Uint64Range(0, 1<<40)
	for f := range u.Counts {
		u.Counts[f] = some.Draw(t, Figure(f).String())
	}
	u.Peak = Stored{some.Draw(t, "vectors"), some.Draw(t, "bytes")}
	u.End = Stored{some.Draw(t, "vectors"), some.Draw(t, "bytes")}
	for range rapid.IntRange(0, 5).Draw(t, "latencies") {
		u.Observe(time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "took")))
	}
	return u
}

func TestUsageRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u, after := drawUsage(t), drawUsage(t)
		r := codec.NewReader(AppendUsage(AppendUsage(nil, &u), &after))
		require.Equal(t, u, ReadUsage(r))
		require.Equal(t, after, ReadUsage(r))
		require.NoError(t, r.Done())
	})
}

func FuzzReadUsage(f *testing.F) {
	u := Usage{Peak: Stored{3, 4}}
	u.Observe(time.Second)
	f.Add(AppendUsage(nil, &u))
	f.Add(append([]byte{usageVersion, 200}, make([]byte, 300)...)) // of a later version, with more figures
	f.Fuzz(func(t *testing.T, b []byte) {
		r := codec.NewReader(b)
		u := ReadUsage(r)
		if r.Done() != nil {
			return
		}
		again := codec.NewReader(AppendUsage(nil, &u))
		require.Equal(t, u, ReadUsage(again))
		require.NoError(t, again.Done())
	})
}

func TestUsageOfALaterVersionIsRefused(t *testing.T) {
	r := codec.NewReader(append([]byte{usageVersion + 1}, make([]byte, 100)...))
	ReadUsage(r)
	require.True(t, errs.Is(r.Err(), errs.FailedPrecondition), "%v", r.Err())
}

func TestEventsAreCounted(t *testing.T) {
	u := Usage{}
	stored := Stored{Vectors: 5, Bytes: 50}
	took := Outcome{Took: time.Millisecond, Distances: 7, Bytes: 70}
	cached, late, broken, wrong := took, took, took, took
	cached.Cached, late.Err, broken.Err, wrong.Err = true, errs.New(errs.DeadlineExceeded, ""), errs.New(errs.Corrupt, ""), errs.New(errs.Invalid, "")
	for _, e := range []Event{
		{Class: Search, Outcome: took, Units: 2}, {Class: Search, Outcome: cached}, {Class: Search, Outcome: late},
		{Class: Search, Outcome: broken}, {Class: Search, Outcome: wrong}, {Class: Read, Outcome: took, Units: 3},
		{Class: Write, Outcome: Outcome{Affected: 4}, Written: 1000, Stored: stored},
		{Class: Write, Outcome: Outcome{Affected: 1}, Removes: true, Stored: Stored{Vectors: 4, Bytes: 40}},
		{Class: Write, Outcome: Outcome{Err: errs.New(errs.Unavailable, "not done")}, Written: 1000},
		{Class: Search, Declined: true}, {Class: Write, Outcome: Outcome{Err: errs.New(errs.QuotaExceeded, "full")}, Stored: Stored{Vectors: 99}},
		{Class: Search, Declined: true, Outcome: Outcome{Err: errs.New(errs.DeadlineExceeded, "waited")}},
	} {
		u.note(&e)
	}
	require.Equal(t, Stored{5, 50}, u.Peak)
	require.Equal(t, Stored{4, 40}, u.End)
	want := map[Figure]uint64{
		Queries: 5, Reads: 1, Writes: 2, Upserted: 4, Deleted: 1, ReadUnits: 5, WrittenBytes: 1000, ScannedBytes: 6 * 70, Distances: 6 * 7,
		ComputeNanos: uint64(6*time.Millisecond + 2*200*time.Microsecond + 10*time.Microsecond), CacheHits: 1, Refused: 2, Violations: 2, Errors: 1, Expired: 1,
	}
	for _, f := range Figures() {
		require.Equal(t, want[f], u.Counts[f], f.String())
	}
}

// TestPercentiles compares with all latencies sorted.
func TestPercentiles(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var u Usage
	require.Zero(t, u.Percentile(0.5))
	all := make([]time.Duration, 5000)
	for i := range all {
		all[i] = time.Duration(float64(100*time.Microsecond) * (1 + rng.ExpFloat64()*20))
		u.Observe(all[i])
	}
	slices.Sort(all)
	for _, share := range []float64{0.01, 0.5, 0.95, 0.99, 1} {
		exact := all[min(int(share*float64(len(all))), len(all)-1)]
		require.InEpsilon(t, float64(exact), float64(u.Percentile(share)), 0.25, "%v", share)
	}
	u.Observe(time.Hour)
	require.Greater(t, u.Percentile(1), 30*time.Second)
}

// TestMeterLosesNothing takes and gives back while others count.
func TestMeterLosesNothing(t *testing.T) {
	var m Meter
	at := time.Unix(7200, 0)
	kept := map[Slot]*Usage{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 3000 {
			m.Note(ID{byte(i % 3)}, at.Add(time.Duration(i%2)*time.Hour), &Event{Class: Search})
		}
	}()
	for i, running := 0, true; running; i++ {
		select {
		case <-done:
			running = false
		default:
		}
		taken := m.Take()
		if i%2 == 0 && running {
			m.Add(taken)
			continue
		}
		for s, u := range taken {
			if kept[s] == nil {
				kept[s] = new(Usage)
			}
			kept[s].Count(u)
		}
	}
	require.Len(t, kept, 6)
	total := uint64(0)
	for s, u := range kept {
		require.Contains(t, []Hour{2, 3}, s.Hour)
		total += u.Counts[Queries]
	}
	require.EqualValues(t, 3000, total)
	require.Zero(t, m.Dropped())
}
