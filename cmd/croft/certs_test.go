package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
)

func TestCerts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	run := func(want int, args ...string) *testApp {
		a := newTestApp("", nil)
		require.Equal(t, want, a.run(t.Context(), append([]string{"certs"}, args...)), "%v: %s", args, a.err.String())
		return a
	}

	a := run(exitNotFound, "node", "--dir", dir, "--host", "10.0.0.7")
	require.Contains(t, a.err.String(), "croft certs init --dir "+dir)
	a = run(exitOK, "init", "--dir", dir)
	require.Contains(t, a.err.String(), "Next, for each node: croft certs node --dir "+dir)
	run(exitConflict, "init", "--dir", dir)
	run(exitUsage, "node", "--dir", dir)
	a = run(exitOK, "node", "--dir", dir, "--host", "10.0.0.7,db1.internal", "--host", "::1")
	require.Contains(t, a.err.String(), "--peer-listen 10.0.0.7:5180 --peer-cert 10.0.0.7.crt --peer-key 10.0.0.7.key --peer-ca ca.crt")
	a = run(exitConflict, "node", "--dir", dir, "--host", "10.0.0.7")
	require.Contains(t, a.err.String(), "--force")
	run(exitOK, "node", "--dir", dir, "--host", "10.0.0.7", "--host", "db1.internal", "--force")

	a = run(exitOK, "show", filepath.Join(dir, "10.0.0.7.crt"), "-o", "json")
	var got struct {
		Certificates []certificate `json:"certificates"`
	}
	require.NoError(t, json.Unmarshal(a.out.Bytes(), &got))
	require.Len(t, got.Certificates, 1)
	require.Equal(t, []string{"db1.internal", "10.0.0.7"}, got.Certificates[0].Hosts)
	require.Equal(t, "croft cluster authority", got.Certificates[0].Issuer)
	require.False(t, got.Certificates[0].Authority)
	run(exitNotFound, "show", filepath.Join(dir, "none.crt"))
	run(exitFailure, "show", filepath.Join(dir, "ca.key"))

	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 4, "nothing temporary is left: %v", entries)
}
