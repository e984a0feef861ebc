package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/tenancy"
)

// doorNode is one that has heard that a tenant is let in nowhere, and has as many of its requests wait as it ever has.
type doorNode struct {
	Node
	refusals tenancy.Refusals
	open     bool
}

func newDoorNode(n Node, shut string) *doorNode {
	d := &doorNode{Node: n}
	d.refusals.Now = func() time.Time { return time.Unix(1, 0) }
	id := n.Standing(shut).ID
	d.refusals.Close(id, &tenancy.Receipt{Limit: 5, Remaining: 1, Reset: 1500 * time.Millisecond, Closed: time.Minute})
	for key := range uint64(1000) {
		_, _ = d.refusals.Check(id, key, &tenancy.Receipt{})
	}
	return d
}

func (d *doorNode) Quiet() bool { return d.open || d.refusals.Quiet() }

func (d *doorNode) Shut(t tenancy.ID, told *tenancy.Receipt) time.Duration {
	return d.refusals.Shut(t, told)
}

func (d *doorNode) Knock(_ context.Context, namespace string, request uint64, told *tenancy.Receipt) error {
	_, err := d.refusals.Check(d.Standing(namespace).ID, request, told)
	return err
}

func (d *doorNode) Told(uint64, time.Duration) {}

// unread is a body that must not be read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

// TestTurnedAwayIsToldTheSame compares the short way of a refusal with the long one, field by field and header by header.
func TestTurnedAwayIsToldTheSame(t *testing.T) {
	w := newTown(t)
	node := newDoorNode(w.node, acme)
	c := &client{t, newHandler(t, node, func(o *Options) { o.Auth = w.h.(*Handler).opts.Auth })}
	key := w.key(tenancy.RoleReader, acme)
	query := fmt.Sprintf(`{"namespace":%q,"topK":1,"vector":[1]}`, acme)
	for _, extras := range [][]string{
		nil, {"Accept: application/problem+json"}, {"X-Request-Id: mine"}, {"X-Pinecone-Api-Version: 1999-01"}, {"Authorization: Bearer " + key, "Api-Key: "},
	} {
		long := c.do("POST", "/query", query, append([]string{"X-Request-Id: id"}, extras...)...) // the tenant is in the body
		short := c.do("POST", "/query", query, append([]string{"X-Request-Id: id", "Api-Key: " + key}, extras...)...)
		require.Equal(t, 429, long.status, long.body)
		require.Equal(t, 429, short.status, short.body)
		require.Equal(t, long.body, short.body)
		for name := range long.header {
			if name == "X-Croft-Took-Ms" || name == "Retry-After" {
				require.NotEmpty(t, short.header.Get(name), name)
				continue
			}
			require.Equal(t, long.header[name], short.header[name], name)
		}
		require.Len(t, short.header, len(long.header))
	}
	a := c.do("POST", "/query", query, "Api-Key: "+key)
	require.Len(t, a.get(t, "request_id"), 32)
	require.Equal(t, a.header.Get("X-Request-Id"), a.get(t, "request_id"))
	require.True(t, json.Valid([]byte(a.body)))
}

// TestWhoIsTurnedAway: by the header alone only those that certainly would be refused, and no body is read for it.
func TestWhoIsTurnedAway(t *testing.T) {
	w := newTown(t)
	node := newDoorNode(w.node, acme)
	h := newHandler(t, node, func(o *Options) { o.Auth = w.h.(*Handler).opts.Auth })
	send := func(method, path, key string, body io.Reader, length int64) int {
		r := httptest.NewRequest(method, path, body)
		r.Host, r.ContentLength = "127.0.0.1:5080", length
		r.Header.Set("Api-Key", key)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		return rec.Code
	}
	reader := w.key(tenancy.RoleReader, acme)
	require.Equal(t, 429, send("POST", "/query", reader, unread{t}, 5))
	require.Equal(t, 429, send("POST", "/i/demo/query", reader, unread{t}, 5))
	require.Equal(t, 429, send("GET", "/vectors/fetch?ids=a&namespace="+acme, reader, nil, 0))
	query := fmt.Sprintf(`{"namespace":%q,"topK":1,"vector":[1]}`, other)
	require.Equal(t, 200, send("POST", "/query", w.key(tenancy.RoleReader, other), strings.NewReader(query), int64(len(query))))
	require.Equal(t, 200, send("GET", "/namespaces", reader, nil, 0), "what costs nothing")
	require.Equal(t, 403, send("POST", "/vectors/upsert", reader, unread{t}, 5), "a role that may not is told so")
	require.Equal(t, 401, send("POST", "/query", reader+"x", unread{t}, 5))
	require.Equal(t, 404, send("POST", "/nothing", reader, unread{t}, 5))
	require.Equal(t, 405, send("PUT", "/query", reader, unread{t}, 5))
	node.open = true
	query = fmt.Sprintf(`{"namespace":%q,"topK":1,"vector":[1]}`, acme)
	require.Equal(t, 200, send("POST", "/query", reader, strings.NewReader(query), int64(len(query))))
	require.Contains(t, (&client{t, h}).ok("GET", "/metrics", "").body, `croft_http_requests_total{code="429",op="query"} 2`)
}
