package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/bench"
)

// store keeps what a data set costs minutes to make: its rows as a file to map, and indexes. It belongs to one process
// at a time.
type store struct {
	dir     string
	dataset string
	metric  ann.Metric
	dim     int
	k       int
}

// openStore makes the rows of d unless they are there. A data set with other files of the same name has another folder.
func openStore(cache, dataset string, d *bench.Dataset, k int) (*store, error) {
	mark, err := markOf(dataset)
	if err != nil {
		return nil, err
	}
	s := &store{dir: filepath.Join(cache, d.Name+"-"+mark), dataset: dataset, metric: d.Metric, dim: d.Base.Dim(), k: k}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(s.dir, scalesFile)); err == nil {
		return s, nil
	}
	return s, writeRows(s.dir, d)
}

// markOf tells a data set from an earlier one in the same folder by sizes and times of its base vectors.
func markOf(dataset string) (string, error) {
	path, err := filepath.Abs(dataset)
	if err != nil {
		return "", err
	}
	text := path
	for _, name := range []string{"base.fvecs", "base.bvecs", "metric"} {
		info, err := os.Stat(filepath.Join(path, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		text += fmt.Sprintf("\x00%s %d %d", name, info.Size(), info.ModTime().UnixNano())
	}
	return digest(strings.NewReader(text))
}

// digest returns a short hash for names of files.
func digest(r io.Reader) (string, error) {
	h := sha256.New()
	_, err := io.Copy(h, r)
	return fmt.Sprintf("%x", h.Sum(nil)[:6]), err
}

// programDigest is the hash of a program. Indexes of croft are known by it: they change with the code, which has no
// version of its own while it is worked on.
func programDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return digest(f)
}

// built is a saved index.
type built struct {
	Version string  `json:"version"`
	Seconds float64 `json:"build_seconds"`
	Threads int     `json:"build_threads"`
	path    string
}

// task describes what a child is to do with an index.
func (s *store) task(l *library, with settings, path string, threads int) task {
	return task{
		Library: l.remote(), Settings: with, Dataset: s.dataset, Rows: s.dir, Metric: s.metric, Dim: s.dim,
		Index: path, Threads: threads, K: s.k,
	}
}

// paths returns the file of an index and the beginning of the names of all of its versions.
func (s *store) paths(l *library, with settings, threads int) (path, prefix string, err error) {
	version := l.version()
	if l.remote() == croftName {
		program, err := l.executable()
		if err != nil {
			return "", "", err
		}
		if version, err = programDigest(program); err != nil {
			return "", "", err
		}
	}
	mark, err := digest(strings.NewReader(version))
	prefix = filepath.Join(s.dir, fmt.Sprintf("%s-%s-%d", l.name, strings.NewReplacer("=", "", ",", "-", "/", "_").Replace(string(with)), threads))
	return prefix + "." + mark, prefix + ".", err
}

// index returns a saved index, built now if it is not there.
func (s *store) index(ctx context.Context, l *library, with settings, threads int) (*built, error) {
	path, prefix, err := s.paths(l, with, threads)
	if err != nil {
		return nil, err
	}
	b := &built{path: path}
	if notes, err := os.ReadFile(path + ".json"); err == nil {
		return b, json.Unmarshal(notes, b)
	}
	if err := removeAll(prefix + "*"); err != nil {
		return nil, err
	}
	b.Version, b.Threads = l.version(), threads
	if b.Seconds, err = s.build(ctx, l, with, threads, path); err != nil {
		return nil, err
	}
	notes, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	return b, os.WriteFile(path+".json", notes, 0o644)
}

// build has a child build an index and returns how many seconds that took.
func (s *store) build(ctx context.Context, l *library, with settings, threads int, path string) (float64, error) {
	t := s.task(l, with, path, threads)
	t.Build = true
	program, err := l.executable()
	if err != nil {
		return 0, err
	}
	p, err := start(ctx, program, t, nil)
	if err != nil {
		return 0, err
	}
	r, err := p.reply()
	if err != nil {
		return 0, errors.Join(fmt.Errorf("build %s %s: %w", l.name, with, err), p.stop())
	}
	return r.Seconds, p.stop()
}

// rebuild builds an index for its time alone.
func (s *store) rebuild(ctx context.Context, l *library, with settings, threads int) (float64, error) {
	path := filepath.Join(s.dir, "rebuilt")
	seconds, err := s.build(ctx, l, with, threads, path)
	return seconds, errors.Join(err, removeAll(path+"*"))
}

// removeAll removes the files that match a pattern.
func removeAll(pattern string) error {
	paths, err := filepath.Glob(pattern)
	for _, path := range paths {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}
