//go:build linux

package faultdisk

import (
	"bytes"
	"context"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// node is a file or directory of the mount: go-fuse's loopback to the backing directory, with every change recorded.
type node struct {
	fs.LoopbackNode
	s *Server
}

func (n *node) at(name string) string { return filepath.Join("/", n.Path(n.Root()), name) }

// recordedLocked is the inode behind the node; nil once its last name is gone.
func (n *node) recordedLocked() *inode { return n.s.rec.byIno[n.StableAttr().Ino] }

// Create implements fs.NodeCreater.
func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (child *fs.Inode, fh fs.FileHandle, fuseFlags uint32, errno syscall.Errno) {
	path := n.at(name)
	errno = n.s.rec.do(OpName, path, func() syscall.Errno {
		var errno syscall.Errno
		child, fh, fuseFlags, errno = n.LoopbackNode.Create(ctx, name, flags|syscall.O_EXCL, mode, out)
		if errno == 0 {
			ino := n.s.rec.createLocked(n.recordedLocked(), name, child.StableAttr().Ino, false)
			fh = &file{LoopbackFile: fh.(*fs.LoopbackFile), s: n.s, ino: ino, path: path}
		}
		return errno
	})
	return child, fh, fuseFlags | caching(path), errno
}

// Open implements fs.NodeOpener. The kernel truncates by Setattr before.
func (n *node) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	fh, fuseFlags, errno := n.LoopbackNode.Open(ctx, flags&^syscall.O_TRUNC)
	if errno != 0 {
		return nil, 0, errno
	}
	ino := n.s.rec.inodeOf(n.StableAttr().Ino)
	if ino == nil {
		return nil, 0, syscall.ENOENT
	}
	path := n.at("")
	return &file{LoopbackFile: fh.(*fs.LoopbackFile), s: n.s, ino: ino, path: path}, fuseFlags | caching(path), 0
}

// caching is what the kernel is told of its page cache for a file that is opened. Raft's log is read at its tail, past what
// has been written; there Linux's FUSE (6.18) sometimes answers zeros for bytes whose write has returned, as no file system
// of a real disk does. Logs are not mapped into memory, so they do without the cache.
func caching(path string) (fuseFlags uint32) {
	if filepath.Ext(path) == ".wal" {
		return fuse.FOPEN_DIRECT_IO
	}
	return 0
}

// Mkdir implements fs.NodeMkdirer.
func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (child *fs.Inode, errno syscall.Errno) {
	errno = n.s.rec.do(OpName, n.at(name), func() syscall.Errno {
		var errno syscall.Errno
		child, errno = n.LoopbackNode.Mkdir(ctx, name, mode, out)
		if errno == 0 {
			n.s.rec.createLocked(n.recordedLocked(), name, child.StableAttr().Ino, true)
		}
		return errno
	})
	return child, errno
}

// Link implements fs.NodeLinker.
func (n *node) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (child *fs.Inode, errno syscall.Errno) {
	to, ok := target.(*node)
	if !ok {
		return nil, syscall.EXDEV
	}
	errno = n.s.rec.do(OpName, n.at(name), func() syscall.Errno {
		var errno syscall.Errno
		child, errno = n.LoopbackNode.Link(ctx, target, name, out)
		if errno == 0 {
			n.s.rec.linkLocked(to.recordedLocked(), n.recordedLocked(), name)
		}
		return errno
	})
	return child, errno
}

// Unlink implements fs.NodeUnlinker.
func (n *node) Unlink(ctx context.Context, name string) syscall.Errno {
	return n.remove(name, func() syscall.Errno { return n.LoopbackNode.Unlink(ctx, name) })
}

// Rmdir implements fs.NodeRmdirer.
func (n *node) Rmdir(ctx context.Context, name string) syscall.Errno {
	return n.remove(name, func() syscall.Errno { return n.LoopbackNode.Rmdir(ctx, name) })
}

func (n *node) remove(name string, remove func() syscall.Errno) syscall.Errno {
	return n.s.rec.do(OpName, n.at(name), func() syscall.Errno {
		errno := remove()
		if errno == 0 {
			n.s.rec.removeLocked(n.recordedLocked(), name)
		}
		return errno
	})
}

