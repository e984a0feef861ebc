package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

// journal is the file of a Mem: a copy of the store as it once was (copyTo), then a frame for each commit since: length
// and CRC32C of the changes, 4 bytes each, and the changes. What begins with a frame that does not hold is the end of a
// commit that a power cut tore: nothing was ever written behind it.
type journal struct {
	disk vfs.FS
	path string
	file vfs.File
	base int64 // bytes of the copy
	size int64
}

const (
	// memMagic begins a copy: then for each bucket the number of its keys, and key and sealed value of each, behind their
	// lengths.
	memMagic = "croftmem"

	changePut    = 1
	changeDelete = 2

	frameHead = 8
	// journalSlack is by how many bytes a journal may be longer than twice its copy.
	journalSlack = 1 << 20
)

// openJournal fills st, which is empty, with what the journal holds.
func openJournal(disk vfs.FS, path string, st *memState) (_ *journal, err error) {
	j := &journal{disk: disk, path: path}
	t := &memTx{memState: st}
	b, err := vfs.ReadFile(disk, path)
	if errors.Is(err, fs.ErrNotExist) {
		return j, j.rewrite(t)
	}
	if err != nil {
		return nil, err
	}
	if err := j.replay(t, b); err != nil {
		return nil, err
	}
	if j.file, err = disk.OpenAppend(path); err != nil {
		return nil, err
	}
	if int(j.size) < len(b) {
		err = errors.Join(j.file.Truncate(j.size), j.file.Sync())
	}
	if err != nil {
		return nil, errors.Join(err, j.file.Close())
	}
	return j, nil
}

// replay applies what is whole, and notes where that ends.
func (j *journal) replay(t *memTx, b []byte) error {
	rest, err := loadCopy(t, b)
	if err != nil {
		return err
	}
	j.base = int64(len(b) - len(rest))
	for {
		changes, more := cutFrame(rest)
		if changes == nil {
			j.size = int64(len(b) - len(rest))
			return nil
		}
		if err := t.replay(changes); err != nil {
			return err
		}
		rest = more
	}
}

// cutFrame returns the changes of the first frame of b, nil if it does not hold.
func cutFrame(b []byte) (changes, rest []byte) {
	if len(b) <= frameHead {
		return nil, nil
	}
	n, sum := uint64(binary.LittleEndian.Uint32(b)), binary.LittleEndian.Uint32(b[4:])
	if b = b[frameHead:]; n == 0 || n > uint64(len(b)) || codec.CRC(b[:n]) != sum {
		return nil, nil
	}
	return b[:n], b[n:]
}

func (t *memTx) replay(changes []byte) error {
	r := codec.NewReader(changes)
	for r.Len() > 0 && r.Err() == nil {
		op, b, key := r.Byte(), r.Byte(), r.Bytes()
		switch {
		case r.Err() != nil:
		case int(b) >= len(t.trees) || op != changePut && op != changeDelete:
			return errs.New(errs.Corrupt, "journal has change %d of bucket %d", op, b)
		case op == changePut:
			t.set(Bucket(b), key, bytes.Clone(r.Bytes()))
		default:
			t.unset(Bucket(b), key)
		}
	}
	return errs.Wrap(errs.Corrupt, r.Err(), "read journal")
}

// loadCopy puts what copyTo wrote into t, and returns what is behind it.
func loadCopy(t *memTx, b []byte) (rest []byte, err error) {
	r := codec.NewReader(b)
	if string(r.Raw(len(memMagic))) != memMagic {
		return nil, errs.New(errs.Corrupt, "not a copy of a store in memory")
	}
	for i := range t.trees {
		for range r.Count(2) {
			key, sealed := r.Bytes(), bytes.Clone(r.Bytes())
			t.set(Bucket(i), key, sealed)
		}
	}
	return b[len(b)-r.Len():], errs.Wrap(errs.Corrupt, r.Err(), "load store in memory")
}

func (t *memTx) copyTo(w io.Writer) error {
	b := []byte(memMagic)
	for _, tree := range t.trees {
		b = codec.AppendUvarint(b, uint64(tree.Len()))
		tree.Scan(func(it memItem) bool {
			b = codec.AppendBytes(codec.AppendBytes(b, it.key), it.sealed)
			return true
		})
	}
	_, err := w.Write(b)
	return errs.Wrap(errs.Internal, err, "copy store")
}

// commit makes the changes of t durable.
func (j *journal) commit(t *memTx) error {
	if len(t.log) == 0 {
		return nil
	}
	if j.size > 2*j.base+journalSlack {
		return j.rewrite(t)
	}
	head := codec.AppendUint32(codec.AppendUint32(nil, uint32(len(t.log))), codec.CRC(t.log))
	n, err := j.file.Write(append(head, t.log...))
	if err != nil {
		return err
	}
	j.size += int64(n)
	return j.file.Sync()
}

// rewrite replaces the file by a copy of t.
func (j *journal) rewrite(t *memTx) error {
	if err := vfs.WriteAtomic(j.disk, j.path, t.copyTo); err != nil {
		return err
	}
	f, err := j.disk.OpenAppend(j.path)
	if err != nil {
		return err
	}
	old := j.file
	if j.file = f; old != nil {
		if err := old.Close(); err != nil {
			return err
		}
	}
	j.size, err = f.Size()
	j.base = j.size
	return err
}

func (j *journal) close() error { return j.file.Close() }
