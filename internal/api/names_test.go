package api

import (
	"bytes"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
)

// oddNames are names of tenants that somebody may trip over.
var oddNames = []string{
	" ", ".", "..", "../../etc/passwd", "a/b", "a\\b", "%2F", "%", "a%00b", "?x=1#y", "line\nfeed", "car\rriage", "tab\there", "\x1b[31mred", "\x7f",
	`"quoted"`, `back\slash`, `{a="b"} 1`, "# HELP x", "<script>alert(1)</script>", "&amp;", "';DROP TABLE tenants;--", "${jndi:x}", "=1+1",
	"zürich", "zu\u0308rich", "日本", "\u202eevil", "\u2028", "\u200b", "\ufeff", "🦀", "null", "undefined", "__proto__", "none", "CON",
	strings.Repeat("ü", 256), strings.Repeat("n", 512),
}

// TestOddNames uses each name for a tenant, all at once: none is taken for another, and none breaks what it stands in.
func TestOddNames(t *testing.T) {
	var log bytes.Buffer
	c := newClient(t, func(o *Options) {
		o.SlowLog, o.Logger = time.Nanosecond, slog.New(slog.NewTextHandler(&log, nil))
	})
	c.index("demo", `"dimension":1`)
	quoted := func(name string) string { return string(appendQuoted(nil, name)) }
	for _, name := range oddNames {
		a := c.ok("POST", "/vectors/upsert", `{"namespace":`+quoted(name)+`,"vectors":[{"id":"a","values":[1],"metadata":{"whose":`+quoted(name)+`}}]}`)
		told, err := url.PathUnescape(a.header.Get("X-Croft-Tenant"))
		require.NoError(t, err)
		require.Equal(t, name, told)
	}
	for _, name := range oddNames {
		a := c.ok("POST", "/query", `{"namespace":`+quoted(name)+`,"topK":2,"vector":[1],"includeMetadata":true}`)
		require.Equal(t, []string{"a"}, a.ids(t), "%q", name)
		require.Equal(t, name, a.get(t, "matches.0.metadata.whose"))
		path := url.PathEscape(name)
		require.Equal(t, name, c.ok("GET", "/v1/tenants/"+path, "").get(t, "tenant"))
		require.Equal(t, name, c.ok("GET", "/namespaces/"+path, "").get(t, "name"))
		require.Equal(t, name, c.ok("GET", "/namespaces?prefix="+url.QueryEscape(name), "").get(t, "namespaces.0.name"))
	}
	var page struct {
		Tenants []struct{ Tenant string }
		Total   int `json:"total_count"`
	}
	require.NoError(t, json.Unmarshal([]byte(c.ok("GET", "/v1/tenants", "").body), &page))
	require.Equal(t, len(oddNames), page.Total)
	for line := range strings.Lines(c.ok("GET", "/metrics", "").body) {
		require.Regexp(t, `^(# (HELP|TYPE) croft_|croft_[a-z_]+(\{.*\})? [-+0-9.eInfNa]+\n$)`, line)
	}
	for line := range strings.Lines(log.String()) {
		require.True(t, strings.HasPrefix(line, "time="), "%q", line)
	}
	for _, name := range oddNames {
		c.ok("DELETE", "/v1/tenants/"+url.PathEscape(name), "")
	}
	require.Equal(t, 0.0, c.ok("GET", "/v1/tenants", "").get(t, "total_count"))
}

func TestNamesThatAreRefused(t *testing.T) {
	c := newClient(t)
	c.index("demo", `"dimension":1`)
	for _, name := range []string{`"` + strings.Repeat("n", 513) + `"`, `"a\u0000b"`, "\"\xff\"", `"\ud800"`} {
		requireError(t, c.do("POST", "/query", `{"namespace":`+name+`,"topK":1,"vector":[1]}`), 400)
		requireError(t, c.do("POST", "/namespaces", `{"name":`+name+`}`), 400)
		requireError(t, c.do("POST", "/v1/tenants", `{"tenant":`+name+`}`), 400)
	}
	for _, path := range []string{"/namespaces/a%00b", "/namespaces/%ff", "/vectors/list?namespace=%ff", "/namespaces?prefix=%ff"} {
		requireError(t, c.do("GET", path, ""), 400)
	}
	require.Equal(t, 0.0, c.ok("GET", "/v1/tenants", "").get(t, "total_count"))
}
