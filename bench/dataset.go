package bench

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/internal/errs"
)

// Dataset is a folder with base.fvecs or base.bvecs (the vectors to index, row number = id), query.fvecs or
// query.bvecs, gt10.ivecs or gt100.ivecs (per query its exact neighbours, nearest first) and metric (l2, cosine
// or ip).
type Dataset struct {
	Name       string // of the folder
	Metric     ann.Metric
	Base       *Vectors // open; Close closes it
	Queries    [][]float32
	Neighbours [][]int32 // per query, at least as many as asked for
}

var metricNames = map[string]ann.Metric{"l2": ann.Euclidean, "cosine": ann.Cosine, "ip": ann.DotProduct}

// OpenDataset opens dir and reads all but the base vectors; k is how many neighbours of each query are needed.
func OpenDataset(dir string, k int) (_ *Dataset, err error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	d := &Dataset{Name: filepath.Base(path)}
	if d.Metric, err = readMetric(filepath.Join(dir, "metric")); err != nil {
		return nil, err
	}
	if d.Queries, err = d.readQueries(dir); err != nil {
		return nil, err
	}
	if d.Neighbours, err = readTruth(dir, k); err != nil {
		return nil, err
	}
	base, err := firstOf(dir, "base.fvecs", "base.bvecs")
	if err != nil {
		return nil, err
	}
	if d.Base, err = OpenVectors(base); err != nil {
		return nil, err
	}
	if err := d.check(dir); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Close closes the base vectors.
func (d *Dataset) Close() error { return d.Base.Close() }

// firstOf returns the path of the first of names that is in dir.
func firstOf(dir string, names ...string) (string, error) {
	for _, name := range names {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", errs.New(errs.NotFound, "data set %s has none of %s", dir, strings.Join(names, ", "))
}

func readMetric(path string) (ann.Metric, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, errs.New(errs.NotFound, "data set %s has no file metric", filepath.Dir(path)).
			WithHint("it holds one word: l2, cosine or ip")
	}
	if err != nil {
		return 0, err
	}
	name := strings.TrimSpace(string(b))
	if m, ok := metricNames[name]; ok {
		return m, nil
	}
	return 0, errs.New(errs.Invalid, "%s: metric %q is none of l2, cosine, ip", path, name)
}

func (d *Dataset) readQueries(dir string) ([][]float32, error) {
	path, err := firstOf(dir, "query.fvecs", "query.bvecs")
	if err != nil {
		return nil, err
	}
	return ReadVectors(path)
}

// readTruth reads the smallest file of neighbours that has k of them.
func readTruth(dir string, k int) ([][]int32, error) {
	names := []string{"gt10.ivecs", "gt100.ivecs"}
	if k > 10 {
		names = names[1:]
	}
	path, err := firstOf(dir, names...)
	if err != nil {
		return nil, err
	}
	truth, err := ReadNeighbours(path)
	if err == nil && len(truth) > 0 && len(truth[0]) < k {
		err = errs.New(errs.Invalid, "%s: %d neighbours a query, %d are needed", path, len(truth[0]), k)
	}
	return truth, err
}

// check compares the files with each other.
func (d *Dataset) check(dir string) error {
	if len(d.Queries) == 0 || d.Base.Len() == 0 {
		return errs.New(errs.Invalid, "data set %s: %d base vectors and %d queries, need at least one of each", dir, d.Base.Len(), len(d.Queries))
	}
	if len(d.Queries[0]) != d.Base.Dim() {
		return errs.New(errs.Invalid, "data set %s: queries have %d values, base vectors %d", dir, len(d.Queries[0]), d.Base.Dim())
	}
	if len(d.Neighbours) != len(d.Queries) {
		return errs.New(errs.Invalid, "data set %s: neighbours of %d queries, there are %d", dir, len(d.Neighbours), len(d.Queries))
	}
	for i, row := range d.Neighbours {
		for _, id := range row {
			if id < 0 || int(id) >= d.Base.Len() {
				return errs.New(errs.Invalid, "data set %s: neighbours of query %d: no base vector %d", dir, i, id)
			}
		}
	}
	return nil
}
