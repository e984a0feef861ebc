package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

// newSearchClient has three tenants with two records each: near to 0 are a's, then b's, then those of a tenant with a name that takes
// quoting.
func newSearchClient(t *testing.T, change ...func(*Options)) *client {
	c := newClient(t, change...)
	c.index("ix", `"dimension":2,"metric":"euclidean"`)
	for i, ns := range []string{"a", "b", `"ö"`} {
		c.ok("POST", "/vectors/upsert", fmt.Sprintf(`{"namespace":%q,"vectors":[{"id":"1","values":[%d,0],"metadata":{"n":1}},{"id":"2","values":[%d,0],"metadata":{"n":2}}]}`,
			ns, 1+i, 10+i))
	}
	return c
}

// found lists the tenants and ids of an answer's matches.
func (a answer) found(t testing.TB) (names []string) {
	matches, _ := a.get(t, "matches").([]any)
	for i := range matches {
		names = append(names, fmt.Sprint(a.get(t, fmt.Sprintf("matches.%d.tenant", i)), " ", a.get(t, fmt.Sprintf("matches.%d.id", i))))
	}
	return names
}

func TestSearchOverHTTP(t *testing.T) {
	c := newSearchClient(t)
	a := c.ok("POST", "/v1/search", `{"topK":4,"vector":[0,0],"includeMetadata":true}`)
	require.Equal(t, []string{"a 1", "b 1", `"ö" 1`, "a 2"}, a.found(t))
	require.Equal(t, 1.0, a.get(t, "matches.0.score"))
	require.Equal(t, 2.0, a.get(t, "matches.3.metadata.n"))
	require.Contains(t, []any{0.0, 1.0}, a.get(t, "matches.0.shard"))
	require.Equal(t, []any{}, a.get(t, "matches.0.values"))
	require.Equal(t, false, a.get(t, "partial"))
	require.Equal(t, 3.0, a.get(t, "tenants_searched"))
	require.Equal(t, false, a.get(t, "cache.hit"))
	require.Equal(t, "miss", a.header.Get("X-Croft-Cache"))
	require.Empty(t, a.header.Get("X-Croft-Partial"))

	a = c.ok("POST", "/v1/search", `{"topK":4,"vector":[0,0],"includeMetadata":true}`)
	require.Equal(t, true, a.get(t, "cache.hit"))
	require.Equal(t, "hit", a.header.Get("X-Croft-Cache"))
	require.NotEmpty(t, a.header.Get("Age"))
	require.Equal(t, false, c.ok("POST", "/v1/search", `{"topK":4,"vector":[0,0],"includeMetadata":true,"fresh":true}`).get(t, "cache.hit"))

	a = c.ok("POST", "/v1/search", `{"index":"ix","topK":9,"vector":[0,0],"tenants":["b","nobody","b"],"filter":{"n":2}}`)
	require.Equal(t, []string{"b 2"}, a.found(t))
	require.Equal(t, []any{"nobody"}, a.get(t, "unknown_tenants"))
	require.Equal(t, 1.0, a.get(t, "tenants_searched"))

	var all []string
	for token := ""; ; {
		page := c.ok("POST", "/v1/search", fmt.Sprintf(`{"topK":2,"vector":[0,0],"paginationToken":%q}`, token))
		all = append(all, page.found(t)...)
		if page.get(t, "pagination") == nil {
			break
		}
		token = page.get(t, "pagination.next").(string)
		requireError(t, c.do("POST", "/v1/search", fmt.Sprintf(`{"topK":2,"vector":[0,1],"paginationToken":%q}`, token)), 400, "paginationToken")
	}
	require.Equal(t, []string{"a 1", "b 1", `"ö" 1`, "a 2", "b 2", `"ö" 2`}, all)

	c.ok("DELETE", "/v1/tenants/a", "")
	require.Equal(t, []string{"b 1"}, c.ok("POST", "/v1/search", `{"topK":1,"vector":[0,0]}`).found(t))
	info := c.ok("GET", "/v1/cluster", "")
	require.Positive(t, info.get(t, "searches.share"))
	require.Contains(t, c.ok("GET", "/metrics", "").body, `croft_http_requests_total{code="200",op="search"}`)
}

func TestSearchIsCapped(t *testing.T) {
	c := newSearchClient(t)
	c.ok("PATCH", "/v1/tiers/cross-tenant", `{"limits":{"top_k":3}}`)
	a := c.ok("POST", "/v1/search", `{"topK":5,"vector":[0,0]}`)
	require.Len(t, a.found(t), 3)
	require.Equal(t, "3", a.header.Get("X-Croft-Top-K-Capped"))
	requireError(t, c.do("POST", "/v1/search", `{"topK":3,"vector":[0,0],"includeMetadata":true}`, "X-Croft-Deadline-Ms: no"), 400)
	c = newSearchClient(t, func(o *Options) { o.Limits.ResultBytes = 100 })
	requireError(t, c.do("POST", "/v1/search", `{"topK":5,"vector":[0,0]}`), 400, "larger than 100 bytes")
}

func TestWrongSearches(t *testing.T) {
	c := newSearchClient(t)
	c.index("other", `"dimension":3`)
	for body, want := range map[string]string{
		`{"topK":1,"vector":[0,0]}`:                                                             "does not tell which of 2 indexes",
		`{"index":"ix","topK":1,"vector":[0,0],"tenants":[]}`:                                   "tenants: the list is empty",
		`{"index":"ix","topK":1,"vector":[0,0],"tenants":["a",""]}`:                             "tenants[1]",
		`{"index":"ix","topK":1,"vector":[0,0],"tenants":"a"}`:                                  "tenants: want an array",
		`{"index":"ix","topK":1,"vector":[0,0],"namespace":"a"}`:                                `unknown field "namespace"`,
		`{"index":"ix","topK":1,"vector":[0,0],"id":"a"}`:                                       `unknown field "id"`,
		`{"index":"ix","topK":1,"vector":[0]}`:                                                  "dimension",
		`{"index":"ix","topK":0,"vector":[0,0]}`:                                                "topK: 0 is not between",
		`{"index":"ix","vector":[0,0]}`:                                                         "topK: is missing",
		`{"index":"ix","topK":1}`:                                                               "one of vector",
		`{"index":"ix","topK":1,"text":"hello"}`:                                                `text: index "ix" embeds no text`,
		`{"index":"ix","topK":1,"vector":[0,0],"paginationToken":"x"}`:                          "paginationToken",
		`{"index":"ix","topK":1,"sparseVector":{"indices":[1],"values":[1]}}`:                   "sparseVector",
		`{"index":"ix","topK":1,"vector":[0,0],"maxCandidates":10,"recall":0.9}`:                "maxCandidates and recall",
		`{"index":"ix","topK":1,"vector":[0,0],"filter":{"$nope":1}}`:                           "filter",
		`{"index":"ix","topK":1,"vector":[0,0],"tenants":["` + strings.Repeat("x", 600) + `"]}`: "tenants[0]",
	} {
		requireError(t, c.do("POST", "/v1/search", body), 400, want)
	}
	requireError(t, c.do("POST", "/v1/search", `{"index":"none","topK":1,"vector":[0,0]}`), 404, "none")
}

// brokenSearch is a node of which shards are missing.
type brokenSearch struct {
	Node
	answer cluster.SearchAnswer
	err    error
}

func (b *brokenSearch) Search(context.Context, cluster.Search) (cluster.SearchAnswer, error) {
	return b.answer, b.err
}

// TestPartialAnswersSayWhatIsMissing: shards, how many tenants, and the names of the first thousand.
func TestPartialAnswersSayWhatIsMissing(t *testing.T) {
	node := openNode(t)
	b := &brokenSearch{Node: node}
	c := &client{t, newHandler(t, b)}
	c.index("ix", `"dimension":2,"metric":"euclidean"`)
	for i := range 1500 {
		b.answer.Missing.Tenants = append(b.answer.Missing.Tenants, fmt.Sprintf("t%04d", i))
	}
	b.answer.Missing.Shards = []cluster.MissingShard{{Shard: 3, Node: "n2", Tenants: 1500, Err: errs.New(errs.Unavailable, "shard 3 has no leader here")}}
	b.answer.Missing.Unsure = errors.New("the plane has no leader")
	b.answer.Hits = []cluster.SearchHit{{Tenant: "z", Shard: 1, Match: engine.Match{Record: engine.Record{ID: "1"}, Score: 4}}}
	b.answer.Tenants, b.answer.Shards = 1, 2
	a := c.ok("POST", "/v1/search", `{"topK":2,"vector":[0,0]}`)
	require.Equal(t, []string{"z 1"}, a.found(t))
	require.Equal(t, true, a.get(t, "partial"))
	require.Equal(t, "true", a.header.Get("X-Croft-Partial"))
	require.Equal(t, map[string]any{"shard": 3.0, "node": "n2", "tenants": 1500.0, "reason": "shard 3 has no leader here"}, a.get(t, "missing.shards.0"))
	require.Len(t, a.get(t, "missing.tenants"), 1000)
	require.Equal(t, 1500.0, a.get(t, "missing.tenants_total"))
	require.Equal(t, "the plane has no leader", a.get(t, "missing.metadata"))

	b.err = errs.New(errs.RateLimited, "too many").WithRetryAfter(6 * time.Second)
	a = c.do("POST", "/v1/search", `{"topK":2,"vector":[0,0]}`)
	requireError(t, a, http.StatusTooManyRequests, "too many")
	require.NotEmpty(t, a.header.Get("Retry-After"))
}

// FuzzSearchBody: what is taken can be searched for, and its token is bound to it.
func FuzzSearchBody(f *testing.F) {
	for _, s := range []string{
		`{"topK":1,"vector":[1,2]}`, `{"index":"cos","tenants":["a","ö"],"topK":10,"vector":[1,2],"filter":{"a":{"$in":[1]}},"fresh":true}`,
		`{"topK":1,"sparseVector":{"indices":[1],"values":[2]},"text":"x","paginationToken":"y"}`, `{"tenants":[]}`, `{`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var req, again searchRequest
		if decodeObject(body, &req, searchFields) != nil {
			return
		}
		for i := range fuzzIndexes {
			ix := &fuzzIndexes[i]
			if one := req; one.validate(ix) == nil && !ix.Sparse && len(one.Vector) > 0 {
				require.Len(t, one.Vector, ix.Dim)
			}
		}
		require.NoError(t, decodeObject(body, &again, searchFields))
		require.Equal(t, req.bound(), again.bound())
		again.tenants = append(again.tenants, "another")
		require.NotEqual(t, req.bound(), again.bound())
	})
}
