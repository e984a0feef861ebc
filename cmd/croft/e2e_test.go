package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/bench"
	"github.com/croftdb/croft/internal/client"
)

// beCroft makes the test binary run as croft itself: real processes, without building twice.
const beCroft = "CROFT_TEST_BE_CROFT"

func TestMain(m *testing.M) {
	if os.Getenv(beCroft) != "" {
		main()
	}
	os.Exit(m.Run())
}

// world is a user's machine: configuration, state and data directories, and an environment.
type world struct {
	t   *testing.T
	dir string
	env []string
}

func newWorld(t *testing.T) *world {
	dir := t.TempDir()
	return &world{t: t, dir: dir, env: []string{
		beCroft + "=1", "PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir,
		"XDG_CONFIG_HOME=" + filepath.Join(dir, "config"), "XDG_STATE_HOME=" + filepath.Join(dir, "state"),
		"CROFT_CONFIG=" + os.DevNull,
	}}
}

func (w *world) path(elem ...string) string {
	return filepath.Join(append([]string{w.dir}, elem...)...)
}

func (w *world) command(args ...string) *exec.Cmd {
	exe, err := os.Executable()
	require.NoError(w.t, err)
	cmd := exec.Command(exe, args...)
	cmd.Env = w.env
	cmd.Dir = w.dir
	return cmd
}

// result is what a command did.
type result struct {
	out, err string
	code     int
}

func (w *world) run(args ...string) result {
	w.t.Helper()
	cmd := w.command(args...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(w.t, err)
	}
	return result{out.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// must runs a command that has to succeed, and returns its data.
func (w *world) must(args ...string) string {
	w.t.Helper()
	r := w.run(args...)
	require.Equal(w.t, exitOK, r.code, "croft %s: %s", strings.Join(args, " "), r.err)
	return r.out
}

// fails runs a command that has to end with a code, and returns what it said.
func (w *world) fails(code int, args ...string) string {
	w.t.Helper()
	r := w.run(args...)
	require.Equal(w.t, code, r.code, "croft %s: %s%s", strings.Join(args, " "), r.out, r.err)
	return r.err
}

// process is a croft that goes on running.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout *lines
	stderr *lines
	done   chan struct{} // closed when it has ended and all it said is read
}

// lines collects a stream and lets others wait for a line of it.
type lines struct {
	mu    sync.Mutex
	all   []string
	more  chan struct{} // replaced when closed
	ended bool
	end   chan struct{} // closed when ended
}

func collectLines(r io.Reader) *lines {
	l := &lines{more: make(chan struct{}), end: make(chan struct{})}
	go func() {
		for s := bufio.NewScanner(r); s.Scan(); {
			l.add(s.Text(), false)
		}
		l.add("", true)
		close(l.end)
	}()
	return l
}

func (l *lines) add(line string, end bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !end {
		l.all = append(l.all, line)
	}
	l.ended = end
	close(l.more)
	l.more = make(chan struct{})
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}

// await returns the first line that the pattern matches, or fails when the stream ends or nothing comes for long.
func (l *lines) await(t *testing.T, pattern string) string {
	t.Helper()
	return l.awaitNth(t, pattern, 1)
}

// awaitNth is await for the nth such line.
func (l *lines) awaitNth(t *testing.T, pattern string, n int) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(60 * time.Second)
	for from := 0; ; {
		l.mu.Lock()
		news, ended, more := l.all[from:], l.ended, l.more
		from = len(l.all)
		l.mu.Unlock()
		for _, line := range news {
			if re.MatchString(line) {
				n--
			}
			if n == 0 {
				return line
			}
		}
		if ended {
			require.FailNow(t, "the stream ended", "without %q:\n%s", pattern, l.text())
		}
		select {
		case <-more:
		case <-deadline:
			require.FailNow(t, "nothing came", "no %q in:\n%s", pattern, l.text())
		}
	}
}

