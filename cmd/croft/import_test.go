package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/internal/errs"
)

// fakeIndex refuses requests that hold a bad record, all or nothing, as the server does.
type fakeIndex struct {
	mu      sync.Mutex
	stored  map[string]int
	calls   int
	failAt  int // the call that fails for another reason; 0: none
	largest int
}

func (x *fakeIndex) UpsertEncoded(_ context.Context, _ string, records []jsontext.Value) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.calls++
	x.largest = max(x.largest, len(records))
	if x.calls == x.failAt {
		return 0, errs.New(errs.Unavailable, "the server is gone")
	}
	var ids []string
	for _, r := range records {
		var rec struct {
			ID       string
			Metadata struct{ Bad bool }
		}
		if err := json.Unmarshal(r, &rec, json.MatchCaseInsensitiveNames(true)); err != nil {
			return 0, errs.New(errs.Invalid, "not JSON: %w", err)
		}
		if rec.Metadata.Bad {
			return 0, errs.New(errs.Invalid, "record %s is bad", rec.ID)
		}
		ids = append(ids, rec.ID)
	}
	for _, id := range ids {
		x.stored[id]++
	}
	return len(ids), nil
}

// importCase is a file with known bad rows.
type importCase struct {
	path string
	good map[string]bool
	bad  []int64 // row numbers
}

func drawImportCase(t *rapid.T, dir string) importCase {
	c := importCase{path: filepath.Join(dir, "in.jsonl"), good: map[string]bool{}}
	var text strings.Builder
	for n := range rapid.IntRange(0, 200).Draw(t, "lines") {
		id := fmt.Sprintf("id-%d", n)
		switch rapid.SampledFrom([]string{"good", "good", "good", "good", "blank", "server", "shape", "dim"}).Draw(t, "line") {
		case "blank":
		case "server":
			fmt.Fprintf(&text, `{"id":%q,"values":[1,2],"metadata":{"Bad":true}}`, id)
			c.bad = append(c.bad, int64(n))
		case "shape":
			text.WriteString(`{"values":[1,2]}`)
			c.bad = append(c.bad, int64(n))
		case "dim":
			fmt.Fprintf(&text, `{"id":%q,"values":[1,2,3]}`, id)
			c.bad = append(c.bad, int64(n))
		default:
			fmt.Fprintf(&text, `{"id":%q,"values":[1,2]}`, id)
			c.good[id] = true
		}
		text.WriteByte('\n')
	}
	require.NoError(t, os.WriteFile(c.path, []byte(text.String()), 0o600))
	return c
}

// runOnce opens the file at the state and imports into x.
func (c importCase) runOnce(t *rapid.T, x *fakeIndex, state importState, batch, concurrency int) (importState, error) {
	f, err := os.Open(c.path)
	require.NoError(t, err)
	defer f.Close()
	rows, err := openRows(f, "jsonl", position{state.Row, state.Offset}, "")
	require.NoError(t, err)
	rejects, err := openRejects(c.path+".rejects.jsonl", state.RejectsBytes)
	require.NoError(t, err)
	defer rejects.Close()
	im := &importRun{rows: rows, index: x, dim: 2, batch: batch, concurrency: concurrency,
		statePath: c.path + ".state", rejects: rejects, state: state, tell: silent{}}
	err = im.run(context.Background())
	saved, ok, loadErr := loadState(im.statePath)
	require.NoError(t, loadErr)
	require.True(t, ok)
	require.Equal(t, im.state, saved, "what is on disk is what was done")
	return saved, err
}

func (c importCase) rejected(t *rapid.T) (rows []int64) {
	b, err := os.ReadFile(c.path + ".rejects.jsonl")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	require.NoError(t, err)
	for line := range bytes.Lines(b) {
		var r reject
		require.NoError(t, json.Unmarshal(line, &r))
		require.NotEmpty(t, r.Reason)
		rows = append(rows, r.Row)
	}
	return rows
}

