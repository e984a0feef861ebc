package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/bench"
)

// childCommand is the hidden first argument of a process that holds one index.
const childCommand = "child"

// task is what a child process is for, as JSON in its second argument.
type task struct {
	Build    bool       `json:"build"` // build and save the index; else open it and answer requests
	Library  string     `json:"library"`
	Settings settings   `json:"settings"`
	Dataset  string     `json:"dataset"`
	Rows     string     `json:"rows"` // folder of rowsFile
	Metric   ann.Metric `json:"metric"`
	Dim      int        `json:"dim"`
	Index    string     `json:"index"` // file
	Threads  int        `json:"threads"`
	K        int        `json:"k"`
}

// request asks a serving child, a line of JSON on its standard input each, to search with ef from threads. The zero
// request only asks for memory.
type request struct {
	Ef      int           `json:"ef"`
	Threads int           `json:"threads"`
	Lap     time.Duration `json:"lap"`     // the least time to measure
	CPU     bool          `json:"cpu"`     // rates by the time that searchers ran, not by the clock
	Answers bool          `json:"answers"` // wanted
}

// reply answers a request, a line of JSON on standard output each. The first comes unasked, when the index is open.
type reply struct {
	Fault   string     `json:"fault,omitempty"`
	Seconds float64    `json:"seconds,omitempty"` // that building took
	Memory  memory     `json:"memory"`            // since before the index was opened
	Whole   int64      `json:"whole"`             // resident bytes of the process
	QPS     float64    `json:"qps,omitempty"`
	P50     float64    `json:"p50_us,omitempty"`
	P99     float64    `json:"p99_us,omitempty"`
	Answers [][]uint32 `json:"answers,omitempty"` // per query
}

// runChild carries out a task; a failure goes to the parent as a reply.
func runChild(ctx context.Context, arg string, in io.Reader, out io.Writer) error {
	var t task
	err := json.Unmarshal([]byte(arg), &t)
	if err == nil {
		err = t.run(ctx, json.NewDecoder(in), json.NewEncoder(out))
	}
	if err != nil {
		return errors.Join(err, json.NewEncoder(out).Encode(reply{Fault: err.Error()}))
	}
	return nil
}

func (t *task) run(ctx context.Context, in *json.Decoder, out *json.Encoder) error {
	lib, err := libraryNamed(t.Library)
	if err != nil {
		return err
	}
	if t.Build {
		return t.build(ctx, &lib, out)
	}
	return t.serve(ctx, &lib, in, out)
}

func (t *task) build(ctx context.Context, lib *library, out *json.Encoder) error {
	r, err := loadRows(t.Rows, t.Metric, t.Dim)
	if err != nil {
		return err
	}
	begin := time.Now()
	x, err := lib.build(ctx, r, t.Settings, t.Threads)
	if err != nil {
		return err
	}
	seconds := time.Since(begin).Seconds()
	defer x.close()
	if err := x.save(t.Index + partial); err != nil {
		return err
	}
	if err := os.Rename(t.Index+partial, t.Index); err != nil {
		return err
	}
	return out.Encode(reply{Seconds: seconds})
}

// serve opens the index and answers requests until its input ends.
func (t *task) serve(ctx context.Context, lib *library, in *json.Decoder, out *json.Encoder) (err error) {
	queries, err := t.queries()
	if err != nil {
		return err
	}
	base, err := memoryOfSelf()
	if err != nil {
		return err
	}
	r, err := mapRows(t.Rows, t.Metric, t.Dim)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	x, err := lib.open(t.Index, r, t.Settings)
	if err != nil {
		return fmt.Errorf("open %s: %w", t.Index, err)
	}
	defer x.close()
	s := stopwatch{queries: queries, index: x, k: t.K}
	return s.answer(ctx, base, in, out)
}

func (t *task) queries() ([][]float32, error) {
	d, err := bench.OpenDataset(t.Dataset, t.K)
	if err != nil {
		return nil, err
	}
	return d.Queries, d.Close()
}

// answer replies to requests. base is the memory before the index was opened.
func (s *stopwatch) answer(ctx context.Context, base memory, in *json.Decoder, out *json.Encoder) error {
	for r := (reply{}); ; {
		now, err := memoryOfSelf()
		if err != nil {
			return err
		}
		r.Memory, r.Whole = now.minus(base), now.Resident
		if err := out.Encode(r); err != nil {
			return err
		}
		var req request
		switch err := in.Decode(&req); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if r, err = s.measure(ctx, req); err != nil {
			return err
		}
	}
}
