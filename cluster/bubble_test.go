package cluster

import (
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
)

// stuckTransfer are the goroutines that a transfer of leadership leaves for ever: two of raft's when the leader steps down
// while the target lacks entries, and ours when raft was stopped before it looked at the request (hashicorp/raft #696, see
// group.transfer).
var stuckTransfer = []string{
	"github.com/hashicorp/raft.(*Raft).leadershipTransfer", "github.com/hashicorp/raft.(*Raft).leaderLoop.func2",
	"github.com/croftdb/croft/cluster.(*group).transfer.func1",
}

var bubbleName = regexp.MustCompile(`synctest bubble \d+`)

func knownLeaks() []goleak.Option {
	var o []goleak.Option
	for _, f := range stuckTransfer {
		o = append(o, goleak.IgnoreAnyFunction(f))
	}
	return o
}

// inBubble is synctest.Test, but lets a bubble end while transfers are stuck, as they are in a process that goes on.
func inBubble(t *testing.T, test func(*testing.T)) {
	var bubble string
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if !onlyStuckTransfers(bubble) {
			panic(p)
		}
		t.Log("a transfer of leadership is stuck for ever")
	}()
	synctest.Test(t, func(t *testing.T) {
		own := make([]byte, 256)
		bubble = bubbleName.FindString(string(own[:runtime.Stack(own, false)]))
		test(t)
	})
}

// onlyStuckTransfers reports whether no other goroutine of a bubble is left. Others may be running.
func onlyStuckTransfers(bubble string) bool {
	b := make([]byte, 16<<20)
	b = b[:runtime.Stack(b, true)]
	for stack := range strings.SplitSeq(string(b), "\n\n") {
		head, _, _ := strings.Cut(stack, "\n")
		known := func(f string) bool { return strings.Contains(stack, f) }
		if strings.Contains(head, bubble+"]") && !slices.ContainsFunc(stuckTransfer, known) {
			return false
		}
	}
	return true
}
