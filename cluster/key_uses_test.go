package cluster

import (
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/vfs"
	"github.com/croftdb/croft/tenancy"
)

func TestKeyUsesAreKept(t *testing.T) {
	disk := vfs.NewMem()
	require.NoError(t, disk.MkdirAll("/d"))
	u := openKeyUses(disk, "/d", testLogger())
	at := time.Unix(1_700_000_000, 0)
	u.note("a", at)
	u.note("a", at.Add(keyUseStep-time.Second)) // within a step
	u.note("b", at.Add(time.Hour))
	require.Equal(t, map[string]int64{"a": at.Unix(), "b": at.Add(time.Hour).Unix()}, u.of([]string{"a", "b", "c"}))
	require.Zero(t, testing.AllocsPerRun(100, func() { u.note("a", at) }))

	require.NoError(t, u.save(func(id string) bool { return id == "a" }))
	u.note("a", at.Add(2*time.Hour)) // is not written down
	again := openKeyUses(disk.CrashClone(nil), "/d", testLogger())
	require.Equal(t, map[string]int64{"a": at.Unix()}, again.of([]string{"a", "b"}))
	require.NoError(t, vfs.WriteAtomic(disk, "/d/key-uses.json", func(w io.Writer) error { _, err := w.Write([]byte("{")); return err }))
	require.Empty(t, openKeyUses(disk, "/d", testLogger()).of([]string{"a"}))
}

// TestKeysUsedAnywhere has a key used through each node: any of them tells the last time, as far as those that live know it.
func TestKeysUsedAnywhere(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		_, key := tenancy.NewKey("k", tenancy.RoleReader, time.Now())
		require.NoError(c.t, c.nodes[0].AddKey(c.t.Context(), key))
		first := time.Now().UTC().Truncate(time.Second)
		for i, n := range c.nodes[:3] {
			n.KeyUsed(key.ID, first.Add(time.Duration(i)*time.Hour))
		}
		for _, n := range c.nodes[:3] {
			require.Equal(c.t, map[string]time.Time{key.ID: first.Add(2 * time.Hour)}, n.KeysUsed(c.t.Context(), []string{key.ID, "unknown"}))
		}
		c.kill(2)
		require.Equal(c.t, first.Add(time.Hour), c.nodes[0].KeysUsed(c.t.Context(), []string{key.ID})[key.ID])
	})
}
