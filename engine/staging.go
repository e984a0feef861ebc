package engine

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"github.com/croftdb/croft/engine/internal/segment"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/longlock"
	"github.com/croftdb/croft/internal/vfs"
)

// Chunk is a piece of a checkpoint by its place in the manifest.
type Chunk struct {
	File  int // of Manifest.Files
	Index int // in the file
	Len   int // bytes
}

// Staging is a checkpoint on its way in: a directory of its own, which becomes a shard's by InstallCheckpoint. Chunks
// may come in any order and from several goroutines. What was staged before a restart is found again by its sums, so
// that nothing need be remembered.
type Staging struct {
	fs       vfs.FS
	dir      string
	manifest *Manifest

	mu      longlock.Mutex
	files   []vfs.File // nil once sealed or closed
	missing map[Chunk]bool
	bytes   int64 // of missing
}

// OpenStaging prepares dir for the files of m: it makes what is missing, removes what m does not name and sums up what
// is there. The directory is the staging's alone.
func OpenStaging(ctx context.Context, fsys vfs.FS, dir string, m *Manifest) (*Staging, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	st := &Staging{fs: fsys, dir: dir, manifest: m, missing: map[Chunk]bool{}}
	if err := st.prepare(ctx); err != nil {
		return nil, errors.Join(errs.Wrap(errs.KindOf(err), err, "stage a checkpoint in %s", dir), st.Close())
	}
	return st, nil
}

