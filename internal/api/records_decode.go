package api

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/engine/filter"
	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/errs"
)

// Limits of Pinecone's API.
const (
	maxBatch      = 1000
	maxIDs        = 1000
	maxIDLen      = 512
	maxTopK       = 10_000
	maxNonZero    = 2048
	maxListed     = 100
	maxScanned    = 10_000
	defaultListed = 100
	maxDimension  = 20_000
)

// maxNormSquared bounds the squared norm of what is stored and asked, so that no distance between two such vectors
// overflows float32: |a-b|² is at most 4 times it, and a dense plus a sparse product at most twice.
const maxNormSquared = math.MaxFloat32 / 8

// minMagnitude is what one value of a dense vector must reach: below it, Pinecone calls a vector all zero.
const minMagnitude = 1e-8

// upsertRequest is the body of an upsert. The values of its records share few pieces of memory.
type upsertRequest struct {
	namespace string
	records   []engine.Record
	ix        *cluster.Index
	bytes     int // of the body
	arena     []float32
}

var upsertFields = []field[upsertRequest]{
	{"vectors", (*upsertRequest).readRecords},
	textField("namespace", func(u *upsertRequest) *string { return &u.namespace }),
}

// decodeUpsert reads and checks the body of an upsert for an index.
func decodeUpsert(body []byte, ix *cluster.Index) (*upsertRequest, error) {
	u := &upsertRequest{ix: ix, bytes: len(body)}
	if err := decodeObject(body, u, upsertFields); err != nil {
		return nil, err
	}
	if len(u.records) == 0 {
		return nil, invalid("vectors", "at least one record is needed, at most %d are taken", maxBatch)
	}
	return u, nil
}

func (u *upsertRequest) readRecords(r *reader) error {
	return r.array(func(i int) error {
		if i == maxBatch {
			return faultf("more than %d records in one request", maxBatch)
		}
		rec := recordBody{upsert: u}
		err := object(r, &rec, recordFields)
		if err == nil {
			err = checkRecord(u.ix, &rec.Record)
		}
		u.records = append(u.records, rec.Record)
		return ofRecord(err, rec.ID)
	})
}

// ofRecord adds a record's id to a fault, if it was read before the fault was met.
func ofRecord(err error, id string) error {
	var f *fault
	if errors.As(err, &f) {
		f.record = id
	}
	return err
}

// recordBody is one element of "vectors".
type recordBody struct {
	engine.Record
	upsert *upsertRequest
}

var recordFields = []field[recordBody]{
	textField("id", func(b *recordBody) *string { return &b.ID }),
	{"values", (*recordBody).readValues},
	{"sparseValues", func(b *recordBody, r *reader) (err error) { b.Sparse, err = readSparse(r); return }},
	{"metadata", func(b *recordBody, r *reader) error { return b.Metadata.UnmarshalJSONFrom(r.dec) }},
}

// readValues reads values into the request's arena. A chunk of it holds some 64 vectors, or what the body can hold
// if that is less: numbers take some 8 bytes and more.
func (b *recordBody) readValues(r *reader) (err error) {
	u := b.upsert
	if room := cap(u.arena) - len(u.arena); room < u.ix.Dim {
		u.arena = make([]float32, 0, max(u.ix.Dim, min(64*u.ix.Dim, u.bytes/8)))
	}
	free := u.arena[len(u.arena):]
	values, err := r.floats(free)
	if len(values) <= cap(free) {
		u.arena = u.arena[:len(u.arena)+len(values)]
	}
	b.Values = values[:len(values):len(values)]
	return err
}

// sparseBody is {"indices":[…],"values":[…]}.
type sparseBody struct{ engine.Sparse }

var sparseFields = []field[sparseBody]{
	{"indices", (*sparseBody).readIndices},
	{"values", func(b *sparseBody, r *reader) (err error) { b.Values, err = r.floats(nil); return }},
}

// readSparse reads sparse values and sorts them by index, as everything below wants them. Both lists empty is the
// same as none.
func readSparse(r *reader) (engine.Sparse, error) {
	var b sparseBody
	if err := object(r, &b, sparseFields); err != nil {
		return engine.Sparse{}, err
	}
	return b.Sparse, orderSparse(&b.Sparse)
}

func (b *sparseBody) readIndices(r *reader) error {
	return r.array(func(i int) error {
		if i == maxNonZero {
			return faultf("more than %d indices", maxNonZero)
		}
		x, err := r.integer(0, math.MaxUint32)
		b.Indices = append(b.Indices, uint32(x))
		return err
	})
}

// orderSparse checks the lengths of s, sorts it by index and refuses an index that stands twice.
func orderSparse(s *engine.Sparse) error {
	if len(s.Indices) != len(s.Values) {
		return faultf("%d indices, but %d values", len(s.Indices), len(s.Values))
	}
	if len(s.Indices) > maxNonZero {
		return faultf("%d indices, at most %d are taken", len(s.Indices), maxNonZero)
	}
	if _, err := normSquared(s.Values); err != nil {
		return within(err, "values")
	}
	if !slices.IsSorted(s.Indices) {
		sortSparse(s)
	}
	for i := 1; i < len(s.Indices); i++ {
		if s.Indices[i] == s.Indices[i-1] {
			return within(faultf("%d stands twice", s.Indices[i]), "indices")
		}
	}
	return nil
}

func sortSparse(s *engine.Sparse) {
	order := make([]int, len(s.Indices))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return int(int64(s.Indices[a]) - int64(s.Indices[b])) })
	sorted := engine.Sparse{Indices: make([]uint32, len(order)), Values: make([]float32, len(order))}
	for i, j := range order {
		sorted.Indices[i], sorted.Values[i] = s.Indices[j], s.Values[j]
	}
	*s = sorted
}

// checkRecord checks a record to be stored against its index.
func checkRecord(ix *cluster.Index, rec *engine.Record) error {
	if err := checkID(rec.ID); err != nil {
		return within(err, "id")
	}
	if ix.Sparse {
		if len(rec.Values) > 0 {
			return within(faultf("a sparse index takes no dense values"), "values")
		}
		if len(rec.Sparse.Indices) == 0 {
			return within(faultf("a sparse index needs at least one index with its value"), "sparseValues")
		}
		rec.Values = nil
		return nil
	}
	return within(checkStored(ix, rec.Values), "values")
}

// checkStored checks dense values to be stored.
func checkStored(ix *cluster.Index, values []float32) error {
	if err := checkDimension(ix, values); err != nil {
		return err
	}
	if _, err := normSquared(values); err != nil {
		return err
	}
	for _, v := range values {
		if v >= minMagnitude || v <= -minMagnitude {
			return nil
		}
	}
	return faultf("Dense vectors must contain at least one non-zero value: no value reaches %v", minMagnitude)
}

// checkAsked checks the dense vector of a query. Only cosine has no answer for a zero vector; hybrid queries that
// weigh their dense part with 0 send one on purpose.
func checkAsked(ix *cluster.Index, values []float32) error {
	if err := checkDimension(ix, values); err != nil {
		return err
	}
	n, err := normSquared(values)
	if err == nil && ix.Metric == ann.Cosine && float32(n) < smallestNormal {
		err = faultf("a vector of length zero has no direction, which cosine compares")
	}
	return err
}

// smallestNormal is the least positive float32 of full precision.
const smallestNormal = 0x1p-126

func checkDimension(ix *cluster.Index, values []float32) error {
	if len(values) != ix.Dim {
		return faultf("Vector dimension %d does not match the dimension of the index %d", len(values), ix.Dim)
	}
	return nil
}

func normSquared(values []float32) (float64, error) {
	var sum float64
	for _, v := range values {
		sum += float64(v) * float64(v)
	}
	if sum > maxNormSquared {
		return sum, faultf("the squared length %.3g of the vector is beyond %.3g, above which distances overflow a 32-bit float",
			sum, float64(maxNormSquared))
	}
	return sum, nil
}

func checkID(id string) error { return checkASCII(id, maxIDLen) }

// checkASCII checks an id or a name: 1 to limit bytes of ASCII without NUL.
func checkASCII(s string, limit int) error {
	if len(s) == 0 {
		return faultf("is missing or empty; 1 to %d ASCII characters are needed", limit)
	}
	if len(s) > limit {
		return faultf("has %d bytes, at most %d are taken", len(s), limit)
	}
	for i := range len(s) {
		if s[i] == 0 || s[i] > 0x7f {
			return faultf("%s has a byte %#02x at %d; only ASCII without NUL is taken", strconv.Quote(clip(s)), s[i], i)
		}
	}
	return nil
}

// readFilter reads a filter; nil is one without conditions. Its depth is the parser's affair, whose limit counts
// conditions around conditions and not brackets.
func readFilter(r *reader) (*filter.Expr, error) {
	raw, err := r.value('{', "an object")
	if err != nil {
		return nil, err
	}
	e, err := filter.Parse(raw)
	return e, withoutSubject(err)
}

// withoutSubject takes the word "filter" off an error's beginning, since the fault's path begins with it.
func withoutSubject(err error) error {
	var e *errs.Error
	if !errors.As(err, &e) {
		return err
	}
	text := strings.TrimPrefix(strings.TrimPrefix(e.Message, "filter"), ":")
	return &fault{text: strings.TrimSpace(text), hint: e.Hint}
}

// readMetadata reads an object of metadata, which is not nil even if it has no fields.
func readMetadata(r *reader) (metadata.Map, error) {
	m := metadata.Map{}
	err := m.UnmarshalJSONFrom(r.dec)
	return m, err
}

// fieldFault turns a fault found after decoding into an Invalid error about a field.
func fieldFault(err error, path string) error { return invalidBody(within(err, path)) }
