//go:build unix && !linux

package vfs

import "os"

func fdatasync(f *os.File) error { return f.Sync() }