func (st *Staging) prepare(ctx context.Context) error {
	for _, d := range [...]string{segmentsDir, graphsDir} {
		if err := st.fs.MkdirAll(filepath.Join(st.dir, d)); err != nil {
			return err
		}
	}
	if err := st.removeOthers(); err != nil {
		return err
	}
	for i := range st.manifest.Files {
		f, err := st.fs.OpenAppend(pathIn(st.dir, st.manifest.Files[i].Name))
		if err != nil {
			return err
		}
		st.files = append(st.files, f)
		if err := st.survey(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

func pathIn(dir, name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }

// removeOthers removes what an earlier checkpoint has left.
func (st *Staging) removeOthers() error {
	return eachOther(st.fs, st.dir, st.manifest, func(path string) error { return st.fs.RemoveAll(path) })
}

// eachOther calls fn for all in a directory that a manifest does not name.
func eachOther(fsys vfs.FS, dir string, m *Manifest, fn func(path string) error) error {
	for _, sub := range [...]string{"", segmentsDir, graphsDir} {
		names, err := fsys.ReadDir(filepath.Join(dir, sub))
		if err != nil {
			return err
		}
		for _, name := range names {
			below := strings.TrimPrefix(sub+"/"+name, "/")
			if below == segmentsDir || below == graphsDir || m.find(below) != nil {
				continue
			}
			if err := fn(filepath.Join(dir, sub, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// survey finds out which chunks of a file are missing. It looks at none of a file of another length, which it gives
// the right one.
func (st *Staging) survey(ctx context.Context, n int) error {
	f, file := &st.manifest.Files[n], st.files[n]
	size, err := file.Size()
	if err != nil {
		return err
	}
	for i := range f.Sums {
		st.miss(Chunk{n, i, f.chunkLen(i)})
	}
	if size != f.Size {
		return file.Truncate(f.Size)
	}
	return f.each(ctx, file, func(i int, b []byte) {
		if codec.Hash(b) == f.Sums[i] {
			st.have(Chunk{n, i, len(b)})
		}
	})
}

func (st *Staging) miss(c Chunk) {
	st.missing[c] = true
	st.bytes += int64(c.Len)
}

func (st *Staging) have(c Chunk) {
	if st.missing[c] {
		delete(st.missing, c)
		st.bytes -= int64(c.Len)
	}
}

// Missing lists the chunks that are not staged, in order, and their bytes.
func (st *Staging) Missing() (chunks []Chunk, bytes int64) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for c := range st.missing {
		chunks = append(chunks, c)
	}
	slices.SortFunc(chunks, func(a, b Chunk) int { return (a.File-b.File)<<32 + a.Index - b.Index })
	return chunks, st.bytes
}

// Put stages a chunk. Corrupt: b is not what the manifest says; nothing is written then.
func (st *Staging) Put(c Chunk, b []byte) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if c.File < 0 || c.File >= len(st.files) {
		return errs.New(errs.Internal, "staging in %s is closed or has no file %d", st.dir, c.File)
	}
	f := &st.manifest.Files[c.File]
	if len(b) != f.chunkLen(c.Index) || len(b) == 0 || codec.Hash(b) != f.Sums[c.Index] {
		return errs.New(errs.Corrupt, "chunk %d of %s has another sum than the manifest says", c.Index, f.Name)
	}
	if _, err := st.files[c.File].WriteAt(b, int64(c.Index)*ChunkSize); err != nil {
		return err
	}
	st.have(Chunk{c.File, c.Index, len(b)})
	return nil
}

// Seal makes all that was staged durable. FailedPrecondition: something is missing.
func (st *Staging) Seal() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if n := len(st.missing); n > 0 || st.files == nil {
		return errs.New(errs.FailedPrecondition, "the checkpoint staged in %s lacks %d chunks, or is closed", st.dir, n)
	}
	for _, f := range st.files {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	for _, d := range [...]string{segmentsDir, graphsDir, ""} {
		if err := st.fs.SyncDir(filepath.Join(st.dir, d)); err != nil {
			return err
		}
	}
	return st.close()
}

// Close lets go of the files and leaves them where they are. It may be called more than once.
func (st *Staging) Close() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.close()
}

func (st *Staging) close() error {
	var err error
	for _, f := range st.files {
		err = errors.Join(err, f.Close())
	}
	st.files = nil
	return err
}

// InstallCheckpoint makes the sealed directory staged the shard's directory dir, which must not exist: one rename, so
// that a crash leaves either nothing at dir or all of it. It first reads everything once more: sums, the frame and the
// blocks of each segment, and that nothing else is among the shard's files. What else lies in staged goes along. Durable
// on return. Corrupt: staged is left as it is.
func InstallCheckpoint(ctx context.Context, fsys vfs.FS, staged, dir string, m *Manifest) error {
	err := verifyStaged(ctx, fsys, staged, m)
	if err == nil {
		err = renameNew(fsys, staged, dir)
	}
	return errs.Wrap(errs.KindOf(err), err, "install the checkpoint in %s as %s", staged, dir)
}

func renameNew(fsys vfs.FS, from, to string) error {
	if there, err := vfs.Exists(fsys, to); err != nil || there {
		return errors.Join(err, errs.New(errs.FailedPrecondition, "%s is taken", to))
	}
	if err := fsys.Rename(from, to); err != nil {
		return err
	}
	if filepath.Dir(from) != filepath.Dir(to) {
		if err := fsys.SyncDir(filepath.Dir(to)); err != nil {
			return err
		}
	}
	return fsys.SyncDir(filepath.Dir(from))
}

func verifyStaged(ctx context.Context, fsys vfs.FS, dir string, m *Manifest) error {
	if err := m.check(); err != nil {
		return err
	}
	err := eachOther(fsys, dir, m, func(path string) error {
		if filepath.Dir(path) == filepath.Clean(dir) {
			return nil // the caller's
		}
		return errs.New(errs.Corrupt, "%s is not in the manifest", path)
	})
	if err != nil {
		return err
	}
	for i := range m.Files {
		if err := m.Files[i].verify(ctx, fsys, dir, m.Ident); err != nil {
			return errs.Wrap(errs.KindOf(err), err, "verify %s", m.Files[i].Name)
		}
	}
	return nil
}

// verify compares a file with its sums, and a segment with its own, which are as old as its rows: a source whose disk
// rots would else spread it.
func (f *FileSums) verify(ctx context.Context, fsys vfs.FS, dir string, ident [16]byte) (err error) {
	file, err := fsys.Open(pathIn(dir, f.Name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	size, err := file.Size()
	if err != nil {
		return err
	}
	if size != f.Size {
		return errs.New(errs.Corrupt, "%d bytes, want %d", size, f.Size)
	}
	var wrong error
	err = f.each(ctx, file, func(i int, b []byte) {
		if codec.Hash(b) != f.Sums[i] {
			wrong = errs.New(errs.Corrupt, "chunk %d has another sum than the manifest says", i)
		}
	})
	if err = errors.Join(err, wrong); err != nil {
		return err
	}
	if id, ok := numberOf(filepath.Base(f.Name), segment.Suffix); ok {
		return verifySegment(fsys, filepath.Join(dir, segmentsDir), id, ident)
	}
	return nil
}

func verifySegment(fsys vfs.FS, dir string, id uint64, ident [16]byte) (err error) {
	s, err := segment.Open(fsys, dir, id, segment.Ident{Shard: ident})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return s.VerifyAll()
}
