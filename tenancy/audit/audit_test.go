package audit

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/vfs"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func openLog(t testing.TB, disk vfs.FS, maxBytes int64) *Log {
	t.Helper()
	l, err := OpenLog(LogOptions{FS: disk, Dir: "/audit", MaxBytes: maxBytes, MaxAge: time.Hour * 24 * 365 * 100, Logger: quiet()})
	require.NoError(t, err)
	return l
}

func event(i int) Event {
	return Event{At: time.Unix(1_700_000_000+int64(i), 0).UTC(), Actor: fmt.Sprint("key:", i%3), Tenant: []string{"", "acme", "other"}[i%3],
		Action: "create_index", Target: "POST /indexes", Result: "ok", Detail: fmt.Sprint("event ", i)}
}

// details lists what is in a log, oldest first.
func details(t testing.TB, l *Log) []string {
	t.Helper()
	found, err := l.Find("n", &Query{Limit: 100_000})
	require.NoError(t, err)
	var all []string
	for i := range found {
		all = append(all, found[len(found)-1-i].Detail)
	}
	return all
}

func numbered(from, to int) []string {
	var all []string
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprint("event ", i))
	}
	return all
}

func requireWhole(t testing.TB, l *Log) Report {
	t.Helper()
	r, err := l.Verify()
	require.NoError(t, err)
	require.Empty(t, r.Breaks)
	return r
}

func TestChain(t *testing.T) {
	disk := vfs.NewMem()
	l := openLog(t, disk, 1<<20)
	require.Equal(t, Report{Head: strings.Repeat("0", 64), Breaks: []Break{}}, requireWhole(t, l))
	for i := range 100 {
		if i%10 == 0 {
			require.NoError(t, l.Close())
			l = openLog(t, disk, 1<<20)
		}
		require.NoError(t, l.Append(event(i)))
	}
	require.Equal(t, numbered(0, 100), details(t, l))
	r := requireWhole(t, l)
	require.Equal(t, [3]uint64{100, 1, 100}, [3]uint64{r.Events, r.First, r.Last})
	require.Equal(t, event(0).At, r.Since)
	require.Equal(t, hex.EncodeToString(l.head[:]), r.Head)
	names, err := disk.ReadDir("/audit")
	require.NoError(t, err)
	require.Len(t, names, 1, "a file that is in order is gone on with")
	require.NoError(t, l.Close())
	require.Empty(t, disk.Handles())
}

// TestRetention: the oldest files go, and the chain of the others holds.
func TestRetention(t *testing.T) {
	disk := vfs.NewMem()
	l := openLog(t, disk, 2*minFile)
	n := 3 * 2 * minFile / 200
	for i := range n {
		require.NoError(t, l.Append(event(i)))
	}
	var total int64
	for _, f := range l.files {
		total += f.size
	}
	require.LessOrEqual(t, total, int64(2*minFile+1000))
	r := requireWhole(t, l)
	require.Greater(t, r.First, uint64(1))
	require.Equal(t, uint64(n), r.Last)
	require.Equal(t, numbered(int(r.First)-1, n), details(t, l))

	// By age: all but the newest file and the one before it.
	l.opts.MaxBytes, l.opts.MaxAge = 16*minFile, time.Nanosecond
	for newest := l.files[len(l.files)-1].number; l.files[len(l.files)-1].number < newest+2; n++ {
		require.NoError(t, l.Append(event(n)))
	}
	require.Len(t, l.files, 2)
	requireWhole(t, l)
	require.NoError(t, l.Close())
	l = openLog(t, disk, 2*minFile)
	require.Equal(t, uint64(n), requireWhole(t, l).Last)
	require.NoError(t, l.Close())
}

// TestEachFailure fails every operation in turn, once or for ever. What Append said is on disk is there after a power cut, and
// the chain holds; once the disk is well again nothing is missing at all.
func TestEachFailure(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, fault := range []vfs.Fault{{}, {All: true}, {Err: syscall.ENOSPC}, {Err: syscall.ENOSPC, All: true}} {
		rng := rand.New(rand.NewPCG(seed, 0))
		runs := vfs.EachFailure(t, fault, func(disk *vfs.Failing, mem *vfs.Mem) {
			l := openLog(t, disk, 2*minFile)
			acknowledged := appendSome(l, 0, 3)
			for _, left := range []*vfs.Mem{mem.Clone(), mem.CrashClone(nil), mem.CrashClone(rng), mem.CrashClone(rng)} {
				again := openLog(t, left, 2*minFile)
				requireHolds(t, again, acknowledged)
				require.NoError(t, again.Append(event(99)))
				requireHolds(t, again, append(acknowledged, "event 99"))
				require.NoError(t, again.Close())
			}
			disk.Disarm()
			require.NoError(t, l.Append(event(3)))
			require.Equal(t, numbered(0, 4), details(t, l), "what had failed was written after all")
			requireWhole(t, l)
			require.NoError(t, l.Close())
			again := openLog(t, mem.CrashClone(nil), 2*minFile)
			require.Equal(t, numbered(0, 4), details(t, again))
			requireWhole(t, again)
			require.NoError(t, again.Close())
		})
		require.Greater(t, runs, 8)
	}
}

