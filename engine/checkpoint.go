package engine

import (
	"bytes"
	"errors"
	"io"

	"github.com/croftdb/croft/ann/hnsw"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

const (
	graphMagic  = "croftgph"
	graphFormat = 1
	graphSuffix = ".graph"
	// Of the header, up to the versions.
	graphIdentAt   = len(graphMagic) + 1
	graphHeadBytes = graphIdentAt + 16 + keySize + 8
	// saveQuiet is how long, in seconds, a graph must have been left alone before few changes are saved.
	saveQuiet = 5
	// savePause is how long, in seconds, a graph that keeps up with its writers is not saved again. It has caught up
	// after nearly each of their writes, and nothing is inserted while it is written out.
	savePause = 30
)

// saveIfDue writes a checkpoint of the graph when it is worth it. A crash costs inserting the rest again.
func (sp *space) saveIfDue(g *hnsw.Graph, more bool) error {
	now, b := sp.shard.engine.clock.Load(), &sp.builder
	if !saveDue(g.Len(), b.changes, more, now-b.quiet.Load(), now-b.lastSave) {
		return nil
	}
	return sp.save(g)
}

// saveDue decides about a graph of n nodes: while it grows it is saved each time by half; when it has caught up, once a
// twentieth is new and the last time is some while ago; when it rests, whatever is new. Times are in seconds, since the
// last change and since the last checkpoint.
func saveDue(n, changes int, more bool, quiet, pause int64) bool {
	switch {
	case changes >= max(16384, n/2):
		return true
	case more || changes == 0:
		return false
	}
	return quiet >= saveQuiet || changes >= max(1024, n/20) && pause >= savePause
}

// save writes a checkpoint. The caller holds builder.mu, so the graph does not change meanwhile.
func (sp *space) save(g *hnsw.Graph) error {
	n, ok := sp.number()
	if !ok {
		return nil
	}
	err := vfs.WriteAtomic(sp.shard.fs, sp.shard.graphPath(n), func(w io.Writer) error {
		if _, err := w.Write(sp.graphHeader(g)); err != nil {
			return err
		}
		return g.Save(w)
	})
	if err != nil {
		return errs.Wrap(errs.Internal, err, "save graph of partition %s", sp.part.key)
	}
	sp.builder.saved()
	sp.builder.lastSave = sp.shard.engine.clock.Load()
	return nil
}

// graphHeader says whose graph it is and which record version each slot held: see docs/format/graph.md.
func (sp *space) graphHeader(g *hnsw.Graph) []byte {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	b := append([]byte(graphMagic), graphFormat)
	b = append(b, sp.shard.ident.Shard[:]...)
	b = appendKey(b, sp.part.key)
	b = codec.AppendUint64(b, uint64(sp.next))
	for slot := range sp.next {
		var version uint64
		if col, i := sp.cols.at(slot); g.Has(slot) && col.died[i].Load() == alive {
			version = col.born[i].Load()
		}
		b = codec.AppendUint64(b, version)
	}
	return codec.AppendUint32(b, codec.CRC(b))
}

// loadGraph reads the partition's checkpoint, if there is one. A damaged or foreign one is thrown away: the graph is
// built again from the records.
func (ld *loader) loadGraph() {
	s := ld.shard
	path := s.graphPath(ld.head.Number)
	if ok, err := vfs.Exists(s.fs, path); err != nil || !ok {
		return
	}
	err := ld.readGraph(path)
	if err == nil {
		s.engine.graphLoads.Add(1)
		return
	}
	s.engine.opts.Logger.Warn("graph checkpoint is thrown away and will be built again",
		"shard", s.dir, "partition", ld.part.key.String(), "err", err)
	ld.graph, ld.slots, ld.unused = nil, nil, nil
	ld.space = ld.spare
	s.report(removeIfThere(s.fs, path))
}

func (ld *loader) readGraph(path string) (err error) {
	m, err := ld.shard.fs.Map(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	defer catchFault(&err)
	versions, rest, err := ld.readGraphHeader(m.Bytes())
	if err != nil {
		return err
	}
	sp, sc := ld.space, ld.part.schema
	sp.next = uint32(len(versions))
	sp.cols.reserve(sp.next)
	if ld.graph, err = hnsw.Load(bytes.NewReader(rest), sc.graphConfig(), sp); err != nil {
		return err
	}
	sp.builder.leaving = map[uint32]struct{}{}
	ld.slots = make(map[uint64]uint32, len(versions))
	for slot, version := range versions {
		slot := uint32(slot)
		switch {
		case version != 0 && ld.graph.Has(slot):
			ld.slots[version] = slot
		case ld.graph.Holds(slot):
			ld.unused = append(ld.unused, slot)
		default:
			sp.free = append(sp.free, slot)
		}
	}
	return nil
}

// readGraphHead reads whose graph it is, and the number of slots whose versions follow.
func readGraphHead(r *codec.Reader) (ident []byte, key Key, slots uint64, err error) {
	if string(r.Raw(len(graphMagic))) != graphMagic {
		return nil, key, 0, errs.New(errs.Corrupt, "not a graph checkpoint")
	}
	if v := r.Byte(); v != graphFormat {
		return nil, key, 0, errs.New(errs.Corrupt, "graph checkpoint has format %d, this croft knows %d", v, graphFormat)
	}
	return r.Raw(16), readKey(r), r.Uint64(), r.Err()
}

func (ld *loader) readGraphHeader(b []byte) (versions []uint64, rest []byte, err error) {
	r := codec.NewReader(b)
	ident, key, n, err := readGraphHead(r)
	if err != nil {
		return nil, nil, err
	}
	if n > uint64(r.Len()/8) {
		return nil, nil, errs.New(errs.Corrupt, "graph checkpoint is cut short")
	}
	versions = make([]uint64, n)
	for i := range versions {
		versions[i] = r.Uint64()
	}
	head := b[:len(b)-r.Len()]
	if sum := r.Uint32(); r.Err() != nil || sum != codec.CRC(head) {
		return nil, nil, errs.New(errs.Corrupt, "graph checkpoint has a wrong checksum")
	}
	if !bytes.Equal(ident, ld.shard.ident.Shard[:]) || key != ld.part.key {
		return nil, nil, errs.New(errs.Corrupt, "graph checkpoint belongs to another partition or shard")
	}
	return versions, b[len(b)-r.Len():], nil
}

// saveGraphs writes the checkpoints that are not up to date, before the shard closes.
func (s *Shard) saveGraphs() error {
	if s.failure() != nil {
		return nil
	}
	var err error
	s.registry.all(func(p *partition) bool {
		if sp := p.space.Load(); sp != nil {
			err = errors.Join(err, sp.saveNow())
		}
		return true
	})
	return err
}

func (sp *space) saveNow() error {
	sp.builder.mu.Lock()
	defer sp.builder.mu.Unlock()
	g := sp.view.Load().graph
	if g == nil || sp.builder.changes == 0 {
		return nil
	}
	return sp.save(g)
}
