package engine

import (
	"errors"
	"fmt"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/hnsw"
	"github.com/croftdb/croft/engine/internal/segment"
	"github.com/croftdb/croft/internal/errs"
)

// What apply refuses. The API has refused it before, with better words; here every replica decides alike that nothing
// gets into its state that a flush could not write, a posting list not hold or a graph not be built from.

// maxIDBytes bounds an id; it is a part of a key of records.db.
const maxIDBytes = 1 << 10

// validate tells all that is wrong with a schema.
func (sc *Schema) validate() error {
	if sc.ID == 0 {
		return errs.New(errs.Invalid, "schema: the index id is zero")
	}
	if sc.EfSearch < 0 {
		return errs.New(errs.Invalid, "schema: breadth of searches is %d", sc.EfSearch)
	}
	if sc.Dim == 0 {
		if sc.Metric != ann.DotProduct {
			return errs.New(errs.Invalid, "schema: a sparse index has metric dotproduct, not %s", sc.Metric)
		}
		return nil
	}
	cfg := sc.graphConfig()
	cfg.EnsureDefaults()
	err := cfg.Validate()
	if sc.Dim > segment.MaxDim {
		err = errors.Join(err, fmt.Errorf("dimension %d is over %d", sc.Dim, segment.MaxDim))
	}
	return errs.Wrap(errs.Invalid, err, "schema")
}

// graphConfig is how graphs of the index are built. What is a partition's own is not in it: graphSeed, centre.
func (sc *Schema) graphConfig() hnsw.Config {
	return hnsw.Config{Metric: sc.Metric, Dim: sc.Dim, M: sc.M, EfConstruction: sc.EfConstruction, Bits: sc.Bits}
}

// checkRecord refuses a record that does not fit the schema.
func (sc *Schema) checkRecord(r *Record) error {
	if n := len(r.ID); n == 0 || n > maxIDBytes {
		return errs.New(errs.Invalid, "record id of %d bytes, want 1 to %d", n, maxIDBytes)
	}
	if err := sc.checkValues(r.Values); err != nil {
		return errs.Wrap(errs.Invalid, err, "record %q", r.ID)
	}
	return errs.Wrap(errs.Invalid, r.Sparse.check(), "record %q", r.ID)
}

// checkUpdate refuses an update whose values do not fit the schema.
func (sc *Schema) checkUpdate(u *Update) error {
	var err error
	if len(u.Values) > 0 {
		err = sc.checkValues(u.Values)
	}
	if err == nil && u.Sparse != nil {
		err = u.Sparse.check()
	}
	return errs.Wrap(errs.Invalid, err, "update")
}

func (sc *Schema) checkValues(v []float32) error {
	switch {
	case len(v) == sc.Dim:
		return checkFinite(v)
	case sc.Dim == 0:
		return errs.New(errs.Invalid, "dense values are given, but the index is sparse")
	}
	return errs.New(errs.Invalid, "dimension %d, the index has %d", len(v), sc.Dim)
}

// check refuses what postings could not hold: an index given twice would be entered twice and removed once.
func (s *Sparse) check() error {
	if len(s.Indices) != len(s.Values) {
		return errs.New(errs.Invalid, "%d sparse indices and %d values", len(s.Indices), len(s.Values))
	}
	for i := 1; i < len(s.Indices); i++ {
		if s.Indices[i-1] >= s.Indices[i] {
			return errs.New(errs.Invalid, "sparse index %d comes after %d, want them ascending", s.Indices[i], s.Indices[i-1])
		}
	}
	return checkFinite(s.Values)
}

func checkFinite(v []float32) error {
	for i, x := range v {
		if x-x != 0 {
			return errs.New(errs.Invalid, "value %d is %v, not a finite number", i, x)
		}
	}
	return nil
}
