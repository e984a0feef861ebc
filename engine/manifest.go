package engine

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/croftdb/croft/engine/internal/segment"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// ChunkSize is what one sum of a manifest covers, in bytes: the unit in which a checkpoint travels.
const ChunkSize = 1 << 20

const (
	manifestMagic  = "croftckp"
	manifestFormat = 1
)

// Manifest lists the files that are a shard's state at one entry of its log. docs/format/checkpoint.md has its bytes.
type Manifest struct {
	Owner   string   // whose shard it is, as the caller of Checkpoint named it
	Ident   [16]byte // of the shard's files: in the header of each segment and graph
	Applied uint64   // index of the last entry whose effects are in the files
	Files   []FileSums
}

// FileSums is a file of a checkpoint and the xxhash64 of each of its chunks.
type FileSums struct {
	Name string // below the shard's directory, with slashes
	Size int64  // bytes
	Sums []uint64
}

// Bytes is the size of all files together.
func (m *Manifest) Bytes() (n int64) {
	for i := range m.Files {
		n += m.Files[i].Size
	}
	return n
}

// chunkLen is the length of chunk i; 0 if the file has none of that number.
func (f *FileSums) chunkLen(i int) int {
	if i < 0 || i >= len(f.Sums) {
		return 0
	}
	return int(min(ChunkSize, f.Size-int64(i)*ChunkSize))
}

func chunksOf(size int64) int64 { return (size + ChunkSize - 1) / ChunkSize }

// Append appends the encoding of m.
func (m *Manifest) Append(b []byte) []byte {
	start := len(b)
	b = append(append(b, manifestMagic...), manifestFormat)
	b = codec.AppendString(b, m.Owner)
	b = append(b, m.Ident[:]...)
	b = codec.AppendUint64(b, m.Applied)
	b = codec.AppendUvarint(b, uint64(len(m.Files)))
	for i := range m.Files {
		f := &m.Files[i]
		b = codec.AppendUvarint(codec.AppendString(b, f.Name), uint64(f.Size))
		for _, sum := range f.Sums {
			b = codec.AppendUint64(b, sum)
		}
	}
	return codec.AppendUint32(b, codec.CRC(b[start:]))
}

// DecodeManifest reads what Append wrote. Kind Corrupt for damage and for names that are not a shard's files;
// FailedPrecondition if a newer croft wrote it. The files it names are within the shard's directory, each once.
func DecodeManifest(b []byte) (*Manifest, error) {
	r := codec.NewReader(b)
	if string(r.Raw(len(manifestMagic))) != manifestMagic {
		return nil, errs.New(errs.Corrupt, "not the manifest of a checkpoint")
	}
	if v := r.Byte(); r.Err() == nil && v != manifestFormat {
		return nil, errs.New(errs.FailedPrecondition, "checkpoint has format %d, this croft knows %d", v, manifestFormat).
			WithHint("run the same version of croft on all nodes")
	}
	m := &Manifest{Owner: r.String()}
	copy(m.Ident[:], r.Raw(len(m.Ident)))
	m.Applied = r.Uint64()
	m.Files = make([]FileSums, r.Count(2))
	for i := range m.Files {
		m.Files[i].read(r)
	}
	body := b[:len(b)-r.Len()]
	sum := r.Uint32()
	if err := r.Done(); err != nil {
		return nil, errs.Wrap(errs.Corrupt, err, "manifest of a checkpoint")
	}
	if got := codec.CRC(body); got != sum {
		return nil, errs.New(errs.Corrupt, "manifest of a checkpoint has checksum %08x, stored is %08x", got, sum)
	}
	return m, m.check()
}

func (f *FileSums) read(r *codec.Reader) {
	f.Name = r.String()
	size := r.Uvarint()
	if size > uint64(r.Len()/8)*ChunkSize {
		r.Fail(errs.New(errs.Corrupt, "file %q of %d bytes: its sums are missing", f.Name, size))
		return
	}
	f.Size = int64(size)
	f.Sums = make([]uint64, chunksOf(f.Size))
	for i := range f.Sums {
		f.Sums[i] = r.Uint64()
	}
}

// check refuses what is not a whole list of a shard's files in order.
func (m *Manifest) check() error {
	for i := range m.Files {
		f := &m.Files[i]
		if !isShardFile(f.Name) || i > 0 && m.Files[i-1].Name >= f.Name {
			return errs.New(errs.Corrupt, "manifest of a checkpoint: file %q does not belong there", f.Name)
		}
		if f.Size < 0 || int64(len(f.Sums)) != chunksOf(f.Size) {
			return errs.New(errs.Corrupt, "manifest of a checkpoint: file %q of %d bytes has %d sums", f.Name, f.Size, len(f.Sums))
		}
	}
	if m.find(recordsFile) == nil {
		return errs.New(errs.Corrupt, "manifest of a checkpoint: %s is missing", recordsFile)
	}
	return nil
}

func (m *Manifest) find(name string) *FileSums {
	i, ok := slices.BinarySearchFunc(m.Files, name, func(f FileSums, name string) int { return strings.Compare(f.Name, name) })
	if !ok {
		return nil
	}
	return &m.Files[i]
}

// isShardFile accepts records.db, segments and graphs by the names that a shard gives them, and nothing else.
func isShardFile(name string) bool {
	if name == recordsFile {
		return true
	}
	dir, file := path.Split(name)
	switch dir {
	case segmentsDir + "/":
		_, ok := numberOf(file, segment.Suffix)
		return ok
	case graphsDir + "/":
		_, ok := numberOf(file, graphSuffix)
		return ok
	}
	return false
}

// numberOf returns the number that a file is named by.
func numberOf(file, suffix string) (n uint64, ok bool) {
	if _, err := fmt.Sscanf(file, "%016x"+suffix, &n); err != nil {
		return 0, false
	}
	return n, file == fmt.Sprintf("%016x%s", n, suffix)
}
