package segment

import (
	"encoding/binary"
	"errors"
	iofs "io/fs"
	"runtime/debug"
	"sort"
	"sync/atomic"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

// Segment is an open segment. All methods but Close may be called concurrently.
type Segment struct {
	id      uint64
	ident   Ident
	size    int64
	mapping vfs.Mapping
	adviser vfs.Adviser // of mapping; nil if it is not on a disk
	file    []byte      // all of it
	data    []byte      // header and rows
	trailer trailer
	extents []extent
	sums    []byte          // checksum of each block, 4 bytes each; aliases file
	good    []atomic.Uint64 // bit for each block: it was found right
}

// Open maps segment id and checks its frame: header, footer and sizes. Rows are not read; Verify does that. Kind
// NotFound if there is no such file, Corrupt if it is damaged or belongs to another shard, FailedPrecondition if a newer
// version of croft wrote it. It allocates in proportion to the extents that the file truly holds.
func Open(fs vfs.FS, dir string, id uint64, ident Ident) (s *Segment, err error) {
	m, err := fs.Map(Path(dir, id))
	if err != nil {
		kind := errs.Internal
		if errors.Is(err, iofs.ErrNotExist) {
			kind = errs.NotFound
		}
		return nil, errs.Wrap(kind, err, "open segment %016x", id)
	}
	s = &Segment{id: id, ident: ident, mapping: m, file: m.Bytes()}
	if err := s.load(); err != nil {
		if closeErr := m.Close(); closeErr != nil {
			err = errors.Join(err, closeErr)
		}
		return nil, errs.Wrap(errs.KindOf(err), err, "open segment %016x", id)
	}
	if a, ok := m.(vfs.Adviser); ok {
		a.ReadAtRandom()
		s.adviser = a
	}
	return s, nil
}

func (s *Segment) load() (err error) {
	defer guard(&err)()
	s.size = int64(len(s.file))
	if s.size < headerLen+trailerLen {
		return errs.New(errs.Corrupt, "cut short: %d bytes", s.size)
	}
	if err := checkHeader(s.file[:headerLen], s.id, s.ident); err != nil {
		return err
	}
	if s.trailer, err = readTrailer(s.file); err != nil {
		return err
	}
	if err := s.checkFooter(); err != nil {
		return err
	}
	table := s.file[s.trailer.tableAt : len(s.file)-trailerLen]
	if s.extents, s.sums, err = readTable(table, s.trailer); err != nil {
		return err
	}
	s.data = s.file[:s.trailer.dataEnd:s.trailer.dataEnd] // no slice of it reaches the footer
	s.good = make([]atomic.Uint64, (s.Blocks()+63)/64)
	return nil
}

func (s *Segment) checkFooter() error {
	footer := s.file[s.trailer.dataEnd : len(s.file)-trailerLen]
	if got := codec.CRC(footer); got != s.trailer.footerCRC {
		return errs.New(errs.Corrupt, "footer of %d bytes has checksum %08x, stored is %08x", len(footer), got, s.trailer.footerCRC)
	}
	return nil
}

// guard makes faults of the mapping panics and returns what turns such a panic into an error; for use with defer.
func guard(err *error) func() {
	old := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(old)
		r := recover()
		if r == nil {
			return
		}
		fault, ok := r.(interface{ Addr() uintptr })
		if !ok {
			panic(r)
		}
		*err = errs.New(errs.Corrupt, "file was cut short under its mapping: fault at %#x", fault.Addr())
	}
}

// Row returns the row at off as a view of the mapping, valid until Close. Who got off from elsewhere than Write calls
// Verify first; a row that is not within the file's rows panics.
func (s *Segment) Row(off uint32, dim int) []float32 {
	lo := uint64(off) * Unit
	hi := lo + uint64(dim)*4
	return codec.Float32sFromBytes(s.data[lo:hi:hi])
}

