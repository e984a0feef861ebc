package api

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

var termHeaders = []string{"X-Croft-Took-Ms", "X-Croft-Shard", "X-Croft-Tier", "X-Croft-Cache", "X-Croft-Sla-Met", "X-Request-Id"}

func requireTerms(t testing.TB, a answer) {
	t.Helper()
	for _, name := range termHeaders {
		require.Len(t, a.header.Values(name), 1, "%s: %s", name, a.body)
	}
	took, err := strconv.ParseFloat(a.header.Get("X-Croft-Took-Ms"), 64)
	require.NoError(t, err)
	require.Positive(t, took)
}

// TestEveryAnswerTellsItsTerms asks each route, with a key and without.
func TestEveryAnswerTellsItsTerms(t *testing.T) {
	c := newClient(t)
	c.index("demo", `"dimension":1`)
	for _, r := range routes() {
		for _, key := range []string{testKey, "wrong"} {
			requireTerms(t, c.do(r.method, concrete(r.pattern), "{", "Api-Key: "+key))
		}
	}
	requireTerms(t, c.do("GET", "/nowhere", ""))
	requireTerms(t, c.do("PUT", "/query", ""))
}

// plannedNode serves the tenant "t 1" under a plan.
type plannedNode struct {
	Node
	settings *tenancy.Settings
	receipt  tenancy.Receipt
	query    func(ctx context.Context, k int) error
}

func newPlanned(t *testing.T, tier string, limits map[tenancy.Limit]int64) (*plannedNode, *client) {
	var own tenancy.Limits
	for l, v := range limits {
		own.Set(l, v)
	}
	s := tenancy.Resolve(&tenancy.Tier{Name: tier}, &own, &tenancy.Override{}, 1, time.Time{})
	n := &plannedNode{Node: openNode(t), settings: &s}
	c := &client{t, newHandler(t, n)}
	c.index("demo", `"dimension":1`)
	return n, c
}

func (n *plannedNode) Standing(namespace string) cluster.Standing {
	if namespace != "t 1" {
		return n.Node.Standing(namespace)
	}
	return cluster.Standing{Settings: n.settings, Shard: 1, Known: true}
}

func (n *plannedNode) Query(ctx context.Context, _ cluster.Index, _ string, q *engine.Query, _ *engine.Result) (int, error) {
	cluster.ReadingOf(ctx).Receipt = n.receipt
	return 1, n.query(ctx, q.K)
}

const tenantQuery = `{"namespace":"t 1","topK":7,"vector":[1]}`

func TestTermsOfATenant(t *testing.T) {
	n, c := newPlanned(t, "bronze", map[tenancy.Limit]int64{tenancy.TopK: 5})
	n.receipt = tenancy.Receipt{Cache: tenancy.CacheHit, Limit: 100, Remaining: 7, Reset: 1500 * time.Millisecond, Degraded: true}
	n.query = func(_ context.Context, k int) error {
		require.Equal(t, 5, k)
		return nil
	}
	a := c.ok("POST", "/query", tenantQuery)
	requireTerms(t, a)
	for name, want := range map[string]string{
		"X-Croft-Shard": "1", "X-Croft-Tier": "bronze", "X-Croft-Cache": "hit", "X-Croft-Sla-Met": "true", "X-Croft-Tenant": "t%201",
		"X-Croft-Top-K-Capped": "5", "X-Croft-Degraded": "true", "RateLimit-Limit": "100", "RateLimit-Remaining": "7", "RateLimit-Reset": "2",
	} {
		require.Equal(t, want, a.header.Get(name), name)
	}
	n.query = func(context.Context, int) error { return errs.New(errs.RateLimited, "slower") }
	a = c.do("POST", "/query", tenantQuery)
	requireError(t, a, 429)
	require.Equal(t, "bronze", a.header.Get("X-Croft-Tier"))
	require.Equal(t, "7", a.header.Get("RateLimit-Remaining"))

	a = c.ok("POST", "/vectors/upsert", `{"namespace":"other","vectors":[{"id":"a","values":[1]}]}`)
	require.Equal(t, "other", a.header.Get("X-Croft-Tenant"))
	require.Empty(t, a.header.Get("RateLimit-Limit"))
	for name, want := range map[string]string{"X-Croft-Shard": none, "X-Croft-Tier": none, "X-Croft-Tenant": ""} {
		require.Equal(t, want, c.ok("GET", "/indexes", "").header.Get(name), name)
	}
}

// TestTermsOfOthersAreNotTold: a tenant's key learns nothing of another's terms, nor whether it is there.
func TestTermsOfOthersAreNotTold(t *testing.T) {
	text, key := tenancy.NewKey("one tenant", tenancy.RoleWriter, time.Time{})
	key.TenantID, key.Tenant = tenancy.ID{1}, "mine"
	n, _ := newPlanned(t, "bronze", nil)
	c := &client{t, newHandler(t, n, func(o *Options) { o.Auth.Source = oneKey(key) })}
	a := c.do("POST", "/query", tenantQuery, "Api-Key: "+text)
	requireError(t, a, 403)
	require.Equal(t, none, a.header.Get("X-Croft-Tier"))
	require.Empty(t, a.header.Get("X-Croft-Tenant"))
}

// TestDeadlineOfTheTier stops reads at the tier's deadline, or at the client's if that is earlier; never later.
func TestDeadlineOfTheTier(t *testing.T) {
	n, c := newPlanned(t, "bronze", map[tenancy.Limit]int64{tenancy.Deadline: 20})
	var left time.Duration
	n.query = func(ctx context.Context, _ int) error {
		until, _ := ctx.Deadline()
		left = time.Until(until)
		<-ctx.Done()
		return ctx.Err()
	}
	for asked, want := range map[string]string{"": "20ms", "5": "5ms", "60000": "20ms"} {
		a := c.do("POST", "/query", tenantQuery, "X-Croft-Deadline-Ms: "+asked)
		requireError(t, a, 504, want)
		require.NotEmpty(t, a.header.Get("Retry-After"))
		require.Equal(t, "false", a.header.Get("X-Croft-Sla-Met"))
		require.LessOrEqual(t, left, 20*time.Millisecond)
		if want == "20ms" {
			require.Contains(t, a.get(t, "hint"), "tier bronze")
		}
	}
	for _, wrong := range []string{"0", "-1", "1.5", "soon", "99999999999"} {
		requireError(t, c.do("POST", "/query", tenantQuery, "X-Croft-Deadline-Ms: "+wrong), 400, "X-Croft-Deadline-Ms")
	}
	c.ok("POST", "/vectors/upsert", `{"namespace":"t 1","vectors":[{"id":"a","values":[1]}]}`, "X-Croft-Deadline-Ms: 60000")
}

// TestAdviceIsSpread: those who are refused together are not told to come back together.
func TestAdviceIsSpread(t *testing.T) {
	for d, bounds := range map[time.Duration][2]int64{time.Millisecond: {1, 2}, 30 * time.Second: {30, 34}, time.Hour: {3600, 4051}} {
		seen := map[int64]bool{}
		for range 200 {
			n := later(d)
			require.True(t, n >= bounds[0] && n <= bounds[1], "%s: %d", d, n)
			seen[n] = true
		}
		require.Greater(t, len(seen), 1)
	}
}
