package vfs

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchSystem reads by Linux's asynchronous I/O, io_submit(2), which needs no thread for each read and is there in
// containers that shut io_uring out.
type batchSystem struct {
	queue   *aioQueue
	failed  bool // there is no queue to be had
	started int  // places that were, from the first on
	pending int  // of these, not back yet

	buffers  [BatchLen][]byte // by place
	requests [BatchLen]iocb
	submit   [BatchLen]*iocb
	events   [BatchLen]ioEvent
}

// aioQueue is the kernel's side of it: an aio_context_t.
type aioQueue struct{ id uintptr }

// iocb is struct iocb of linux/aio_abi.h where bytes are little-endian.
type iocb struct {
	data   uint64
	_      [2]uint32 // key and flags
	_      uint16    // opcode 0: pread
	_      int16     // priority
	file   uint32
	buf    uint64
	n      uint64
	offset int64
	_      uint64
	_      [2]uint32
}

// ioEvent is struct io_event: res is how many bytes were read, or a negative error.
type ioEvent struct {
	data, request uint64
	res, res2     int64
}

// submitLen is how many places are handed to the kernel at once: the disk reads these while the next ones are. Twelve rows
// come 8 % sooner in pairs than all at once.
const submitLen = 2

// start hands those places to the kernel that were not yet. Whatever fails leaves places incomplete, for other ways to read
// them.
func (s *batchSystem) start(places []batchPlace) {
	s.prepare(places)
	for s.started < len(places) {
		n, _, errno := unix.Syscall(unix.SYS_IO_SUBMIT, s.queue.id, uintptr(min(submitLen, len(places)-s.started)), uintptr(unsafe.Pointer(&s.submit[s.started])))
		if errno != 0 || n == 0 {
			break
		}
		s.started += int(n)
		s.pending += int(n)
	}
	s.started = len(places)
}

// wait does so until all that was handed over has come back, whatever else fails: the disk writes to buffers until then.
func (s *batchSystem) wait(places []batchPlace) {
	for s.pending > 0 {
		n, _, errno := unix.Syscall6(unix.SYS_IO_GETEVENTS, s.queue.id, uintptr(s.pending), uintptr(s.pending), uintptr(unsafe.Pointer(&s.events[0])), 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			panic("vfs: io_getevents: " + errno.Error()) // the queue is ours and in order
		}
		for i := range s.events[:n] {
			e := &s.events[i]
			p := &places[e.data]
			p.complete = e.res >= int64(p.skip+p.n)
		}
		s.pending -= int(n)
	}
	runtime.KeepAlive(s)
}

// prepare makes each new place a request with a buffer, its own of earlier reads if that will do.
func (s *batchSystem) prepare(places []batchPlace) {
	short := 0
	for i := s.started; i < len(places); i++ {
		if places[i].size > len(s.buffers[i]) {
			short += places[i].size
		}
	}
	var memory []byte
	if short > 0 {
		memory = pagesOf(short)
	}
	for i := s.started; i < len(places); i++ {
		p := &places[i]
		if p.size > len(s.buffers[i]) {
			s.buffers[i], memory = memory[:p.size:p.size], memory[p.size:]
		}
		s.requests[i] = iocb{
			data: uint64(i), file: uint32(p.file), offset: int64(p.start),
			buf: uint64(uintptr(unsafe.Pointer(&s.buffers[i][0]))), n: uint64(p.size),
		}
		s.submit[i] = &s.requests[i]
	}
}

// open makes the queue, unless it is there. There may be none to have (fs.aio-max-nr, seccomp).
func (s *batchSystem) open() bool {
	if s.queue == nil && !s.failed {
		q := &aioQueue{}
		_, _, errno := unix.Syscall(unix.SYS_IO_SETUP, BatchLen, uintptr(unsafe.Pointer(&q.id)), 0)
		if s.failed = errno != 0; !s.failed {
			s.queue = q
			runtime.AddCleanup(q, func(id uintptr) { _, _, _ = unix.Syscall(unix.SYS_IO_DESTROY, id, 0, 0) }, q.id)
		}
	}
	return s.queue != nil
}

// pagesOf allocates size bytes that begin at a page.
func pagesOf(size int) []byte {
	page := os.Getpagesize()
	b := make([]byte, size+page)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & uintptr(page-1))
	return b[skip : skip+size : skip+size]
}

// direct returns a descriptor that reads m's file past the page cache, in whole sectors. It is opened when it is first asked
// for: most files are never read this way.
func (m *osMapping) direct() (file, sector int, ok bool) {
	m.opening.Do(func() {
		fd, err := unix.Open(m.path, unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
		if err != nil {
			return
		}
		f := os.NewFile(uintptr(fd), m.path)
		if info, err := f.Stat(); err != nil || !os.SameFile(info, m.info) {
			_ = f.Close()
			return
		}
		m.past, m.pastFd, m.sector = f, fd, sectorOf(fd)
	})
	return m.pastFd, m.sector, m.past != nil
}

// sectorOf returns what reads of a file past the page cache must be multiples of: whole pages do, if the system does not
// tell.
func sectorOf(fd int) int {
	page := os.Getpagesize()
	var s unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &s)
	if err != nil || s.Mask&unix.STATX_DIOALIGN == 0 {
		return page
	}
	sector := max(int(s.Dio_offset_align), int(s.Dio_mem_align)) // places begin at sectors in memory, too
	if sector < 1 || sector > page || sector&(sector-1) != 0 {
		return page
	}
	return sector
}
