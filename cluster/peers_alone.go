package cluster

import (
	"context"

	"github.com/hashicorp/raft"

	"github.com/croftdb/croft/internal/errs"
)

// alone is the peers of a node that has no peer listener: it reaches nobody, and nobody reaches it.
type alone struct{ loopback }

var _ peers = alone{}

func newAlone(node string) alone { return alone{loopback{raft.ServerID(node)}} }

func (alone) handle(method, handler) {}

func (alone) start() error { return nil }

func (alone) call(_ context.Context, to string, _ method, _, dst []byte) ([]byte, error) {
	return dst, errs.New(errs.Unavailable, "node %s cannot be reached: this node has no peer listener", to)
}

func (alone) addr() string { return "" }

func (alone) close() error { return nil }
