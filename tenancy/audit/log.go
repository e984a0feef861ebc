package audit

import (
	"cmp"
	"encoding/hex"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/longlock"
	"github.com/croftdb/croft/internal/vfs"
)

// LogOptions bound a Log.
type LogOptions struct {
	FS       vfs.FS
	Dir      string // made with the first event
	MaxBytes int64  // of all files; the oldest are removed beyond it, but never the newest
	MaxAge   time.Duration
	Logger   *slog.Logger
}

const (
	filesPerLog = 8         // files that MaxBytes is spread over
	minFile     = 64 << 10  // bytes
	maxFile     = 8 << 20   // bytes: what a query reads at once
	maxPending  = 256 << 10 // bytes of events kept while the disk fails
)

// Log is one chain of events in the files of a directory.
type Log struct {
	opts LogOptions

	mu      longlock.Mutex
	files   []logFile // by number; only the last one is written to
	out     vfs.File  // the last one; nil: the next event begins another
	size    int64     // of out
	next    uint64    // sequence number of the next event
	head    hash      // of the event before it
	base    hash      // of the event before pending
	pending []frame   // not known to be on disk
	held    int       // their bytes
	lost    uint64    // events that there was no room for
}

// logFile is a file of a Log.
type logFile struct {
	number uint64
	size   int64
	last   time.Time // no event of it is younger; zero: not known
}

// frame is an event that is on its way to disk.
type frame struct {
	event []byte
	hash  hash
}

// OpenLog looks for the end of the chain. What a power cut has left behind it is passed over: the next event begins a new file. A
// file that cannot be read is told and left alone.
func OpenLog(o LogOptions) (*Log, error) {
	l := &Log{opts: o, next: 1}
	names, err := o.FS.ReadDir(o.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, errs.Wrap(errs.Internal, err, "list the audit log")
	}
	for _, name := range names {
		number, ok := numberOf(name)
		if !ok {
			continue
		}
		info, err := o.FS.Stat(filepath.Join(o.Dir, name))
		if err != nil {
			return nil, errs.Wrap(errs.Internal, err, "look at the audit log")
		}
		l.files = append(l.files, logFile{number: number, size: info.Size})
	}
	slices.SortFunc(l.files, func(a, b logFile) int { return cmp.Compare(a.number, b.number) })
	return l, l.findEnd()
}

// findEnd goes on where the newest file ends that can be read.
func (l *Log) findEnd() error {
	for i := len(l.files) - 1; i >= 0; i-- {
		b, h, err := l.read(i)
		if errs.Is(err, errs.Corrupt) {
			continue // a crash may have come before its beginning was on disk; Verify tells
		}
		if err != nil {
			return errs.Wrap(errs.KindOf(err), err, "read the audit log")
		}
		end := endOf(b, h)
		l.next, l.head, l.base = end.next, end.head, end.head
		if end.wrong {
			l.opts.Logger.Error("the audit log was changed after it was written", "file", l.path(i))
		}
		if i == len(l.files)-1 && !end.torn && !end.wrong {
			return l.goOn(i, int64(len(b)))
		}
		return nil
	}
	return nil
}

func (l *Log) goOn(i int, size int64) (err error) {
	if l.out, err = l.opts.FS.OpenAppend(l.path(i)); err != nil {
		return errs.Wrap(errs.Internal, err, "open the audit log")
	}
	l.size = size
	return nil
}

func (l *Log) path(i int) string { return filepath.Join(l.opts.Dir, fileName(l.files[i].number)) }

// read returns a file with its header.
func (l *Log) read(i int) ([]byte, header, error) {
	b, err := vfs.ReadFile(l.opts.FS, l.path(i))
	if err != nil {
		return nil, header{}, err
	}
	h, err := readHeader(b)
	return b, h, err
}

// Append puts events at the end of the chain. They are on disk if it returns nil; else they are kept, as far as there is room, and
// written with the next ones that can be.
func (l *Log) Append(events ...Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range events {
		l.chainLocked(&events[i])
	}
	return l.flushLocked(time.Now())
}