// appendSome appends events one by one and returns those that are on disk for sure.
func appendSome(l *Log, from, to int) (acknowledged []string) {
	for i := from; i < to; i++ {
		if l.Append(event(i)) == nil {
			acknowledged = numbered(from, i+1) // with those before that had failed
		}
	}
	return acknowledged
}

// requireHolds checks that a log begins with what was acknowledged, and that its chain holds.
func requireHolds(t testing.TB, l *Log, acknowledged []string) {
	t.Helper()
	all := details(t, l)
	for _, want := range acknowledged {
		require.Contains(t, all, want)
	}
	requireWhole(t, l)
}

// TestPowerCuts cuts the power again and again, at moments when events are being written.
func TestPowerCuts(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	disk := vfs.NewMem()
	var acknowledged []string
	n := 0
	for range 60 {
		failing := vfs.NewFailing(disk)
		l := openLog(t, failing, 4*minFile)
		failing.Arm(vfs.Fault{At: rng.IntN(12), All: true})
		for range 5 {
			batch := make([]Event, 1+rng.IntN(3))
			for i := range batch {
				batch[i] = event(n)
				n++
			}
			if l.Append(batch...) == nil {
				for i := range batch {
					acknowledged = append(acknowledged, batch[i].Detail)
				}
			} else {
				break // the node would go on, and so would later events: see TestEachFailure
			}
		}
		disk = disk.CrashClone(rng)
		again := openLog(t, disk, 4*minFile)
		requireHolds(t, again, acknowledged)
		require.NoError(t, again.Close())
	}
	require.NotEmpty(t, acknowledged)
}

