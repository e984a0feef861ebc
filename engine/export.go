package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/croftdb/croft/engine/internal/segment"
	"github.com/croftdb/croft/engine/internal/store"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/longlock"
	"github.com/croftdb/croft/internal/vfs"
)

// Checkpoint is a shard's files at one entry of its log, held open: the shard goes on meanwhile, and neither a rewrite
// nor a newer graph takes anything away from it. Its methods may be called concurrently.
type Checkpoint struct {
	Manifest *Manifest

	mu    longlock.RWMutex // read-held while files are read
	files []vfs.File       // of Manifest.Files; nil once closed
}

// Checkpoint flushes the shard, saves its graphs and holds what is then on disk, all of one log entry. owner names the
// shard for those who get the files. It reads all files once for their sums. StorageFull: the disk has no room for a
// copy of records.db. The caller closes it; a process that dies leaves nothing behind but what OpenShard removes.
func (s *Shard) Checkpoint(ctx context.Context, owner string) (*Checkpoint, error) {
	if err := s.saveGraphs(); err != nil {
		return nil, err
	}
	if _, err := s.Flush(ctx); err != nil {
		return nil, err
	}
	x := &export{shard: s, files: map[string]vfs.File{}, manifest: &Manifest{Owner: owner}}
	err := x.cut(ctx)
	if err == nil {
		err = x.sum(ctx)
	}
	if err != nil {
		return nil, errors.Join(errs.Wrap(errs.KindOf(err), err, "checkpoint of shard %s", s.dir), x.release())
	}
	return x.checkpoint(), nil
}

// export is a checkpoint in the making.
type export struct {
	shard    *Shard
	files    map[string]vfs.File
	manifest *Manifest
}

// cut opens the files of one state. The lock is held while they are opened, since they change under it alone; an open
// file stays readable when its name goes. records.db, the only one that is written in place, is copied under one view:
// see DESIGN.md, "Checkpoints".
func (x *export) cut(ctx context.Context) error {
	return x.shard.cut(x.open, func(tx store.Tx) error { return x.copyRecords(ctx, tx) })
}

// cut shows one state: open runs while files can neither come nor go, and read after it in the same view.
func (s *Shard) cut(open, read func(store.Tx) error) error {
	s.flushMu.Lock()
	unlock := sync.OnceFunc(s.flushMu.Unlock)
	defer unlock()
	if err := s.failure(); err != nil {
		return err
	}
	return s.kv.View(func(tx store.Tx) error {
		if err := open(tx); err != nil {
			return err
		}
		unlock()
		return read(tx)
	})
}

func (x *export) open(tx store.Tx) error {
	st, err := storedShardState(tx)
	if err != nil {
		return err
	}
	x.manifest.Ident, x.manifest.Applied = st.Ident, st.Applied
	segments, err := keysOf(tx, bucketSegments)
	if err != nil {
		return err
	}
	for _, id := range segments {
		if err := x.openFile(path.Join(segmentsDir, filepath.Base(segment.Path("", id)))); err != nil {
			return err
		}
	}
	return x.openGraphs()
}

// openGraphs takes the graphs that are there; one that is missing is built by whoever installs the checkpoint.
func (x *export) openGraphs() error {
	names, err := x.shard.fs.ReadDir(x.shard.path(graphsDir))
	if err != nil {
		return err
	}
	for _, name := range names {
		if name = path.Join(graphsDir, name); !isShardFile(name) {
			continue
		}
		if err := x.openFile(name); err != nil && !errors.Is(err, fs.ErrNotExist) { // its partition may have lost it just now
			return err
		}
	}
	return nil
}

func (x *export) openFile(name string) error {
	f, err := x.shard.fs.Open(x.shard.path(filepath.FromSlash(name)))
	if err == nil {
		x.files[name] = f
	}
	return err
}

const (
	exportPrefix = "export-"
	exportSuffix = ".tmp"
)

