//go:build unix

package vfs

// BatchLen is how many places a Batch reads at most.
const BatchLen = 64

// Batch reads places of mapped files past the page cache, all at once. A page that a mapping lacks costs whoever reads it a
// fault, and the kernel the search for one to give up; and rows that are read at random from far more than there is memory
// for are not met again before they have gone. Where that is so, reading them into memory of one's own costs a third of
// the processor's time, and a thread that waits for the disk lets others have its processor, which a page fault does not.
//
// The zero Batch is ready. It keeps its memory for the next reads, and belongs to one goroutine at a time.
type Batch struct {
	places []batchPlace
	system batchSystem
}

// batchPlace is one place of a file: whole sectors around the n bytes that were asked for.
type batchPlace struct {
	file     int // descriptor
	start    int // of the first sector, in the file
	size     int // bytes of all sectors
	skip, n  int // what was asked for: n bytes behind the first skip
	complete bool
}

// Reset makes b empty, after Wait. What Bytes has returned is not valid any more.
func (b *Batch) Reset() {
	b.Wait()
	b.places = b.places[:0]
	b.system.started = 0
}

// Add adds the n bytes of m from off as the next place. It returns false, and adds nothing, where they cannot be read this
// way: b is full, the system has no such reads to offer, m is no file of a disk, its file has another name by now or is on
// a disk that knows no such reads.
func (b *Batch) Add(m Mapping, off, n int) bool {
	if len(b.places) == BatchLen || off < 0 || n < 1 || !b.system.open() {
		return false
	}
	mapped, ok := m.(*osMapping)
	if !ok || off+n > len(mapped.bytes) {
		return false
	}
	file, sector, ok := mapped.direct()
	if !ok {
		return false
	}
	start, end := off&^(sector-1), (off+n+sector-1)&^(sector-1)
	b.places = append(b.places, batchPlace{file: file, start: start, size: end - start, skip: off - start, n: n})
	return true
}

// Start begins to read the places that were added since it was last called, and does not wait for the disk. Whoever has
// started a batch must wait for it before it is given up: until then the system writes to its memory.
func (b *Batch) Start() {
	if b.system.started < len(b.places) {
		b.system.start(b.places)
	}
}

// Wait waits for all that was started. Places that could not be read have no Bytes.
func (b *Batch) Wait() {
	if b.system.pending > 0 {
		b.system.wait(b.places)
	}
}

// Bytes returns what place i holds after Wait, valid until Reset; nil if it could not be read.
func (b *Batch) Bytes(i int) []byte {
	p := &b.places[i]
	if !p.complete {
		return nil
	}
	return b.system.buffers[i][p.skip : p.skip+p.n : p.skip+p.n]
}
