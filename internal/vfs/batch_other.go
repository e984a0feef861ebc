//go:build unix && !linux

package vfs

// batchSystem reads nothing: there is no way past the page cache that all systems share.
type batchSystem struct{ memory []byte }

func (*batchSystem) open() bool { return false }

func (*batchSystem) read([]batchPlace) {}

func (*osMapping) direct() (file, sector int, ok bool) { return 0, 0, false }