// copyRecords copies records.db into a file without a name, which ends with the checkpoint or with the process.
func (x *export) copyRecords(ctx context.Context, tx store.Tx) error {
	s := x.shard
	free, err := s.fs.Free(s.dir)
	if err != nil {
		return err
	}
	if size := s.kv.Size(); free < uint64(size) {
		return errs.New(errs.StorageFull, "a copy of %s takes %d bytes, %d are free", recordsFile, size, free)
	}
	f, err := s.createUnnamed()
	if err != nil {
		return err
	}
	x.files[recordsFile] = f
	return tx.Copy(contextWriter{ctx, f})
}

// createUnnamed makes a file that ends when it is closed, or with the process.
func (s *Shard) createUnnamed() (vfs.File, error) {
	at := s.path(fmt.Sprintf("%s%d%s", exportPrefix, s.exports.Add(1), exportSuffix))
	f, err := s.fs.Create(at)
	if err != nil {
		return nil, err
	}
	if err := s.fs.Remove(at); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// contextWriter is a writer that gives up.
type contextWriter struct {
	ctx context.Context
	w   io.Writer
}

func (c contextWriter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}

// removeExports removes files without a name whose name a crash has left.
func (s *Shard) removeExports() error {
	names, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, exportPrefix) || !strings.HasSuffix(name, exportSuffix) {
			continue
		}
		if err := s.fs.Remove(s.path(name)); err != nil {
			return err
		}
	}
	return nil
}

// sum reads all files for the manifest.
func (x *export) sum(ctx context.Context) error {
	for name, f := range x.files {
		size, err := f.Size()
		if err != nil {
			return err
		}
		fs := FileSums{Name: name, Size: size, Sums: make([]uint64, chunksOf(size))}
		if err := fs.each(ctx, f, func(i int, b []byte) { fs.Sums[i] = codec.Hash(b) }); err != nil {
			return errs.Wrap(errs.KindOf(err), err, "read %s", name)
		}
		x.manifest.Files = append(x.manifest.Files, fs)
	}
	slices.SortFunc(x.manifest.Files, func(a, b FileSums) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// each reads the chunks of a file in order; b is valid until the next.
func (f *FileSums) each(ctx context.Context, from io.ReaderAt, fn func(i int, b []byte)) error {
	b := make([]byte, min(ChunkSize, f.Size))
	for i := range f.Sums {
		if err := ctx.Err(); err != nil {
			return err
		}
		b = b[:f.chunkLen(i)]
		if err := readFull(from, b, int64(i)*ChunkSize); err != nil {
			return err
		}
		fn(i, b)
	}
	return nil
}

// readFull reads exactly len(b) bytes: less is damage.
func readFull(f io.ReaderAt, b []byte, off int64) error {
	n, err := f.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return errs.New(errs.Corrupt, "cut short: %d of %d bytes at %d", n, len(b), off)
	}
	return err
}

func (x *export) release() error {
	var err error
	for _, f := range x.files {
		err = errors.Join(err, f.Close())
	}
	return err
}

func (x *export) checkpoint() *Checkpoint {
	c := &Checkpoint{Manifest: x.manifest}
	for i := range c.Manifest.Files {
		c.files = append(c.files, x.files[c.Manifest.Files[i].Name])
	}
	return c
}

// AppendChunk appends a chunk of the n-th file of the manifest to dst. NotFound: there is none of that number;
// Unavailable: the checkpoint is closed.
func (c *Checkpoint) AppendChunk(dst []byte, n, chunk int) ([]byte, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.files == nil {
		return dst, errs.New(errs.Unavailable, "the checkpoint is closed")
	}
	if n < 0 || n >= len(c.files) || c.Manifest.Files[n].chunkLen(chunk) == 0 {
		return dst, errs.New(errs.NotFound, "the checkpoint has no chunk %d of file %d", chunk, n)
	}
	f := &c.Manifest.Files[n]
	at := len(dst)
	dst = slices.Grow(dst, f.chunkLen(chunk))[:at+f.chunkLen(chunk)]
	err := readFull(c.files[n], dst[at:], int64(chunk)*ChunkSize)
	return dst, errs.Wrap(errs.KindOf(err), err, "read %s of a checkpoint", f.Name)
}

// Close lets go of the files. It may be called more than once.
func (c *Checkpoint) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	for _, f := range c.files {
		err = errors.Join(err, f.Close())
	}
	c.files = nil
	return err
}
