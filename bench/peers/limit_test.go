package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
)

// needCgroups skips a test where memory cannot be limited.
func needCgroups(t *testing.T) {
	g, err := newCgroup(64 << 20)
	if err != nil {
		t.Skip("memory cannot be limited here: ", err)
	}
	require.NoError(t, g.remove())
}

func TestRaceWithinALimit(t *testing.T) {
	needNative(t)
	needCgroups(t)
	dataset := writeDataset(t, "l2", ann.Euclidean, 2000, 32)
	p, _ := raceReport(t, "--dataset", dataset, "--cache", t.TempDir(), "--grid", "small", "--rounds", "1", "--efs", "10,400",
		"--memory-limit", "67108864")
	require.Equal(t, []string{"hnswlib", "croft"}, p.names())
	require.NotNil(t, p.Ratio["0.95"])
	require.Equal(t, int64(64<<20), p.Limited.Limit)
	require.Positive(t, p.Limited.Hnswlib)
	require.Greater(t, p.Limited.Peak, int64(2000*32*4), "the mapped vectors are charged to the group")
	require.LessOrEqual(t, p.Limited.Peak, p.Limited.Limit)
}

// A process that does not fit is killed, and the error says so.
func TestLimitTooSmall(t *testing.T) {
	needCgroups(t)
	dataset := writeDataset(t, "l2", ann.Euclidean, 2000, 32)
	cache := t.TempDir()
	r := raceOf(t, dataset, cache)
	group, err := newCgroup(1 << 20)
	require.NoError(t, err)
	err = r.openOne(t.Context(), r.contestants[0], group)
	require.ErrorContains(t, err, "does not fit into 1048576 bytes")
	require.NoError(t, group.remove())
}

// raceOf has croft's index built and not opened.
func raceOf(t *testing.T, dataset, cache string) *race {
	o, err := parseOptions([]string{"--dataset", dataset, "--cache", cache, "--peers", "croft", "--grid", "small"}, os.Stderr)
	require.NoError(t, err)
	r, err := newRace(o, os.Stderr)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.data.Close()) })
	r.store, err = openStore(o.Cache, o.Dataset, r.data, o.K)
	require.NoError(t, err)
	require.NoError(t, r.build(t.Context()))
	return r
}

func TestStatusBytes(t *testing.T) {
	const status = "Name:\tpeers\nVmRSS:\t   12 kB\nRssFile:\t x kB\n"
	n, err := statusBytes(status, "VmRSS:")
	require.NoError(t, err)
	require.Equal(t, int64(12<<10), n)
	_, err = statusBytes(status, "RssFile:")
	require.Error(t, err)
	_, err = statusBytes(status, "RssAnon:")
	require.ErrorContains(t, err, "RssAnon")
	m, err := memoryOfSelf()
	require.NoError(t, err)
	require.Greater(t, m.Resident, m.File)
	require.Positive(t, m.File)
}