// TestImportAccountsForEveryRow imports random files over a server that goes away at random moments, and goes on
// each time: in the end each good row is stored, each bad one listed once, in order.
func TestImportAccountsForEveryRow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "croft-import-")
		require.NoError(t, err)
		defer os.RemoveAll(dir)
		c := drawImportCase(t, dir)
		x := &fakeIndex{stored: map[string]int{}}
		batch := rapid.IntRange(1, 50).Draw(t, "batch")
		concurrency := rapid.IntRange(1, 4).Draw(t, "concurrency")
		state, done := importState{}, false
		for !done {
			x.failAt = 0
			if rapid.Bool().Draw(t, "fails") {
				x.failAt = x.calls + rapid.IntRange(1, 10).Draw(t, "failAt")
			}
			before := state
			state, err = c.runOnce(t, x, state, batch, concurrency)
			done = err == nil
			require.True(t, done || errs.Is(err, errs.Unavailable), "%v", err)
			require.GreaterOrEqual(t, state.Row, before.Row)
		}
		require.Equal(t, c.bad, c.rejected(t))
		require.EqualValues(t, len(c.good), state.Stored)
		require.EqualValues(t, len(c.bad), state.Rejected)
		require.Len(t, x.stored, len(c.good))
		for id := range c.good {
			require.Contains(t, x.stored, id)
		}
		require.LessOrEqual(t, x.largest, batch)
	})
}

func TestImportStopsAtTooManyRejects(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in.jsonl")
	require.NoError(t, os.WriteFile(path, bytes.Repeat([]byte("{}\n"), 100), 0o600))
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	rows, err := openRows(f, "jsonl", position{}, "")
	require.NoError(t, err)
	rejects, err := openRejects(path+".rejects", 0)
	require.NoError(t, err)
	defer rejects.Close()
	im := &importRun{rows: rows, index: &fakeIndex{}, batch: 10, concurrency: 1, maxRejects: 25, statePath: path + ".state", rejects: rejects, tell: silent{}}
	err = im.run(t.Context())
	require.ErrorContains(t, err, "over 25 rows were rejected, the last because: it has no id")
	require.EqualValues(t, 30, im.state.Rejected)
}

func TestImportKeepsRequestsBelowTheLimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in.jsonl")
	record := fmt.Appendf(nil, `{"id":"a","values":[1],"metadata":{"text":%q}}`+"\n", strings.Repeat("x", 300<<10))
	require.NoError(t, os.WriteFile(path, bytes.Repeat(record, 20), 0o600))
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	rows, err := openRows(f, "jsonl", position{}, "")
	require.NoError(t, err)
	rejects, err := openRejects(path+".rejects", 0)
	require.NoError(t, err)
	x := &fakeIndex{stored: map[string]int{}}
	im := &importRun{rows: rows, index: x, batch: 1000, concurrency: 1, statePath: path + ".state", rejects: rejects, tell: silent{}}
	require.NoError(t, im.run(t.Context()))
	require.Equal(t, 20, x.stored["a"])
	require.Equal(t, 6, x.largest, "six records of 300 KiB fit in 2 MiB")
}

func readAll(t require.TestingT, r rowReader) (rows []row, err error) {
	for {
		next, err := r.next()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return rows, err
		}
		rows = append(rows, next)
	}
}

func openText(t testing.TB, format, text string) rowReader {
	path := filepath.Join(t.TempDir(), "in")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	f, err := os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	rows, err := openRows(f, format, position{}, "p-")
	require.NoError(t, err)
	return rows
}