func (w *world) start(args ...string) *process {
	w.t.Helper()
	p := &process{t: w.t, cmd: w.command(args...), done: make(chan struct{})}
	stdout, outW, err := os.Pipe()
	require.NoError(w.t, err)
	stderr, errW, err := os.Pipe()
	require.NoError(w.t, err)
	p.cmd.Stdout, p.cmd.Stderr = outW, errW
	require.NoError(w.t, p.cmd.Start())
	outW.Close()
	errW.Close()
	p.stdout, p.stderr = collectLines(stdout), collectLines(stderr)
	go func() {
		_ = p.cmd.Wait()
		<-p.stdout.end
		<-p.stderr.end
		close(p.done)
	}()
	w.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		stdout.Close()
		stderr.Close()
	})
	return p
}

// end signals the process and returns its exit code.
func (p *process) end(sig syscall.Signal) int {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(sig))
	return p.exitCode()
}

func (p *process) exitCode() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(60 * time.Second):
		require.FailNow(p.t, "the process does not end", "%s\n%s", p.stdout.text(), p.stderr.text())
	}
	return p.cmd.ProcessState.ExitCode()
}

const testKey = "a key of sixteen bytes or more"

// serve starts a server with a known key, and points the world's verbs to it.
func (w *world) serve(address string) *process {
	w.t.Helper()
	w.env = append(w.env, "CROFT_ADMIN_KEY="+testKey, "CROFT_API_KEY="+testKey, "CROFT_URL=http://"+address)
	return w.restart(address)
}

func (w *world) restart(address string) *process {
	w.t.Helper()
	p := w.start("serve", "--data", w.path("data"), "--listen", address, "--shards", "2")
	p.stdout.await(w.t, "^croft ready http://")
	return p
}

func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

func TestFirstStart(t *testing.T) {
	t.Parallel()
	w, address := newWorld(t), freeAddress(t)
	first := w.restart(address)
	first.stderr.await(t, "msg.*ready") // the last line of a start: all before it has been read
	banner := first.stderr.text()
	keys := regexp.MustCompile(`croft_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}`).FindAllString(banner, -1)
	require.Len(t, keys, 1, "the key is shown once:\n%s", banner)
	w.env = append(w.env, "CROFT_URL=http://"+address)
	w.fails(exitAuth, "index", "list")
	w.env = append(w.env, "CROFT_API_KEY="+keys[0])
	w.must("index", "list")
	w.must("health")
	require.Equal(t, exitOK, first.end(syscall.SIGTERM))

	second := w.restart(address)
	second.stderr.await(t, "msg.*ready")
	require.NotContains(t, second.stderr.text(), keys[0])
	w.must("index", "list")
	require.Equal(t, exitOK, second.end(syscall.SIGINT))
	require.Contains(t, w.fails(exitUnavailable, "index", "list"), "croft demo")
	require.NoError(t, filepath.Walk(w.path("data"), func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		require.NotContains(t, string(b), keys[0], "%s holds the key itself", path)
		return err
	}))
}

func TestSavedKeyOpensTheServer(t *testing.T) {
	t.Parallel()
	w, address := newWorld(t), freeAddress(t)
	p := w.start("serve", "--data", w.path("data"), "--listen", address, "--shards", "1", "--save-key")
	p.stdout.await(t, "^croft ready")
	w.must("index", "list", "--url", "http://"+address)
	w.env = append(w.env, "PINECONE_API_KEY=of-another-service")
	w.must("index", "list", "--url", "http://"+address)
	w.env = append(w.env, "CROFT_API_KEY=wrong")
	said := w.fails(exitAuth, "index", "list", "--url", "http://"+address)
	require.Contains(t, said, "Invalid API key")
	require.Contains(t, said, "the key came from CROFT_API_KEY")
	require.Equal(t, exitOK, p.end(syscall.SIGTERM))
}

