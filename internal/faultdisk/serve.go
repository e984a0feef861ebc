//go:build linux

package faultdisk

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/rpc"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Directories below the work directory of a disk.
const (
	mountSub   = "mount"   // what the test sees
	backingSub = "backing" // all that was written, as plain files
	shadowSub  = "shadow"  // what is durable, one file per inode
)

// controlFD is where the second process finds its end of the socket pair: after stdin, stdout and stderr.
const controlFD = 3

func socketPair() (ours net.Conn, theirs *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	mine := os.NewFile(uintptr(fds[0]), "control")
	defer mine.Close() // FileConn makes a descriptor of its own
	theirs = os.NewFile(uintptr(fds[1]), "control")
	ours, err = net.FileConn(mine)
	if err != nil {
		theirs.Close()
	}
	return ours, theirs, err
}

// Server is the second process: it answers the kernel's requests, and the test's by its exported methods. It is
// exported because net/rpc wants it so.
type Server struct {
	work string
	rec  *recorder
	fuse *fuse.Server

	mu      sync.Mutex
	delay   time.Duration
	gate    chan struct{} // syncs wait until it is closed; nil: they need not
	stalled int
}

// serve runs until the test goes away, in whatever way, and unmounts.
func serve(work string) error {
	conn, err := net.FileConn(os.NewFile(controlFD, "control"))
	if err != nil {
		return err
	}
	s := &Server{work: work}
	calls := rpc.NewServer()
	if err := calls.Register(s); err != nil {
		return err
	}
	calls.ServeConn(conn) // until the other end is closed
	return s.unmount()
}

// Mount mounts the disk.
func (s *Server) Mount(opts Options, _ *struct{}) error {
	backing := filepath.Join(s.work, backingSub)
	var st syscall.Stat_t
	if err := syscall.Stat(backing, &st); err != nil {
		return err
	}
	s.rec = newRecorder(filepath.Join(s.work, shadowSub), st.Ino)
	if opts.From != "" {
		if err := s.rec.load(opts.From, backing); err != nil {
			return fmt.Errorf("load %s: %w", opts.From, err)
		}
	}
	loopback := &fs.LoopbackRoot{Path: backing, Dev: uint64(st.Dev)}
	loopback.NewNode = func(*fs.LoopbackRoot, *fs.Inode, string, *syscall.Stat_t) fs.InodeEmbedder {
		return &node{LoopbackNode: fs.LoopbackNode{RootData: loopback}, s: s}
	}
	root := loopback.NewNode(nil, nil, "", nil)
	loopback.RootNode = root
	var err error
	s.fuse, err = fs.Mount(filepath.Join(s.work, mountSub), root, mountOptions(st.Ino))
	return err
}

func mountOptions(rootIno uint64) *fs.Options {
	forever := time.Hour // nobody changes the backing directory behind the kernel's back
	return &fs.Options{
		EntryTimeout:   &forever,
		AttrTimeout:    &forever,
		RootStableAttr: &fs.StableAttr{Ino: rootIno, Gen: 1},
		MountOptions: fuse.MountOptions{
			FsName:            "faultdisk",
			Name:              "faultdisk",
			DirectMountStrict: true, // no helper program
			DisableXAttrs:     true,
			MaxWrite:          1 << 20,
		},
	}
}

// unmount lets a mount with open files go, too, lest it stay behind dead, but tells.
func (s *Server) unmount() error {
	if s.fuse == nil {
		return nil
	}
	s.setGate(false)
	err := s.fuse.Unmount()
	if err == nil {
		return nil
	}
	detached := syscall.Unmount(filepath.Join(s.work, mountSub), syscall.MNT_DETACH)
	return errors.Join(fmt.Errorf("a file on the disk is still open: %w", err), detached)
}

// sync is fsync of a file or directory, slow or stalled if so ordered.
func (s *Server) sync(ino *inode, path string) syscall.Errno {
	if ino == nil {
		return syscall.ENOENT
	}
	s.wait()
	s.rec.mu.Lock()
	defer s.rec.mu.Unlock()
	if errno := s.rec.failLocked(OpSync, path); errno != 0 {
		ino.edits = nil // Linux: dirty pages count as clean, but were not written
		return errno
	}
	return fs.ToErrno(s.rec.syncLocked(ino))
}

func (s *Server) wait() {
	s.mu.Lock()
	delay, gate := s.delay, s.gate
	if gate != nil {
		s.stalled++
	}
	s.mu.Unlock()
	time.Sleep(delay)
	if gate != nil {
		<-gate
		s.mu.Lock()
		s.stalled--
		s.mu.Unlock()
	}
}

func (s *Server) setGate(closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case closed && s.gate == nil:
		s.gate = make(chan struct{})
	case !closed && s.gate != nil:
		close(s.gate)
		s.gate = nil
	}
}

// CutArgs are the arguments of Cut.
type CutArgs struct {
	Dst    string
	Seed   [2]uint64
	Strict bool // keep nothing that is not synced
}

// Cut implements Disk.Cut.
func (s *Server) Cut(args CutArgs, _ *struct{}) error {
	var rng *rand.Rand
	if !args.Strict {
		rng = rand.New(rand.NewPCG(args.Seed[0], args.Seed[1]))
	}
	return s.rec.cut(rng, args.Dst)
}

// Fail implements Disk.Fail.
func (s *Server) Fail(f Fault, _ *struct{}) error {
	s.rec.fail(f)
	return nil
}

// Heal implements Disk.Heal.
func (s *Server) Heal(struct{}, *struct{}) error {
	s.rec.heal()
	return nil
}

// DelaySync implements Disk.DelaySync.
func (s *Server) DelaySync(d time.Duration, _ *struct{}) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay = d
	return nil
}

// Stall implements Disk.StallSyncs and Disk.ResumeSyncs.
func (s *Server) Stall(on bool, _ *struct{}) error {
	s.setGate(on)
	return nil
}

// Stats implements Disk.Stats.
func (s *Server) Stats(_ struct{}, out *Stats) error {
	*out = s.rec.snapshotStats()
	s.mu.Lock()
	defer s.mu.Unlock()
	out.Stalled = s.stalled
	return nil
}
