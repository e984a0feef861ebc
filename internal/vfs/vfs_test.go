package vfs_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/vfs"
	"github.com/croftdb/croft/internal/vfs/vfstest"
)

func TestConformance(t *testing.T) {
	disks := map[string]func(t *testing.T) (vfs.FS, string){
		"os": func(t *testing.T) (vfs.FS, string) { return vfs.OS(), t.TempDir() },
		"mem": func(t *testing.T) (vfs.FS, string) {
			m := vfs.NewMem()
			require.NoError(t, m.MkdirAll("/data"))
			t.Cleanup(func() { require.Empty(t, m.Handles(), "left open") })
			return m, "/data"
		},
		"sim": func(t *testing.T) (vfs.FS, string) {
			s := vfs.NewSim()
			t.Cleanup(func() { require.Empty(t, s.Handles(), "left open") })
			return s, "/"
		},
		"failing": func(t *testing.T) (vfs.FS, string) {
			m := vfs.NewMem()
			return vfs.NewFailing(m), "/"
		},
	}
	for name, open := range disks {
		t.Run(name, func(t *testing.T) { vfstest.Run(t, open) })
	}
}
