package api

import (
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/cluster"
)

func TestWhichIndexARequestMeans(t *testing.T) {
	n := openNode(t)
	c := &client{t, newHandler(t, n)}
	stats := func(path string, port int, host string) answer {
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("Api-Key", testKey)
		r.Host = host
		if port > 0 {
			r = r.WithContext(withPort(r.Context(), port))
		}
		return c.send(r)
	}
	dimension := func(a answer) any {
		if a.status != 200 {
			return a.status
		}
		return a.get(t, "dimension")
	}
	requireError(t, stats("/describe_index_stats", 0, "h"), 404, "there is no index yet")
	c.index("one", `"dimension":1`)
	require.Equal(t, 1.0, dimension(stats("/describe_index_stats", 0, "h")), "the only one there is")
	c.index("two", `"dimension":2`)
	c.index("127", `"dimension":3`)
	ports := map[string]int{}
	for _, ix := range n.Indexes() {
		ports[ix.Name] = ix.Port
	}

	for name, w := range map[string]struct {
		path string
		port int
		host string
		want any
	}{
		"no sign at all":            {"/describe_index_stats", 0, "localhost:5080", 400},
		"path":                      {"/i/two/describe_index_stats", 0, "localhost", 2.0},
		"path, escaped":             {"/i/t%77o/describe_index_stats", 0, "localhost", 2.0},
		"path, none":                {"/i/three/describe_index_stats", 0, "localhost", 404},
		"port":                      {"/describe_index_stats", ports["two"], "localhost:5082", 2.0},
		"port before Host":          {"/describe_index_stats", ports["two"], "one.example.com", 2.0},
		"port of nobody":            {"/describe_index_stats", 39, "localhost", 404},
		"port agrees with path":     {"/i/two/describe_index_stats", ports["two"], "localhost", 2.0},
		"port contradicts path":     {"/i/one/describe_index_stats", ports["two"], "localhost", 400},
		"Host":                      {"/describe_index_stats", 0, "two.vectors.example.com:443", 2.0},
		"Host in capitals":          {"/describe_index_stats", 0, "TWO.Vectors.example.com", 2.0},
		"Host of one label":         {"/describe_index_stats", 0, "two", 2.0},
		"Host contradicts path":     {"/i/one/describe_index_stats", 0, "two.example.com", 400},
		"Host that names nothing":   {"/i/one/describe_index_stats", 0, "www.example.com", 1.0},
		"an address is not a name":  {"/describe_index_stats", 0, "127.0.0.1:5080", 400},
		"an address of version six": {"/describe_index_stats", 0, "[::1]:5080", 400},
		"empty Host":                {"/describe_index_stats", 0, "", 400},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, w.want, dimension(stats(w.path, w.port, w.host)))
		})
	}
	a := stats("/describe_index_stats", 0, "h")
	for _, way := range []string{"host", "/i/<index>", "Host"} {
		require.Contains(t, a.get(t, "hint"), way)
	}
}

func TestAdvertisedHostMustNameAnIndex(t *testing.T) {
	c := newClient(t, func(o *Options) { o.Advertise = "https://{index}.vectors.example.com:8443/" })
	c.index("only", `"dimension":1`)
	require.Equal(t, "https://only.vectors.example.com:8443", c.ok("GET", "/indexes/only", "").get(t, "host"))
	c.ok("GET", "/describe_index_stats", "", "Host: only.vectors.example.com:8443")
	c.ok("GET", "/describe_index_stats", "", "Host: other.example.com")
	requireError(t, c.do("GET", "/describe_index_stats", "", "Host: tpyo.vectors.example.com:8443"), 404, "Resource tpyo not found")
}

func TestHosts(t *testing.T) {
	ix := &cluster.Index{Name: "docs", Port: 3}
	r := httptest.NewRequest("GET", "http://10.0.0.7:5080/indexes", nil)
	secure := httptest.NewRequest("GET", "https://croft.example/indexes", nil)

	dialled := newAdvertiser("")
	require.Equal(t, "http://10.0.0.7:5080/i/docs", dialled.host(ix, r))
	require.Equal(t, "https://croft.example/i/docs", dialled.host(ix, secure))
	dialled.setPort(3, netip.MustParseAddrPort("127.0.0.1:5083"))
	require.Equal(t, "http://127.0.0.1:5083", dialled.host(ix, r))
	dialled.setPort(3, netip.MustParseAddrPort("[::1]:5083"))
	require.Equal(t, "http://[::1]:5083", dialled.host(ix, r))
	dialled.setPort(3, netip.MustParseAddrPort("0.0.0.0:5083"))
	require.Equal(t, "http://10.0.0.7:5083", dialled.host(ix, r))
	dialled.clearPort(3)
	require.Equal(t, "http://10.0.0.7:5080/i/docs", dialled.host(ix, r))

	based := newAdvertiser("http://croft.internal:5080/")
	based.setPort(3, netip.MustParseAddrPort("127.0.0.1:5083"))
	require.Equal(t, "http://croft.internal:5080/i/docs", based.host(ix, r))
	require.Equal(t, "http://docs.localhost:80", newAdvertiser("http://{index}.localhost:80").host(ix, r))
	require.Equal(t, "https://api.example.com/ix/docs", newAdvertiser("https://api.example.com/ix/{index}").host(ix, r))
}