func TestStartsThatCannotBe(t *testing.T) {
	t.Parallel()
	w, address := newWorld(t), freeAddress(t)
	p := w.serve(address)
	said := w.fails(exitConflict, "serve", "--data", w.path("other"), "--listen", address)
	require.Contains(t, said, fmt.Sprintf("%s is in use by pid %d", address, p.cmd.Process.Pid))
	require.Contains(t, said, "use --listen 127.0.0.1:")
	said = w.fails(exitConflict, "serve", "--data", w.path("data"), "--listen", freeAddress(t))
	require.Contains(t, said, fmt.Sprintf("is used by another croft (pid %d)", p.cmd.Process.Pid))

	file := w.path("file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.Contains(t, w.fails(exitFailure, "serve", "--data", file, "--listen", freeAddress(t)), "not a directory")
	require.Contains(t, w.fails(exitUsage, "serve"), "--data names no directory")
	w.env = append(w.env, "CROFT_KERNEL=abacus")
	require.Contains(t, w.fails(exitUsage, "serve", "--data", w.path("third"), "--listen", freeAddress(t)), "abacus")
	require.Contains(t, w.fails(exitUsage, "bench", "recall", "--dataset", w.path("third")), "abacus")
	w.env = append(w.env, "CROFT_KERNEL=", "CROFT_ADMIN_KEY=short")
	require.Contains(t, w.fails(exitUsage, "serve", "--data", w.path("third"), "--listen", freeAddress(t)), "at least 16")
	require.NoDirExists(t, w.path("third"), "a wrong setting is told before anything is made")
}

func TestServeSettings(t *testing.T) {
	t.Parallel()
	w, address := newWorld(t), freeAddress(t)
	config := w.path("croft.yaml")
	require.NoError(t, os.WriteFile(config, []byte("data: "+w.path("data")+"\nlisten: 127.0.0.1:1\nshards: 2\nlog_format: text\n"), 0o600))
	w.env = append(w.env, "CROFT_LISTEN="+address, "CROFT_ADMIN_KEY="+testKey)
	p := w.start("serve", "--config", config)
	require.Equal(t, "croft ready http://"+address, p.stdout.await(t, "ready"))
	require.Contains(t, p.stderr.await(t, "msg=ready"), w.path("data"))
	require.Equal(t, exitOK, p.end(syscall.SIGTERM))

	p = w.start("serve", "--config", config, "--shards", "3")
	require.Contains(t, p.stderr.await(t, "no effect"), "asked=3 shards=2")
	p.stdout.await(t, "ready")
	require.Equal(t, exitOK, p.end(syscall.SIGTERM))

	require.NoError(t, os.WriteFile(config, []byte("# comment\ndatta: x\n"), 0o600))
	require.Contains(t, w.fails(exitUsage, "serve", "--config", config), `croft.yaml line 2: there is no setting "datta"; did you mean "data"?`)
}

// TestTour uses each verb of a client.
func TestTour(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(freeAddress(t))
	w.must("index", "create", "docs", "--dimension", "3", "--tag", "team=search")
	w.fails(exitConflict, "index", "create", "docs", "--dimension", "3")
	require.Contains(t, w.must("index", "describe", "docs", "-o", "json"), `"team": "search"`)
	w.must("index", "create", "codes", "-d", "3", "--quantization", "4", "--m", "8", "--ef-construction", "50", "--target-recall", "0.9")
	require.Contains(t, w.must("index", "describe", "codes", "-o", "jsonl"), `"croft":{"quantization":"4","m":8,"ef_construction":50,"target_recall":0.9}`)
	require.Contains(t, w.must("index", "configure", "codes", "--target-recall", "0.95", "-o", "jsonl"), `"target_recall":0.95`)
	require.Contains(t, w.fails(exitFailure, "index", "configure", "codes", "--target-recall", "2"), "croft.target_recall")
	w.must("index", "delete", "codes", "--yes")
	w.must("upsert", "docs", `[{"id":"a","values":[1,0,0],"metadata":{"lang":"en","n":1}},{"id":"b","values":[0,1,0],"metadata":{"lang":"de"}}]`, "-n", "acme")

	table := w.run("query", "docs", "-n", "acme", "--id", "a", "-k", "2")
	require.Equal(t, "ID    SCORE     METADATA\na     1.0000    {\"lang\":\"en\",\"n\":1}\nb     0.0000    {\"lang\":\"de\"}\n", table.out)
	require.Regexp(t, `^2 matches in \d+\.\d ms\n$`, table.err)
	require.Equal(t, "b", w.must("query", "docs", "-n", "acme", "--vector", "[1,0,0]", "--filter", `{"lang":"de"}`, "-o", "jsonl", "--include-metadata=false")[7:8])
	require.Empty(t, w.run("query", "docs", "-n", "acme", "--id", "a", "--recall", "0.9", "-q").err)
	require.Contains(t, w.must("query", "docs", "-n", "acme", "--id", "a", "-k", "1", "-o", "jsonl"), `"values":[]`, "as the API has it")

	w.must("update", "docs", "-n", "acme", "--id", "a", "--set", `{"n":2}`)
	require.Contains(t, w.must("fetch", "docs", "a", "-n", "acme"), `{"lang":"en","n":2}`)
	w.fails(exitNotFound, "fetch", "docs", "zzz", "-n", "acme")
	require.Equal(t, "ID\na\nb\n", w.must("list", "docs", "-n", "acme"))
	require.Equal(t, "NAMESPACE,RECORDS\nacme,2\n", w.must("stats", "docs", "-o", "csv"))
	w.must("namespaces", "create", "docs", "empty")
	require.Contains(t, w.must("namespaces", "list", "docs"), "empty")

	require.Contains(t, w.fails(exitUsage, "delete", "docs", "-n", "acme", "--all"), "this deletes 2 records of namespace acme in index docs")
	require.Contains(t, w.run("delete", "docs", "-n", "acme", "--filter", `{"lang":"de"}`, "--dry-run").err, "would delete 1 record of")
	require.Equal(t, "{}\n", w.must("delete", "docs", "-n", "acme", "--id", "b", "--yes", "-o", "jsonl"))
	require.Equal(t, "ID\na\n", w.must("list", "docs", "-n", "acme"))
	require.Contains(t, w.must("shards", "list", "-o", "csv"), "0,shared,")
	require.Contains(t, w.must("shards", "get", "1", "-o", "csv"), ",leader,")
	w.fails(exitNotFound, "shards", "get", "2")
	require.Contains(t, w.must("shards", "add", "--dedicated", "--name", "big", "-o", "csv"), "2,dedicated,big,")
	require.Contains(t, w.must("tenants", "create", "big", "--shard", "2", "-o", "csv"), "big,2,pin,")
	w.fails(exitConflict, "tenants", "create", "big", "--shard", "0")
	w.must("upsert", "docs", `{"id":"a","values":[1,0,0]}`, "-n", "big")
	require.Contains(t, w.must("tenants", "get", "acme", "-o", "csv"), ",ring,")
	w.fails(exitConflict, "shards", "remove", "2", "--yes")
	tryTenants(t, w)
	trySearch(t, w)
	require.Contains(t, w.must("shards", "policy", "least-loaded", "-o", "csv"), "least-loaded,")
	require.Contains(t, w.must("nodes", "list", "-o", "csv"), ",active,yes,"+w.lastEnv("CROFT_URL")+",")
	require.Contains(t, w.fails(exitConflict, "nodes", "add"), "--peer-listen")
	w.must("namespaces", "delete", "docs", "acme", "--yes")
	w.fails(exitNotFound, "namespaces", "describe", "docs", "acme")
	w.must("index", "delete", "docs", "--yes")
	w.fails(exitNotFound, "query", "docs", "--id", "a")
}

// writeRecords writes n records, some of which no index of three values takes, and returns how many of those.
func writeRecords(t *testing.T, path string, n int) (bad int) {
	var b bytes.Buffer
	for i := range n {
		switch {
		case i%1000 == 17:
			fmt.Fprintf(&b, "{\"id\":\"r-%d\",\"values\":[1,2]}\n", i)
			bad++
		case i%1000 == 423:
			fmt.Fprintf(&b, "{\"id\":\"r-%d\",\"values\":[1,2,null]}\n", i)
			bad++
		default:
			fmt.Fprintf(&b, "{\"id\":\"r-%d\",\"values\":[%d,1,0.5]}\n", i, i)
		}
	}
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o600))
	return bad
}

