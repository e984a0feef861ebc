package cluster

import (
	"fmt"
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/cluster/internal/raftlog"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/faultdisk"
	"github.com/croftdb/croft/internal/vfs"
)

func TestMain(m *testing.M) { faultdisk.TestMain(leakChecked{m}) }

// leakChecked runs tests and then looks for goroutines that they have left.
type leakChecked struct{ *testing.M }

func (l leakChecked) Run() int {
	if code := l.M.Run(); code != 0 {
		return code
	}
	if err := goleak.Find(knownLeaks()...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// sealed appends the checksum that a format ends with.
func sealed(b []byte) []byte { return codec.AppendUint32(append([]byte(nil), b...), codec.CRC(b)) }

// testLogger drops what a test provokes on purpose.
func testLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }

// observed collects what a histogram would get.
type observed []float64

func (o *observed) Observe(v float64) { *o = append(*o, v) }

// testLog opens the log of a group that does not run.
func testLog(t testing.TB, dir string) *raftlog.Log {
	o := groupOptions{disk: vfs.OS(), dir: dir, name: "test", segmentSize: 64 << 10, fail: newFailure(testLogger()), append: new(observed), grown: func() {}, logger: testLogger()}
	l, err := raftlog.Open(o.logOptions())
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}
