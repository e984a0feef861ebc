package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// tryTenants uses the verbs of tenants and tiers on a running server.
func tryTenants(t *testing.T, w *world) {
	w.must("tiers", "set", "bronze", "--create", "--limit", "requests_per_hour=5000", "--limit", "overage=degrade")
	require.Contains(t, w.must("tiers", "list", "-o", "csv"), "bronze,0,no,overage=degrade requests_per_hour=5000\n")
	require.Contains(t, w.must("tiers", "set", "bronze", "--limit", "overage=inherit", "-o", "csv"), "overage,reject,reject|degrade,system\n")
	w.fails(exitConflict, "tiers", "set", "bronze", "--create")
	w.fails(exitUsage, "tiers", "set", "bronze")
	w.fails(exitNotFound, "tiers", "get", "tin")

	require.Contains(t, w.must("tenants", "create", "t1", "--tier", "bronze", "--limit", "burst=7", "-o", "csv"), ",bronze,burst=7,")
	require.Contains(t, w.must("tenants", "settings", "t1", "-o", "csv"), "requests_per_hour,5000,requests,tier\n")
	w.must("tenants", "override", "t1", "--factor", "10", "--for", "30m", "--reason", "launch")
	require.Contains(t, w.must("tenants", "settings", "t1", "-o", "csv"), "requests_per_hour,50000,requests,override\n")
	w.must("tenants", "override", "t1", "--end")
	w.fails(exitUsage, "tenants", "override", "t1")
	w.fails(exitUsage, "tenants", "set", "t1", "--limit", "burst")
	w.fails(exitUsage, "tenants", "set", "t1")
	require.Contains(t, w.must("tenants", "set", "t1", "--tier", "free", "--limit", "burst=inherit", "-o", "csv"), ",free,-,")
	require.Contains(t, w.must("tenants", "set", "t1", "--apart-from", "banks,shops", "-o", "csv"), `,"apart-from=banks,shops",`)
	w.fails(exitConflict, "tenants", "set", "t1", "--zone", "eu-*")
	require.NotContains(t, w.must("tenants", "set", "t1", "--apart-from", "", "-o", "csv"), "apart")
	w.fails(exitConflict, "shards", "bind", "0", "--zone", "eu-1")
	w.fails(exitUsage, "shards", "bind", "0")
	w.must("tiers", "delete", "bronze", "--yes")
	w.fails(exitConflict, "tiers", "delete", "free", "--yes")

	require.Contains(t, w.run("tenants", "delete", "t1", "--dry-run").err, "would delete tenant t1")
	w.must("tenants", "delete", "t1", "--yes")
	w.fails(exitNotFound, "tenants", "get", "t1")
	require.Contains(t, w.must("tenants", "list", "--deleted", "-o", "csv"), "t1,")
	require.Contains(t, w.must("tenants", "undelete", "t1", "--as", "t2", "-o", "csv"), "t2,")
	w.fails(exitNotFound, "tenants", "undelete", "t1")
}
