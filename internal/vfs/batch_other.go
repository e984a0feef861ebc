//go:build unix && !linux

package vfs

// batchSystem reads nothing: there is no way past the page cache that all systems share.
type batchSystem struct {
	buffers          [BatchLen][]byte
	started, pending int
}

func (*batchSystem) open() bool { return false }

func (*batchSystem) start([]batchPlace) {}

func (*batchSystem) wait([]batchPlace) {}

func (*osMapping) direct() (file, sector int, ok bool) { return 0, 0, false }
