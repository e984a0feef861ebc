// Package invariants owns assertions that cost nothing in production: they are on when a build has the tag
// "invariants" or the race detector, and compiled away otherwise. Any package may call it where a broken promise of
// our own code would else be noticed far from its cause. It never checks input: that is an error, not an assertion.
//
//	if invariants.Enabled {
//		invariants.Check(slices.IsSorted(ids), "ids of block %d are not sorted", b)
//	}
package invariants

import "fmt"

// Check panics when ok is false. It does nothing unless Enabled; guard it by Enabled where its arguments cost.
func Check(ok bool, format string, args ...any) {
	if Enabled && !ok {
		panic("invariant broken: " + fmt.Sprintf(format, args...))
	}
}
