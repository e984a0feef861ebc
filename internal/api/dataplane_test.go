package api

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/cluster"
)

func TestRecordsLifeCycle(t *testing.T) {
	c := newClient(t)
	c.index("demo", `"dimension":2,"metric":"euclidean"`)

	a := c.ok("POST", "/vectors/upsert", `{"vectors":[
		{"id":"b","values":[3,4],"metadata":{"genre":["drama","war"],"year":1999,"seen":true}},
		{"id":"a","values":[0.5,0.25]},
		{"id":"c c","values":[1,1],"sparseValues":{"indices":[7,2],"values":[0.5,1e-3]},"metadata":null}],"namespace":"n s"}`)
	require.Equal(t, `{"upsertedCount":3}`, a.body)
	lsn := a.header.Get("X-Pinecone-Lsn-Committed")
	require.Equal(t, lsn, a.header.Get("X-Pinecone-Request-Lsn"))
	written, err := strconv.ParseUint(lsn, 10, 64)
	require.NoError(t, err)

	a = c.ok("POST", "/query", `{"namespace":"n s","topK":2,"vector":[0,0],"includeValues":true,"includeMetadata":true}`)
	require.Equal(t, `{"results":[],"matches":[`+
		`{"id":"a","score":0.3125,"values":[0.5,0.25]},`+
		`{"id":"c c","score":2,"values":[1,1],"sparseValues":{"indices":[2,7],"values":[0.001,0.5]}}`+
		`],"namespace":"n s","usage":{"readUnits":1}}`, a.body)
	indexed, err := strconv.ParseUint(a.header.Get("X-Pinecone-Max-Indexed-Lsn"), 10, 64)
	require.NoError(t, err)
	require.GreaterOrEqual(t, indexed, written, "what was acknowledged is indexed")

	a = c.ok("POST", "/query", `{"namespace":"n s","topK":10,"vector":[0,0],"filter":{"genre":{"$in":["war"]}}}`)
	require.Equal(t, `{"results":[],"matches":[{"id":"b","score":25,"values":[]}],"namespace":"n s","usage":{"readUnits":1}}`, a.body)

	a = c.ok("GET", "/vectors/fetch?ids=c%20c&ids=gone&ids=b&ids=b&namespace=n%20s", "")
	require.Equal(t, `{"vectors":{`+
		`"c c":{"id":"c c","values":[1,1],"sparseValues":{"indices":[2,7],"values":[0.001,0.5]}},`+
		`"b":{"id":"b","values":[3,4],"metadata":{"genre":["drama","war"],"seen":true,"year":1999}}`+
		`},"namespace":"n s","usage":{"readUnits":1}}`, a.body)

	a = c.ok("POST", "/vectors/update", `{"id":"b","values":[5,6],"setMetadata":{"year":2001,"new":"x"},"namespace":"n s"}`)
	require.Equal(t, `{}`, a.body)
	require.NotEmpty(t, a.header.Get("X-Pinecone-Lsn-Committed"))
	a = c.ok("GET", "/vectors/fetch?ids=b&namespace=n%20s", "")
	require.Contains(t, a.body, `"values":[5,6],"metadata":{"genre":["drama","war"],"new":"x","seen":true,"year":2001}`)
	require.Equal(t, `{}`, c.ok("POST", "/vectors/update", `{"id":"gone","values":[5,6],"namespace":"n s"}`).body)

	byFilter := `{"filter":{"year":{"$gte":2000}},"setMetadata":{"late":true},"namespace":"n s"%s}`
	require.Equal(t, `{"matchedRecords":1}`, c.ok("POST", "/vectors/update", fmt.Sprintf(byFilter, `,"dryRun":true`)).body)
	require.NotContains(t, c.ok("GET", "/vectors/fetch?ids=b&namespace=n%20s", "").body, "late")
	require.Equal(t, `{"matchedRecords":1}`, c.ok("POST", "/vectors/update", fmt.Sprintf(byFilter, "")).body)
	require.Contains(t, c.ok("GET", "/vectors/fetch?ids=b&namespace=n%20s", "").body, `"late":true`)

	require.Equal(t, `{"namespaces":{"n s":{"vectorCount":3}},"dimension":2,"indexFullness":0,"totalVectorCount":3,"metric":"euclidean","vectorType":"dense"}`,
		c.ok("POST", "/describe_index_stats", `{"filter":{}}`).body)
	require.Equal(t, c.ok("POST", "/describe_index_stats", `{}`).body, c.ok("GET", "/describe_index_stats", "").body)
	require.Equal(t, c.ok("POST", "/describe_index_stats", `{}`).body, c.ok("POST", "/describe_index_stats", "").body)

	require.Equal(t, `{}`, c.ok("POST", "/vectors/delete", `{"ids":["a","gone"],"namespace":"n s"}`).body)
	require.Equal(t, `{}`, c.ok("DELETE", "/vectors/delete", `{"filter":{"late":true},"namespace":"n s"}`).body)
	require.Equal(t, []string{"c c"}, c.ok("GET", "/vectors/list?namespace=n%20s", "").ids(t))
	require.Equal(t, `{}`, c.ok("POST", "/vectors/delete", `{"deleteAll":true,"namespace":"n s"}`).body)
	require.Equal(t, `{"vectors":[],"namespace":"n s","usage":{"readUnits":1}}`, c.ok("GET", "/vectors/list?namespace=n%20s", "").body)
	requireError(t, c.do("POST", "/vectors/delete", `{"ids":["a"],"namespace":"never"}`), 404, `namespace "never"`)
	requireError(t, c.do("POST", "/vectors/delete", `{"deleteAll":true,"namespace":"never"}`), 404, `namespace "never"`)
	requireError(t, c.do("POST", "/vectors/delete", `{"filter":{"a":1},"namespace":"never"}`), 404, `namespace "never"`)
}

func TestReadsOfAMissingNamespaceAreEmpty(t *testing.T) {
	c := newClient(t)
	c.index("demo", `"dimension":2`)
	require.Equal(t, `{"results":[],"matches":[],"namespace":"x","usage":{"readUnits":1}}`,
		c.ok("POST", "/query", `{"namespace":"x","topK":1,"vector":[1,2]}`).body)
	require.Equal(t, `{"results":[],"matches":[],"namespace":"x","usage":{"readUnits":1}}`,
		c.ok("POST", "/query", `{"namespace":"x","topK":1,"id":"gone"}`).body)
	require.Equal(t, `{"vectors":{},"namespace":"x","usage":{"readUnits":1}}`, c.ok("GET", "/vectors/fetch?ids=a&namespace=x", "").body)
	require.Equal(t, `{"vectors":[],"namespace":"x","usage":{"readUnits":1}}`, c.ok("GET", "/vectors/list?namespace=x", "").body)
	require.Equal(t, `{"vectors":{},"namespace":"x","usage":{"readUnits":1}}`,
		c.ok("POST", "/vectors/fetch_by_metadata", `{"filter":{"a":1},"namespace":"x"}`).body)
	require.Equal(t, `{"namespaces":{},"dimension":2,"indexFullness":0,"totalVectorCount":0,"metric":"cosine","vectorType":"dense"}`,
		c.ok("POST", "/describe_index_stats", `{}`).body)
}

func TestDefaultNamespaceHasThreeSpellings(t *testing.T) {
	c := newClient(t)
	c.index("demo", `"dimension":1,"metric":"dotproduct"`)
	for i, ns := range []string{``, `,"namespace":""`, `,"namespace":"__default__"`, `,"namespace":null`} {
		c.ok("POST", "/vectors/upsert", fmt.Sprintf(`{"vectors":[{"id":"%d","values":[1]}]%s}`, i, ns))
	}
	for ns, echoed := range map[string]string{``: "", `,"namespace":""`: "", `,"namespace":"__default__"`: "__default__"} {
		a := c.ok("POST", "/query", fmt.Sprintf(`{"topK":9,"vector":[1]%s}`, ns))
		require.Equal(t, []string{"0", "1", "2", "3"}, a.ids(t))
		require.Equal(t, echoed, a.get(t, "namespace"))
	}
	for _, q := range []string{"", "?namespace=", "?namespace=__default__"} {
		require.Len(t, c.ok("GET", "/vectors/list"+q, "").ids(t), 4)
	}
	require.Contains(t, c.ok("POST", "/describe_index_stats", `{}`).body, `"namespaces":{"__default__":{"vectorCount":4}}`)
	require.Equal(t, `{"name":"__default__","record_count":"4"}`, c.ok("GET", "/namespaces/__default__", "").body)
	requireError(t, c.do("POST", "/namespaces", `{"name":"__default__"}`), 409, "always exists")
}

func TestQueryByID(t *testing.T) {
	c := newClient(t)
	c.index("demo", `"dimension":2,"metric":"euclidean"`)
	c.ok("POST", "/vectors/upsert", `{"vectors":[{"id":"a","values":[0,1]},{"id":"b","values":[0,2]},{"id":"c","values":[0,9]}]}`)
	a := c.ok("POST", "/query", `{"id":"b","topK":2}`)
	require.Equal(t, []string{"b", "a"}, a.ids(t))
	require.Equal(t, `{"results":[],"matches":[],"namespace":"","usage":{"readUnits":1}}`, c.ok("POST", "/query", `{"id":"z","topK":2}`).body)
}

func TestSparseAndHybrid(t *testing.T) {
	c := newClient(t)
	c.index("sp", `"vector_type":"sparse"`)
	c.ok("POST", "/i/sp/vectors/upsert", `{"vectors":[
		{"id":"a","sparseValues":{"indices":[1,4294967295],"values":[1,2]}},
		{"id":"b","sparseValues":{"indices":[5,1],"values":[4,3]},"values":[]},
		{"id":"c","sparseValues":{"indices":[9],"values":[1]}}]}`)
	a := c.ok("POST", "/i/sp/query", `{"topK":3,"sparseVector":{"indices":[4294967295,1],"values":[1,1]},"includeValues":true}`)
	require.Equal(t, []string{"a", "b"}, a.ids(t)[:2])
	require.Contains(t, a.body, `{"id":"b","score":3,"values":[],"sparseValues":{"indices":[1,5],"values":[3,4]}}`)
	require.Equal(t, "b", c.ok("POST", "/i/sp/query", `{"topK":1,"id":"b"}`).ids(t)[0])
	require.Equal(t, `{"namespaces":{"__default__":{"vectorCount":3}},"indexFullness":0,"totalVectorCount":3,"metric":"dotproduct","vectorType":"sparse"}`,
		c.ok("POST", "/i/sp/describe_index_stats", `{}`).body)
	c.ok("POST", "/i/sp/vectors/update", `{"id":"c","sparseValues":{"indices":[1],"values":[50]}}`)
	require.Equal(t, "c", c.ok("POST", "/i/sp/query", `{"topK":1,"sparseVector":{"indices":[1],"values":[1]}}`).ids(t)[0])

	c.index("hy", `"dimension":2,"metric":"dotproduct"`)
	c.ok("POST", "/i/hy/vectors/upsert", `{"vectors":[
		{"id":"a","values":[1,0],"sparseValues":{"indices":[3],"values":[10]}},{"id":"b","values":[2,0]}]}`)
	dense := c.ok("POST", "/i/hy/query", `{"topK":2,"vector":[1,0]}`)
	require.Equal(t, []string{"b", "a"}, dense.ids(t))
	hybrid := c.ok("POST", "/i/hy/query", `{"topK":2,"vector":[1,0],"sparseVector":{"indices":[3],"values":[0.5]}}`)
	require.Equal(t, []string{"a", "b"}, hybrid.ids(t))
	require.Contains(t, hybrid.body, `{"id":"a","score":6,`)
	onlySparse := c.ok("POST", "/i/hy/query", `{"topK":1,"vector":[0,0],"sparseVector":{"indices":[3],"values":[1]}}`)
	require.Contains(t, onlySparse.body, `{"id":"a","score":10,`, "a dense part weighed with 0 is no fault")
}