// TestTampering changes a log in every way that somebody with the files may think of; each is found, but for cutting off the
// newest events, which the head tells that was kept elsewhere.
func TestTampering(t *testing.T) {
	build := func() (*vfs.Mem, []string) {
		disk := vfs.NewMem()
		l := openLog(t, disk, 8*minFile)
		for i := range 1500 {
			require.NoError(t, l.Append(event(i)))
		}
		require.NoError(t, l.Close())
		names, err := disk.ReadDir("/audit")
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(names), 3)
		return disk, names
	}
	rewrite := func(disk *vfs.Mem, name string, change func([]byte) []byte) {
		path := filepath.Join("/audit", name)
		b, err := vfs.ReadFile(disk, path)
		require.NoError(t, err)
		f, err := disk.Create(path)
		require.NoError(t, err)
		_, err = f.Write(change(bytes.Clone(b)))
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	frameLen := func(b []byte, at int) int { n, _ := frameAt(b, at); return 4 + n + 32 }
	for name, tamper := range map[string]func(disk *vfs.Mem, names []string){
		"a text in the middle": func(disk *vfs.Mem, names []string) {
			rewrite(disk, names[1], func(b []byte) []byte { return bytes.Replace(b, []byte("key:1"), []byte("key:7"), 1) })
		},
		"a text in the newest file": func(disk *vfs.Mem, names []string) {
			rewrite(disk, names[len(names)-1], func(b []byte) []byte { return bytes.Replace(b, []byte("key:1"), []byte("key:7"), 1) })
		},
		"an event rewritten with its hash": func(disk *vfs.Mem, names []string) {
			rewrite(disk, names[1], func(b []byte) []byte {
				h, err := readHeader(b)
				require.NoError(t, err)
				n, _ := frameAt(b, headerLen)
				ev := bytes.Replace(b[headerLen+4:headerLen+4+n], []byte("POST"), []byte("GETS"), 1)
				sum := chain(h.before, ev)
				return append(appendFrame(b[:headerLen:headerLen], ev, sum), b[headerLen+frameLen(b, headerLen):]...)
			})
		},
		"an event taken out": func(disk *vfs.Mem, names []string) {
			rewrite(disk, names[0], func(b []byte) []byte { return append(b[:headerLen], b[headerLen+frameLen(b, headerLen):]...) })
		},
		"two events exchanged": func(disk *vfs.Mem, names []string) {
			rewrite(disk, names[0], func(b []byte) []byte {
				one, two := frameLen(b, headerLen), frameLen(b, headerLen+frameLen(b, headerLen))
				first := bytes.Clone(b[headerLen : headerLen+one])
				copy(b[headerLen:], b[headerLen+one:headerLen+one+two])
				copy(b[headerLen+two:], first)
				return b
			})
		},
		"the end of an old file": func(disk *vfs.Mem, names []string) {
			rewrite(disk, names[1], func(b []byte) []byte { return b[:len(b)-200] })
		},
		"a file taken out": func(disk *vfs.Mem, names []string) { require.NoError(t, disk.Remove("/audit/"+names[1])) },
		"a header": func(disk *vfs.Mem, names []string) {
			rewrite(disk, names[1], func(b []byte) []byte { b[20] ^= 1; return b })
		},
		"the newest header": func(disk *vfs.Mem, names []string) {
			rewrite(disk, names[len(names)-1], func(b []byte) []byte { b[0] ^= 1; return b })
		},
		"a length": func(disk *vfs.Mem, names []string) {
			rewrite(disk, names[1], func(b []byte) []byte { b[headerLen+3] = 1; return b })
		},
	} {
		t.Run(name, func(t *testing.T) {
			disk, names := build()
			tamper(disk, names)
			l := openLog(t, disk, 8*minFile)
			r, err := l.Verify()
			require.NoError(t, err)
			require.NotEmpty(t, r.Breaks)
			require.NoError(t, l.Append(event(1500)), "the log goes on")
			after, err := l.Verify()
			require.NoError(t, err)
			require.NotEmpty(t, after.Breaks, "and what was broken stays so")
			require.NoError(t, l.Close())
		})
	}
	disk, names := build()
	l := openLog(t, disk, 8*minFile)
	head := requireWhole(t, l).Head
	require.NoError(t, l.Close())
	rewrite(disk, names[len(names)-1], func(b []byte) []byte { return b[:len(b)-200] })
	l = openLog(t, disk, 8*minFile)
	r, err := l.Verify()
	require.NoError(t, err)
	require.NotEqual(t, head, r.Head, "what was cut off shows in the head alone")
	require.NoError(t, l.Close())
}

// TestFind compares queries with a plain list.
func TestFind(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		disk := vfs.NewMem()
		l, err := OpenLog(LogOptions{FS: disk, Dir: "/a", MaxBytes: 1 << 20, Logger: quiet()})
		require.NoError(t, err)
		n := rapid.IntRange(0, 40).Draw(t, "events")
		var all []Event
		for i := range n {
			e := Event{
				At: time.Unix(0, rapid.Int64Range(1, 10).Draw(t, "at")).UTC(), Actor: rapid.SampledFrom([]string{"key:a", "key:ab", "token:x"}).Draw(t, "actor"),
				Tenant: rapid.SampledFrom([]string{"", "acme"}).Draw(t, "tenant"), Action: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "action"), Result: "ok",
			}
			require.NoError(t, l.Append(e))
			e.Seq, e.Node, e.Count = uint64(i+1), "n", 1
			all = append(all, e)
		}
		slices.SortFunc(all, func(a, b Event) int { return a.Compare(&b) })
		q := Query{
			Tenant: rapid.SampledFrom([]string{"", "acme"}).Draw(t, "of"), Own: rapid.Bool().Draw(t, "own"),
			Actor: rapid.SampledFrom([]string{"", "key:a", "key:*"}).Draw(t, "by"), Action: rapid.SampledFrom([]string{"", "x"}).Draw(t, "what"),
			Limit: rapid.IntRange(1, 10).Draw(t, "limit"),
		}
		if rapid.Bool().Draw(t, "since") {
			q.Since, q.Until = time.Unix(0, 3), time.Unix(0, 8)
		}
		var want []Event
		for i := range all {
			if q.matches(&all[i]) {
				want = append(want, all[i])
			}
		}
		var got []Event
		for { // page by page
			r := codec.NewReader(AppendQuery(nil, &q))
			asked := ReadQuery(r)
			require.NoError(t, r.Done())
			page, err := l.Find("n", &asked)
			require.NoError(t, err)
			got = append(got, plain(page)...)
			if len(page) < q.Limit {
				break
			}
			q.After = PlaceOf(&page[len(page)-1])
		}
		require.Equal(t, plain(want), got)
		require.NoError(t, l.Close())
	})
}

