package filter

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		matches, total, ef, m int
		want                  Strategy
	}{
		{0, 1_000_000, 100, 16, Scan},            // nothing to find
		{10, 1_000_000, 100, 16, Scan},           // a handful
		{10_000, 1_000_000, 100, 16, Scan},       // one in a hundred: a walk would measure 20,000
		{100_000, 1_000_000, 100, 16, Graph},     // one in ten: a walk measures 4,000
		{1_000_000, 1_000_000, 100, 16, Graph},   // all
		{1_000, 1_000, 100, 16, Scan},            // a walk would see the whole partition
		{30_000, 60_000, 10_000, 16, Scan},       // so would one of such breadth
		{60_000, 60_000, 100, 16, Graph},         // all of a middling partition
		{5_000_000, 10_000_000, 1000, 64, Graph}, // large
		{300_000, 10_000_000, 1000, 64, Scan},    // 3 %, but breadth and degree are high
		// As timed on 20,000 and 5,000 images, where the difference was clear.
		{20_000, 20_000, 400, 16, Graph},
		{10_000, 20_000, 400, 16, Graph},
		{4_000, 20_000, 50, 16, Graph},
		{2_000, 20_000, 50, 16, Scan},
		{2_000, 20_000, 400, 16, Scan},
		{2_500, 5_000, 50, 16, Graph},
		{2_500, 5_000, 400, 16, Scan},
		{1_000, 5_000, 50, 16, Scan},
	} {
		require.Equal(t, c.want, Choose(c.matches, c.total, c.ef, c.m), "%+v", c)
	}
	require.Equal(t, "scan", Scan.String())
	require.Equal(t, "graph", Graph.String())
}

// TestChooseIsMonotonic: where a scan is chosen it is chosen for fewer matches too, and for a broader walk.
func TestChooseIsMonotonic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.IntRange(1, 10_000_000).Draw(t, "total")
		matches := rapid.IntRange(1, total).Draw(t, "matches")
		ef, m := rapid.IntRange(1, 10_000).Draw(t, "ef"), rapid.IntRange(2, 128).Draw(t, "m")
		if Choose(matches, total, ef, m) == Graph {
			return
		}
		fewer := rapid.IntRange(0, matches).Draw(t, "fewer")
		require.Equal(t, Scan, Choose(fewer, total, ef, m))
		require.Equal(t, Scan, Choose(matches, total, ef+rapid.IntRange(0, 1000).Draw(t, "broader"), m))
	})
}
