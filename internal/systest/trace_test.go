package systest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// syscallSeen is one line of strace's output, or the two that a call is printed as when another thread is heard of before
// it returns. Begin and end are line numbers: they order calls, since a call that was waited for has returned before
// what followed it began.
type syscallSeen struct {
	name       string
	file       string // path or connection of the first argument
	args       string
	begin, end int
	ok         bool
}

var (
	lineBegins  = regexp.MustCompile(`^(\d+) +(\w+)\((.*)$`)
	lineResumes = regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>(.*)$`)
	lineResult  = regexp.MustCompile(`\) += (-?\d+)`)
	firstFile   = regexp.MustCompile(`^\d+<((?:TCP(?:v6)?:\[[^\]]*\])|[^>]*)>`)
)

const unfinished = " <unfinished ...>"

// parseTrace reads what `strace -f -yy` wrote. A call that never returned ends behind all others, without success.
func parseTrace(r io.Reader) ([]*syscallSeen, error) {
	var calls []*syscallSeen
	open := map[string]*syscallSeen{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	n := 0
	for ; lines.Scan(); n++ {
		line := lines.Text()
		if m := lineResumes.FindStringSubmatch(line); m != nil {
			c := open[m[1]]
			if c == nil || c.name != m[2] {
				return nil, fmt.Errorf("line %d resumes what did not begin: %s", n+1, line)
			}
			delete(open, m[1])
			c.finish(n, m[3])
			continue
		}
		m := lineBegins.FindStringSubmatch(line)
		if m == nil {
			continue // signals and the ends of threads
		}
		c := &syscallSeen{name: m[2], args: m[3], begin: n}
		if f := firstFile.FindStringSubmatch(c.args); f != nil {
			c.file = f[1]
		}
		calls = append(calls, c)
		if args, waits := strings.CutSuffix(c.args, unfinished); waits {
			c.args = args
			open[m[1]] = c
			continue
		}
		c.finish(n, c.args)
	}
	for _, c := range open {
		c.end = n
	}
	return calls, lines.Err()
}

func (c *syscallSeen) finish(line int, rest string) {
	c.end = line
	// The result stands last: the same text may be part of the data before it.
	all := lineResult.FindAllStringSubmatch(rest, -1)
	c.ok = len(all) > 0 && !strings.HasPrefix(all[len(all)-1][1], "-")
}

func (c *syscallSeen) isSync() bool {
	return c.name == "fsync" || c.name == "fdatasync"
}

func (c *syscallSeen) isLogWrite() bool {
	return strings.HasSuffix(c.file, ".wal") && strings.Contains(c.name, "write")
}

// isAnswer reports whether the call sends the answer that acknowledges the write with this id.
func (c *syscallSeen) isAnswer(id string) bool {
	return strings.HasPrefix(c.file, "TCP") && strings.Contains(c.args, "HTTP/1.1 200") && strings.Contains(c.args, id)
}

// checkSynced sees for each acknowledged write that it was in a log, and that log synced, before its answer left. The
// ids of writes are part both of the records and of the answers. A log of which a sync has failed counts for nothing
// from then on: the kernel calls its pages clean, so the next sync says yes without writing them.
func checkSynced(calls []*syscallSeen, acknowledged []string) error {
	var faults []error
	for _, id := range acknowledged {
		if err := checkOne(calls, id); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", id, err))
		}
	}
	return errors.Join(faults...)
}

func checkOne(calls []*syscallSeen, id string) error {
	at := slices.IndexFunc(calls, func(c *syscallSeen) bool { return c.isAnswer(id) })
	if at < 0 {
		return errors.New("it was acknowledged, but no answer is in the trace")
	}
	answer := calls[at]
	written := false
	for i, c := range calls[:at] {
		if !c.isLogWrite() || !c.ok || c.end > answer.begin || !strings.Contains(c.args, id) {
			continue
		}
		written = true
		if syncedBetween(calls[:at], i, answer.begin) {
			return nil
		}
	}
	if written {
		return fmt.Errorf("the answer on line %d left before a sync of what was written to the log", answer.begin+1)
	}
	return fmt.Errorf("the answer on line %d left before anything was written to the log", answer.begin+1)
}

// syncedBetween reports whether the file of a write was synced after it and before a line, and never failed to before.
func syncedBetween(calls []*syscallSeen, write, before int) bool {
	for _, c := range calls {
		if !c.isSync() || c.file != calls[write].file || c.end >= before {
			continue
		}
		if !c.ok {
			return false
		}
		if c.begin > calls[write].end {
			return true
		}
	}
	return false
}

const goodTrace = `10 read(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, "POST /vectors/upsert ... w-1", 4096) = 80
10 pwrite64(5</d/0/raft/1.wal>, "..w-1..", 64, 100) = 64
10 fsync(5</d/0/raft/1.wal> <unfinished ...>
11 pwrite64(6</d/1/raft/1.wal>, ") = -1 w-2", 64, 0 <unfinished ...>
10 <... fsync resumed>)              = 0
11 <... pwrite64 resumed>)           = 64
10 --- SIGURG {si_signo=SIGURG} ---
10 write(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, "HTTP/1.1 200 OK\r\nX-Request-Id: w-1\r\n", 300) = 300
11 fdatasync(6</d/1/raft/1.wal>) = 0
11 write(8<TCP:[127.0.0.1:1->127.0.0.1:3]>, "HTTP/1.1 200 OK\r\nX-Request-Id: w-2\r\n", 300) = 300
12 futex(0x1, FUTEX_WAIT <unfinished ...>
10 +++ exited with 0 +++`

func TestCheckSynced(t *testing.T) {
	ids := []string{"w-1", "w-2"}
	judge := func(trace string) error {
		calls, err := parseTrace(strings.NewReader(trace))
		require.NoError(t, err)
		return checkSynced(calls, ids)
	}
	require.NoError(t, judge(goodTrace))
	lines := strings.Split(goodTrace, "\n")
	moved := func(from, to int) string {
		l := slices.Delete(slices.Clone(lines), from, from+1)
		return strings.Join(slices.Insert(l, to, lines[from]), "\n")
	}
	for name, trace := range map[string]string{
		"no sync":            strings.ReplaceAll(goodTrace, "fsync", "fxsync"),
		"sync of another":    strings.Replace(goodTrace, "fdatasync(6</d/1/", "fdatasync(6</d/2/", 1),
		"sync fails":         strings.Replace(goodTrace, "fdatasync(6</d/1/raft/1.wal>) = 0", "fdatasync(6</d/1/raft/1.wal>) = -1 EIO (Input/output error) (INJECTED)", 1),
		"write fails":        strings.Replace(goodTrace, "pwrite64 resumed>)           = 64", "pwrite64 resumed>) = -1 ENOSPC (No space left on device)", 1),
		"answer before":      moved(7, 2),
		"answer in the sync": moved(7, 3),
		"sync before write":  moved(8, 3),
		"sync after answer":  moved(8, 9),
		"not written":        strings.Replace(goodTrace, "..w-1..", "..w-3..", 1),
		"not answered":       strings.Replace(goodTrace, "X-Request-Id: w-2", "X-Request-Id: w-3", 1),
		"failed, then tried again": strings.Replace(goodTrace, "11 fdatasync(6</d/1/raft/1.wal>) = 0",
			"11 fdatasync(6</d/1/raft/1.wal>) = -1 EIO (Input/output error)\n11 fdatasync(6</d/1/raft/1.wal>) = 0", 1),
	} {
		require.NotEqual(t, goodTrace, trace, name)
		require.Error(t, judge(trace), name)
	}
}
