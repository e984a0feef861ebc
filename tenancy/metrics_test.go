package tenancy

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
)

// gathered are the values of a collector's series by name and labels, in order of their names: of histograms count and sum.
func gathered(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(c))
	families, err := reg.Gather()
	require.NoError(t, err)
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, l.GetValue())
			}
			name := strings.Join(append([]string{strings.TrimPrefix(f.GetName(), "croft_gate_")}, labels...), " ")
			switch f.GetType() {
			case dto.MetricType_HISTOGRAM:
				all[name+" count"], all[name+" sum"] = float64(m.Histogram.GetSampleCount()), m.Histogram.GetSampleSum()
			case dto.MetricType_COUNTER:
				all[name] = m.Counter.GetValue()
			default:
				all[name] = m.Gauge.GetValue()
			}
		}
	}
	return all
}

func settingsOfTier(tier string, values map[Limit]int64) *Settings {
	s := settingsOf(values)
	s.Tier = tier
	return s
}

// TestGateTells has requests wait, be refused for each reason, and fail, and looks at what a gate tells of them.
func TestGateTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(t, AdmissionOptions{Searches: 1, Waiting: 2})
		gold := settingsOfTier("gold", map[Limit]int64{Weight: 20, Queued: 1})
		free := settingsOfTier("free", map[Limit]int64{Weight: 5, Rate: 1, Burst: 1, RequestBytes: 10, Concurrency: 2, BreakerFaults: 1, PerHour: 4})
		first, err := a.Enter(t.Context(), &Request{Tenant: tenantID(1), Settings: gold}, &Receipt{})
		require.NoError(t, err)
		ctx, leave := context.WithCancel(t.Context())
		results := make(chan error, 3)
		wait := func(ctx context.Context, tenant int, s *Settings) {
			go func() {
				p, err := a.Enter(ctx, &Request{Tenant: tenantID(tenant), Settings: s}, &Receipt{})
				if err == nil {
					p.Leave(Outcome{})
				}
				results <- err
			}()
			synctest.Wait()
		}
		wait(t.Context(), 1, gold)
		wait(ctx, 2, free)
		told := gathered(t, a)
		for name, want := range map[string]float64{
			"running compute gold": 1, "running compute free": 0, "waiting gold": 1, "waiting free": 1, "limit compute": 1, "waiting_limit": 2,
			"wait_seconds gold count": 1, "wait_seconds gold sum": 0,
		} {
			require.Equal(t, want, told[name], name)
		}
		wait(t.Context(), 1, gold)                                               // its own queue is full
		wait(t.Context(), 3, settingsOfTier("gold", nil))                        // pushes out the free one
		wait(t.Context(), 4, settingsOfTier("free", map[Limit]int64{Weight: 1})) // finds the node busy
		require.Error(t, <-results)
		require.Error(t, <-results)
		require.Error(t, <-results)
		wait(ctx, 2, settingsOfTier("late", map[Limit]int64{Weight: 90}))
		leave()
		synctest.Wait()
		time.Sleep(300 * time.Millisecond)
		first.Leave(Outcome{})
		synctest.Wait()
		told = gathered(t, a)
		for name, want := range map[string]float64{
			"running compute gold": 0, "waiting gold": 0, "waiting free": 0, "refused_total queue gold": 1, "refused_total pushed_out free": 1,
			"refused_total pushed_out gold": 1, "refused_total busy free": 1, "refused_total late late": 1,
			"wait_seconds free count": 0, "wait_seconds gold count": 2, "wait_seconds gold sum": 0.3,
		} {
			require.Equal(t, want, told[name], name)
		}
	})
}

// TestGateTellsReasons refuses a tenant for each of its own limits.
func TestGateTellsReasons(t *testing.T) {
	c := newClock()
	a := newAdmission(t, AdmissionOptions{Searches: 8, Now: c.now})
	expect := func(why string, n float64) {
		t.Helper()
		require.Equal(t, n, gathered(t, a)["refused_total "+why+" "+why], why)
	}
	for why, limits := range map[string]map[Limit]int64{
		"rate": {Rate: 1, Burst: 1}, "hour": {PerHour: 1}, "concurrency": {Concurrency: 1}, "memory": {RequestBytes: 10},
	} {
		r := &Request{Tenant: tenantID(len(why)), Settings: settingsOfTier(why, limits), Bytes: 9}
		p, _, err := enter(a, r)
		require.NoError(t, err)
		_, _, err = enter(a, r)
		require.Error(t, err)
		expect(why, 1)
		p.Leave(Outcome{})
	}
	r := &Request{Tenant: tenantID(99), Settings: settingsOfTier("breaker", map[Limit]int64{BreakerFaults: 1})}
	p, _, err := enter(a, r)
	require.NoError(t, err)
	p.Leave(Outcome{Err: context.DeadlineExceeded})
	_, _, err = enter(a, r)
	require.Error(t, err)
	expect("breaker", 1)
	require.Equal(t, 1.0, gathered(t, a)["breakers_open breaker"])

	c.add(2*longestPause + 2*time.Minute) // nobody probes: it is forgotten
	for range 3 {
		p, _, err = enter(a, &Request{Tenant: tenantID(5), Settings: settingsOfTier("other", nil)})
		require.NoError(t, err)
		p.Leave(Outcome{})
		c.add(2 * time.Minute)
	}
	require.Zero(t, gathered(t, a)["breakers_open breaker"])
	require.NotContains(t, a.accounts, accountKey{tenant: tenantID(99)})
}

func TestCacheTellsTiers(t *testing.T) {
	c := NewCache(CacheOptions{})
	for _, tier := range []string{"gold", "free"} {
		k := CacheKey{Tenant: tenantID(len(tier) + int(tier[0])), Request: c.Hash([]byte(tier))}
		require.True(t, c.Wants(k.Tenant, settingsOfTier(tier, nil)))
		require.Nil(t, c.Get(&k))
		c.Put(&k, []byte("found"))
		require.NotNil(t, c.Get(&k))
		if tier == "gold" {
			require.NotNil(t, c.Get(&k))
		}
	}
	told := map[string][2]uint64{}
	c.ByTier(func(tier string, hits, misses uint64) { told[tier] = [2]uint64{hits, misses} })
	require.Equal(t, map[string][2]uint64{"gold": {2, 1}, "free": {1, 1}}, told)
}
