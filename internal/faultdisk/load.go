//go:build linux

package faultdisk

import (
	"os"
	"path/filepath"
	"syscall"
)

// load fills an empty disk with the files below from, all durable.
func (r *recorder) load(from, backing string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.loadDirLocked(r.root, from, backing)
}

func (r *recorder) loadDirLocked(dir *inode, from, backing string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		src, dst := filepath.Join(from, e.Name()), filepath.Join(backing, e.Name())
		if err := r.loadOneLocked(dir, e, src, dst); err != nil {
			return err
		}
	}
	return r.syncLocked(dir)
}

func (r *recorder) loadOneLocked(dir *inode, e os.DirEntry, src, dst string) error {
	if e.IsDir() {
		if err := os.Mkdir(dst, 0o700); err != nil {
			return err
		}
		n, err := r.adoptLocked(dir, e, dst)
		if err != nil {
			return err
		}
		return r.loadDirLocked(n, src, dst)
	}
	if err := copyFile(dst, src); err != nil {
		return err
	}
	n, err := r.adoptLocked(dir, e, dst)
	if err != nil {
		return err
	}
	return copyFile(r.shadowPath(n), src)
}

// adoptLocked records what lies at a path of the backing directory.
func (r *recorder) adoptLocked(dir *inode, e os.DirEntry, path string) (*inode, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return nil, err
	}
	return r.createLocked(dir, e.Name(), st.Ino, e.IsDir()), nil
}

func copyFile(dst, src string) error {
	f, err := os.OpenFile(dst, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	return copySparse(f, src)
}