// Rename implements fs.NodeRenamer.
func (n *node) Rename(ctx context.Context, name string, newParent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	to, ok := newParent.(*node)
	if !ok || flags != 0 {
		return syscall.EINVAL
	}
	return n.s.rec.do(OpName, n.at(name), func() syscall.Errno {
		errno := n.LoopbackNode.Rename(ctx, name, newParent, newName, flags)
		if errno == 0 {
			n.s.rec.renameLocked(n.recordedLocked(), name, to.recordedLocked(), newName)
		}
		return errno
	})
}

// Setattr implements fs.NodeSetattrer; truncation comes this way.
func (n *node) Setattr(ctx context.Context, fh fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	var lower fs.FileHandle
	f, _ := fh.(*file)
	if f != nil {
		lower = f.LoopbackFile
	}
	size, ok := in.GetSize()
	if !ok {
		return n.LoopbackNode.Setattr(ctx, lower, in, out)
	}
	return n.s.rec.do(OpWrite, n.at(""), func() syscall.Errno {
		errno := n.LoopbackNode.Setattr(ctx, lower, in, out)
		ino := n.recordedLocked()
		if f != nil {
			ino = f.ino
		}
		if errno == 0 && ino != nil {
			ino.edits = append(ino.edits, edit{kind: editTruncate, off: int64(size)})
		}
		return errno
	})
}

// Fsync implements fs.NodeFsyncer for files; directories come through dirHandle.
func (n *node) Fsync(ctx context.Context, fh fs.FileHandle, flags uint32) syscall.Errno {
	f, ok := fh.(*file)
	if !ok {
		return syscall.EBADF
	}
	return n.s.sync(f.ino, n.at(""))
}

// OpendirHandle implements fs.NodeOpendirHandler.
func (n *node) OpendirHandle(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	fh, fuseFlags, errno := n.LoopbackNode.OpendirHandle(ctx, flags)
	if errno != 0 {
		return nil, 0, errno
	}
	return &dirHandle{dirStream: fh.(dirStream), node: n}, fuseFlags, 0
}

// Symlink, Mknod and Tmpfile are not recorded, hence not offered.

func (*node) Symlink(context.Context, string, string, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.ENOTSUP
}

func (*node) Mknod(context.Context, string, uint32, uint32, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.ENOTSUP
}

func (*node) Tmpfile(context.Context, uint32, uint32, *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	return nil, nil, 0, syscall.ENOTSUP
}

// dirStream is what an open directory of the loopback can do, but for its sync, which is ours.
type dirStream interface {
	fs.FileReaddirenter
	fs.FileReleasedirer
	fs.FileSeekdirer
}

type dirHandle struct {
	dirStream
	node *node
}

// Fsyncdir implements fs.FileFsyncdirer.
func (d *dirHandle) Fsyncdir(context.Context, uint32) syscall.Errno {
	return d.node.s.sync(d.node.s.rec.inodeOf(d.node.StableAttr().Ino), d.node.at(""))
}

// file is an open file. It keeps its inode, which may have lost its name.
type file struct {
	*fs.LoopbackFile
	s    *Server
	ino  *inode
	path string // at opening
}

// PassthroughFd hides the loopback's: the kernel would write past us.
func (*file) PassthroughFd() (int, bool) { return 0, false }

// Write implements fs.FileWriter.
func (f *file) Write(ctx context.Context, data []byte, off int64) (n uint32, errno syscall.Errno) {
	errno = f.s.rec.do(OpWrite, f.path, func() syscall.Errno {
		var errno syscall.Errno
		n, errno = f.LoopbackFile.Write(ctx, data, off)
		if errno == 0 {
			f.ino.edits = append(f.ino.edits, edit{off: off, data: bytes.Clone(data[:n])})
		}
		return errno
	})
	return n, errno
}

// Writev implements fs.FileWritever.
func (f *file) Writev(ctx context.Context, data [][]byte, off int64) (uint32, syscall.Errno) {
	return f.Write(ctx, slices.Concat(data...), off)
}

// Allocate implements fs.FileAllocater, as far as preallocation needs it.
func (f *file) Allocate(ctx context.Context, off, size uint64, mode uint32) syscall.Errno {
	if mode&^unix.FALLOC_FL_KEEP_SIZE != 0 {
		return syscall.EOPNOTSUPP
	}
	return f.s.rec.do(OpWrite, f.path, func() syscall.Errno {
		errno := f.LoopbackFile.Allocate(ctx, off, size, mode)
		if errno == 0 && mode == 0 {
			f.ino.edits = append(f.ino.edits, edit{kind: editExtend, off: int64(off + size)})
		}
		return errno
	})
}
