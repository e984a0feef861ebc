package api

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

func TestConsistencyHeader(t *testing.T) {
	c := newClient(t)
	c.index("i", `"dimension":2`)
	lsn := c.ok("POST", "/i/i/vectors/upsert", `{"vectors":[{"id":"a","values":[1,2]}]}`).header.Get("X-Pinecone-Lsn-Committed")
	for _, level := range []string{"", "leader", "strong", "any"} {
		a := c.ok("POST", "/i/i/query", `{"topK":1,"vector":[1,2]}`, "X-Croft-Consistency: "+level)
		require.Equal(t, []string{"a"}, a.ids(t), level)
		require.Equal(t, lsn, a.header.Get("X-Pinecone-Max-Indexed-Lsn"))
		want := ""
		if level == "any" {
			want = "applied=" + lsn + ", behind=0, age=0.000"
		}
		require.Equal(t, want, a.header.Get("X-Croft-Staleness"), level)
	}
	requireError(t, c.do("POST", "/i/i/query", `{"topK":1,"vector":[1,2]}`, "X-Croft-Consistency: eventual"), 400, "X-Croft-Consistency", "leader, strong, any")
}

// laggingNode hears of the index "late" when it asks for newer metadata.
type laggingNode struct {
	Node
	refreshed bool
	refusal   error
}

func (n *laggingNode) Refresh(context.Context) error {
	n.refreshed = n.refusal == nil
	return n.refusal
}

func (n *laggingNode) Index(name string) (cluster.Index, bool) {
	return cluster.Index{ID: 7, Name: "late", Dim: 2}, name == "late" && n.refreshed
}

func (n *laggingNode) Query(ctx context.Context, _ cluster.Index, _ string, _ *engine.Query, _ *engine.Result) (int, error) {
	return 0, nil
}

// TestLateMetadata: an index made through another node is found although this node has not heard of it yet, unless the
// request takes old answers or nobody can be asked.
func TestLateMetadata(t *testing.T) {
	const query = `{"topK":1,"vector":[1,2]}`
	for _, path := range []string{"/i/late/query", "/indexes/late"} {
		method, body := "GET", ""
		if path == "/i/late/query" {
			method, body = "POST", query
		}
		for _, level := range []string{"leader", "strong", "any"} {
			c := &client{t, newHandler(t, &laggingNode{Node: openNode(t)})}
			status := c.do(method, path, body, "X-Croft-Consistency: "+level).status
			require.Equal(t, map[string]int{"leader": 200, "strong": 200, "any": 404}[level], status, "%s at level %s", path, level)
		}
		c := &client{t, newHandler(t, &laggingNode{Node: openNode(t), refusal: errs.New(errs.Unavailable, "no leader")})}
		requireError(t, c.do(method, path, body), 503, "no leader")
	}
}

// staleNode reads from a replica that is behind.
type staleNode struct {
	Node
	age time.Duration
}

func (n *staleNode) Index(name string) (cluster.Index, bool) {
	return cluster.Index{ID: 7, Name: name, Dim: 2}, true
}

func TestStalenessIsTold(t *testing.T) {
	for age, want := range map[time.Duration]string{1234567 * time.Microsecond: "1.235", -1: "unknown"} {
		h := newHandler(t, &staleNode{Node: openNode(t), age: age})
		c := &client{t, h}
		a := c.ok("POST", "/i/i/query", `{"topK":1,"vector":[1,2]}`, "X-Croft-Consistency: any")
		require.Equal(t, "applied=42, behind=3, age="+want, a.header.Get("X-Croft-Staleness"))
		require.Equal(t, "42", a.header.Get("X-Pinecone-Max-Indexed-Lsn"))
	}
}

func (n *staleNode) Query(ctx context.Context, _ cluster.Index, _ string, _ *engine.Query, _ *engine.Result) (int, error) {
	cluster.ReadingOf(ctx).Staleness = cluster.Staleness{Applied: 42, Behind: 3, Age: n.age}
	return 0, nil
}
