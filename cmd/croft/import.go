package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/client"
	"github.com/croftdb/croft/internal/errs"
)

// importFlags are the flags of `croft import`.
type importFlags struct {
	conn         connection
	target       importTarget
	format       string
	create       bool
	index        client.CreateIndexRequest // what --create makes; name and dimension come from elsewhere
	batch        int
	concurrency  int
	resume       bool
	restart      bool
	rejects      string
	allowRejects bool
	maxRejects   int64
}

func (a *app) importCommand() *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import FILE --index NAME",
		Short: "Store the records of a file",
		Long: `A line of a JSONL file is a vector object ({"id":…,"values":[…],"metadata":{…}}); a row of an fvecs or bvecs file gets
its number, from 0, as id. An import that was stopped or killed goes on where it was when it is started again. Rows
that cannot be stored are listed in FILE.rejects.jsonl. If an id occurs twice, either row may remain. What --metric to
--target-recall say is of an index that --create makes; one that is there stays as it is.`,
		Example: `  croft import records.jsonl --index docs --namespace acme
  croft import base.fvecs --index sift --create --metric euclidean`,
		Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.runImport(cmd.Context(), f, args[0]) },
	}
	f.addFlags(cmd)
	return cmd
}

func (f *importFlags) addFlags(cmd *cobra.Command) {
	f.conn.addFlags(cmd)
	addNamespaceFlag(cmd, &f.target.Namespace)
	s := cmd.Flags()
	s.StringVar(&f.target.Index, "index", "", "the index (required)")
	s.StringVar(&f.format, "format", "", strings.Join(importFormats, ", ")+" (default: by the name of the file)")
	s.BoolVar(&f.create, "create", false, "create the index if it is missing, with the dimension of the first row")
	s.StringVar(&f.index.Metric, "metric", "", "metric of an index made by --create (default cosine)")
	addGraphFlags(cmd, &f.index.Graph)
	s.IntVar(&f.batch, "batch", 500, "records of a request, 1 to 1000; a request is also kept below 2 MB")
	s.IntVar(&f.concurrency, "concurrency", 4, "requests under way at once, 1 to 64")
	s.StringVar(&f.target.IDPrefix, "id-prefix", "", "put before each id")
	s.BoolVar(&f.resume, "resume", false, "fail unless there is an import to go on with (going on is the default)")
	s.BoolVar(&f.restart, "restart", false, "begin anew, whatever an earlier import has done")
	s.StringVar(&f.rejects, "rejects", "", "list of rejected rows (default FILE.rejects.jsonl)")
	s.BoolVar(&f.allowRejects, "allow-rejects", false, "exit 0 even if rows were rejected")
	s.Int64Var(&f.maxRejects, "max-rejects", 1000, "stop at more rejected rows than this; 0: never")
}

func (f *importFlags) validate() error {
	switch {
	case f.target.Index == "":
		return usagef("an import needs --index")
	case f.batch < 1 || f.batch > client.MaxUpsert:
		return usagef("--batch is %d, must be 1 to %d", f.batch, client.MaxUpsert)
	case f.concurrency < 1 || f.concurrency > 64:
		return usagef("--concurrency is %d, must be 1 to 64", f.concurrency)
	case f.resume && f.restart:
		return usagef("--resume and --restart exclude each other")
	}
	return nil
}

// importRetries bridges a restart of the server: some 30 seconds.
const importRetries = 14

func (a *app) runImport(ctx context.Context, f importFlags, path string) error {
	if err := f.validate(); err != nil {
		return err
	}
	format, err := importFormat(f.format, path)
	if err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return usagef("open input: %w", err)
	}
	defer file.Close()
	c, err := a.connect(f.conn, importRetries)
	if err != nil {
		return err
	}
	f.target.URL = c.URL()
	ix, err := a.importIndex(ctx, c, f, file, format)
	if err != nil {
		return err
	}
	im, err := a.prepareImport(ctx, f, file, format, ix)
	if err != nil {
		return err
	}
	defer func() { _ = im.rejects.Close() }() // finishImport looks at the result; this is for its errors
	return a.finishImport(ctx, f, im)
}

// importIndex is the index to fill, made if that was asked for.
func (a *app) importIndex(ctx context.Context, c *client.Client, f importFlags, file *os.File, format string) (*client.Index, error) {
	ix, err := c.Index(ctx, f.target.Index)
	if !errs.Is(err, errs.NotFound) {
		return ix, err
	}
	if !f.create {
		return nil, errs.New(errs.NotFound, "find index: %w", err).
			WithHint("add --create, or make it: croft index create %s --dimension N", f.target.Index)
	}
	dim, err := firstDimension(file, format)
	if err != nil {
		return nil, err
	}
	req := f.index
	req.Name, req.Dimension = f.target.Index, dim
	m, err := c.CreateIndex(ctx, req)
	if err != nil {
		return nil, err
	}
	a.note("created index %s: %d values, %s", m.Name, m.Dimension, m.Metric)
	return c.Index(ctx, f.target.Index)
}

