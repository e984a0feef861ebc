package store

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"io"
	"slices"

	"github.com/croftdb/croft/internal/errs"
)

// Why bbolt's pages are checked before bbolt sees them: to rebuild its list of free pages it walks the whole file in a
// goroutine of its own, where it panics on a damaged page. Nothing can recover that, so that one flipped bit in one
// shard would end the process at each start. The walk below looks at the same pages, bounded and without a mapping.
// The layout is version 2 of bbolt's format (go.etcd.io/bbolt/internal/common: page.go, meta.go, bucket.go).
const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2
	branchFlag  = 1
	leafFlag    = 2
	pageHead    = 16 // id u64, flags u16, count u16, overflow u32
	elemHead    = 16 // of a leaf: flags, pos, ksize, vsize u32; of a branch: pos, ksize u32, page u64
	bucketHead  = 16 // root page u64 (0: a page follows inline), sequence u64
	metaLen     = 64 // behind the page's head; the last 8 bytes are FNV-1a of the others
	maxDepth    = 64
)

type pageWalk struct {
	file     io.ReaderAt
	pageSize uint64
	pages    uint64 // in use: all page numbers are below
	seen     []uint64
	levels   [maxDepth]pageLevel // memory for the pages from the root to the present one
}

type pageLevel struct {
	page  []byte
	elems []element
}

// checkPages walks all pages of a bbolt file of size bytes, which nobody may be writing, and returns an error of kind
// Corrupt if bbolt could not read it safely: a page out of bounds, referenced twice or of the wrong kind, or keys out
// of order. Values are not looked at. It holds one page with its overflow for each level of the tree.
func checkPages(file io.ReaderAt, size int64, pageSize int) error {
	w := pageWalk{file: file, pageSize: uint64(pageSize)}
	root, err := w.meta()
	if err != nil {
		return err
	}
	if have := uint64(size) / w.pageSize; w.pages > have {
		return errs.New(errs.Corrupt, "file is cut short: %d pages in use, %d in the file", w.pages, have)
	}
	w.seen = make([]uint64, w.pages/64+1)
	return w.page(root, span{}, 0, true)
}

// meta reads the newer of the two valid meta pages and returns the root page.
func (w *pageWalk) meta() (root uint64, err error) {
	var newest uint64
	found := false
	for i := range uint64(2) {
		var m [metaLen]byte
		if _, err := w.file.ReadAt(m[:], int64(i*w.pageSize+pageHead)); err != nil {
			continue
		}
		h := fnv.New64a()
		h.Write(m[:metaLen-8])
		valid := u32(m[0:]) == boltMagic && u32(m[4:]) == boltVersion && u64(m[56:]) == h.Sum64()
		if txid := u64(m[48:]); valid && (!found || txid > newest) {
			found, newest, root, w.pages = true, txid, u64(m[16:]), u64(m[40:])
		}
	}
	if !found || w.pages > 1<<47/w.pageSize {
		return 0, errs.New(errs.Corrupt, "both meta pages are damaged")
	}
	return root, nil
}

// span bounds the keys below a page: from <= key < to; nil means no bound.
type span struct{ from, to []byte }

// page checks page id and all below it. top says whether it belongs to the tree of buckets.
func (w *pageWalk) page(id uint64, keys span, depth int, top bool) error {
	if depth >= maxDepth-1 { // an inline page may follow
		return errs.New(errs.Corrupt, "page %d: tree deeper than %d", id, maxDepth)
	}
	b, err := w.read(id, depth)
	if err != nil {
		return err
	}
	switch flags := binary.LittleEndian.Uint16(b[8:]); flags {
	case branchFlag:
		return w.branch(id, b, keys, depth, top)
	case leafFlag:
		return w.leaf(id, b, keys, depth, top)
	default:
		return errs.New(errs.Corrupt, "page %d: neither branch nor leaf: flags %#x", id, flags)
	}
}

// read returns the bytes of page id with its overflow and marks them as seen.
func (w *pageWalk) read(id uint64, depth int) ([]byte, error) {
	if id < 2 || id >= w.pages {
		return nil, errs.New(errs.Corrupt, "page %d: out of bounds: %d pages in use", id, w.pages)
	}
	b := w.room(depth, w.pageSize)
	if _, err := w.file.ReadAt(b, int64(id*w.pageSize)); err != nil {
		return nil, errs.Wrap(errs.Internal, err, "read page %d", id)
	}
	over := uint64(u32(b[12:]))
	if self := u64(b); self != id || over >= w.pages-id {
		return nil, errs.New(errs.Corrupt, "page %d: says that it is page %d with %d more; %d pages in use", id, self, over, w.pages)
	}
	for i := id; i <= id+over; i++ {
		if w.seen[i/64]&(1<<(i%64)) != 0 {
			return nil, errs.New(errs.Corrupt, "page %d: referenced twice", i)
		}
		w.seen[i/64] |= 1 << (i % 64)
	}
	if over == 0 {
		return b, nil
	}
	b = w.room(depth, (over+1)*w.pageSize)
	_, err := w.file.ReadAt(b, int64(id*w.pageSize))
	return b, errs.Wrap(errs.Internal, err, "read page %d", id)
}