func TestListPages(t *testing.T) {
	c := newClient(t)
	c.index("demo", `"dimension":1`)
	c.index("other", `"dimension":1`)
	var want []string
	var body strings.Builder
	for i := range 25 {
		id := fmt.Sprintf("doc#%02d", i)
		want = append(want, id)
		fmt.Fprintf(&body, `{"id":%q,"values":[1],"metadata":{"half":%v}},`, id, i%2 == 0)
	}
	body.WriteString(`{"id":"else","values":[1]}`)
	for _, p := range []string{"/i/demo", "/i/other"} {
		c.ok("POST", p+"/vectors/upsert", `{"vectors":[`+body.String()+`],"namespace":"n"}`)
	}
	next := func(a answer) string { // of the page after this one
		if !strings.Contains(a.body, "pagination") {
			return ""
		}
		return a.get(t, "pagination.next").(string)
	}

	var got []string
	token := ""
	for pages := 1; ; pages++ {
		a := c.ok("GET", "/i/demo/vectors/list?namespace=n&prefix=doc%23&limit=10&paginationToken="+token, "")
		got = append(got, a.ids(t)...)
		if token = next(a); token == "" {
			require.Equal(t, 3, pages)
			break
		}
	}
	require.Equal(t, want, got)

	token = next(c.ok("GET", "/i/demo/vectors/list?namespace=n&limit=10", ""))
	for name, path := range map[string]string{
		"other index":     "/i/other/vectors/list?namespace=n&limit=10&paginationToken=" + token,
		"other namespace": "/i/demo/vectors/list?limit=10&paginationToken=" + token,
		"other prefix":    "/i/demo/vectors/list?namespace=n&prefix=d&paginationToken=" + token,
		"other call":      "/i/demo/namespaces?paginationToken=" + token,
		"changed":         "/i/demo/vectors/list?namespace=n&paginationToken=" + token[:len(token)-2] + "AA",
		"not a token":     "/i/demo/vectors/list?namespace=n&paginationToken=tok%3D%3D",
		"far too long":    "/i/demo/vectors/list?namespace=n&paginationToken=" + strings.Repeat("A", 3000),
	} {
		t.Run(name, func(t *testing.T) { requireError(t, c.do("GET", path, ""), 400, "paginationToken") })
	}
	a := c.ok("GET", "/i/demo/vectors/list?namespace=n&limit=5&paginationToken="+token, "")
	require.Equal(t, want[10:15], a.ids(t), "the limit may change between pages")

	var byMetadata []string
	req := `{"filter":{"half":true},"namespace":"n","limit":4,"paginationToken":"%s"}`
	for token = ""; ; {
		a := c.ok("POST", "/i/demo/vectors/fetch_by_metadata", fmt.Sprintf(req, token))
		for id := range a.get(t, "vectors").(map[string]any) {
			byMetadata = append(byMetadata, id)
		}
		if token = next(a); token == "" {
			break
		}
		requireError(t, c.do("POST", "/i/demo/vectors/fetch_by_metadata", `{"filter":{"half":false},"namespace":"n","paginationToken":"`+token+`"}`), 400, "paginationToken")
	}
	slices.Sort(byMetadata)
	require.Len(t, byMetadata, 13)
	require.Equal(t, "doc#24", byMetadata[12])
}

func TestTokensOutliveTheHandler(t *testing.T) {
	n := openNode(t)
	c := &client{t, newHandler(t, n)}
	c.index("demo", `"dimension":1`)
	c.ok("POST", "/vectors/upsert", `{"vectors":[{"id":"a","values":[1]},{"id":"b","values":[1]}]}`)
	token := c.ok("GET", "/vectors/list?limit=1", "").get(t, "pagination.next").(string)
	again := &client{t, newHandler(t, n)}
	require.Equal(t, []string{"b"}, again.ok("GET", "/vectors/list?limit=1&paginationToken="+token, "").ids(t))
	other := &client{t, newHandler(t, n, func(o *Options) { o.TokenSecret = []byte("another") })}
	requireError(t, other.do("GET", "/vectors/list?limit=1&paginationToken="+token, ""), 400, "paginationToken")
}

