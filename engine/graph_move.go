package engine

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"math"
	"path/filepath"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

// importSuffix ends the name of a graph that comes in.
const importSuffix = ".import"

// GraphExport is a partition's graph as a file, to be read at any place.
type GraphExport struct {
	io.ReaderAt
	Size int64
	file vfs.File
}

// Close lets go of the file.
func (g *GraphExport) Close() error { return g.file.Close() }

// ExportGraph saves the graph of a partition and opens it, for a shard into which the partition is copied. NotFound: there is no
// such partition, or it has no graph.
func (s *Shard) ExportGraph(key Key) (*GraphExport, error) {
	p := s.registry.find(key)
	if p == nil {
		return nil, errs.New(errs.NotFound, "partition %s does not exist", key)
	}
	if sp := p.space.Load(); sp != nil {
		if err := sp.saveNow(); err != nil {
			return nil, err
		}
	}
	f, err := s.fs.Open(s.graphPath(s.numberOf(p)))
	if err != nil {
		kind := errs.Internal
		if errors.Is(err, fs.ErrNotExist) {
			kind = errs.NotFound
		}
		return nil, errs.Wrap(kind, err, "open the graph of partition %s", key)
	}
	size, err := f.Size()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &GraphExport{f, size, f}, nil
}

// numberOf returns the number of a partition.
func (s *Shard) numberOf(p *partition) uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return p.head.Number
}

// ImportGraph takes a graph that another shard has exported, for a partition that is staged here and not in memory yet. When that
// is loaded, records find their places in the graph by their versions; whatever else is in it is repaired away. Nothing depends
// on it: without, the graph is built. One call for a partition at a time. FailedPrecondition: the partition is in memory, or has
// gone; Corrupt: it is no graph of this partition, or damaged.
func (s *Shard) ImportGraph(ctx context.Context, key Key, from io.Reader) error {
	p := s.registry.find(key)
	if p == nil {
		return errs.New(errs.NotFound, "partition %s does not exist", key)
	}
	number := s.numberOf(p)
	to := s.graphPath(number)
	err := vfs.WriteAtomic(s.fs, to+importSuffix, func(w io.Writer) error {
		return s.copyGraph(contextWriter{ctx, w}, bufio.NewReader(from), key)
	})
	if err != nil {
		return errs.Wrap(errs.KindOf(err), err, "take the graph of partition %s", key)
	}
	if s.registry.find(key) != p || s.numberOf(p) != number || p.space.Load() != nil {
		err := errs.New(errs.FailedPrecondition, "take the graph of partition %s: it is in memory already, or was dropped", key)
		return errors.Join(err, removeIfThere(s.fs, to+importSuffix))
	}
	if err := s.fs.Rename(to+importSuffix, to); err != nil {
		return err
	}
	return s.fs.SyncDir(filepath.Dir(to))
}

// copyGraph copies a graph, which gets this shard's identity. What follows the header is checked when it is loaded.
func (s *Shard) copyGraph(w io.Writer, r io.Reader, key Key) error {
	head := make([]byte, graphHeadBytes)
	if err := readAll(r, head); err != nil {
		return err
	}
	_, owner, slots, err := readGraphHead(codec.NewReader(head))
	if err != nil {
		return err
	}
	if owner != key || slots > math.MaxUint32 {
		return errs.New(errs.Corrupt, "graph of %d slots belongs to partition %s", slots, owner)
	}
	theirs := codec.CRC(head)
	copy(head[graphIdentAt:], s.ident.Shard[:])
	ours := codec.CRC(head)
	if _, err := w.Write(head); err != nil {
		return err
	}
	for buf := make([]byte, spoolBuffer); slots > 0; {
		n := min(slots, uint64(len(buf)/8))
		if err := readAll(r, buf[:8*n]); err != nil {
			return err
		}
		theirs, ours = codec.UpdateCRC(theirs, buf[:8*n]), codec.UpdateCRC(ours, buf[:8*n])
		if _, err := w.Write(buf[:8*n]); err != nil {
			return err
		}
		slots -= n
	}
	sum := make([]byte, 4)
	if err := readAll(r, sum); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(sum) != theirs {
		return errs.New(errs.Corrupt, "graph has a wrong checksum")
	}
	if _, err := w.Write(codec.AppendUint32(nil, ours)); err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return err
}

// readAll fills b: less is damage.
func readAll(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errs.New(errs.Corrupt, "graph is cut short")
	}
	return err
}

// Warm loads a partition, and its graph, before it is asked for anything: one that is staged, whose tenant is about to arrive.
// NotFound: there is none; FailedPrecondition: the copy is not complete, and its records do not come in the order that spaces
// are kept in.
func (s *Shard) Warm(ctx context.Context, key Key) (err error) {
	if r := s.Residence(key.Tenant); r.Standing == Staged && !r.Copy.Copied {
		return errs.New(errs.FailedPrecondition, "the copy of tenant %s is not complete", key.Tenant)
	}
	p := s.registry.find(key)
	if p == nil {
		return errs.New(errs.NotFound, "partition %s does not exist", key)
	}
	defer catchFault(&err)
	pin := s.epochs.pin()
	defer s.epochs.unpin(pin)
	_, err = s.acquire(ctx, p)
	return err
}
