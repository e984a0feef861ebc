package cluster

import (
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
)

// stuckTransfer are the two goroutines that a transfer of leadership leaves for ever when the leader steps down while the
// target lacks entries (hashicorp/raft #696, see group.transfer).
var stuckTransfer = []string{
	"github.com/hashicorp/raft.(*Raft).leadershipTransfer", "github.com/hashicorp/raft.(*Raft).leaderLoop.func2",
}

func knownLeaks() []goleak.Option {
	var o []goleak.Option
	for _, f := range stuckTransfer {
		o = append(o, goleak.IgnoreAnyFunction(f))
	}
	return o
}

// inBubble is synctest.Test, but lets a bubble end while transfers are stuck, as they are in a process that goes on.
func inBubble(t *testing.T, test func(*testing.T)) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if !onlyStuckTransfers() {
			panic(p)
		}
		t.Log("a transfer of leadership is stuck for ever")
	}()
	synctest.Test(t, test)
}

// onlyStuckTransfers reports whether no other goroutine of a bubble is left.
func onlyStuckTransfers() bool {
	b := make([]byte, 16<<20)
	b = b[:runtime.Stack(b, true)]
	for stack := range strings.SplitSeq(string(b), "\n\n") {
		head, _, _ := strings.Cut(stack, "\n")
		if strings.Contains(head, "synctest bubble") &&
			!strings.Contains(stack, stuckTransfer[0]) && !strings.Contains(stack, stuckTransfer[1]) {
			return false
		}
	}
	return true
}
