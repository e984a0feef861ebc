package api

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/errs"
)

// movingNode is a node whose tenants move only on paper, so that a migration stays in its phase.
type movingNode struct {
	*cluster.Node
	all     []cluster.Migration // by id, from 1
	options cluster.MoveOptions // of the last move
	filter  cluster.MigrationFilter
}

func (n *movingNode) MoveTenant(_ context.Context, tenant string, to int, o cluster.MoveOptions) (cluster.Migration, error) {
	n.options = o
	m := cluster.Migration{Tenant: tenant, TenantID: "id-of-" + tenant, From: 1, To: to, Phase: cluster.PhasePlanned, Reason: o.Reason, By: o.By, Total: 700}
	if to > 1 {
		return m, errs.New(errs.NotFound, "there is no shard %d", to)
	}
	if !o.DryRun {
		m.ID, m.Attempt, m.Started = uint64(len(n.all)+1), 1, time.Unix(1_800_000_000, 0).UTC()
		n.all = append(n.all, m)
	}
	return m, nil
}

func (n *movingNode) Migrations(_ context.Context, f cluster.MigrationFilter) (found []cluster.Migration, err error) {
	n.filter = f
	for _, m := range slices.Backward(n.all) {
		if len(found) < f.Limit && (f.Before == 0 || m.ID < f.Before) {
			found = append(found, m)
		}
	}
	return found, nil
}

func (n *movingNode) Migration(_ context.Context, id uint64) (cluster.Migration, error) {
	if id == 0 || id > uint64(len(n.all)) {
		return cluster.Migration{}, errs.New(errs.NotFound, "there is no migration %d", id)
	}
	return n.all[id-1], nil
}

func (n *movingNode) CancelMigration(ctx context.Context, id uint64) (cluster.Migration, error) {
	m, err := n.Migration(ctx, id)
	m.Phase = cluster.PhaseAborting
	return m, err
}

func (n *movingNode) RollbackMigration(ctx context.Context, id uint64) (cluster.Migration, error) {
	m, err := n.Migration(ctx, id)
	if err == nil && m.Phase != cluster.PhaseSettled {
		err = errs.New(errs.FailedPrecondition, "migration %d is %s: only one that is settled can be taken back", id, m.Phase)
	}
	m.ID, m.RollbackOf, m.From, m.To = 9, id, m.To, m.From
	return m, err
}

func TestMigrations(t *testing.T) {
	n := &movingNode{Node: openNode(t)}
	c := &client{t, newHandler(t, n)}

	a := c.do("POST", "/v1/migrations", `{"tenant":"acme","to":0,"reason":"hot","dry_run":true}`)
	require.Equal(t, 202, a.status, a.body)
	require.Equal(t, `{"id":0,"tenant":"acme","tenant_id":"id-of-acme","from":1,"to":0,"phase":"planned","running":true,"attempt":0,"reason":"hot",`+
		`"by":"admin key","copied_bytes":0,"total_bytes":700,"bytes_per_second":0,"eta_seconds":0,"lag_entries":0,"failed_requests":0}`, a.body)
	require.True(t, n.options.DryRun)
	require.Empty(t, n.all)

	a = c.do("POST", "/v1/migrations", `{"tenant":"acme","to":0}`)
	require.Equal(t, 202, a.status, a.body)
	require.Equal(t, 1.0, a.get(t, "id"))
	require.Equal(t, "2027-01-15T08:00:00Z", a.get(t, "started_at"))
	require.NotContains(t, a.body, "kept_until", "what is not known yet is not told")
	require.Equal(t, a.body, c.ok("GET", "/v1/migrations/1", "").body)

	n.all[0].Phase, n.all[0].Copied, n.all[0].Rate, n.all[0].ETA, n.all[0].Lag = cluster.PhaseCopying, 350, 175, 2*time.Second, 12
	a = c.ok("GET", "/v1/migrations/1", "")
	for name, want := range map[string]any{"phase": "copying", "copied_bytes": 350.0, "bytes_per_second": 175.0, "eta_seconds": 2.0, "lag_entries": 12.0} {
		require.Equal(t, want, a.get(t, name), name)
	}
	requireError(t, c.do("POST", "/v1/migrations/1/rollback", ""), 412, "only one that is settled")
	a = c.do("POST", "/v1/migrations/1/cancel", "")
	require.Equal(t, 202, a.status, a.body)
	require.Equal(t, "aborting", a.get(t, "phase"))

	n.all[0].Phase, n.all[0].KeptUntil = cluster.PhaseSettled, time.Unix(1_800_600_000, 0).UTC()
	a = c.do("POST", "/v1/migrations/1/rollback", "")
	require.Equal(t, 202, a.status, a.body)
	require.Equal(t, 1.0, a.get(t, "rollback_of"))
	require.Equal(t, false, c.ok("GET", "/v1/migrations/1", "").get(t, "running"))
}

func TestMigrationsAreListed(t *testing.T) {
	n := &movingNode{Node: openNode(t)}
	c := &client{t, newHandler(t, n)}
	require.Equal(t, `{"migrations":[]}`, c.ok("GET", "/v1/migrations", "").body)
	for i := range 5 {
		require.Equal(t, 202, c.do("POST", "/v1/migrations", fmt.Sprintf(`{"tenant":"t%d","to":0}`, i)).status)
	}
	var seen []string
	for path := "/v1/migrations?limit=2&running=true&tenant=x&phase=planned"; ; {
		a := c.ok("GET", path, "")
		for _, v := range a.get(t, "migrations").([]any) {
			seen = append(seen, v.(map[string]any)["tenant"].(string))
		}
		if len(seen) == 5 {
			require.NotContains(t, a.body, "pagination")
			break
		}
		path = "/v1/migrations?limit=2&running=true&tenant=x&phase=planned&paginationToken=" + a.get(t, "pagination.next").(string)
	}
	require.Equal(t, []string{"t4", "t3", "t2", "t1", "t0"}, seen)
	require.Equal(t, cluster.MigrationFilter{Tenant: "x", Phase: "planned", Open: true, Before: 2, Limit: 3}, n.filter)
	requireError(t, c.do("GET", "/v1/migrations?running=perhaps", ""), 400, "want true or false")
}

func TestMigrationsAreRefused(t *testing.T) {
	c := newClient(t)
	requireError(t, c.do("POST", "/v1/migrations", `{"to":1}`), 400, "tenant: is missing")
	requireError(t, c.do("POST", "/v1/migrations", `{"tenant":"acme"}`), 400, "to: is missing")
	requireError(t, c.do("POST", "/v1/migrations", `{"tenant":"acme","to":-1}`), 400, "to:")
	requireError(t, c.do("POST", "/v1/migrations", `{"tenant":"nobody","to":1}`), 404, "nobody")
	for _, id := range []string{"7", "007", "x", "-1"} {
		requireError(t, c.do("GET", "/v1/migrations/"+id, ""), 404, "no migration")
	}
}

// TestMigrationsAreAudited finds who moved whom.
func TestMigrationsAreAudited(t *testing.T) {
	c := &client{t, newHandler(t, &movingNode{Node: openNode(t)})}
	c.do("POST", "/v1/migrations", `{"tenant":"acme","to":0}`)
	a := c.ok("GET", "/v1/audit?action=create_migration", "")
	require.Equal(t, "acme", a.get(t, "events.0.tenant"))
	require.Equal(t, `POST /v1/migrations "acme" to shard 0`, a.get(t, "events.0.target"))
}
