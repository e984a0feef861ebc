package main

import (
	"bufio"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/croftdb/croft/internal/errs"
)

// cpuSet is the mask of sched_setaffinity, for up to 1,024 cores.
type cpuSet [1024 / 64]uint64

func (s *cpuSet) add(core int) { s[core/64] |= 1 << (core % 64) }

func setOf(cores ...int) *cpuSet {
	var s cpuSet
	for _, core := range cores {
		s.add(core)
	}
	return &s
}

// cores returns the cores that this process may run on. They are read once: a thread that was started by a pinned one,
// while the others were being freed, may be left with fewer.
var cores = sync.OnceValues(readCores)

func readCores() ([]int, error) {
	var s cpuSet
	_, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_GETAFFINITY, 0, unsafe.Sizeof(s), uintptr(unsafe.Pointer(&s)))
	if errno != 0 {
		return nil, fmt.Errorf("read the cores that may be used: %w", errno)
	}
	var list []int
	for i, word := range s {
		for ; word != 0; word &= word - 1 {
			list = append(list, i*64+bits.TrailingZeros64(word))
		}
	}
	return list, nil
}

// pin binds a thread to cores; 0 is the calling one.
func pin(thread int, s *cpuSet) error {
	_, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, uintptr(thread), unsafe.Sizeof(*s), uintptr(unsafe.Pointer(s)))
	if errno != 0 {
		return fmt.Errorf("pin thread %d: %w", thread, errno)
	}
	return nil
}

// pinProcess binds all threads of this process, those of the garbage collector too; new ones inherit it.
func pinProcess(s *cpuSet) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := pin(id, s); err != nil && !gone(t.Name()) {
			return err
		}
	}
	return nil
}

// gone reports whether a thread has ended.
func gone(thread string) bool {
	_, err := os.Stat("/proc/self/task/" + thread)
	return err != nil
}

// threadTime returns how long the calling thread has run. The goroutine must be locked to it.
func threadTime() (time.Duration, error) {
	const cpuOfThread = 3 // CLOCK_THREAD_CPUTIME_ID
	var t syscall.Timespec
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, cpuOfThread, uintptr(unsafe.Pointer(&t)), 0); errno != 0 {
		return 0, fmt.Errorf("read the time that a thread ran: %w", errno)
	}
	return time.Duration(t.Nano()), nil
}

// memory is what a process takes up, in bytes.
type memory struct {
	Resident    int64 `json:"resident"`
	File        int64 `json:"file"` // of Resident, mapped files
	MajorFaults int64 `json:"major_faults"`
}

// minus returns the difference to an earlier state.
func (m memory) minus(base memory) memory {
	return memory{m.Resident - base.Resident, m.File - base.File, m.MajorFaults - base.MajorFaults}
}

// memoryOfSelf measures this process after its garbage has gone.
func memoryOfSelf() (memory, error) {
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return memory{}, err
	}
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return memory{}, err
	}
	resident, err1 := statusBytes(string(b), "VmRSS:")
	file, err2 := statusBytes(string(b), "RssFile:")
	return memory{Resident: resident, File: file, MajorFaults: usage.Majflt}, errors.Join(err1, err2)
}

// statusBytes reads a field of /proc/PID/status that is in kB.
func statusBytes(status, field string) (int64, error) {
	_, rest, ok := strings.Cut(status, "\n"+field)
	if ok {
		if words := strings.Fields(rest); len(words) > 0 {
			kb, err := strconv.ParseInt(words[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, errs.New(errs.Invalid, "the status of the process has no %s", strings.TrimSuffix(field, ":"))
}

// cpuModel names the processor.
func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		if name, value, _ := strings.Cut(in.Text(), ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
