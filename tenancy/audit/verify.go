package audit

import (
	"encoding/hex"
	"fmt"
	"time"

	"github.com/croftdb/croft/internal/errs"
)

// Report is what Verify has found of one chain.
type Report struct {
	Node   string    `json:"node"`
	Chain  string    `json:"chain"` // acts or refusals
	Events uint64    `json:"events"`
	First  uint64    `json:"first"` // sequence number; greater than 1 where older files were removed
	Last   uint64    `json:"last"`
	Since  time.Time `json:"since,omitzero"` // of the first event
	Head   string    `json:"head"`           // hash of the last event: who keeps it elsewhere can tell later that none was cut off
	Mended int       `json:"mended"`         // places where a crash or a failing disk has cut a write off, and the chain goes on
	Breaks []Break   `json:"breaks"`
}

// Break is a place where the chain does not hold: something was changed, taken out or put in.
type Break struct {
	File string `json:"file"`
	What string `json:"what"`
}

// maxBreaks bounds a report.
const maxBreaks = 100

// Verify reads the whole chain.
func (l *Log) Verify() (Report, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := verifier{report: Report{Breaks: []Break{}}}
	for i := range l.files {
		b, h, err := l.read(i)
		name := fileName(l.files[i].number)
		switch {
		case errs.Is(err, errs.Corrupt) && !endOf(b, header{}).wrong:
			v.report.Mended++ // nothing of it was ever on disk for sure
		case errs.Is(err, errs.Corrupt), errs.Is(err, errs.FailedPrecondition):
			v.add(name, "%s", err)
		case err != nil:
			return Report{}, errs.Wrap(errs.Internal, err, "read the audit log")
		default:
			v.file(name, b, h)
		}
	}
	v.report.Head = hex.EncodeToString(v.head[:])
	return v.report, nil
}

// verifier follows a chain from file to file.
type verifier struct {
	report Report
	next   uint64          // sequence number that comes next; 0: nothing was read
	head   hash            // before it
	hashes map[uint64]hash // of the last file's events, and of the one before them
}

func (v *verifier) add(file, format string, args ...any) {
	if len(v.report.Breaks) < maxBreaks {
		v.report.Breaks = append(v.report.Breaks, Break{file, fmt.Sprintf(format, args...)})
	}
}

func (v *verifier) file(name string, b []byte, h header) {
	if v.next == 0 {
		v.report.First, v.next, v.head = h.first, h.first, h.before
	}
	v.link(name, h)
	end, before := endOf(b, h), v.hashes
	v.next, v.head, v.hashes = h.first, h.before, map[uint64]hash{h.first - 1: h.before}
	scan(b, h, func(r *record) bool {
		if v.next == end.next {
			return false
		}
		if first, again := before[v.next]; again && first != r.hash {
			v.add(name, "event %d is not what it was in the file before", v.next)
		}
		v.record(name, r)
		return true
	})
	if end.torn {
		v.report.Mended++
	}
}

// link checks that a file goes on where the one before ended. It may begin with the last events of that once more: what a failing
// disk may not have kept was written again.
func (v *verifier) link(name string, h header) {
	before, known := v.hashes[h.first-1]
	switch {
	case h.first == v.next && h.before == v.head:
	case h.first > v.next:
		v.add(name, "events %d to %d before it are missing", v.next, h.first-1)
	case !known || before != h.before:
		v.add(name, "it does not follow from event %d", h.first-1)
	default:
		v.report.Mended++
		v.report.Events -= v.next - h.first
	}
}

func (v *verifier) record(name string, r *record) {
	switch {
	case !r.fits:
		v.add(name, "event %d is not what was written, or not after what was written before", v.next)
	case r.event.Seq != v.next:
		v.add(name, "event %d stands where %d belongs", r.event.Seq, v.next)
	}
	if v.report.Events == 0 {
		v.report.Since = r.event.At
	}
	v.report.Events++
	v.report.Last, v.head = v.next, r.hash
	v.hashes[v.next] = r.hash
	v.next++
}