// TestImportSurvivesKills kills the import and the server in its middle, and counts afterwards.
func TestImportSurvivesKills(t *testing.T) {
	t.Parallel()
	const rows = 40_000
	w, address := newWorld(t), freeAddress(t)
	server := w.serve(address)
	w.must("index", "create", "docs", "--dimension", "3")
	input := w.path("in.jsonl")
	bad := writeRecords(t, input, rows)

	importer := w.start("import", input, "--index", "docs", "--batch", "20", "--concurrency", "2")
	w.awaitGrowth("docs", 500)
	importer.end(syscall.SIGKILL)
	importer = w.start("import", input, "--index", "docs", "--batch", "20", "--concurrency", "2")
	w.awaitGrowth("docs", 500)
	require.Equal(t, exitInterrupted, importer.end(syscall.SIGINT))
	require.Contains(t, importer.stderr.text(), "the same command goes on from row")
	importer = w.start("import", input, "--index", "docs", "--batch", "20", "--concurrency", "2", "--allow-rejects", "--json")
	w.awaitGrowth("docs", 500)
	server.end(syscall.SIGKILL)
	server = w.restart(address)
	require.Equal(t, exitOK, importer.exitCode(), importer.stderr.text())
	require.Contains(t, importer.stderr.text(), "going on at row")

	var summary importSummary
	require.NoError(t, json.Unmarshal([]byte(importer.stdout.text()), &summary))
	require.EqualValues(t, rows, summary.Read)
	require.EqualValues(t, rows-bad, summary.Stored)
	require.EqualValues(t, bad, summary.Rejected)
	require.Equal(t, rows-bad, w.records("docs"))
	rejects, err := os.ReadFile(input + ".rejects.jsonl")
	require.NoError(t, err)
	require.Equal(t, bad, bytes.Count(rejects, []byte("\n")))
	require.Contains(t, string(rejects), `{"row":17,"id":"r-17","reason":"it has 2 values, the index takes 3"}`)

	server.end(syscall.SIGKILL)
	w.restart(address)
	require.Equal(t, rows-bad, w.records("docs"), "what was acknowledged is there after kill -9")
	require.Contains(t, w.must("fetch", "docs", "r-39999", "-o", "jsonl"), "39999,1,0.5")
	require.Contains(t, w.fails(exitFailure, "import", input, "--index", "docs", "-q"), "80 rows rejected")
	require.Contains(t, w.fails(exitNotFound, "import", input, "--index", "docs", "--resume"), "left unfinished")
}

