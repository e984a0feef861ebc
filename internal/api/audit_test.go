package api

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
	"github.com/croftdb/croft/tenancy/audit"
)

// events asks for audit events, the newest first.
func (c *client) events(query, key string) []audit.Event {
	c.t.Helper()
	var page auditPage
	require.NoError(c.t, json.Unmarshal([]byte(c.ok("GET", "/v1/audit?"+query, "", "Api-Key: "+key).body), &page))
	return page.Events
}

// TestListTellsLastUse lists keys, of which one was used.
func TestListTellsLastUse(t *testing.T) {
	w := newTown(t)
	used, idle := w.key(tenancy.RoleReader, acme), w.key(tenancy.RoleReader, acme)
	requireError(t, w.do("GET", "/v1/keys", "", "Api-Key: "+used), 403)
	requireError(t, w.do("GET", "/v1/keys", "", "Api-Key: "+idle[:len(idle)-1]+"!"), 401)
	before := time.Now().Add(-2 * time.Minute)
	var page keyPage
	require.NoError(t, json.Unmarshal([]byte(w.ok("GET", "/v1/keys?tenant="+acme, "").body), &page))
	last := map[string]time.Time{}
	for _, k := range page.Keys {
		last[k.ID] = k.LastUsed
	}
	usedID, err := tenancy.ParseKey(used)
	require.NoError(t, err)
	idleID, err := tenancy.ParseKey(idle)
	require.NoError(t, err)
	require.True(t, last[usedID].After(before), "%v", last)
	require.Contains(t, last, idleID)
	require.Zero(t, last[idleID], "a wrong secret is no use")
}

// cutOff is a node that ends in the middle of an act: its end is not written down.
type cutOff struct{ Node }

func (cutOff) Record(audit.Event, uint64, bool) error {
	return errs.New(errs.Internal, "the power is gone")
}

func TestActThatACrashCutOff(t *testing.T) {
	n := openNode(t)
	c := &client{t, newHandler(t, cutOff{n})}
	c.ok("POST", "/v1/tenants", `{"tenant":"acme"}`, "X-Request-Id: r-1")
	found := c.events("action=create_tenant", testKey)
	require.Len(t, found, 1)
	require.Equal(t, []string{audit.Begun, "r-1", "admin"}, []string{found[0].Result, found[0].Request, found[0].Role})

	c.h = newHandler(t, n)
	c.ok("POST", "/v1/tenants", `{"tenant":"other"}`)
	found = c.events("action=create_tenant", testKey)
	require.Len(t, found, 2)
	require.Equal(t, "ok", found[0].Result)
	require.Len(t, c.events("result=begun", testKey), 1)
}

func TestAudit(t *testing.T) {
	w := newTown(t)
	tadmin, writer := w.key(tenancy.RoleTenantAdmin, acme), w.key(tenancy.RoleWriter, acme)
	writerID, err := tenancy.ParseKey(writer)
	require.NoError(t, err)

	// Acts are there with the answer; reads and records are none.
	made := w.ok("POST", "/v1/keys", `{"role":"reader","tenant":"`+acme+`"}`, "X-Request-Id: req-1")
	found := w.events("action=create_key", testKey)
	require.Len(t, found, 1)
	e := found[0]
	require.Equal(t, "admin key", e.Actor)
	require.Equal(t, []string{"admin", acme, "ok", "req-1", "192.0.2.1"}, []string{e.Role, e.Tenant, e.Result, e.Request, e.From})
	require.Equal(t, "POST /v1/keys "+made.get(t, "id").(string), e.Target)
	require.NotContains(t, w.ok("GET", "/v1/audit", "").body, made.get(t, "key").(string)[20:], "no secret")
	before := len(w.events("refused=false", testKey))
	w.ok("GET", "/v1/keys", "")
	w.settle(acme)
	requireError(t, w.do("POST", "/v1/keys", `{"role":"none"}`), 400)
	require.Len(t, w.events("refused=false", testKey), before, "what was not done is no act")

	// Refusals follow soon, those of a kind as one.
	for range 50 {
		requireError(t, w.do("GET", "/v1/cluster", "", "Api-Key: "+writer), 403)
		requireError(t, w.do("GET", "/v1/cluster", "", "Api-Key: "+writer[:len(writer)-1]+"!"), 401)
		requireError(t, w.do("POST", "/query", `{"topK":1,"vector":[1],"namespace":"`+other+`"}`, "Api-Key: "+writer), 403)
	}
	require.Eventually(t, func() bool { return len(w.events("refused=true&actor=key:"+writerID, testKey)) == 2 }, 10*time.Second, 50*time.Millisecond)
	refused := w.events("refused=true&action=query", testKey)
	require.Len(t, refused, 1)
	require.Equal(t, []string{"key:" + writerID, "writer", acme, "permission denied"}, []string{refused[0].Actor, refused[0].Role, refused[0].Tenant, refused[0].Result})
	require.Equal(t, uint64(50), refused[0].Count)
	unknown := w.events("refused=true&result=unauthenticated&actor=nobody", testKey)
	require.Len(t, unknown, 1)
	require.NotContains(t, unknown[0].Detail, writer[20:])

	// A tenant's keeper sees what is his tenant's; what is wrong is refused.
	for _, e := range w.events("limit=1000", tadmin) {
		require.Equal(t, acme, e.Tenant)
	}
	require.NotEmpty(t, w.events("action=create_key", tadmin))
	require.Empty(t, w.events("actor=nobody", tadmin))
	requireError(t, w.do("GET", "/v1/audit?tenant="+other, "", "Api-Key: "+tadmin), 403)
	requireError(t, w.do("GET", "/v1/audit?since=yesterday", ""), 400, "since")
	require.Empty(t, w.events("until=24h", testKey))
	require.NotEmpty(t, w.events("since=24h", testKey))

	// Page by page it is the same.
	all := w.events("limit=1000", testKey)
	var paged []audit.Event
	path := "/v1/audit?limit=2"
	for next := path; next != ""; {
		var page auditPage
		require.NoError(t, json.Unmarshal([]byte(w.ok("GET", next, "").body), &page))
		paged = append(paged, page.Events...)
		if next = ""; page.Pagination != nil {
			next = path + "&paginationToken=" + page.Pagination.Next
		}
	}
	require.Equal(t, all, paged)
	requireError(t, w.do("GET", path+"&paginationToken=AQ", ""), 400)

	check := w.ok("GET", "/v1/audit/verify", "")
	require.Equal(t, true, check.get(t, "whole"))
	require.Equal(t, "acts", check.get(t, "chains.0.chain"))
}
