package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/croftdb/croft/internal/errs"
)

// childServer is a `croft serve` that this process started. Its process is ours to wait for, so that its id cannot
// become another's while we may still signal it.
type childServer struct {
	cmd    *exec.Cmd
	stdin  io.Closer     // closing it stops the server; so does the death of this process
	ready  chan string   // gets the URL when it serves
	exited chan struct{} // closed when it has ended
	log    string        // path
}

// readyPrefix begins the line that `croft serve` prints on stdout once it serves.
const readyPrefix = "croft ready "

// launchServer runs `croft serve` from the same binary, with these arguments and variables, and does not wait for it.
func launchServer(log string, args, env []string) (*childServer, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	s := &childServer{ready: make(chan string, 1), exited: make(chan struct{}), log: log}
	logFile, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return nil, fmt.Errorf("make the server's log: %w", err)
	}
	defer logFile.Close()
	s.cmd = exec.Command(exe, append([]string{"serve", "--stop-with-stdin"}, args...)...)
	s.cmd.Env = append(foreignEnvironment(), env...)
	s.cmd.Stderr = logFile
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us: we stop it in order
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	go s.watch(stdout)
	return s, nil
}

// foreignEnvironment is ours without settings of a server: those were meant for another one.
func foreignEnvironment() (env []string) {
	settings := map[string]bool{}
	cfg := defaultConfig()
	flags := cfg.secretFlags()
	cfg.addFlags(flags)
	flags.VisitAll(func(f *pflag.Flag) { settings[variableOf(f.Name)] = true })
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if !settings[strings.TrimSuffix(name, "_FILE")] {
			env = append(env, kv)
		}
	}
	return append(env, "CROFT_CONFIG="+os.DevNull)
}

// watch reads the server's stdout to its end, then waits for the process.
func (s *childServer) watch(stdout io.Reader) {
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if url, ok := strings.CutPrefix(lines.Text(), readyPrefix); ok {
			s.ready <- url
		}
	}
	_ = s.cmd.Wait() // its state tells the same
	close(s.exited)
}

// awaitReady waits until the server serves, and returns its address. One that takes too long is left alone.
func (s *childServer) awaitReady(ctx context.Context, patience time.Duration) (url string, err error) {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case url = <-s.ready:
		return url, nil
	case <-s.exited:
		return "", s.startError()
	case <-ctx.Done():
		return "", ctx.Err()
	case <-late.C:
		return "", errs.New(errs.DeadlineExceeded, "the server was not ready within %v", patience).
			WithHint("the end of its log:\n%s", s.logTail())
	}
}

// startError repeats what the server said of itself.
func (s *childServer) startError() error {
	said := s.logTail()
	if i := strings.LastIndex(said, "croft: "); i >= 0 {
		said = strings.TrimSpace(said[i+len("croft: "):])
	}
	message, hint, _ := strings.Cut(said, "\n")
	return errs.New(errs.FailedPrecondition, "the server did not start (%s): %s", s.describeExit(), message).
		WithHint("%s", strings.TrimPrefix(strings.TrimSpace(hint), "hint: "))
}

func (s *childServer) describeExit() string { return s.cmd.ProcessState.String() }

// logTail is the end of the server's log.
func (s *childServer) logTail() string {
	b, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-10):], []byte("\n")))
}

// stopTimeout bounds an orderly stop before the server is killed.
const stopTimeout = 15 * time.Second

// stop ends the server in order: it drains, flushes and closes. A server that has ended already is no failure.
func (s *childServer) stop() error {
	if s.hasExited() {
		return nil
	}
	s.stdin.Close()
	select {
	case <-s.exited:
	case <-time.After(stopTimeout):
		s.kill()
		return errs.New(errs.DeadlineExceeded, "the server did not stop within %v and was killed", stopTimeout)
	}
	if !s.cmd.ProcessState.Success() {
		return errors.New("the server stopped badly: " + s.describeExit())
	}
	return nil
}

// kill ends the server as `kill -9` does, and waits until it is gone.
func (s *childServer) kill() {
	_ = s.cmd.Process.Kill() // fails only when it has ended already
	<-s.exited
}

func (s *childServer) hasExited() bool {
	select {
	case <-s.exited:
		return true
	default:
		return false
	}
}
