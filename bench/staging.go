package bench

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"github.com/croftdb/croft/internal/errs"
)

// staging is a directory that appears under its name only when it is complete.
type staging struct {
	dir string // beside out, hidden
	out string
}

// stage makes an empty directory beside out, which must not exist.
func stage(out string) (*staging, error) {
	out, err := filepath.Abs(out)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(out); err == nil {
		return nil, errs.New(errs.AlreadyExists, "make data set: %s exists", out).WithHint("name another directory, or remove this one")
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(out), "."+filepath.Base(out)+".partial-*")
	if err != nil {
		return nil, err
	}
	return &staging{dir: dir, out: out}, os.Chmod(dir, 0o755)
}

// path is that of a file while it is staged.
func (s *staging) path(name string) string { return filepath.Join(s.dir, name) }

// discard removes what was not published.
func (s *staging) discard() error { return os.RemoveAll(s.dir) }

// publish gives the directory its name, once its files are safe on disk.
func (s *staging) publish() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := syncPath(s.path(e.Name())); err != nil {
			return err
		}
	}
	if err := syncPath(s.dir); err != nil {
		return err
	}
	// Rename replaces an empty directory, and nothing else, that appeared meanwhile.
	if err := os.Rename(s.dir, s.out); err != nil {
		return err
	}
	return syncPath(filepath.Dir(s.out))
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// vectorWriter writes an fvecs file row by row.
type vectorWriter struct {
	file *os.File
	out  *bufio.Writer
	buf  []byte
}

func createVectors(path string) (*vectorWriter, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &vectorWriter{file: f, out: bufio.NewWriterSize(f, bufferSize)}, nil
}

func (w *vectorWriter) write(row []float32) error {
	w.buf = binary.LittleEndian.AppendUint32(w.buf[:0], uint32(len(row)))
	for _, x := range row {
		w.buf = binary.LittleEndian.AppendUint32(w.buf, math.Float32bits(x))
	}
	_, err := w.out.Write(w.buf)
	return err
}

func (w *vectorWriter) close() error { return errors.Join(w.out.Flush(), w.file.Close()) }
