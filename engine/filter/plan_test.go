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
		{0, 1_000_000, 100, 16, Scan},          // nothing to find
		{100, 1_000_000, 100, 16, Scan},        // a handful
		{1_000, 1_000_000, 100, 16, Codes},     // one in a thousand
		{10_000, 1_000_000, 100, 16, Codes},    // one in a hundred: neighbours of neighbours do not connect them
		{10_000, 1_000_000, 100, 64, Codes},    // those of broader lists do, but reading them costs more
		{100_000, 1_000_000, 100, 16, Graph},   // one in ten
		{1_000_000, 1_000_000, 100, 16, Graph}, // all
		{60, 60_000, 64, 16, Scan},             // 0.1 % of a middling partition
		{600, 60_000, 64, 16, Codes},           // 1 %
		{6_000, 60_000, 64, 16, Graph},         // 10 %
		{60_000, 60_000, 100, 16, Graph},       // all
		{500, 5_000, 64, 16, Codes},            // 10 % of a small one
		{30_000, 60_000, 10_000, 16, Codes},    // such breadth takes a walk through everything
		{5_000_000, 10_000_000, 1000, 64, Graph},
	} {
		choice := Choose(Terms{Matches: c.matches, Total: c.total, Ef: c.ef, M: c.m, RowBytes: 4 * 784, CodeBytes: 784 / 2})
		require.Equal(t, c.want, choice.Strategy, "%+v", c)
		if c.want == Graph {
			require.Equal(t, Codes, choice.Fallback)
			require.InDelta(t, scanDiscount*float64(c.matches), choice.Limit, 1)
		} else {
			require.Zero(t, choice.Limit)
		}
	}
	for s, name := range map[Strategy]string{Scan: "scan", Codes: "codes", Graph: "graph"} {
		require.Equal(t, name, s.String())
	}
}

// TestChooseWithoutCodes: codes as large as vectors are not worth a look, and a walk falls back on vectors.
func TestChooseWithoutCodes(t *testing.T) {
	terms := Terms{Matches: 1000, Total: 100_000, Ef: 64, M: 16, RowBytes: 6144, CodeBytes: 6144}
	require.Equal(t, Choice{Strategy: Scan}, Choose(terms))
	terms.Matches = 10_000
	require.Equal(t, Choice{Strategy: Graph, Limit: 6000, Fallback: Scan}, Choose(terms))
	terms.CodeBytes = 384
	require.Equal(t, Codes, Choose(terms).Fallback)
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
		if Choose(terms).Strategy == Graph {
			return
		}
		choose := func(change func(*Terms)) Strategy {
			changed := terms
			change(&changed)
			return Choose(changed).Strategy
		}
		require.NotEqual(t, Graph, choose(func(c *Terms) { c.Matches = rapid.IntRange(0, c.Matches).Draw(t, "fewer") }))
		require.NotEqual(t, Graph, choose(func(c *Terms) { c.Ef += rapid.IntRange(0, 1000).Draw(t, "broader") }))
	})
}
