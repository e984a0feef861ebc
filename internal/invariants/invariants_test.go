package invariants_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/invariants"
)

func TestCheck(t *testing.T) {
	require.NotPanics(t, func() { invariants.Check(true, "fine") })
	broken := func() { invariants.Check(1 > 2, "%d is not over %d", 1, 2) }
	if invariants.Enabled {
		require.PanicsWithValue(t, "invariant broken: 1 is not over 2", broken)
	} else {
		require.NotPanics(t, broken)
	}
}

func TestCheckIsFreeWhenOff(t *testing.T) {
	if invariants.Enabled {
		return
	}
	n := 0
	require.Zero(t, testing.AllocsPerRun(100, func() {
		n++
		if invariants.Enabled {
			invariants.Check(n > 0, "n is %d", n)
		}
	}))
}
