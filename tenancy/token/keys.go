package token

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/croftdb/croft/internal/errs"
)

// Keys are the keys of an issuer as they were last seen. They have no goroutine but for the length of a look at their source.
type Keys struct {
	opts    KeysOptions
	fixed   []key
	logger  *slog.Logger
	current atomic.Pointer[keySet] // nil: never seen

	mu     sync.Mutex
	begun  time.Time     // of the last look
	look   chan struct{} // closed when the look under way ends; nil: there is none
	ctx    context.Context
	cancel context.CancelFunc
	looks  sync.WaitGroup
}

// keySet is what a look has found.
type keySet struct {
	keys []key
	seen time.Time
}

// OpenKeys returns the keys of a source and has begun to look at it. It fails on what will never do: a secret too short, nothing
// at all, a file that cannot be read; not on a URL that does not answer now.
func OpenKeys(o KeysOptions, logger *slog.Logger, now time.Time) (*Keys, error) {
	o.ensureDefaults()
	k := &Keys{opts: o, logger: logger}
	if o.Secret != nil {
		secret, err := checkSecret(o.Secret)
		if err != nil {
			return nil, err
		}
		k.fixed = []key{{alg: HS256, use: secret}}
	}
	if o.Source.fetch == nil && len(k.fixed) == 0 {
		return nil, errs.New(errs.Invalid, "tokens need keys: a file, a URL or a shared secret")
	}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	switch {
	case o.Source.fetch == nil:
		k.current.Store(&keySet{k.fixed, now})
	case o.Source.local:
		if err := k.lookAt(now); err != nil {
			return nil, errs.Wrap(errs.Invalid, err, "read keys from %s", o.Source.name)
		}
	default:
		k.wait(k.refresh(now))
	}
	return k, nil
}

// Close ends the look under way and waits for it.
func (k *Keys) Close() error {
	k.mu.Lock()
	k.cancel()
	k.mu.Unlock()
	k.looks.Wait()
	return nil
}

// find returns the keys that a token of an algorithm may be of, where it names a key by id. Unavailable: none were ever seen.
func (k *Keys) find(alg, id string, now time.Time) ([]any, error) {
	set := k.current.Load()
	stale := set == nil || k.opts.Source.fetch != nil && now.Sub(set.seen) >= k.opts.Refresh
	var look chan struct{}
	if stale {
		look = k.refresh(now)
	}
	found := set.pick(alg, id)
	if len(found) > 0 {
		return found, nil
	}
	if look == nil {
		look = k.refresh(now)
	}
	k.wait(look)
	if set = k.current.Load(); set == nil {
		return nil, errs.New(errs.Unavailable, "the keys that tokens are signed with have not been seen yet").WithRetryAfter(k.opts.Pause)
	}
	return set.pick(alg, id), nil
}

func (s *keySet) pick(alg, id string) (found []any) {
	if s == nil {
		return nil
	}
	for i := range s.keys {
		if k := &s.keys[i]; k.alg == alg && (id == "" || k.id == "" || k.id == id) {
			found = append(found, k.use)
		}
	}
	return found
}

// refresh looks at the source, unless somebody does or did a moment ago; nil: nothing is under way.
func (k *Keys) refresh(now time.Time) chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.look != nil || k.opts.Source.fetch == nil || k.ctx.Err() != nil {
		return k.look
	}
	if since := now.Sub(k.begun); !k.begun.IsZero() && since >= 0 && since < k.opts.Pause {
		return nil
	}
	k.begun, k.look = now, make(chan struct{})
	look := k.look
	k.looks.Go(func() {
		if err := k.lookAt(now); err != nil && k.ctx.Err() == nil {
			k.logger.Warn("the keys that tokens are signed with cannot be read, the last ones stay", "source", k.opts.Source.name, "err", err)
		}
		k.mu.Lock()
		k.look = nil
		k.mu.Unlock()
		close(look)
	})
	return look
}

// lookAt reads the source. What it cannot read leaves the keys as they are.
func (k *Keys) lookAt(now time.Time) error {
	ctx, cancel := context.WithTimeout(k.ctx, k.opts.Timeout)
	defer cancel()
	text, err := k.opts.Source.fetch(ctx)
	if err != nil {
		return err
	}
	keys, err := parseKeys(text, k.opts.Source.local)
	if err == nil {
		k.current.Store(&keySet{append(keys, k.fixed...), now})
	}
	return err
}

// wait waits for a look, but not for long.
func (k *Keys) wait(look chan struct{}) {
	if look == nil {
		return
	}
	t := time.NewTimer(k.opts.Timeout)
	defer t.Stop()
	select {
	case <-look:
	case <-t.C:
	}
}
