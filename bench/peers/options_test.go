package main

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/errs"
)

func TestOptions(t *testing.T) {
	o, err := parseOptions([]string{"--dataset", "d", "--efs", "40,10,40", "--recalls", "0.5", "--croft", "M=8,EfConstruction=50",
		"--croft", "M=9", "--others", "M=7,EfConstruction=9", "--peers", "croft, coder-hnsw", "--cache", "c"}, io.Discard)
	require.NoError(t, err)
	require.Equal(t, []int{10, 40}, o.Efs)
	require.Equal(t, []float64{0.5}, o.Recalls)
	require.Equal(t, []settings{"M=8,EfConstruction=50", "M=9"}, o.Croft)
	require.Equal(t, []settings{"M=7,EfConstruction=9"}, o.settingsOf(&library{name: "hnswlib"}))
	require.Equal(t, []string{"croft", "coder-hnsw"}, o.Peers)
	require.Equal(t, [4]int{3, 1, 2, 10}, [4]int{o.Rounds, o.Threads, o.BuildThreads, o.K})

	o, err = parseOptions([]string{"--dataset", "d"}, io.Discard)
	require.NoError(t, err)
	require.Equal(t, names(libraries()), o.Peers)
	require.Len(t, o.Croft, 4)
	require.Equal(t, o.Croft, o.settingsOf(&library{name: "hnswlib"}))
	require.GreaterOrEqual(t, len(o.Efs), 8)
	require.GreaterOrEqual(t, len(grids["small"].efs), 8)
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := parseOptions([]string{"--grid", "huge", "--rounds", "-1", "--efs", "0", "--recalls", "1.5", "--peers", "faith",
		"--threads", "-2", "--clock", "sun"}, io.Discard)
	require.Equal(t, errs.Invalid, errs.KindOf(err))
	for _, fault := range []string{"--dataset", "huge", "rounds -1", "ef 0", "1.5", "faith", "threads -2", "sun"} {
		require.ErrorContains(t, err, fault)
	}
	_, err = parseOptions([]string{"--dataset", "d", "--clock", "cpu", "--threads", "2"}, io.Discard)
	require.ErrorContains(t, err, "--clock cpu")
	_, err = parseOptions([]string{"--dataset", "d", "extra"}, io.Discard)
	require.ErrorContains(t, err, "extra")
	_, err = parseOptions([]string{"--dataset", "d", "--memory-limit", "1/4", "--peers", "croft"}, io.Discard)
	require.ErrorContains(t, err, "leave --peers out")
}

func TestLimitOf(t *testing.T) {
	for given, want := range map[string]int64{"1/4": 250, "123": 123, "1/3": 333} { // any order: independent
		n, err := limitOf(given, 1000)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	for _, given := range []string{"", "0", "-1", "1/0", "2/3", "1/", "4k"} {
		_, err := limitOf(given, 1000)
		require.Error(t, err, given)
	}
}