func (w *world) records(index string) int {
	w.t.Helper()
	c, err := client.New(client.Options{URL: w.lastEnv("CROFT_URL"), APIKey: testKey})
	require.NoError(w.t, err)
	defer c.Close()
	ix, err := c.Index(w.t.Context(), index)
	require.NoError(w.t, err)
	stats, err := ix.Stats(w.t.Context())
	require.NoError(w.t, err)
	return stats.TotalVectorCount
}

// awaitGrowth waits until an index has n more records than now.
func (w *world) awaitGrowth(index string, n int) {
	w.t.Helper()
	want := w.records(index) + n
	deadline := time.Now().Add(60 * time.Second)
	for w.records(index) < want {
		require.True(w.t, time.Now().Before(deadline), "no %d records in index %s", want, index)
	}
}

func TestImportRefusesAnotherFileUnderTheSameName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(freeAddress(t))
	input := w.path("in.fvecs")
	require.NoError(t, bench.WriteVectors(input, [][]float32{{1, 2}, {3, 4}}))
	w.fails(exitNotFound, "import", input, "--index", "v")
	w.must("import", input, "--index", "v", "--create", "--metric", "euclidean", "--target-recall", "0.9", "--m", "8", "--id-prefix", "x-")
	described := w.must("index", "describe", "v", "-o", "json")
	require.Contains(t, described, `"target_recall": 0.9`)
	require.Contains(t, described, `"m": 8`)
	require.Contains(t, w.must("fetch", "v", "x-1", "-o", "jsonl"), "[3,4]")

	a := newTestApp("", map[string]string{"XDG_STATE_HOME": w.path("state")})
	target := importTarget{URL: "http://" + strings.TrimPrefix(w.lastEnv("CROFT_URL"), "http://"), Index: "v"}
	path, err := a.statePath(input, target)
	require.NoError(t, err)
	require.NoError(t, (&importState{Input: fileIdentity{Path: input, Size: 7}, Target: target, Row: 1}).save(path))
	require.Contains(t, w.fails(exitConflict, "import", input, "--index", "v"), "has changed since row 1")
	w.must("import", input, "--index", "v", "--restart")
	require.Equal(t, 4, w.records("v"))
}

func (w *world) lastEnv(name string) (value string) {
	for _, kv := range w.env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			value = v
		}
	}
	return value
}