// plain leaves out what only the files know.
func plain(all []Event) []Event {
	out := slices.Clone(all)
	for i := range out {
		out[i].begins = false
	}
	return out
}

// TestFlood: a million refusals are a few events, told apart as far as there is room, with their number.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trail, err := Open(vfs.NewMem(), "/audit", "n", Options{}, quiet())
		require.NoError(t, err)
		require.NoError(t, trail.Record(Event{At: time.Now(), Actor: "admin key", Action: "create_tenant", Result: "ok"}, 0, false))
		const flood, kinds = 100_000, 1000
		for i := range flood {
			trail.Refuse(Event{At: time.Now(), Actor: "nobody", From: fmt.Sprint("10.0.0.", i%kinds), Action: "query", Result: "unauthenticated"})
		}
		time.Sleep(2 * writePause)
		synctest.Wait()
		refusedOnly := true
		found, err := trail.Find(&Query{Refused: &refusedOnly, Limit: MaxFound})
		require.NoError(t, err)
		require.Len(t, found, maxKinds+1)
		var counted uint64
		for _, e := range found {
			counted += e.Count
		}
		require.Equal(t, uint64(flood), counted)

		trail.Refuse(Event{At: time.Now(), Actor: "nobody", From: "10.0.0.1", Action: "query", Result: "unauthenticated"})
		time.Sleep(repeatPause / 2)
		found, err = trail.Find(&Query{Refused: &refusedOnly, Limit: MaxFound})
		require.NoError(t, err)
		require.Len(t, found, maxKinds+1, "not again within a minute")
		time.Sleep(3 * repeatPause)
		found, err = trail.Find(&Query{Refused: &refusedOnly, Limit: MaxFound})
		require.NoError(t, err)
		require.Len(t, found, maxKinds+2)
		synctest.Wait()
		require.Empty(t, trail.seen, "what is rare is forgotten")
		require.Nil(t, trail.timer)

		trail.Refuse(Event{At: time.Now(), Actor: "x", Result: "permission denied"})
		require.NoError(t, trail.Close())
		trail.Refuse(Event{})
		reports, err := trail.Verify()
		require.NoError(t, err)
		require.Equal(t, uint64(1), reports[0].Events)
		require.Equal(t, uint64(maxKinds+3), reports[1].Events, "closing writes what is left")
	})
}

// TestFailingDiskIsBounded: what cannot be written is kept as far as there is room, then counted.
func TestFailingDiskIsBounded(t *testing.T) {
	disk := vfs.NewFailing(vfs.NewMem())
	l := openLog(t, disk, 8<<20)
	disk.Arm(vfs.Fault{All: true})
	const n = 10_000
	for i := range n {
		require.Error(t, l.Append(event(i)))
	}
	require.Less(t, l.held, maxPending+maxEvent)
	disk.Disarm()
	require.NoError(t, l.Append(Event{}))
	found, err := l.Find("n", &Query{Limit: 1, Action: "audit_lost"})
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, uint64(n)+1, requireWhole(t, l).Events-1+found[0].Count)
	require.NoError(t, l.Close())
}

// TestActsLeaveTheirMark has acts begin and end at random, some in other files than they began in, and compares what is shown with a
// plain list: those that have not ended, and the ends of the others, but for those of which nothing came.
func TestActsLeaveTheirMark(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		disk := vfs.NewMem()
		open := func() *Trail {
			trail, err := Open(disk, "/audit", "n", Options{}, quiet())
			require.NoError(t, err)
			return trail
		}
		trail := open()
		begun := map[uint64]string{}
		shown := map[string]string{} // result by detail
		for i := range rapid.IntRange(1, 30).Draw(t, "acts") {
			e := event(i)
			number, err := trail.Begin(e)
			require.NoError(t, err)
			begun[number], shown[e.Detail] = e.Detail, Begun
			if rapid.Bool().Draw(t, "new file") {
				trail.acts.size = maxFile
			}
			for _, number := range slices.Sorted(maps.Keys(begun)) {
				detail := begun[number]
				switch rapid.IntRange(0, 3).Draw(t, "end") {
				case 0:
					require.NoError(t, trail.Record(Event{At: time.Now(), Result: "ok", Detail: detail}, number, false))
					shown[detail] = "ok"
					delete(begun, number)
				case 1:
					require.NoError(t, trail.Record(Event{At: time.Now(), Result: "invalid", Detail: detail}, number, true))
					delete(shown, detail)
					delete(begun, number)
				}
			}
			if rapid.IntRange(0, 5).Draw(t, "crash") == 0 { // nothing that was begun ends any more
				disk = disk.CrashClone(nil)
				trail = open()
				begun = map[uint64]string{}
			}
		}
		found, err := trail.Find(&Query{Limit: 100})
		require.NoError(t, err)
		got := map[string]string{}
		for _, e := range found {
			require.NotContains(t, got, e.Detail)
			got[e.Detail] = e.Result
		}
		require.Equal(t, shown, got)
		report, err := trail.acts.Verify()
		require.NoError(t, err)
		require.Empty(t, report.Breaks)
		require.NoError(t, trail.Close())
	})
}