// firstDimension is the number of values in the first row that has any.
func firstDimension(file *os.File, format string) (int, error) {
	rows, err := openRows(file, format, position{}, "")
	if err != nil {
		return 0, err
	}
	for {
		r, err := rows.next()
		if errors.Is(err, io.EOF) {
			return 0, usagef("%s has no row with values: the index cannot be created from it", file.Name())
		}
		if err != nil {
			return 0, err
		}
		if r.bad == "" && r.dim > 0 {
			return r.dim, nil
		}
	}
}

// prepareImport opens the input where an earlier run left it.
func (a *app) prepareImport(ctx context.Context, f importFlags, file *os.File, format string, ix *client.Index) (*importRun, error) {
	identity, err := identify(file)
	if err != nil {
		return nil, usagef("input: %w", err)
	}
	statePath, err := a.statePath(identity.Path, f.target)
	if err != nil {
		return nil, err
	}
	state, err := a.resumeState(ctx, f, statePath, identity, ix)
	if err != nil {
		return nil, err
	}
	rejects, err := openRejects(firstNonEmpty(f.rejects, file.Name()+".rejects.jsonl"), state.RejectsBytes)
	if err != nil {
		return nil, err
	}
	rows, err := openRows(file, format, position{number: state.Row, offset: state.Offset}, f.target.IDPrefix)
	if err != nil {
		return nil, err
	}
	return &importRun{rows: rows, index: ix, dim: ix.Model.Dimension, batch: f.batch, concurrency: f.concurrency,
		maxRejects: f.maxRejects, statePath: statePath, rejects: rejects, state: state, tell: a.newProgress(state)}, nil
}

// resumeState is the state to go on from: that of an earlier run if it fits, else the beginning.
func (a *app) resumeState(ctx context.Context, f importFlags, path string, identity fileIdentity, ix *client.Index) (importState, error) {
	fresh := importState{Input: identity, Target: f.target}
	if f.restart {
		return fresh, nil
	}
	old, ok, err := loadState(path)
	switch {
	case err != nil:
		return fresh, errs.New(errs.FailedPrecondition, "resume: %w", err).WithHint("--restart begins anew")
	case !ok && f.resume:
		return fresh, errs.New(errs.NotFound, "no import of %s into %s was left unfinished", identity.Path, f.target.Index)
	case !ok:
		return fresh, nil
	case !old.Input.same(identity):
		return fresh, errs.New(errs.FailedPrecondition, "%s has changed since row %s of it was imported", identity.Path, thousands(old.Row)).
			WithHint("--restart begins anew")
	}
	if err := checkStillThere(ctx, ix, old); err != nil {
		return fresh, err
	}
	a.note("going on at row %s (%s stored, %s rejected before)", thousands(old.Row), thousands(old.Stored), thousands(old.Rejected))
	return old, nil
}

// checkStillThere guards against going on in an index that was emptied or made anew meanwhile.
func checkStillThere(ctx context.Context, ix *client.Index, s importState) error {
	if s.LastID == "" {
		return nil
	}
	res, err := ix.Fetch(ctx, s.Target.Namespace, []string{s.LastID})
	if err != nil {
		return err
	}
	if len(res.Vectors) == 0 {
		return errs.New(errs.FailedPrecondition, "record %s, stored by the earlier import, is not in index %s any more", s.LastID, s.Target.Index).
			WithHint("--restart begins anew")
	}
	return nil
}

// importSummary is the data that an import prints: read = stored + rejected.
type importSummary struct {
	Read             int64   `json:"read"`
	Stored           int64   `json:"stored"`
	Rejected         int64   `json:"rejected"`
	Rejects          string  `json:"rejects,omitzero"`
	Seconds          float64 `json:"seconds"`
	VectorsPerSecond float64 `json:"vectors_per_second"` // of this run, where an earlier one was resumed
}

func (a *app) finishImport(ctx context.Context, f importFlags, im *importRun) error {
	before, start := im.state.Stored, time.Now()
	err := im.run(ctx)
	im.tell.done()
	if err != nil {
		a.note("%s stored, %s rejected; the same command goes on from row %s",
			thousands(im.state.Stored), thousands(im.state.Rejected), thousands(im.state.Row))
		return err
	}
	if err := os.Remove(im.statePath); err != nil {
		return fmt.Errorf("remove import state: %w", err)
	}
	took := time.Since(start).Seconds()
	s := importSummary{Read: im.state.Stored + im.state.Rejected, Stored: im.state.Stored, Rejected: im.state.Rejected,
		Seconds: took, VectorsPerSecond: float64(im.state.Stored-before) / took}
	if s.Rejected > 0 {
		s.Rejects = im.rejects.path
	}
	if err := a.print(summaryListing(s)); err != nil {
		return err
	}
	if s.Rejected > 0 && !f.allowRejects {
		return errs.New(errs.Invalid, "%s rejected", counted(s.Rejected, "row")).WithHint("see %s", s.Rejects)
	}
	return nil
}

func summaryListing(s importSummary) listing {
	return listing{value: s, header: []string{"READ", "STORED", "REJECTED", "SECONDS", "VECTORS/S"},
		rows: [][]string{{thousands(s.Read), thousands(s.Stored), thousands(s.Rejected),
			fmt.Sprintf("%.1f", s.Seconds), thousands(int64(s.VectorsPerSecond))}}}
}