// Verify checks that rows starting at off belong to owner and have dim values, and that their blocks are as they were
// written. Each block is summed up once only, whoever asks, so that repeated calls are cheap.
func (s *Segment) Verify(off uint32, rows, dim int, owner Owner) error {
	e := s.extentAt(off)
	if e == nil || e.Dim != dim || rows < 1 {
		return errs.New(errs.Corrupt, "segment %016x: %d rows of %d values at %d are not in it", s.id, rows, dim, off)
	}
	if e.Owner != owner {
		return errs.New(errs.Corrupt, "segment %016x: rows at %d belong to partition %x, not to %x", s.id, off, e.Owner, owner)
	}
	stride := Stride(dim)
	first := (off - e.Off) / stride
	if (off-e.Off)%stride != 0 || uint64(rows) > uint64(e.Rows)-uint64(first) {
		return errs.New(errs.Corrupt, "segment %016x: %d rows of %d values at %d do not fit the extent of %d at %d",
			s.id, rows, dim, off, e.Rows, e.Off)
	}
	start := uint64(off) * Unit
	end := start + uint64(rows)*uint64(stride)*Unit
	for b := start / blockLen; b <= (end-1)/blockLen; b++ {
		if s.good[b/64].Load()&(1<<(b%64)) != 0 {
			continue
		}
		if err := s.VerifyBlock(int(b)); err != nil {
			return err
		}
	}
	return nil
}

// DimAt returns how many values the row at off has; Corrupt if no extent covers it.
func (s *Segment) DimAt(off uint32) (int, error) {
	e := s.extentAt(off)
	if e == nil {
		return 0, errs.New(errs.Corrupt, "segment %016x: no row at %d", s.id, off)
	}
	return e.Dim, nil
}

// extentAt returns the extent that covers off, or nil.
func (s *Segment) extentAt(off uint32) *extent {
	i := sort.Search(len(s.extents), func(i int) bool { return s.extents[i].Off > off })
	if i == 0 || uint64(off) >= s.extents[i-1].end() {
		return nil
	}
	return &s.extents[i-1]
}

// Blocks returns how many blocks of 64 KiB the header and the rows take.
func (s *Segment) Blocks() int { return len(s.sums) / 4 }

// VerifyBlock sums up block i afresh. A block found wrong is wrong for Verify too from then on.
func (s *Segment) VerifyBlock(i int) (err error) {
	defer guard(&err)()
	lo := i * blockLen
	s.ahead(i)
	block := s.data[lo:min(lo+blockLen, len(s.data))]
	word, bit := &s.good[i/64], uint64(1)<<(i%64)
	if want, got := binary.LittleEndian.Uint32(s.sums[4*i:]), codec.CRC(block); want != got {
		word.And(^bit)
		return errs.New(errs.Corrupt, "segment %016x: block %d at byte %d has checksum %08x, stored is %08x", s.id, i, lo, got, want)
	}
	word.Or(bit)
	return nil
}

// VerifyAll checks the whole file afresh, frame and blocks, for a scrubber. It sees what the page cache holds: pages
// that were evicted since come from the disk, others do not. A scrubber that paces itself calls VerifyBlock instead.
func (s *Segment) VerifyAll() error {
	if err := s.verifyFrame(); err != nil {
		return errs.Wrap(errs.Corrupt, err, "segment %016x", s.id)
	}
	for i := range s.Blocks() {
		if err := s.VerifyBlock(i); err != nil {
			return err
		}
	}
	return nil
}

func (s *Segment) verifyFrame() (err error) {
	defer guard(&err)()
	if err := checkHeader(s.file[:headerLen], s.id, s.ident); err != nil {
		return err
	}
	if t, err := readTrailer(s.file); err != nil || t != s.trailer {
		return errors.Join(errs.New(errs.Corrupt, "trailer has changed"), err)
	}
	return s.checkFooter()
}

// IDs decodes the ids of extent i, in the order of its rows, into memory of their own.
func (s *Segment) IDs(i int) (ids []string, err error) {
	defer guard(&err)()
	e := &s.extents[i]
	if s.adviser != nil {
		s.adviser.WillNeed(int(e.idsAt), int(e.idsLen))
	}
	b := s.file[e.idsAt : e.idsAt+e.idsLen]
	if got := codec.CRC(b); got != e.idsCRC {
		return nil, errs.New(errs.Corrupt, "segment %016x: ids of extent %d have checksum %08x, stored is %08x", s.id, i, got, e.idsCRC)
	}
	ids = make([]string, e.Rows)
	r := codec.NewReader(b)
	for j := range ids {
		ids[j] = r.String()
	}
	return ids, errs.Wrap(errs.Corrupt, r.Done(), "segment %016x: ids of extent %d", s.id, i)
}

// Close unmaps the file. Nobody may be reading, and no view may be used afterwards.
func (s *Segment) Close() error {
	s.file, s.data, s.sums, s.extents = nil, nil, nil, nil
	return errs.Wrap(errs.Internal, s.mapping.Close(), "close segment %016x", s.id)
}
