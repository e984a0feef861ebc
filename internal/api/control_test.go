package api

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestIndexLifeCycle(t *testing.T) {
	c := newClient(t)
	require.Equal(t, `{"indexes":[]}`, c.ok("GET", "/indexes", "").body)

	a := c.do("POST", "/indexes", `{"name":"demo","dimension":3,"metric":"euclidean","deletion_protection":"disabled",
		"tags":{"team":"search","gone":""},"vector_type":"dense","spec":{"serverless":{"cloud":"gcp","region":"moon-1"}}}`)
	require.Equal(t, 201, a.status, a.body)
	want := `{"name":"demo","metric":"euclidean","host":"http://127.0.0.1:5080/i/demo","vector_type":"dense","dimension":3,` +
		`"spec":{"serverless":{"cloud":"gcp","region":"moon-1","read_capacity":{"mode":"OnDemand","status":{"state":"Ready"}}}},` +
		`"status":{"ready":true,"state":"Ready"},"deletion_protection":"disabled","tags":{"team":"search"},` +
		`"croft":{"quantization":"auto","m":16,"ef_construction":200,"target_recall":0.99}}`
	require.Equal(t, want, a.body)
	require.Equal(t, want, c.ok("GET", "/indexes/demo", "").body)
	require.Equal(t, `{"indexes":[`+want+`]}`, c.ok("GET", "/indexes", "").body)

	a = c.do("PATCH", "/indexes/demo", `{"deletion_protection":"enabled","tags":{"team":"","new":"x y"},"spec":null}`)
	require.Equal(t, 200, a.status, a.body)
	require.Equal(t, "enabled", a.get(t, "deletion_protection"))
	require.Equal(t, map[string]any{"new": "x y"}, a.get(t, "tags"))
	require.Equal(t, a.body, c.do("PATCH", "/indexes/demo", `{}`).body)

	dedicated := `{"mode":"Dedicated","dedicated":{"node_type":"b1","scaling":"Manual","manual":{"replicas":0,"shards":2}}%s}`
	a = c.ok("PATCH", "/indexes/demo", `{"spec":{"serverless":{"read_capacity":`+strings.ReplaceAll(dedicated, "%s", "")+`}}}`)
	require.Contains(t, a.body, strings.ReplaceAll(dedicated, "%s", `,"status":{"state":"Ready","current_replicas":0,"current_shards":2}`))

	requireError(t, c.do("DELETE", "/indexes/demo", ""), 403, "Deletion protection is enabled for this index")
	c.ok("PATCH", "/indexes/demo", `{"deletion_protection":"disabled"}`)
	a = c.do("DELETE", "/indexes/demo", "")
	require.Equal(t, 202, a.status)
	require.Empty(t, a.body, "Go's client wants no body here")
	requireError(t, c.do("GET", "/indexes/demo", ""), 404, "Resource demo not found")
	requireError(t, c.do("DELETE", "/indexes/demo", ""), 404, "Resource demo not found")
}

func TestRecreatedIndexIsEmpty(t *testing.T) {
	c := newClient(t)
	c.index("demo", `"dimension":1`)
	c.ok("POST", "/vectors/upsert", `{"vectors":[{"id":"a","values":[1]}]}`)
	c.ok("DELETE", "/indexes/demo", "")
	c.index("demo", `"dimension":2`)
	require.Empty(t, c.ok("GET", "/vectors/list", "").ids(t))
}

