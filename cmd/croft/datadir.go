package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/croftdb/croft/internal/errs"
)

// dataDir is a data directory that this process alone uses.
type dataDir struct {
	path  string
	fresh bool // there was no data in it
	lock  *os.File
}

// lockName is the file whose lock says that a process uses the directory; it holds that process's id for people.
const lockName = "croft.lock"

// openDataDir makes the directory, sees that it can be written, and locks it. The lock ends with the process, however
// that ends.
func openDataDir(path string) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o750); err != nil {
		return nil, dataDirError(path, err)
	}
	_, err := os.Stat(filepath.Join(path, "node.json"))
	d := &dataDir{path: path, fresh: errors.Is(err, fs.ErrNotExist)}
	d.lock, err = os.OpenFile(filepath.Join(path, lockName), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, dataDirError(path, err)
	}
	if err := d.acquire(); err != nil {
		d.lock.Close()
		return nil, err
	}
	return d, nil
}

func (d *dataDir) acquire() error {
	if err := syscall.Flock(int(d.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		owner, _ := io.ReadAll(io.LimitReader(d.lock, 20))
		return errs.New(errs.AlreadyExists, "data directory %s is used by another croft (pid %s)", d.path, strings.TrimSpace(string(owner))).
			WithHint("stop it, or give this one a directory of its own with --data")
	}
	if err := d.lock.Truncate(0); err != nil {
		return dataDirError(d.path, err)
	}
	if _, err := d.lock.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0); err != nil {
		return dataDirError(d.path, err)
	}
	return nil
}

// Close gives the directory free.
func (d *dataDir) Close() error { return d.lock.Close() }

// checkSpace warns of a disk on which writes will be refused. Reads work there, so it is no reason not to start.
func (d *dataDir) checkSpace(log *slog.Logger, reserve int64) {
	free, err := freeDisk(d.path)
	if err == nil && reserve > 0 && free < reserve {
		log.Warn("disk is down to its reserve: writes are refused until there is space", "data", d.path,
			"free", bytesText(free), "reserve", bytesText(reserve))
	}
}

func dataDirError(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return errs.New(errs.PermissionDenied, "data directory %s cannot be written by this user: %w", path, err).
			WithHint("give croft a directory that it owns, with --data")
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return errs.New(errs.StorageFull, "the disk of data directory %s is full: %w", path, err).
			WithHint("free some space; croft wants its --disk-reserve free")
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist):
		return errs.New(errs.Invalid, "data directory %s is not a directory: %w", path, err)
	}
	return errs.New(errs.Internal, "open data directory %s: %w", path, err)
}
