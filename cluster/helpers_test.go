package cluster

import (
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"github.com/croftdb/croft/internal/codec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sealed appends the checksum that a format ends with.
func sealed(b []byte) []byte { return codec.AppendUint32(append([]byte(nil), b...), codec.CRC(b)) }

// testLogger drops what a test provokes on purpose.
func testLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }

// observed collects what a histogram would get.
type observed []float64

func (o *observed) Observe(v float64) { *o = append(*o, v) }
