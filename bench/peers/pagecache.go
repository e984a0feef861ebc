package main

import (
	"fmt"
	"io"
	"os"
	"syscall"
)

// dropCaches takes files out of the page cache, so that whoever reads them next is charged for their pages. It tells
// what it could not do.
func dropCaches(notes io.Writer, paths ...string) error {
	for _, path := range paths {
		if err := forget(path); err != nil {
			return err
		}
	}
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("1"), 0); err != nil {
		fmt.Fprintf(notes, "the page cache was dropped file by file only: %v\n", err)
	}
	return nil
}

// forget takes one file out of the page cache. Only clean pages can be dropped.
func forget(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return err
	}
	const dontNeed = 4 // POSIX_FADV_DONTNEED
	if _, _, errno := syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), 0, 0, dontNeed, 0, 0); errno != 0 {
		return fmt.Errorf("drop %s from the page cache: %w", path, errno)
	}
	return nil
}