func TestLines(t *testing.T) {
	for name, tc := range map[string]struct{ line, record, bad string }{
		"plain":          {`{"id":"a","values":[0.1, 2]}`, `{"id":"p-a","values":[0.1, 2]}`, ""},
		"other spelling": {`{"id":"a","sparse_values":{"indices":[1],"values":[2]}}`, `{"id":"p-a","sparseValues":{"indices":[1],"values":[2]}}`, ""},
		"null parts":     {`{"id":"a","values":[1],"metadata":null}`, `{"id":"p-a","values":[1]}`, ""},
		"no id":          {`{"values":[1]}`, "", "no id"},
		"number as id":   {`{"id":7}`, "", "not a vector object"},
		"unknown field":  {`{"id":"a","vector":[1]}`, "", "vector"},
		"repeated field": {`{"id":"a","id":"b"}`, "", "duplicate"},
		"nested repeat":  {`{"id":"a","metadata":{"x":1,"x":2}}`, "", "duplicate"},
		"no JSON":        {`hello`, "", "not a vector object"},
		"two objects":    {`{"id":"a"}{"id":"b"}`, "", "not a vector object"},
		"too long":       {`{"id":"` + strings.Repeat("x", maxLine) + `"}`, "", "over 2.0 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			rows, err := readAll(t, openText(t, "jsonl", "\n"+tc.line+"\n  \n"+`{"id":"last"}`))
			require.NoError(t, err)
			require.Len(t, rows, 2)
			require.EqualValues(t, 1, rows[0].number)
			require.EqualValues(t, 3, rows[1].number)
			require.Equal(t, "p-last", rows[1].id)
			require.Equal(t, tc.record, string(rows[0].record))
			if tc.bad == "" {
				require.Empty(t, rows[0].bad)
			} else {
				require.Contains(t, rows[0].bad, tc.bad)
			}
		})
	}
}

func vecsRow(values ...any) (b []byte) {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(values)))
	for _, v := range values {
		switch v := v.(type) {
		case float64:
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(v)))
		case byte:
			b = append(b, v)
		}
	}
	return b
}

func TestVectorFiles(t *testing.T) {
	good := string(vecsRow(0.1, -2.0)) + string(vecsRow(math.NaN(), 1.0)) + string(vecsRow(1e-7, 3e38))
	rows, err := readAll(t, openText(t, "fvecs", good))
	require.NoError(t, err)
	require.Len(t, rows, 3)
	require.Equal(t, `{"id":"p-0","values":[0.1,-2]}`, string(rows[0].record))
	require.Equal(t, "value 0 is NaN", rows[1].bad)
	require.Equal(t, `{"id":"p-2","values":[1e-07,3e+38]}`, string(rows[2].record))
	require.EqualValues(t, len(good), rows[2].end)

	rows, err = readAll(t, openText(t, "bvecs", string(vecsRow(byte(0), byte(255)))))
	require.NoError(t, err)
	require.Equal(t, `{"id":"p-0","values":[0,255]}`, string(rows[0].record))

	for name, text := range map[string]string{
		"cut in values":     good[:len(good)-1],
		"cut in the count":  good + "\x02\x00",
		"other dimension":   good + string(vecsRow(1.0)),
		"negative":          "\xff\xff\xff\xff",
		"too many values":   "\x00\x00\x00\x01",
		"text, not vectors": `{"id":"a"}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readAll(t, openText(t, "fvecs", text))
			require.ErrorContains(t, err, "the file is damaged or of another format")
		})
	}
}

// FuzzLines checks that offsets cover the file without gaps, and that what is sent is JSON.
func FuzzLines(f *testing.F) {
	f.Add("{\"id\":\"a\",\"values\":[1]}\n\n{}")
	f.Add("\x00\n\"")
	f.Fuzz(func(t *testing.T, text string) {
		rows, err := readAll(t, openText(t, "jsonl", text))
		require.NoError(t, err)
		end, number := int64(0), int64(-1)
		for _, r := range rows {
			require.Greater(t, r.end, end)
			require.Greater(t, r.number, number)
			require.NotEqual(t, r.bad == "", r.record == nil)
			require.True(t, r.record == nil || r.record.IsValid(), "%s", r.record)
			end, number = r.end, r.number
		}
		require.LessOrEqual(t, end, int64(len(text)))
	})
}

// FuzzVectorFiles checks that damaged files neither panic nor yield anything but JSON.
func FuzzVectorFiles(f *testing.F) {
	f.Add(vecsRow(1.0, 2.0))
	f.Fuzz(func(t *testing.T, b []byte) {
		rows, _ := readAll(t, openText(t, "fvecs", string(b)))
		for _, r := range rows {
			require.True(t, r.record == nil || r.record.IsValid(), "%s", r.record)
		}
	})
}
