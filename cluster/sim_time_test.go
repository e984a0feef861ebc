//go:build simtime

package cluster

import (
	"strings"
	_ "unsafe" // for linkname
)

// In a bubble of testing/synctest time stands still while a goroutine waits for a lock, since its holder is taken to be
// running. Here holders may be waiting themselves, for a disk that hangs or for an election, so all of a bubble would. This
// makes a wait for a lock like any other wait. It needs -ldflags=-checklinkname=0, so it is built for simulations alone.

//go:linkname isIdleInSynctest runtime.isIdleInSynctest
var isIdleInSynctest [1 << 6]bool

//go:linkname waitReasonStrings runtime.waitReasonStrings
var waitReasonStrings [1 << 6]string

// maxWaitReasons is no more than the runtime has.
const maxWaitReasons = 40

func init() {
	for i, s := range waitReasonStrings[:maxWaitReasons] {
		if strings.HasPrefix(s, "sync.") && strings.HasSuffix(s, "Lock") {
			isIdleInSynctest[i] = true
			timeFlowsPastLocks = true
		}
	}
}
