//go:build !linux

package faultdisk

// The disk is built on Linux's FUSE. On other systems the tests that mount one are skipped, and say so.

import (
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
)

// Op is a class of operations.
type Op string

// Options says how a disk begins.
type Options struct{ From string }

// Disk is a mounted disk; there is none on this system.
type Disk struct{}

// TestMain runs the tests.
func TestMain(m interface{ Run() int }) { os.Exit(m.Run()) }

// Mount skips the test.
func Mount(tb testing.TB, _ Options) *Disk {
	tb.Helper()
	tb.Skip("power cuts on a real file system are tested on Linux only")
	return nil
}

// Dir is the directory of the disk.
func (*Disk) Dir() string { return "" }

// Cut materialises a state after a power cut.
func (*Disk) Cut(*rand.Rand, string) {}

// FailSync makes the n-th sync fail.
func (*Disk) FailSync(int, syscall.Errno) {}

// FailWrite makes the n-th write fail.
func (*Disk) FailWrite(int, syscall.Errno) {}

// Heal ends all faults.
func (*Disk) Heal() {}
