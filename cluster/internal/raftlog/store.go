package raftlog

import (
	"errors"
	"runtime"

	"github.com/hashicorp/raft"
)

// Store is what raft gets of a Log, see ForRaft. raft panics when it cannot save its term or read a committed entry; on a
// poisoned store the goroutine that asked ends instead, and the node shuts down in order, by way of its failure.
// raft's goroutines are counted by deferred calls, so its Shutdown still returns. Only raft itself may hold one.
type Store struct {
	*Log
	snaps raft.SnapshotStore
}

// ForRaft returns the log for raft, whose snapshots are in snaps.
func (l *Log) ForRaft(snaps raft.SnapshotStore) Store { return Store{l, snaps} }

// GetLog implements raft.LogStore. The entry of the newest marker has at least its term, wherever the log begins: that is
// what a leader asks for whose log differs from there on. raft (1.7.3, appendEntries) looks into the marker only while
// nothing is behind it. It refused, and the leader sent the same again and again without a pause. The first entry
// is not among them: a leader would take it for what it is to send.
func (s Store) GetLog(index uint64, e *raft.Log) error {
	err := s.Log.GetLog(index, e)
	if errors.Is(err, raft.ErrLogNotFound) && index > 1 {
		metas, errList := s.snaps.List()
		if errList == nil && len(metas) > 0 && metas[0].Index == index {
			*e = raft.Log{Index: index, Term: metas[0].Term, Type: raft.LogNoop}
			return nil
		}
	}
	return s.orExit(err)
}

// Set implements raft.StableStore.
func (s Store) Set(key, val []byte) error { return s.orExit(s.Log.Set(key, val)) }

// SetUint64 implements raft.StableStore.
func (s Store) SetUint64(key []byte, val uint64) error {
	return s.orExit(s.Log.SetUint64(key, val))
}

func (s Store) orExit(err error) error {
	if err != nil && s.fail.Cause() != nil {
		runtime.Goexit()
	}
	return err
}
