package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// A file is a header and frames. Numbers are little-endian.
//
//	header: magic u32 "CLAU", version u32, sequence number of the first event u64, hash before it [32], CRC32C u32
//	frame:  length u32 of the event, the event, hash [32]: SHA-256 of the hash before and of the event
const (
	fileMagic   = 0x55414c43 // "CLAU"
	fileVersion = 1
	headerLen   = 52
	maxEvent    = 16 << 10
	fileSuffix  = ".audit"
)

type hash = [sha256.Size]byte

// chain is the hash of an event after another.
func chain(before hash, event []byte) (h hash) {
	d := sha256.New()
	d.Write(before[:])
	d.Write(event)
	d.Sum(h[:0])
	return h
}

// Files are numbered from 1; a number is never used again.
func fileName(number uint64) string { return fmt.Sprintf("%08d%s", number, fileSuffix) }

// numberOf reads a file's name; ok is false if it is not one of ours.
func numberOf(name string) (number uint64, ok bool) {
	digits, found := strings.CutSuffix(name, fileSuffix)
	number, err := strconv.ParseUint(digits, 10, 64)
	return number, found && err == nil && number > 0 && fileName(number) == name
}

func appendHeader(b []byte, first uint64, before hash) []byte {
	start := len(b)
	b = codec.AppendUint32(b, fileMagic)
	b = codec.AppendUint32(b, fileVersion)
	b = codec.AppendUint64(b, first)
	b = append(b, before[:]...)
	return codec.AppendUint32(b, codec.CRC(b[start:]))
}

func appendFrame(b, event []byte, h hash) []byte {
	b = codec.AppendUint32(b, uint32(len(event)))
	b = append(b, event...)
	return append(b, h[:]...)
}

// header is what a file says of itself.
type header struct {
	first  uint64
	before hash
}

func readHeader(b []byte) (h header, err error) {
	if len(b) < headerLen || binary.LittleEndian.Uint32(b) != fileMagic {
		return h, errs.New(errs.Corrupt, "it does not begin as an audit file")
	}
	if v := binary.LittleEndian.Uint32(b[4:]); v != fileVersion {
		return h, errs.New(errs.FailedPrecondition, "it has version %d, this version reads %d", v, fileVersion)
	}
	if want, got := binary.LittleEndian.Uint32(b[headerLen-4:]), codec.CRC(b[:headerLen-4]); want != got {
		return h, errs.New(errs.Corrupt, "its header has checksum %08x, should have %08x", got, want)
	}
	h.first = binary.LittleEndian.Uint64(b[8:])
	copy(h.before[:], b[16:])
	return h, nil
}

// record is one event of a file.
type record struct {
	event Event
	hash  hash
	fits  bool // the hash follows from the event and from the record before
}

// scan reads the records of a file and calls each until that returns false. rest is what is no frame at the end, in bytes.
func scan(b []byte, h header, each func(*record) bool) (rest int) {
	before := h.before
	for at := headerLen; at < len(b); {
		n, ok := frameAt(b, at)
		if !ok {
			return len(b) - at
		}
		event := b[at+4 : at+4+n]
		var rec record
		r := codec.NewReader(event)
		rec.event = ReadEvent(r)
		copy(rec.hash[:], b[at+4+n:])
		rec.fits = r.Done() == nil && rec.hash == chain(before, event)
		if !each(&rec) {
			return 0
		}
		before = rec.hash
		at += 4 + n + len(rec.hash)
	}
	return 0
}

// ending is how a file ends.
type ending struct {
	next  uint64 // sequence number that goes on after it
	head  hash   // before that
	torn  bool   // what follows is of a write that was cut off: nobody was told that it was done
	wrong bool   // what was once on disk has changed
}

// endOf looks for the end of a file. A write that was cut off leaves anything behind the events before it; but once an event
// that began another write is behind the damage, what is damaged had been on disk.
func endOf(b []byte, h header) (e ending) {
	good, last := ending{next: h.first, head: h.before}, ending{next: h.first, head: h.before}
	rest := scan(b, h, func(r *record) bool {
		last.next, last.head = last.next+1, r.hash
		switch {
		case !r.fits:
			e.torn = true
		case e.torn && r.event.begins:
			e.wrong = true
		case !e.torn:
			good = last
		}
		return true
	})
	if e.wrong {
		return ending{last.next, last.head, rest > 0, true}
	}
	return ending{good.next, good.head, e.torn || rest > 0, false}
}

// frameAt is the length of the event of a frame; ok is false if there is no whole one.
func frameAt(b []byte, at int) (n int, ok bool) {
	if len(b)-at < 4 {
		return 0, false
	}
	n = int(binary.LittleEndian.Uint32(b[at:]))
	return n, n > 0 && n <= maxEvent && len(b)-at >= 4+n+sha256.Size
}