func TestPagesAreCutByBytes(t *testing.T) {
	c := newClient(t, func(o *Options) { o.Limits.ResultBytes = 1000; o.Limits.FetchBytes = 4000 })
	c.index("demo", `"dimension":2`)
	text := strings.Repeat("x", 400)
	var recs, ids []string
	for i := range 250 {
		recs = append(recs, fmt.Sprintf(`{"id":"%03d","values":[1,%d],"metadata":{"t":%q}}`, i, i, text))
		ids = append(ids, fmt.Sprintf("ids=%03d", i))
	}
	c.ok("POST", "/vectors/upsert", `{"vectors":[`+strings.Join(recs, ",")+`]}`)

	seen := 0
	for token, pages := "", 0; ; pages++ {
		a := c.ok("POST", "/vectors/fetch_by_metadata", `{"filter":{"t":{"$exists":true}},"limit":10000,"paginationToken":"`+token+`"}`)
		seen += len(a.get(t, "vectors").(map[string]any))
		if !strings.Contains(a.body, "pagination") {
			require.Greater(t, pages, 1)
			break
		}
		token = a.get(t, "pagination.next").(string)
	}
	require.Equal(t, 250, seen)

	requireError(t, c.do("GET", "/vectors/fetch?"+strings.Join(ids, "&"), ""), 400, "larger than 4000 bytes")
	require.Len(t, c.ok("GET", "/vectors/fetch?"+strings.Join(ids[:5], "&"), "").get(t, "vectors"), 5)
	a := c.do("POST", "/query", `{"vector":[1,1],"topK":10,"includeMetadata":true}`)
	requireError(t, a, 400, "larger than 1000 bytes")
	require.Contains(t, a.get(t, "hint"), "lower topK")
	requireError(t, c.do("POST", "/query", `{"vector":[1,1],"topK":10000,"includeValues":true}`), 400, "larger than 1000 bytes")
	c.ok("POST", "/query", `{"vector":[1,1],"topK":10}`)
	c.ok("POST", "/query", `{"vector":[1,1],"topK":10000,"includeValues":true,"namespace":"empty"}`)
}

func TestReadsInSeveralChunks(t *testing.T) {
	c := newClient(t)
	c.index("demo", `"dimension":1`)
	n := 2*fetchChunk + 50
	var recs, ids []string
	for i := range n {
		recs = append(recs, fmt.Sprintf(`{"id":"%03d","values":[%d],"metadata":{"odd":%v}}`, i, i+1, i%2 == 1))
		ids = append(ids, fmt.Sprintf("ids=%03d", i))
	}
	c.ok("POST", "/vectors/upsert", `{"vectors":[`+strings.Join(recs, ",")+`]}`)
	a := c.ok("GET", "/vectors/fetch?"+strings.Join(ids, "&"), "")
	require.Len(t, a.get(t, "vectors"), n)
	require.Equal(t, float64(n/10), a.get(t, "usage.readUnits"))
	a = c.ok("POST", "/vectors/fetch_by_metadata", `{"filter":{"odd":{"$exists":true}},"limit":10000}`)
	require.Len(t, a.get(t, "vectors"), n)
	require.NotContains(t, a.body, "pagination")
	a = c.ok("POST", "/vectors/fetch_by_metadata", `{"filter":{"odd":true}}`)
	require.Len(t, a.get(t, "vectors"), 100, "the default limit")
	require.Contains(t, a.body, "pagination")
}

func TestNamespaces(t *testing.T) {
	c := newClient(t)
	c.index("demo", `"dimension":1`)
	a := c.ok("POST", "/namespaces", `{"name":"ns 1/..%2e"}`)
	require.Equal(t, `{"name":"ns 1/..%2e","record_count":"0"}`, a.body)
	requireError(t, c.do("POST", "/namespaces", `{"name":"ns 1/..%2e"}`), 409, "already exists")
	path := "/namespaces/" + url.PathEscape("ns 1/..%2e")
	require.Equal(t, a.body, c.ok("GET", path, "").body)
	c.ok("POST", "/vectors/upsert", `{"vectors":[{"id":"a","values":[1]}],"namespace":"ns 1/..%2e"}`)
	require.Equal(t, "1", c.ok("GET", path, "").get(t, "record_count"), "a string, as 64-bit counts are")
	require.Equal(t, `{}`, c.ok("DELETE", path, "").body)
	requireError(t, c.do("GET", path, ""), 404, "does not exist")
	requireError(t, c.do("DELETE", path, ""), 404, "does not exist")

	a = c.ok("POST", "/namespaces", `{"name":"with-schema","schema":{"fields":{"genre":{"filterable":true}}}}`)
	require.Contains(t, a.header.Get("X-Croft-Warning"), "schema")
	for i := range 7 {
		c.ok("POST", "/namespaces", fmt.Sprintf(`{"name":"t-%d"}`, i))
	}
	a = c.ok("GET", "/namespaces?prefix=t-&limit=5", "")
	require.Equal(t, 7.0, a.get(t, "total_count"))
	require.Len(t, a.get(t, "namespaces"), 5)
	token := a.get(t, "pagination.next").(string)
	a = c.ok("GET", "/namespaces?prefix=t-&limit=5&paginationToken="+token, "")
	require.Equal(t, `{"namespaces":[{"name":"t-5","record_count":"0"},{"name":"t-6","record_count":"0"}],"total_count":7}`, a.body)
	requireError(t, c.do("GET", "/namespaces?prefix=t&paginationToken="+token, ""), 400, "paginationToken")
}

// TestNamespaceOfAGraph: a namespace with a graph tells what its searches find, once they have been sampled.
func TestNamespaceOfAGraph(t *testing.T) {
	n := openNode(t, func(o *cluster.Options) { o.Engine.GraphAbove, o.Engine.FlatBelow = 200, 100 })
	c := &client{t, newHandler(t, n)}
	c.index("demo", `"dimension":4,"metric":"euclidean"`)
	rng := rand.New(rand.NewPCG(5, 5))
	vector := func() string {
		return fmt.Sprintf("[%f,%f,%f,%f]", rng.NormFloat64(), rng.NormFloat64(), rng.NormFloat64(), rng.NormFloat64())
	}
	var records []string
	for i := range 600 {
		records = append(records, fmt.Sprintf(`{"id":"%d","values":%s}`, i, vector()))
	}
	c.ok("POST", "/vectors/upsert", `{"namespace":"big","vectors":[`+strings.Join(records, ",")+`]}`)
	c.ok("POST", "/vectors/upsert", `{"namespace":"small","vectors":[`+records[0]+`]}`)
	require.Eventually(t, func() bool {
		c.ok("POST", "/query", `{"topK":10,"namespace":"big","vector":`+vector()+`}`)
		return strings.Contains(c.ok("GET", "/namespaces/big", "").body, "sampled_recall")
	}, 5*time.Minute, time.Microsecond)
	a := c.ok("GET", "/namespaces/big", "")
	require.Equal(t, "600", a.get(t, "croft.indexed"))
	require.GreaterOrEqual(t, a.get(t, "croft.ef"), 10.0)
	require.InDelta(t, 0.975, a.get(t, "croft.sampled_recall"), 0.05)
	require.Equal(t, `{"name":"small","record_count":"1"}`, c.ok("GET", "/namespaces/small", "").body)
	require.Equal(t, `{"namespaces":[{"name":"big","record_count":"600"},{"name":"small","record_count":"1"}],"total_count":2}`,
		c.ok("GET", "/namespaces", "").body)
}

func TestReadsSeeTheWriteBefore(t *testing.T) {
	c := newClient(t)
	c.index("demo", `"dimension":2,"metric":"euclidean"`)
	for i := range 50 {
		c.ok("POST", "/vectors/upsert", fmt.Sprintf(`{"vectors":[{"id":"%d","values":[%d,1]}]}`, i, i))
		a := c.ok("POST", "/query", fmt.Sprintf(`{"topK":1,"vector":[%d,1]}`, i))
		require.Equal(t, []string{strconv.Itoa(i)}, a.ids(t))
	}
}

func TestOptionsOfAQueryWithoutEffectAreTold(t *testing.T) {
	c := newClient(t)
	c.index("demo", `"dimension":1`)
	a := c.ok("POST", "/query", `{"vector":[1],"topK":1,"scanFactor":2,"maxCandidates":100}`)
	require.Contains(t, a.header.Get("X-Croft-Warning"), "scanFactor")
}
