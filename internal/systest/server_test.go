package systest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// adminKey is the key of every server under test.
const adminKey = "systest-0123456789abcdefghijklmnopqrstuvwxyz"

// startTimeout is a bound against hanging, not an expectation.
const startTimeout = time.Minute

// setup says how to start a server.
type setup struct {
	data    string
	shards  int      // 0: 2
	reserve string   // --disk-reserve; "": off
	flags   []string // more of them
	env     []string // more than every server has
	wrap    []string // a command to run the server under: strace and its flags
}

// server is a process of `croft serve`.
type server struct {
	tb     testing.TB
	cmd    *exec.Cmd
	stdin  io.Closer
	log    string      // path of its stderr
	ready  chan string // gets the URL when it serves
	exited chan struct{}
	url    string
}

// launch starts a server and does not wait for it. It is gone when the test ends.
func launch(tb testing.TB, how setup) *server {
	tb.Helper()
	bin, err := croft()
	require.NoError(tb, err)
	shards, reserve := how.shards, how.reserve
	if shards == 0 {
		shards = 2
	}
	if reserve == "" {
		reserve = "off"
	}
	line := append(append([]string{}, how.wrap...), bin, "serve", "--data", how.data, "--listen", "127.0.0.1:0",
		"--shards", strconv.Itoa(shards), "--disk-reserve", reserve, "--stop-with-stdin")
	line = append(line, how.flags...)
	s := &server{tb: tb, cmd: exec.Command(line[0], line[1:]...), ready: make(chan string, 1), exited: make(chan struct{})}
	s.cmd.Env = append(append(os.Environ(), "CROFT_ADMIN_KEY="+adminKey, "CROFT_CONFIG="+os.DevNull), how.env...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that kill reaches the server below strace
	s.start()
	tb.Cleanup(func() {
		s.kill()
		if tb.Failed() {
			tb.Logf("end of the log of a server on %s:\n%s", how.data, s.logTail())
		}
	})
	return s
}

func (s *server) start() {
	s.tb.Helper()
	logFile, err := os.Create(filepath.Join(s.tb.TempDir(), "serve.log"))
	require.NoError(s.tb, err)
	defer logFile.Close()
	s.log, s.cmd.Stderr = logFile.Name(), logFile
	stdout, err := s.cmd.StdoutPipe()
	require.NoError(s.tb, err)
	s.stdin, err = s.cmd.StdinPipe()
	require.NoError(s.tb, err)
	require.NoError(s.tb, s.cmd.Start())
	go s.watch(stdout)
}

// watch waits for the line that says where the server listens, then for its end.
func (s *server) watch(stdout io.Reader) {
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if url, ok := strings.CutPrefix(lines.Text(), "croft ready "); ok {
			s.ready <- url
		}
	}
	_ = s.cmd.Wait() // ProcessState tells the same
	close(s.exited)
}

// await waits until the server serves; an error says why it does not.
func (s *server) await() error {
	select {
	case s.url = <-s.ready:
		return s.readyz()
	case <-s.exited:
		return fmt.Errorf("server ended (%v): %s", s.cmd.ProcessState, s.logTail())
	case <-time.After(startTimeout):
		return fmt.Errorf("server is not ready after %v: %s", startTimeout, s.logTail())
	}
}

func (s *server) readyz() error {
	resp, err := http.Get(s.url + "/readyz")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("/readyz answers %d: %s", resp.StatusCode, b)
	}
	return nil
}

// start launches a server and waits until it serves.
func start(tb testing.TB, how setup) *server {
	tb.Helper()
	s := launch(tb, how)
	require.NoError(tb, s.await())
	return s
}

// kill ends the server as `kill -9` does and waits until it is gone.
func (s *server) kill() {
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // it may be gone already
	<-s.exited
}

// freeze stops the server in its tracks: on return it neither does nor says anything more.
func (s *server) freeze() {
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGSTOP)
	var state syscall.WaitStatus
	_, _ = syscall.Wait4(s.cmd.Process.Pid, &state, syscall.WUNTRACED, nil) // a busy machine takes its time
}

// terminate asks the server to stop in order, and does not wait.
func (s *server) terminate() { _ = s.stdin.Close() }

// stop stops the server in order.
func (s *server) stop() error {
	s.terminate()
	return s.end()
}

// end waits for the server to end by itself and tells how it did.
func (s *server) end() error {
	select {
	case <-s.exited:
	case <-time.After(startTimeout):
		return fmt.Errorf("server still runs after %v: %s", startTimeout, s.logTail())
	}
	if !s.cmd.ProcessState.Success() {
		return fmt.Errorf("server: %v: %w", s.cmd.ProcessState, errFailed)
	}
	return nil
}

// errFailed is the end of a server that says that something went wrong.
var errFailed = errors.New("ended with a failure")

func (s *server) logTail() string {
	b, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-15):], []byte("\n")))
}
