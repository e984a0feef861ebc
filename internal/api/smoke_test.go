package api

import "testing"

func TestSmoke(t *testing.T) {
	c := newClient(t)
	c.index("demo", `"dimension":3,"metric":"cosine"`)
	t.Log(c.ok("GET", "/indexes", "").body)
	t.Log(c.ok("POST", "/vectors/upsert", `{"vectors":[{"id":"a","values":[1,2,3],"metadata":{"g":"x","n":4}},{"id":"b","values":[1,0,0.4]}],"namespace":"ns1"}`))
	t.Log(c.ok("POST", "/query", `{"vector":[1,2,3],"topK":2,"namespace":"ns1","includeValues":true,"includeMetadata":true}`))
	t.Log(c.ok("GET", "/vectors/fetch?ids=a&ids=zz&ids=b&namespace=ns1", "").body)
	t.Log(c.ok("GET", "/vectors/list?namespace=ns1&limit=1", "").body)
	t.Log(c.ok("POST", "/describe_index_stats", "{}").body)
	t.Log(c.ok("GET", "/namespaces", "").body)
	t.Log(c.do("GET", "/nowhere", ""))
	t.Log(c.ok("GET", "/v1/cluster", "").body)
	t.Log(c.ok("GET", "/readyz?verbose", "").body)
	t.Log(c.ok("DELETE", "/indexes/demo", ""))
}
