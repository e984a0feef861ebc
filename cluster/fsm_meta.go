package cluster

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// metaFSM is the door between raft and the metadata state machine, which is executeMeta. raft calls it from one
// goroutine; anybody reads the state.
type metaFSM struct {
	state atomic.Pointer[state]
	seen  func(decidedEntry) // nil: nobody looks
}

// decidedEntry is a command that was handed to a replica of the metadata plane.
type decidedEntry struct {
	index   uint64
	command []byte
	state   *state // after it
	err     error  // why it was refused
}

var _ raft.FSM = (*metaFSM)(nil)

func newMetaFSM() *metaFSM {
	f := new(metaFSM)
	f.state.Store(newState())
	return f
}

// Apply implements raft.FSM; the answer is a metaResult.
func (f *metaFSM) Apply(l *raft.Log) any {
	if l.Index <= f.state.Load().index {
		return metaResult{at: l.Index} // raft was restarted and replays its log
	}
	next, res := executeMeta(f.state.Load(), l.Index, l.Data)
	if f.seen != nil {
		f.seen(decidedEntry{l.Index, l.Data, next, res.err})
	}
	f.publish(next)
	return res
}

func (f *metaFSM) publish(next *state) { close(f.state.Swap(next).superseded) }

// wait returns the first state for which ready says true.
func (f *metaFSM) wait(ctx context.Context, ready func(*state) bool) (*state, error) {
	for {
		s := f.state.Load()
		if ready(s) {
			return s, nil
		}
		select {
		case <-s.superseded:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Snapshot implements raft.FSM. The state is immutable: holding on to it is all there is to do.
func (f *metaFSM) Snapshot() (raft.FSMSnapshot, error) { return metaSnapshot{f.state.Load()}, nil }

// Restore implements raft.FSM.
func (f *metaFSM) Restore(r io.ReadCloser) error {
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("read metadata snapshot: %w", err)
	}
	s, err := decodeState(b)
	if err != nil {
		return err
	}
	f.publish(s)
	return nil
}

type metaSnapshot struct{ state *state }

// Persist implements raft.FSMSnapshot.
func (s metaSnapshot) Persist(sink raft.SnapshotSink) error {
	_, err := sink.Write(appendState(nil, s.state))
	return err // raft closes or cancels the sink
}

// Release implements raft.FSMSnapshot.
func (metaSnapshot) Release() {}
