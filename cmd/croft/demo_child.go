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
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/croftdb/croft/internal/errs"
)

// childServer is a `croft serve` that this process started.
type childServer struct {
	url    string
	cmd    *exec.Cmd
	stdin  io.Closer     // closing it stops the server; so does the death of this process
	exited chan struct{} // closed when it has ended
	log    string        // path
}

// readyPrefix begins the line that `croft serve` prints on stdout once it serves.
const readyPrefix = "croft ready "

// startTimeout bounds the start of a demo's server; it has nothing to recover.
const startTimeout = 30 * time.Second

// startServer runs `croft serve` from the same binary, and waits until it serves.
func (a *app) startServer(ctx context.Context, d demo, dir, key string) (*childServer, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	s := &childServer{exited: make(chan struct{}), log: filepath.Join(dir, "serve.log")}
	logFile, err := os.Create(s.log)
	if err != nil {
		return nil, fmt.Errorf("make the server's log: %w", err)
	}
	defer logFile.Close()
	s.cmd = exec.Command(exe, "serve", "--data", filepath.Join(dir, "node-1"), "--listen", d.listen,
		"--shards", fmt.Sprint(d.shards), "--stop-with-stdin")
	s.cmd.Env = append(os.Environ(), "CROFT_ADMIN_KEY="+key, "CROFT_CONFIG="+os.DevNull)
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
	ready := make(chan string, 1)
	go s.watch(stdout, ready)
	return s, s.awaitReady(ctx, ready)
}

// watch reads the server's stdout to its end, then waits for the process.
func (s *childServer) watch(stdout io.Reader, ready chan<- string) {
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if url, ok := strings.CutPrefix(lines.Text(), readyPrefix); ok {
			ready <- url
		}
	}
	_ = s.cmd.Wait() // its state tells the same
	close(s.exited)
}

func (s *childServer) awaitReady(ctx context.Context, ready <-chan string) error {
	select {
	case s.url = <-ready:
		return nil
	case <-s.exited:
		return s.startError()
	case <-ctx.Done():
		return firstError(s.stop(), ctx.Err())
	case <-time.After(startTimeout):
		return firstError(s.stop(), errs.New(errs.DeadlineExceeded, "the server was not ready within %v", startTimeout).
			WithHint("the end of its log:\n%s", s.logTail()))
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

// stop ends the server in order: it drains, flushes and closes.
func (s *childServer) stop() error {
	if s.hasExited() {
		return nil
	}
	s.stdin.Close()
	select {
	case <-s.exited:
	case <-time.After(stopTimeout):
		_ = s.cmd.Process.Kill()
		<-s.exited
		return errs.New(errs.DeadlineExceeded, "the server did not stop within %v and was killed", stopTimeout)
	}
	if !s.cmd.ProcessState.Success() {
		return errors.New("the server stopped badly: " + s.describeExit())
	}
	return nil
}

func (s *childServer) hasExited() bool {
	select {
	case <-s.exited:
		return true
	default:
		return false
	}
}
