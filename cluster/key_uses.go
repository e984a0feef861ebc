package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

const (
	// keyUseStep is how exactly the time of a key's last use is kept: within it, a use is not noted.
	keyUseStep = time.Minute
	// keyUsePause is how often uses are written down: as much is forgotten when a node is killed.
	keyUsePause = time.Hour
)

// keyUses are the times when API keys were last used through this node. Each node keeps its own, in memory and now and then in a file, and
// a list of keys asks all of them: in the metadata plane it would be an entry on every node for something that nobody decides by.
type keyUses struct {
	disk vfs.FS
	path string

	mu    sync.Mutex       // held for an instant; never while the file is written
	last  map[string]int64 // by id, in s since 1970
	newer bool             // than the file
}

func openKeyUses(disk vfs.FS, dir string, logger *slog.Logger) *keyUses {
	u := &keyUses{disk: disk, path: filepath.Join(dir, "key-uses.json"), last: map[string]int64{}}
	b, err := vfs.ReadFile(disk, u.path)
	if err == nil {
		err = json.Unmarshal(b, &u.last)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		logger.Warn("when keys were used last cannot be read, it is forgotten", "file", u.path, "err", err)
		u.last = map[string]int64{}
	}
	return u
}

// note takes in a use. It allocates nothing for a key that was used before.
func (u *keyUses) note(id string, at time.Time) {
	s := at.Unix()
	u.mu.Lock()
	defer u.mu.Unlock()
	if s-u.last[id] >= int64(keyUseStep/time.Second) {
		u.last[id], u.newer = s, true
	}
}

// of returns the times that are known of some keys, in s since 1970.
func (u *keyUses) of(ids []string) map[string]int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	found := map[string]int64{}
	for _, id := range ids {
		if s, ok := u.last[id]; ok {
			found[id] = s
		}
	}
	return found
}

// save writes down what is new, without the keys that are there no more.
func (u *keyUses) save(known func(id string) bool) error {
	u.mu.Lock()
	if !u.newer {
		u.mu.Unlock()
		return nil
	}
	for id := range u.last {
		if !known(id) {
			delete(u.last, id)
		}
	}
	b, err := json.Marshal(u.last)
	u.newer = false
	u.mu.Unlock()
	if err == nil {
		err = vfs.WriteAtomic(u.disk, u.path, func(w io.Writer) error { _, err := w.Write(b); return err })
	}
	return errs.Wrap(errs.Internal, err, "write down when keys were used last")
}

// saveKeyUses is told by the log alone when it fails: nothing depends on it.
func (n *Node) saveKeyUses() {
	if err := n.keyUses.save(func(id string) bool { _, ok := n.Key(id); return ok }); err != nil {
		n.logger.Warn("when keys were used last could not be written down", "err", err)
	}
}

// keepKeyUses writes uses down from time to time.
func (n *Node) keepKeyUses(ctx context.Context) {
	tick := time.NewTicker(keyUsePause)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			n.saveKeyUses()
		case <-ctx.Done():
			return
		}
	}
}

// KeyUsed notes that an API key was used; it makes Node a tenancy.KeyWatcher.
func (n *Node) KeyUsed(id string, at time.Time) { n.keyUses.note(id, at) }

// KeysUsed tells when API keys were last used, through any node that answers: to a minute, and to an hour where a node was killed. Keys
// of which nobody knows a use are left out.
func (n *Node) KeysUsed(ctx context.Context, ids []string) map[string]time.Time {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	last := map[string]time.Time{}
	for _, node := range n.meta.state().present() {
		wg.Go(func() {
			found := n.keyUsesOf(ctx, node, ids)
			mu.Lock()
			defer mu.Unlock()
			for id, s := range found {
				if at := time.Unix(s, 0).UTC(); at.After(last[id]) {
					last[id] = at
				}
			}
		})
	}
	wg.Wait()
	return last
}

// keyUsesOf asks a node; of one that does not answer, nothing is known.
func (n *Node) keyUsesOf(ctx context.Context, node string, ids []string) (found map[string]int64) {
	if node == n.id.NodeID {
		return n.keyUses.of(ids)
	}
	request, err := json.Marshal(ids)
	if err != nil {
		return nil
	}
	answer, err := n.peers.call(ctx, node, methodKeyUses, request, nil)
	if err != nil || json.Unmarshal(answer, &found) != nil {
		return nil
	}
	return found
}

// answerKeyUses serves methodKeyUses.
func (n *Node) answerKeyUses(_ context.Context, from string, request, dst []byte) ([]byte, error) {
	if err := n.checkCaller(from); err != nil {
		return dst, err
	}
	var ids []string
	if err := json.Unmarshal(request, &ids); err != nil {
		return dst, errs.Wrap(errs.Corrupt, err, "read which keys are asked for")
	}
	b, err := json.Marshal(n.keyUses.of(ids))
	return append(dst, b...), err
}
