package vfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// fdatasync leaves out times, but keeps the size: all that reading the file back needs.
func fdatasync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
		return nil
	}
}