// TestOldEvents reads one as version 1 had it.
func TestOldEvents(t *testing.T) {
	e := event(1)
	e.Count, e.Seq = 1, 7
	b := AppendEvent(nil, &e)
	const at = 1 + 1 + 8 + 1 + 1 + 1 // behind version, number, time, count, last, flags
	old := append(append([]byte{1}, b[1:at]...), b[at+1:]...)
	r := codec.NewReader(old)
	require.Equal(t, e, ReadEvent(r))
	require.NoError(t, r.Done())
}

func TestTextsAreBounded(t *testing.T) {
	l := openLog(t, vfs.NewMem(), 1<<20)
	require.NoError(t, l.Append(Event{Actor: strings.Repeat("ü", 10_000), Detail: "\xff\xfe", Target: strings.Repeat("\xff", 10_000)}))
	found, err := l.Find("n", &Query{Limit: 1})
	require.NoError(t, err)
	require.LessOrEqual(t, len(AppendEvent(nil, &found[0])), maxEvent)
	require.NoError(t, l.Close())
}

func FuzzReadEvent(f *testing.F) {
	e := event(1)
	f.Add(AppendEvent(nil, &e))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := codec.NewReader(b)
		e := ReadEvent(r)
		if r.Done() != nil {
			return
		}
		again := codec.NewReader(AppendEvent(nil, &e))
		require.Equal(t, e, ReadEvent(again))
		require.NoError(t, again.Done())
	})
}

// FuzzFile opens a directory with any file in it: it is read without a panic, and what is appended then is there.
func FuzzFile(f *testing.F) {
	b := appendHeader(nil, 1, hash{})
	for i := range 3 {
		e := event(i)
		e.Seq = uint64(i + 1)
		ev := AppendEvent(nil, &e)
		b = appendFrame(b, ev, chain(hash{}, ev))
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		disk := vfs.NewMem()
		require.NoError(t, disk.MkdirAll("/audit"))
		file, err := disk.Create("/audit/00000001.audit")
		require.NoError(t, err)
		_, err = file.Write(b)
		require.NoError(t, err)
		require.NoError(t, file.Close())
		l, err := OpenLog(LogOptions{FS: disk, Dir: "/audit", MaxBytes: 1 << 20, Logger: quiet()})
		if err != nil {
			return
		}
		require.NoError(t, l.Append(Event{At: time.Unix(1, 0), Action: "after"}))
		found, err := l.Find("n", &Query{Action: "after", Limit: 100})
		require.NoError(t, err)
		require.NotEmpty(t, found)
		_, err = l.Verify()
		require.NoError(t, err)
		require.NoError(t, l.Close())
	})
}

func FuzzReadQuery(f *testing.F) {
	f.Add(AppendQuery(nil, &Query{Tenant: "a", Limit: 10, Since: time.Unix(1, 0)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := codec.NewReader(b)
		q := ReadQuery(r)
		if r.Done() == nil {
			require.LessOrEqual(t, q.Limit, MaxFound)
		}
	})
}

func BenchmarkRefuse(b *testing.B) {
	trail, err := Open(vfs.NewMem(), "/audit", "n", Options{}, quiet())
	require.NoError(b, err)
	e := Event{At: time.Now(), Actor: "nobody", From: "10.0.0.1", Action: "query", Result: "unauthenticated"}
	b.ReportAllocs()
	for b.Loop() {
		trail.Refuse(e)
	}
	require.NoError(b, trail.Close())
}
