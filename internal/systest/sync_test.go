package systest

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// traced returns the command that records a server's syscalls in a file, more flags added.
func traced(t *testing.T, flags ...string) (wrap []string, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "strace")
	wrap = []string{needTool(t, "strace"), "-f", "-yy", "-s", "4096", "-o", file,
		"-e", "trace=write,writev,pwrite64,pwritev,sendto,sendmsg,fsync,fdatasync"}
	return append(wrap, flags...), file
}

func readTrace(t *testing.T, file string) []*syscallSeen {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	calls, err := parseTrace(f)
	require.NoError(t, err)
	return calls
}

// upsertSingly has some clients upsert single records until each has done n or one fails, and returns the ids of the
// writes that were acknowledged. The id of a write is that of its record and of its request.
func upsertSingly(ctx context.Context, c conn, clients, n int) (acknowledged []string, err error) {
	c = c.index("l2")
	byClient := make([][]string, clients)
	var g errgroup.Group
	for i := range clients {
		g.Go(func() error {
			for j := range n {
				id := fmt.Sprintf("write-%d-%04d.", i, j)
				r := record{ID: id, Values: []float32{float32(i), float32(j), 1, 2, 3, 4, 5, 6}}
				path, body := op{upsert: []record{r}}.request(fmt.Sprintf("ns-%d", i))
				if err := c.as(id).call(ctx, http.MethodPost, path, body, nil); err != nil {
					return err
				}
				byClient[i] = append(byClient[i], id)
			}
			return nil
		})
	}
	err = g.Wait()
	return slices.Concat(byClient...), err
}

// TestSyncBeforeAck watches the syscalls of a server: each acknowledgement leaves after the sync of the log that holds
// the write. kill -9 cannot show this, since it spares the page cache.
func TestSyncBeforeAck(t *testing.T) {
	wrap, file := traced(t)
	s := start(t, setup{data: t.TempDir(), wrap: wrap})
	require.NoError(t, dial(s).createIndex(t.Context(), "l2", "euclidean", 8))
	ids, err := upsertSingly(t.Context(), dial(s), 4, setting(t, "CROFT_TRACED_WRITES", 20))
	require.NoError(t, err)
	require.NoError(t, s.stop())

	calls := readTrace(t, file)
	require.NoError(t, checkSynced(calls, ids))
	for name, doctor := range doctors {
		require.Error(t, checkSynced(doctor(readTrace(t, file)), ids), "the trace is doctored: %s", name)
	}
}

// doctors falsify a real trace in ways that the check must see.
var doctors = map[string]func([]*syscallSeen) []*syscallSeen{
	"no sync of logs": func(calls []*syscallSeen) []*syscallSeen {
		return slices.DeleteFunc(calls, func(c *syscallSeen) bool { return c.isSync() && strings.HasSuffix(c.file, ".wal") })
	},
	"one sync late": func(calls []*syscallSeen) []*syscallSeen {
		at := slices.IndexFunc(calls, func(c *syscallSeen) bool { return c.isAnswer("write-2-0007.") })
		for _, c := range calls[:at] {
			if c.isSync() && c.begin > calls[0].begin {
				c.end = max(c.end, calls[at].begin+1)
			}
		}
		return calls
	},
	"syncs fail": func(calls []*syscallSeen) []*syscallSeen {
		for _, c := range calls {
			c.ok = c.ok && !c.isSync()
		}
		return calls
	},
	"nothing in the logs": func(calls []*syscallSeen) []*syscallSeen {
		return slices.DeleteFunc(calls, (*syscallSeen).isLogWrite)
	},
}

// TestFailedSync makes syncs of a server fail by the syscall: nothing is acknowledged on the strength of a log that
// failed, the process ends with a failure by itself, and the next one has all that was acknowledged.
func TestFailedSync(t *testing.T) {
	needTool(t, "strace")
	failed, acked := 0, 0
	for n := 1; n <= setting(t, "CROFT_FAILED_SYNCS", 6); n++ {
		nth := n * (n + 1) / 2 // of each thread: strace counts them apart
		t.Run(fmt.Sprintf("sync %d", nth), func(t *testing.T) {
			if n := failOneSync(t, nth); n >= 0 {
				failed++
				acked += n
			}
		})
	}
	require.GreaterOrEqual(t, failed, 3, "so few failures prove nothing")
	require.Positive(t, acked, "all failed before the first write")
	t.Logf("%d servers failed, after %d acknowledged writes", failed, acked)
}

// failOneSync returns how many writes were acknowledged by a server of which a sync failed; -1: none failed.
func failOneSync(t *testing.T, nth int) int {
	how := setup{data: t.TempDir()}
	s := start(t, how)
	require.NoError(t, dial(s).createIndex(t.Context(), "l2", "euclidean", 8))
	require.NoError(t, s.stop())

	wrap, file := traced(t, "-e", fmt.Sprintf("inject=fsync,fdatasync:error=EIO:when=%d", nth))
	faulty := launch(t, setup{data: how.data, wrap: wrap})
	var ids []string
	if err := faulty.await(); err == nil {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // in case no sync ever fails
		defer cancel()
		ids, _ = upsertSingly(ctx, dial(faulty), 4, 60)
	}
	faulty.terminate()
	ended := faulty.end()
	calls := readTrace(t, file)
	injected := slices.ContainsFunc(calls, func(c *syscallSeen) bool { return c.isSync() && !c.ok })
	if injected {
		require.ErrorIs(t, ended, errFailed, "a server whose sync failed must say so")
	}
	require.NoError(t, checkSynced(calls, ids))
	requireAll(t, start(t, how), ids)
	if !injected {
		return -1
	}
	return len(ids)
}

// requireAll sees that a server has the records of upsertSingly.
func requireAll(t *testing.T, s *server, ids []string) {
	t.Helper()
	for i := range 4 {
		ns, seen := fmt.Sprintf("ns-%d", i), state{}
		want := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !strings.HasPrefix(id, fmt.Sprintf("write-%d-", i)) })
		if len(want) == 0 {
			continue
		}
		require.NoError(t, dial(s).index("l2").fetch(t.Context(), ns, want, seen))
		for _, id := range want {
			require.Contains(t, seen, id, "acknowledged, then lost")
		}
	}
}
