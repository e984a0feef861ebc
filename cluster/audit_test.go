package cluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
	"github.com/croftdb/croft/tenancy/audit"
)

// TestAuditOfAllNodes merges what each node has recorded, whichever is asked, and names those that are gone.
func TestAuditOfAllNodes(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		const events = 30
		for i := range events {
			n := c.nodes[i%3]
			require.NoError(c.t, n.Record(audit.Event{At: time.Now(), Actor: "key:a", Action: fmt.Sprint("act ", i), Result: "ok"}, 0, false))
			n.Refuse(audit.Event{At: time.Now(), Actor: "nobody", Action: fmt.Sprint("refused ", i), Result: "unauthenticated"})
			time.Sleep(time.Millisecond)
		}
		time.Sleep(3 * time.Second) // refusals are written
		for _, n := range c.nodes[:3] {
			var got []string
			q := audit.Query{Limit: 7}
			for more := true; more; {
				var page []audit.Event
				var silent []string
				var err error
				page, more, silent, err = n.AuditEvents(c.t.Context(), q)
				require.NoError(c.t, err)
				require.Empty(c.t, silent)
				for _, e := range page {
					got = append(got, e.Action)
					q.After = audit.PlaceOf(&e)
				}
			}
			var want []string
			for i := events - 1; i >= 0; i-- {
				want = append(want, fmt.Sprint("act ", i), fmt.Sprint("refused ", i))
			}
			require.Equal(c.t, want, got)
			reports, silent, err := n.VerifyAudit(c.t.Context())
			require.NoError(c.t, err)
			require.Empty(c.t, silent)
			require.Len(c.t, reports, 6)
			for _, r := range reports {
				require.Equal(c.t, uint64(events/3), r.Events)
				require.Empty(c.t, r.Breaks)
			}
		}
		lost := c.nodes[2].id.NodeID
		c.kill(2)
		page, _, silent, err := c.nodes[0].AuditEvents(c.t.Context(), audit.Query{Limit: 100})
		require.NoError(c.t, err)
		require.Len(c.t, page, 2*events/3*2)
		require.Equal(c.t, []string{lost}, silent)
	})
}

// TestRevokedKeyIsRefusedEverywhere: within a second, whichever node is told and whichever is asked.
func TestRevokedKeyIsRefusedEverywhere(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		_, err := c.nodes[0].CreateTenant(c.t.Context(), "acme", AnyShard, Plan{})
		require.NoError(c.t, err)
		for i := range 6 {
			text, k := tenancy.NewKey("test", tenancy.RoleWriter, time.Now())
			k.Tenant = "acme"
			require.NoError(c.t, c.nodes[i%3].AddKey(c.t.Context(), k))
			for _, n := range c.nodes[:3] {
				require.NoError(c.t, n.Refresh(c.t.Context()))
				p, err := (&tenancy.Authenticator{Source: n}).Authenticate(text, time.Now())
				require.NoError(c.t, err)
				require.Equal(c.t, "acme", p.Tenant)
			}
			require.NoError(c.t, c.nodes[(i+1)%3].RevokeKey(c.t.Context(), k.ID))
			time.Sleep(time.Second)
			for _, n := range c.nodes[:3] {
				_, err := (&tenancy.Authenticator{Source: n}).Authenticate(text, time.Now())
				require.True(c.t, errs.Is(err, errs.Unauthenticated))
			}
		}
	})
}
