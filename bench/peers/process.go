package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// process is a child process with one index, from its parent's side.
type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *json.Decoder
	stderr bytes.Buffer
	group  *cgroup
}

// start runs a program, this one or another build of it, as a child with a task, within a memory limit if group is not
// nil. stop must be called.
func start(ctx context.Context, program string, t task, group *cgroup) (*process, error) {
	arg, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	command := []string{program, childCommand, string(arg)}
	p := &process{group: group}
	if group != nil {
		command = group.command(command)
	}
	p.cmd = exec.CommandContext(ctx, command[0], command[1:]...)
	p.cmd.Stderr = &p.stderr
	if group != nil {
		p.cmd.Env = append(os.Environ(), group.environment()...)
	}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = json.NewDecoder(out)
	return p, p.cmd.Start()
}

// ask sends a request and returns the reply to it.
func (p *process) ask(r request) (reply, error) {
	if err := json.NewEncoder(p.in).Encode(r); err != nil {
		return reply{}, p.died(err)
	}
	return p.reply()
}

// reply waits for the next reply.
func (p *process) reply() (reply, error) {
	var r reply
	if err := p.out.Decode(&r); err != nil {
		return reply{}, p.died(err)
	}
	if r.Fault != "" {
		return reply{}, errors.New(r.Fault)
	}
	return r, nil
}

// died explains why a child no longer answers. One that says what nobody understands is ended.
func (p *process) died(err error) error {
	_ = p.in.Close()
	if ended := p.cmd.Wait(); ended != nil {
		err = ended
	}
	if p.group != nil && p.group.killed() {
		return fmt.Errorf("killed for want of memory: it does not fit into %d bytes (%w)", p.group.limit, err)
	}
	// A Go program that dies writes pages about its goroutines; the first line says why.
	why, _, _ := strings.Cut(strings.TrimSpace(p.stderr.String()), "\n")
	return fmt.Errorf("its process ended: %w: %s", err, why)
}

// stop ends the child and waits for it.
func (p *process) stop() error {
	err := p.in.Close()
	if p.cmd.ProcessState == nil {
		err = errors.Join(err, p.cmd.Wait())
	}
	return errors.Join(err, p.group.remove())
}
