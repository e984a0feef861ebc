package cluster

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/engine"
)

const (
	killDir   = "CROFT_TEST_KILL_DIR"
	killFirst = "CROFT_TEST_KILL_FIRST"
)

// TestKilledWriter is the process that TestKill kills; it writes records and tells of each that was acknowledged.
func TestKilledWriter(t *testing.T) {
	dir := os.Getenv(killDir)
	if dir == "" {
		return // only of use as a process of its own
	}
	var first int
	_, err := fmt.Sscan(os.Getenv(killFirst), &first)
	require.NoError(t, err)
	n := openNode(t, killOptions(dir))
	ix, ok := n.Index("i")
	if !ok {
		ix = createIndex(t, n, "i")
	}
	for i := first; ; i++ {
		_, err := n.Upsert(context.Background(), ix, fmt.Sprint("ns", i%7), []engine.Record{record(t, i)})
		require.NoError(t, err)
		fmt.Println("acked", i)
	}
}

func killOptions(dir string) Options {
	o := testOptions(dir)
	o.LogRetain = 64 << 10 // markers and trimming are among what is killed
	return o
}

// TestKill kills the process again and again, at random moments, and finds every acknowledged record, at most one
// more for each kill, and nothing else.
func TestKill(t *testing.T) {
	const kills = 6
	dir := t.TempDir()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	next := 0
	acked, unknown := map[int]bool{}, map[int]bool{}
	for range kills {
		last := runKilled(t, dir, next, time.Duration(rng.IntN(400))*time.Millisecond)
		for i := next; i <= last; i++ {
			acked[i] = true
		}
		next = max(next, last+1)
		unknown[next] = true // the one under way
		next++
	}
	n := openNode(t, killOptions(dir))
	ix, ok := n.Index("i")
	require.True(t, ok || len(acked) == 0)
	found := map[int]bool{}
	for ns := range 7 {
		recs, more, err := n.Scan(t.Context(), ix, fmt.Sprint("ns", ns), "", "", nil, 1_000_000)
		require.NoError(t, err)
		require.False(t, more)
		for _, r := range recs {
			i := int(r.Values[0])
			require.Equal(t, record(t, i).ID, r.ID)
			require.Equal(t, record(t, i).Metadata, r.Metadata)
			require.Equal(t, ns, i%7)
			require.True(t, acked[i] || unknown[i], "record %d was never sent", i)
			found[i] = true
		}
	}
	for i := range acked {
		require.True(t, found[i], "record %d was acknowledged and is gone", i)
	}
	t.Logf("%d records acknowledged, %d found", len(acked), len(found))
}

// runKilled runs the writer from record first and kills it some time after its first acknowledgement; it returns the
// last record acknowledged, or first-1.
func runKilled(t *testing.T, dir string, first int, after time.Duration) int {
	cmd := exec.Command(os.Args[0], "-test.run", "^TestKilledWriter$")
	cmd.Env = append(os.Environ(), killDir+"="+dir, fmt.Sprintf("%s=%d", killFirst, first))
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	last := first - 1
	var timer *time.Timer
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var i int
		if _, err := fmt.Sscanf(lines.Text(), "acked %d", &i); err == nil {
			last = i
		}
		if timer == nil {
			timer = time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
	}
	require.NotNil(t, timer, "the writer wrote nothing")
	require.ErrorContains(t, cmd.Wait(), "killed")
	return last
}
