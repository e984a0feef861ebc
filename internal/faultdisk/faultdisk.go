//go:build linux

// Package faultdisk owns a disk for tests that can lose power, fail and stall: a FUSE file system under which any
// process works unchanged, bbolt and raft-wal above all, since they open files themselves. It promises that Cut gives
// a state which a disk may really have after a power cut (what was synced is there; of the rest any part is), at one
// moment between two operations, also while writers run. Tests of storage call it; it is no part of the product.
//
// The file system is served by a second process, the test binary started again. In one process it would deadlock: a
// page fault on a mapped file stops its thread until the server answers, and the server may need that thread, for
// example when the garbage collector stops the world. Hence a package that mounts must route its TestMain:
//
//	func TestMain(m *testing.M) { faultdisk.TestMain(m) }
package faultdisk

import (
	"fmt"
	"math/rand/v2"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// serveEnv tells a test binary to serve a disk in the given directory instead of running tests.
const serveEnv = "CROFT_FAULTDISK_SERVE"

// routedEnv holds the number of the process whose TestMain was routed: one that was not would run its tests again and
// again instead of serving.
const routedEnv = "CROFT_FAULTDISK_ROUTED"

// noFuseEnv lets people on machines without FUSE skip these tests knowingly.
const noFuseEnv = "CROFT_NO_FUSE"

// Op is a class of operations.
type Op string

// The classes of operations that Fault knows.
const (
	OpSync  Op = "sync"  // fsync and fdatasync of files and directories
	OpWrite Op = "write" // write, truncate and fallocate
	OpName  Op = "name"  // create, mkdir, link, rename, unlink and rmdir
)

// Fault makes operations fail. A failed write, truncate or change of names has no effect. A failed fsync of a file has the
// effect that it has on Linux: what was written stays readable, counts as clean, and is never durable.
type Fault struct {
	Op    Op
	At    int           // which operation, counted from 0 at the time of Fail among those of its class below Under
	All   bool          // every later one too
	Under string        // only files whose path on the disk begins with this; "" for all
	Err   syscall.Errno // EIO when zero
}

// Options says how a disk begins.
type Options struct {
	From string // directory whose files and directories the disk starts with, all durable; "" for none
}

// Disk is a mounted disk. Its methods may be called from any goroutine.
type Disk struct {
	tb   testing.TB
	dir  string // mount point
	ctl  *rpc.Client
	proc *exec.Cmd
}

// TestMain runs the tests, a *testing.M or what wraps one, or serves a disk when Mount started this process for that. It
// does not return.
func TestMain(m interface{ Run() int }) {
	if work := os.Getenv(serveEnv); work != "" {
		if err := serve(work); err != nil {
			fmt.Fprintln(os.Stderr, "faultdisk:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if err := os.Setenv(routedEnv, strconv.Itoa(os.Getpid())); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// Mount mounts a disk, which is unmounted when the test ends: close what is open on it before. It skips the test
// only where there is no FUSE.
func Mount(tb testing.TB, opts Options) *Disk {
	tb.Helper()
	skipWithoutFuse(tb)
	if os.Getenv(routedEnv) != strconv.Itoa(os.Getpid()) {
		tb.Fatal("faultdisk: add to this package: func TestMain(m *testing.M) { faultdisk.TestMain(m) }")
	}
	work := tb.TempDir()
	for _, sub := range []string{mountSub, backingSub, shadowSub} {
		if err := os.Mkdir(filepath.Join(work, sub), 0o700); err != nil {
			tb.Fatalf("faultdisk: %v", err)
		}
	}
	d := &Disk{tb: tb, dir: filepath.Join(work, mountSub)}
	if err := d.start(work, opts); err != nil {
		tb.Fatalf("faultdisk: mount: %v (mounting takes root; %s=1 skips these tests)", err, noFuseEnv)
	}
	return d
}

func skipWithoutFuse(tb testing.TB) {
	if os.Getenv(noFuseEnv) != "" {
		tb.Skipf("%s is set: power cuts on a real file system are not tested", noFuseEnv)
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		tb.Skipf("no FUSE on this machine, power cuts on a real file system are not tested: %v", err)
	}
}

// start runs the second process, talks to it over a socket pair and stops it when the test ends.
func (d *Disk) start(work string, opts Options) error {
	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	defer theirs.Close()
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	d.proc = exec.Command(exe)
	d.proc.Env = append(os.Environ(), serveEnv+"="+work, "GORACE=atexit_sleep_ms=0") // else a race build ends a second late
	d.proc.ExtraFiles = []*os.File{theirs}
	d.proc.Stdout, d.proc.Stderr = os.Stderr, os.Stderr
	if err := d.proc.Start(); err != nil {
		ours.Close()
		return err
	}
	d.ctl = rpc.NewClient(ours)
	d.tb.Cleanup(d.stop)
	return d.ctl.Call("Server.Mount", opts, &struct{}{})
}

// stop ends the second process, which unmounts.
func (d *Disk) stop() {
	d.ctl.Close()
	if err := d.proc.Wait(); err != nil {
		d.tb.Errorf("faultdisk: server of %s: %v", d.dir, err)
	}
}

// Dir is the mount point: where the files under test go.
func (d *Disk) Dir() string { return d.dir }

// Cut writes to dst, a directory that it makes, what a power cut at this moment may leave on the disk. The disk itself
// goes on unharmed. Equal states and seeds give equal results; a nil rng loses everything that is not synced.
func (d *Disk) Cut(rng *rand.Rand, dst string) {
	d.tb.Helper()
	args := CutArgs{Dst: dst, Strict: rng == nil}
	if rng != nil {
		args.Seed = [2]uint64{rng.Uint64(), rng.Uint64()}
	}
	d.call("Cut", args, &struct{}{})
}

// Fail adds a fault.
func (d *Disk) Fail(f Fault) {
	d.tb.Helper()
	d.call("Fail", f, &struct{}{})
}

// FailSync makes the n-th sync from now on, counted from 0, fail with err.
func (d *Disk) FailSync(n int, err syscall.Errno) {
	d.tb.Helper()
	d.Fail(Fault{Op: OpSync, At: n, Err: err})
}

// FailWrite makes the n-th write from now on, counted from 0, fail with err.
func (d *Disk) FailWrite(n int, err syscall.Errno) {
	d.tb.Helper()
	d.Fail(Fault{Op: OpWrite, At: n, Err: err})
}

// Heal takes all faults away.
func (d *Disk) Heal() {
	d.tb.Helper()
	d.call("Heal", struct{}{}, &struct{}{})
}

// DelaySync makes every sync take at least this long.
func (d *Disk) DelaySync(delay time.Duration) {
	d.tb.Helper()
	d.call("DelaySync", delay, &struct{}{})
}

// StallSyncs holds every sync back until ResumeSyncs, as a disk does that hangs. Defer ResumeSyncs at once: a test that
// ends before it would wait for ever to close the file whose sync is held back.
func (d *Disk) StallSyncs() {
	d.tb.Helper()
	d.call("Stall", true, &struct{}{})
}

// ResumeSyncs lets stalled syncs go on.
func (d *Disk) ResumeSyncs() {
	d.tb.Helper()
	d.call("Stall", false, &struct{}{})
}

// Stats tells what happened on a disk.
type Stats struct {
	Counts  map[Op]int // operations tried since the mount
	Stalled int        // syncs waiting for ResumeSyncs
	Failed  []string   // operations that were made to fail ("sync /a/b"), oldest first
}

// Stats returns what happened so far.
func (d *Disk) Stats() Stats {
	d.tb.Helper()
	var s Stats
	d.call("Stats", struct{}{}, &s)
	return s
}

func (d *Disk) call(method string, args, reply any) {
	d.tb.Helper()
	if err := d.ctl.Call("Server."+method, args, reply); err != nil {
		d.tb.Fatalf("faultdisk: %s: %v", method, err)
	}
}