func (l *Log) chainLocked(e *Event) {
	if l.held >= maxPending {
		l.lost++
		return
	}
	e.bound()
	e.Seq, e.begins = l.next, len(l.pending) == 0
	event := AppendEvent(nil, e)
	l.next++
	l.head = chain(l.head, event)
	l.held += len(event)
	l.pending = append(l.pending, frame{event, l.head})
}

// flushLocked writes what is pending, into a new file if the last one is full or has failed: after a failed sync nobody knows
// what of a file is on disk.
func (l *Log) flushLocked(now time.Time) error {
	if len(l.pending) == 0 {
		return nil
	}
	err := l.writeLocked(now)
	if err != nil {
		l.abandonLocked()
		return errs.Wrap(errs.KindOf(err), err, "write the audit log")
	}
	l.base, l.pending, l.held = l.head, nil, 0
	if l.lost > 0 {
		lost := Event{At: now, Actor: "croft", Action: "audit_lost", Result: "ok", Count: l.lost, Detail: "events that could not be written while the disk failed"}
		l.lost = 0
		l.chainLocked(&lost)
		return l.flushLocked(now)
	}
	return nil
}

func (l *Log) writeLocked(now time.Time) error {
	var b []byte
	fresh := l.out == nil || l.size >= l.fileBytes()
	if fresh {
		if err := l.beginLocked(now); err != nil {
			return err
		}
		b = appendHeader(b, l.next-uint64(len(l.pending)), l.base)
	}
	for _, f := range l.pending {
		b = appendFrame(b, f.event, f.hash)
	}
	if _, err := l.out.Write(b); err != nil {
		return err
	}
	if err := l.out.Sync(); err != nil {
		return err
	}
	if fresh {
		if err := l.opts.FS.SyncDir(l.opts.Dir); err != nil {
			return err
		}
	}
	l.size += int64(len(b))
	at := &l.files[len(l.files)-1]
	at.size, at.last = l.size, now
	return nil
}

// beginLocked opens a new file for what is pending.
func (l *Log) beginLocked(now time.Time) error {
	if l.out != nil {
		last := l.next - uint64(len(l.pending)) - 1
		l.opts.Logger.Info("an audit file is full", "file", l.path(len(l.files)-1), "event", last, "head", hex.EncodeToString(l.base[:]))
		err := l.out.Close()
		l.out = nil
		if err != nil {
			return err
		}
	}
	if err := l.opts.FS.MkdirAll(l.opts.Dir); err != nil {
		return err
	}
	l.trimLocked(now)
	number := uint64(1)
	if n := len(l.files); n > 0 {
		number = l.files[n-1].number + 1
	}
	l.files = append(l.files, logFile{number: number})
	out, err := l.opts.FS.Create(l.path(len(l.files) - 1))
	if err != nil {
		l.files = l.files[:len(l.files)-1]
		return err
	}
	l.out, l.size = out, 0
	return nil
}

func (l *Log) fileBytes() int64 { return min(max(l.opts.MaxBytes/filesPerLog, minFile), maxFile) }

// trimLocked removes the oldest files, as far as there are too many bytes or they are too old. What cannot be removed is tried
// again with the next file.
func (l *Log) trimLocked(now time.Time) {
	var total int64
	for _, f := range l.files {
		total += f.size
	}
	for len(l.files) > 1 {
		oldest := l.files[0]
		old := l.opts.MaxAge > 0 && !oldest.last.IsZero() && now.Sub(oldest.last) > l.opts.MaxAge
		if !old && total+l.fileBytes() <= l.opts.MaxBytes {
			return
		}
		if err := l.opts.FS.Remove(l.path(0)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			l.opts.Logger.Warn("an old audit file cannot be removed", "file", l.path(0), "err", err)
			return
		}
		total -= oldest.size
		l.files = l.files[1:]
	}
}

func (l *Log) abandonLocked() {
	if l.out != nil {
		_ = l.out.Close() // it has failed already
		l.out = nil
	}
}

// Close tries to write what is pending.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.flushLocked(time.Now())
	if l.out != nil {
		err = errors.Join(err, l.out.Close())
		l.out = nil
	}
	return err
}