func TestSpecsAreEchoed(t *testing.T) {
	c := newClient(t)
	for name, s := range map[string]struct{ sent, shown string }{
		"pod":      {`{"pod":{"environment":"us-east-1-aws","pod_type":"p1"}}`, `{"pod":{"environment":"us-east-1-aws","pod_type":"p1","pods":1,"replicas":1,"shards":1}}`},
		"pod-full": {`{"pod":{"environment":"e","pod_type":"s1.x8","replicas":2,"shards":3,"pods":6,"metadata_config":{"indexed":["a"]}}}`, `{"pod":{"environment":"e","pod_type":"s1.x8","pods":6,"replicas":2,"shards":3,"metadata_config":{"indexed":["a"]}}}`},
		"pod-bare": {`{"pod":{"environment":"e"}}`, `{"pod":{"environment":"e","pod_type":"p1.x1","pods":1,"replicas":1,"shards":1}}`},
		"byoc":     {`{"byoc":{"environment":"mine"}}`, `{"byoc":{"environment":"mine","read_capacity":{"mode":"OnDemand","status":{"state":"Ready"}}}}`},
		"schema": {`{"serverless":{"cloud":"aws","region":"r","schema":{"fields":{"b":{"filterable":true},"a":{"filterable":true}}},"read_capacity":{"mode":"OnDemand"}}}`,
			`{"serverless":{"cloud":"aws","region":"r","read_capacity":{"mode":"OnDemand","status":{"state":"Ready"}},"schema":{"fields":{"a":{"filterable":true},"b":{"filterable":true}}}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			a := c.do("POST", "/indexes", `{"name":"`+name+`","dimension":1,"spec":`+s.sent+`}`)
			require.Equal(t, 201, a.status, a.body)
			require.Contains(t, a.body, `"spec":`+s.shown+`,`)
			require.Equal(t, a.body, c.ok("GET", "/indexes/"+name, "").body)
		})
	}
	a := c.ok("PATCH", "/indexes/pod-full", `{"spec":{"pod":{"replicas":4}}}`)
	require.Contains(t, a.body, `"pod_type":"s1.x8","pods":12,"replicas":4,"shards":3`)
	a = c.ok("PATCH", "/indexes/pod", `{"spec":{"pod":{"pod_type":"p1.x2"}}}`)
	require.Contains(t, a.body, `"pod_type":"p1.x2"`)
}

// TestGraphSettings sets what graphs are made of, reads it back, and changes what may change.
func TestGraphSettings(t *testing.T) {
	c := newClient(t)
	const shown = `"croft":{"quantization":"%s","m":%d,"ef_construction":%d,"target_recall":%v}`
	for sent, want := range map[string]string{
		`{}`: fmt.Sprintf(shown, "auto", 16, 200, 0.99),
		`{"quantization":"auto","m":32,"ef_construction":400,"target_recall":0.95}`: fmt.Sprintf(shown, "auto", 32, 400, 0.95),
		`{"quantization":"none","m":null}`:                                          fmt.Sprintf(shown, "none", 16, 200, 0.99),
		`{"quantization":0,"target_recall":0.999}`:                                  fmt.Sprintf(shown, "none", 16, 200, 0.999),
		`{"quantization":4}`:                                                        fmt.Sprintf(shown, "4", 16, 200, 0.99),
		`{"quantization":"8","m":2,"ef_construction":1}`:                            fmt.Sprintf(shown, "8", 2, 1, 0.99),
	} {
		a := c.do("POST", "/indexes", `{"name":"g","dimension":3,"spec":{"serverless":{"cloud":"a","region":"r"}},"croft":`+sent+`}`)
		require.Equal(t, 201, a.status, a.body)
		require.Contains(t, a.body, want, sent)
		require.Equal(t, a.body, c.ok("GET", "/indexes/g", "").body)
		settings := strings.TrimPrefix(want, `"croft":`)
		require.Equal(t, a.body, c.ok("PATCH", "/indexes/g", `{"croft":`+settings+`}`).body, "what was read may be sent back")
		a = c.ok("PATCH", "/indexes/g", `{"croft":{"target_recall":0.5}}`)
		require.Contains(t, a.body, `"target_recall":0.5}`)
		c.ok("DELETE", "/indexes/g", "")
	}
	c.index("sparse", `"vector_type":"sparse"`)
	require.NotContains(t, c.ok("GET", "/indexes/sparse", "").body, `"croft":{`)
}

func TestDefaultMetrics(t *testing.T) {
	c := newClient(t)
	c.index("dense", `"dimension":1`)
	c.index("sparse", `"vector_type":"sparse"`)
	require.Equal(t, "cosine", c.ok("GET", "/indexes/dense", "").get(t, "metric"))
	a := c.ok("GET", "/indexes/sparse", "")
	require.Equal(t, "dotproduct", a.get(t, "metric"))
	require.NotContains(t, a.body, "dimension")
}