// demoAddress is one from which on the ports of three nodes are free, below those that systems hand out by themselves.
func demoAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		d := defaultDemo()
		d.listen = fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))
		c, err := newDemoCluster(d, t.TempDir(), "")
		require.NoError(t, err)
		if c.probe() == nil {
			return d.listen
		}
	}
	require.FailNow(t, "no ports are free")
	return ""
}

// TestDemo has three nodes, kills one, asks the others, starts it again, and leaves nothing behind.
func TestDemo(t *testing.T) {
	t.Parallel()
	w, address := newWorld(t), demoAddress(t)
	p := w.start("demo", "--listen", address, "--shards", "3")
	p.stdout.await(t, "Ctrl-C stops and cleans up")
	require.Contains(t, p.stdout.text(), "node-1 ready  node-2 ready  node-3 ready")
	require.Regexp(t, `(?m)^  API        http://`+address+`  +key: croft_\S+$`, p.stdout.text())
	dirs, err := filepath.Glob(w.path("croft-demo-*"))
	require.NoError(t, err)
	require.Len(t, dirs, 1)
	nodes := w.demoNodes(dirs[0])
	require.Len(t, nodes, 3)
	nearest := func(url string) string {
		return w.must("query", demoIndex, "-n", "tenant-0001", "--id", "doc-1", "-k", "3", "--url", url)
	}
	first := nearest(nodes[0].URL)
	require.Contains(t, first, "doc-1 ")
	for _, n := range nodes[1:] {
		require.Equal(t, first, nearest(n.URL), n.Name)
		require.Contains(t, w.must("stats", demoIndex, "--top", "1", "--url", n.URL), "tenant-0001    4,4", n.Name)
	}
	require.Equal(t, 3, strings.Count(w.must("nodes", "list", "-o", "csv", "--url", nodes[2].URL), ",active,yes,"))
	require.Contains(t, w.fails(exitConflict, "demo", "--listen", address), address+" is in use by pid")

	w.must("demo", "kill", "1", "--listen", address)
	require.Equal(t, first, nearest(nodes[1].URL))
	require.Equal(t, 2, strings.Count(w.must("nodes", "list", "-o", "csv", "--url", nodes[2].URL), ",active,yes,"))
	w.must("demo", "start", "1", "--listen", address)
	require.Equal(t, first, nearest(nodes[0].URL))

	nodes = w.demoNodes(dirs[0])
	require.Equal(t, exitOK, p.end(syscall.SIGINT), p.stderr.text())
	require.NoDirExists(t, dirs[0], "the data are deleted")
	for _, n := range nodes {
		require.ErrorIs(t, syscall.Kill(n.PID, 0), syscall.ESRCH, n.Name)
		w.fails(exitUnavailable, "health", "--url", n.URL)
		require.NoFileExists(t, w.path("config", "croft", "keys", strings.ReplaceAll(strings.TrimPrefix(n.URL, "http://"), ":", "_")+".json"))
	}
	left, err := filepath.Glob(w.path("state", "croft", "demo", "*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestDemoMayBeStoppedWhileItStarts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start("demo", "--listen", demoAddress(t), "--shards", "2")
	p.stdout.await(t, "data in")
	require.Equal(t, exitOK, p.end(syscall.SIGINT), p.stderr.text())
	left, err := filepath.Glob(w.path("croft-demo-*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// demoNodes reads the state file of a demo.
func (w *world) demoNodes(dir string) []demoNodeState {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, demoStateName))
	require.NoError(w.t, err)
	var state demoState
	require.NoError(w.t, json.Unmarshal(b, &state))
	return state.Nodes
}

// TestDemoNodesDieAndRise kills a node by the demo's verb and by hand, starts it again, and ends the demo with one that
// was started so.
func TestDemoNodesDieAndRise(t *testing.T) {
	t.Parallel()
	w, address := newWorld(t), freeAddress(t)
	keep := w.path("kept")
	listen := []string{"--listen", address}
	verb := func(args ...string) []string { return append(append([]string{"demo"}, args...), listen...) }
	require.Contains(t, w.fails(exitUnavailable, verb("kill", "1")...), "no demo runs at "+address)

	p := w.start(verb("--nodes", "1", "--shards", "2", "--keep", keep)...)
	p.stdout.await(t, "Ctrl-C stops and cleans up")
	require.Contains(t, w.fails(exitConflict, verb("start", "1")...), "node-1 runs already")
	require.Contains(t, w.fails(exitNotFound, verb("kill", "2")...), "there is no node 2, the demo has 1 node")
	require.Equal(t, "node-1 is killed\n", w.must(verb("kill", "1")...))
	require.Contains(t, p.stdout.await(t, "node-1 ended"), "signal: killed")
	w.fails(exitUnavailable, "health", "--url", "http://"+address)
	require.Contains(t, w.fails(exitConflict, verb("kill", "1")...), "node-1 does not run")
	require.Zero(t, w.demoNodes(keep)[0].PID)
	require.Equal(t, "node-1 serves at http://"+address+"\n", w.must(verb("start", "1")...))
	w.must("health", "--url", "http://"+address)

	require.NoError(t, syscall.Kill(w.demoNodes(keep)[0].PID, syscall.SIGKILL))
	p.stdout.awaitNth(t, "node-1 ended", 2)
	w.must("demo", "start", "node-1", "--dir", keep)
	require.Equal(t, exitOK, p.end(syscall.SIGTERM), p.stderr.text())
	w.fails(exitUnavailable, "health", "--url", "http://"+address)
	require.Contains(t, w.fails(exitUnavailable, verb("start", "1")...), "no demo runs at "+address)
	require.NoFileExists(t, filepath.Join(keep, demoStateName))

	p = w.start(verb("--nodes", "1", "--keep", keep)...)
	p.stdout.await(t, `found      "acme-docs" with 20,000 vectors`)
	p.stdout.await(t, "Ctrl-C stops")
	server := w.demoNodes(keep)[0].PID
	require.Equal(t, -1, p.end(syscall.SIGKILL))
	for deadline := time.Now().Add(time.Minute); syscall.Kill(server, 0) == nil; {
		require.True(t, time.Now().Before(deadline), "the server outlives its demo")
	}
	require.Contains(t, w.fails(exitUnavailable, verb("start", "1")...), "does not answer")
}

func TestServerStopsWithItsParent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := w.command("serve", "--data", w.path("data"), "--listen", "127.0.0.1:0", "--shards", "1", "--stop-with-stdin")
	cmd.Stdin = strings.NewReader("")
	done := make(chan error, 1)
	go func() { done <- cmd.Run() }()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		require.NoError(t, ctx.Err())
	}
}

func TestBenchRecall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	server := w.serve(freeAddress(t))
	dir := w.path("grid")
	require.NoError(t, os.Mkdir(dir, 0o700))
	var base [][]float32
	for i := range 200 {
		base = append(base, []float32{float32(i), 1})
	}
	require.NoError(t, bench.WriteVectors(filepath.Join(dir, "base.fvecs"), base))
	require.NoError(t, bench.WriteVectors(filepath.Join(dir, "query.fvecs"), [][]float32{{0.2, 1}, {100.2, 1}}))
	require.NoError(t, bench.WriteNeighbours(filepath.Join(dir, "gt10.ivecs"), [][]int32{
		{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {100, 101, 99, 102, 98, 103, 97, 104, 96, 105}}))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "metric"), []byte("l2\n"), 0o600))

	for _, target := range [][]string{nil, {"--target", w.lastEnv("CROFT_URL")}} {
		out := w.must(append([]string{"bench", "recall", "--dataset", dir, "--ef", "50", "--runs", "1", "--json"}, target...)...)
		var report bench.RecallReport
		require.NoError(t, json.Unmarshal([]byte(out), &report))
		require.Equal(t, 200, report.N)
		require.Len(t, report.Points, 1)
		require.Equal(t, 1.0, report.Points[0].Recall)
	}
	require.NotContains(t, w.must("index", "list"), "bench-", "the index that was made is gone")
	w.must("bench", "recall", "--dataset", dir, "--ef", "50", "--runs", "1", "--target", w.lastEnv("CROFT_URL"), "--keep")
	require.Contains(t, w.must("index", "list"), "bench-")
	require.Equal(t, exitOK, server.end(syscall.SIGTERM))
}
