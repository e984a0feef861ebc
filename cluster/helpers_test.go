package cluster

import (
	"fmt"
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/faultdisk"
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
