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
		{1_000, 1_000_000, 100, 16, Scan},        // one in a thousand
		{10_000, 1_000_000, 100, 16, Graph},      // one in a hundred: a walk looks through the others
		{1_000_000, 1_000_000, 100, 16, Graph},   // all
		{60, 60_000, 64, 16, Scan},               // 0.1 % of a middling partition
		{6_000, 60_000, 64, 16, Graph},           // 10 %
		{60_000, 60_000, 100, 16, Graph},         // all
		{500, 5_000, 64, 16, Scan},               // 10 % of a small one
		{30_000, 60_000, 10_000, 16, Graph},      // such breadth takes a walk through everything, by its codes
		{5_000_000, 10_000_000, 1000, 64, Graph}, // large
	} {
		s, limit := Choose(Terms{Matches: c.matches, Total: c.total, Ef: c.ef, M: c.m, RowBytes: 4 * 784, CodeBytes: 784 / 2})
		require.Equal(t, c.want, s, "%+v", c)
		require.Equal(t, s == Graph, limit > c.matches, "%+v: a code is cheaper than a row, so that the limit is above the matches", c)
	}
	require.Equal(t, "scan", Scan.String())
	require.Equal(t, "graph", Graph.String())
}

// TestChooseByCodes: the smaller the codes are beside the rows, the sooner a walk pays, and the more work it may do.
func TestChooseByCodes(t *testing.T) {
	terms := Terms{Matches: 1000, Total: 100_000, Ef: 64, M: 16, RowBytes: 6144, CodeBytes: 6144}
	s, _ := Choose(terms)
	require.Equal(t, Scan, s)
	terms.CodeBytes = 384
	s, limit := Choose(terms)
	require.Equal(t, Graph, s)
	require.Greater(t, limit, 3*terms.Matches)
}

// TestChooseIsMonotonic: where a scan is chosen it is chosen for fewer matches too, and for a broader walk.
func TestChooseIsMonotonic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		terms := Terms{
			Total: rapid.IntRange(1, 10_000_000).Draw(t, "total"),
			Ef:    rapid.IntRange(1, 10_000).Draw(t, "ef"), M: rapid.IntRange(2, 128).Draw(t, "m"),
			RowBytes: rapid.IntRange(4, 80_000).Draw(t, "row"),
		}
		terms.CodeBytes = max(1, terms.RowBytes/rapid.IntRange(1, 32).Draw(t, "smaller"))
		terms.Matches = rapid.IntRange(1, terms.Total).Draw(t, "matches")
		if s, _ := Choose(terms); s == Graph {
			return
		}
		choose := func(change func(*Terms)) Strategy {
			changed := terms
			change(&changed)
			s, _ := Choose(changed)
			return s
		}
		require.Equal(t, Scan, choose(func(c *Terms) { c.Matches = rapid.IntRange(0, c.Matches).Draw(t, "fewer") }))
		require.Equal(t, Scan, choose(func(c *Terms) { c.Ef += rapid.IntRange(0, 1000).Draw(t, "broader") }))
	})
}
