package vfs_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/vfs"
)

func TestSimCrash(t *testing.T) {
	s := vfs.NewSim()
	put(t, s, "/named", []byte("contents"), true)
	require.NoError(t, s.SyncDir("/"))
	f, err := s.OpenAppend("/named")
	require.NoError(t, err)
	m, err := s.Map("/named")
	require.NoError(t, err)
	put(t, s, "/unnamed", []byte("contents"), true)
	lock, err := s.Lock("/LOCK")
	require.NoError(t, err)

	left := s.Crash(nil)
	require.Equal(t, "contents", string(contents(t, left, "/named")))
	require.Nil(t, contents(t, left, "/unnamed"))
	again, err := left.Lock("/LOCK")
	require.NoError(t, err, "its holder is dead")

	_, err = f.Write([]byte(" and more"))
	require.ErrorIs(t, err, vfs.ErrPowerCut)
	require.ErrorIs(t, err, syscall.EIO)
	require.ErrorIs(t, f.Sync(), vfs.ErrPowerCut)
	_, err = f.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, vfs.ErrPowerCut)
	require.ErrorIs(t, s.Remove("/named"), vfs.ErrPowerCut)
	require.ErrorIs(t, s.Rename("/named", "/x"), vfs.ErrPowerCut)
	require.ErrorIs(t, s.SyncDir("/"), vfs.ErrPowerCut)
	_, err = s.Create("/new")
	require.ErrorIs(t, err, vfs.ErrPowerCut)
	require.Equal(t, "contents", string(m.Bytes()))
	require.NoError(t, m.Close())
	require.NoError(t, f.Close())
	require.NoError(t, lock.Close())
	require.NoError(t, again.Close())
	require.Empty(t, s.Handles())
	require.Equal(t, "contents", string(contents(t, left, "/named")), "what s does is nothing to it")
}

func TestSimKillKeepsWhatWasWritten(t *testing.T) {
	s := vfs.NewSim()
	put(t, s, "/f", []byte("contents"), false)
	killed := s.Kill()
	require.Equal(t, "contents", string(contents(t, killed, "/f")))
	require.Nil(t, contents(t, killed.Crash(nil), "/f"), "it is no more durable than before")
}

// TestSimCrashComesBetween cuts the power under writers: all that they were told is durable is there.
func TestSimCrashComesBetween(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := seeded(seed)
	s := vfs.NewSim()
	for range 20 {
		var synced [4]int
		var wg sync.WaitGroup
		began := make(chan struct{}, len(synced))
		for w := range synced {
			wg.Go(func() {
				for size := 1; ; size++ {
					err := vfs.WriteAtomic(s, fmt.Sprint("/", w), func(to io.Writer) error {
						_, err := to.Write(bytes.Repeat([]byte("x"), size))
						return err
					})
					if err != nil {
						return
					}
					if synced[w] = size; size == 1 {
						began <- struct{}{}
					}
				}
			})
		}
		for range synced {
			<-began
		}
		left := s.Crash(rng)
		wg.Wait()
		for w, size := range synced {
			require.Contains(t, []int{size, size + 1}, len(contents(t, left, fmt.Sprint("/", w))))
		}
		s = left
	}
}

func TestSimStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := vfs.NewSim()
		put(t, s, "/f", []byte("contents"), true)
		require.NoError(t, s.SyncDir("/"))
		s.Stall()
		s.Stall()
		var took time.Duration
		done := make(chan error, 1)
		start := time.Now()
		go func() {
			_, err := s.Stat("/f")
			took = time.Since(start)
			done <- err
		}()
		time.Sleep(time.Minute)
		put(t, s.Prompt(), "/g", []byte("contents"), true)
		require.Equal(t, time.Minute, time.Since(start))
		s.Resume()
		s.Resume()
		require.NoError(t, <-done)
		require.Equal(t, time.Minute, took)

		s.Stall()
		go func() { done <- s.SyncDir("/") }()
		synctest.Wait()
		left := s.Crash(nil)
		require.ErrorIs(t, <-done, vfs.ErrPowerCut, "who waits is told")
		require.Equal(t, "contents", string(contents(t, left, "/f")), "what is left is not stalled")
	})
}

func TestSimSyncsSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := vfs.NewSim()
		s.SetSyncTime(time.Second)
		start := time.Now()
		put(t, s, "/f", []byte("contents"), true)
		require.Equal(t, time.Second, time.Since(start))
		require.NoError(t, s.SyncDir("/"))
		require.Equal(t, 2*time.Second, time.Since(start))

		f, err := s.OpenAppend("/f")
		require.NoError(t, err)
		_, err = f.Write([]byte(" and more"))
		require.NoError(t, err)
		done := make(chan error)
		go func() { done <- f.Sync() }()
		synctest.Wait()
		left := s.Crash(nil)
		require.ErrorIs(t, <-done, vfs.ErrPowerCut)
		require.Equal(t, "contents", string(contents(t, left, "/f")), "a sync under way has done nothing")
		require.NoError(t, f.Close())
	})
}

func TestSimIsFull(t *testing.T) {
	s := vfs.NewSim()
	put(t, s, "/f", []byte("contents"), true)
	require.NoError(t, s.SyncDir("/"))
	s.SetFull(true)
	f, err := s.OpenAppend("/f")
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("C"), 0)
	require.NoError(t, err, "the space is taken already")
	_, err = f.Write([]byte(" and more"))
	require.True(t, vfs.IsFull(err), "%v", err)
	free, err := s.Free("/")
	require.NoError(t, err)
	require.Zero(t, free)
	s.SetFull(false)
	_, err = f.Write([]byte("!"))
	require.NoError(t, err)
	require.NoError(t, f.Close())

	s.SetFull(true)
	left := s.Crash(nil)
	put(t, left, "/g", []byte("contents"), true)
}