// room returns n bytes that are in use until another page of that depth is read.
func (w *pageWalk) room(depth int, n uint64) []byte {
	l := &w.levels[depth]
	if uint64(cap(l.page)) < n {
		l.page = make([]byte, n)
	}
	return l.page[:n]
}

func (w *pageWalk) branch(id uint64, b []byte, keys span, depth int, top bool) error {
	elems, err := w.elements(id, b, depth, true)
	if err != nil {
		return err
	}
	if len(elems) == 0 {
		return errs.New(errs.Corrupt, "page %d: branch without children", id)
	}
	if err := inOrder(id, elems, keys); err != nil {
		return err
	}
	for i, e := range elems {
		below := span{e.key, keys.to}
		if i+1 < len(elems) {
			below.to = elems[i+1].key
		}
		if err := w.page(e.child, below, depth+1, top); err != nil {
			return err
		}
	}
	return nil
}

func (w *pageWalk) leaf(id uint64, b []byte, keys span, depth int, top bool) error {
	elems, err := w.elements(id, b, depth, false)
	if err != nil {
		return err
	}
	if err := inOrder(id, elems, keys); err != nil {
		return err
	}
	for _, e := range elems {
		if e.bucket != top {
			return errs.New(errs.Corrupt, "page %d key %q: bucket where a value belongs, or the reverse", id, shown(e.key))
		}
		if top {
			if err := w.bucket(id, e, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// bucket checks the tree of a bucket, whose first page may stand in the place of its value.
func (w *pageWalk) bucket(id uint64, e element, depth int) error {
	if len(e.value) < bucketHead {
		return errs.New(errs.Corrupt, "page %d: bucket %q without head", id, shown(e.key))
	}
	if root := u64(e.value); root != 0 {
		return w.page(root, span{}, depth, false)
	}
	inline := e.value[bucketHead:]
	if len(inline) < pageHead || binary.LittleEndian.Uint16(inline[8:]) != leafFlag {
		return errs.New(errs.Corrupt, "page %d: bucket %q: inline page is no leaf", id, shown(e.key))
	}
	return w.leaf(id, inline, span{}, depth, false)
}

type element struct {
	key, value []byte
	child      uint64 // of a branch
	bucket     bool   // of a leaf
}

// elements decodes what a page holds; all of it lies within b.
func (w *pageWalk) elements(id uint64, b []byte, depth int, branch bool) ([]element, error) {
	n := int(binary.LittleEndian.Uint16(b[10:]))
	if pageHead+n*elemHead > len(b) {
		return nil, errs.New(errs.Corrupt, "page %d: %d elements do not fit", id, n)
	}
	l := &w.levels[depth]
	l.elems = slices.Grow(l.elems[:0], n)[:n]
	for i := range l.elems {
		e := b[pageHead+i*elemHead:] // positions count from here
		pos, ksize, vsize := uint64(u32(e[4:])), uint64(u32(e[8:])), uint64(u32(e[12:]))
		flags := u32(e)
		if branch {
			pos, ksize, vsize, flags = uint64(u32(e)), uint64(u32(e[4:])), 0, 0
			l.elems[i].child = u64(e[8:])
		}
		if flags > 1 || ksize < 1 || ksize > MaxKey || pos < elemHead || pos+ksize+vsize > uint64(len(e)) {
			return nil, errs.New(errs.Corrupt, "page %d element %d: flags %#x, key %d and value %d bytes at %d of %d",
				id, i, flags, ksize, vsize, pos, len(e))
		}
		l.elems[i].key, l.elems[i].value = e[pos:pos+ksize], e[pos+ksize:pos+ksize+vsize]
		l.elems[i].bucket = flags == 1
	}
	return l.elems, nil
}

func inOrder(id uint64, elems []element, keys span) error {
	for i, e := range elems {
		ok := bytes.Compare(keys.from, e.key) <= 0 && (keys.to == nil || bytes.Compare(e.key, keys.to) < 0)
		if i > 0 {
			ok = ok && bytes.Compare(elems[i-1].key, e.key) < 0
		}
		if !ok {
			return errs.New(errs.Corrupt, "page %d element %d: key %q out of order", id, i, shown(e.key))
		}
	}
	return nil
}

func u32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

func u64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }
