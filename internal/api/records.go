package api

import (
	"strconv"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/engine/filter"
	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// inNamespace maps a request's namespace to the tenant that it means: absent, "" and "__default__" are one. It refuses one
// out of the principal's reach, whether it is there or not.
func (c *call) inNamespace(name string) (string, error) {
	if name == "" {
		name = cluster.DefaultNamespace
	}
	c.namespace = name
	if err := c.reach(name); err != nil {
		return "", err
	}
	return name, fieldFault(tenancy.CheckName(name), "namespace")
}

type upserted struct{ count int }

func (u upserted) appendJSON(b []byte) ([]byte, error) {
	b = append(b, `{"upsertedCount":`...)
	return append(strconv.AppendInt(b, int64(u.count), 10), '}'), nil
}

func upsert(c *call) (reply, error) {
	req, err := decodeUpsert(c.body, &c.ix)
	if err != nil {
		return nil, err
	}
	ns, err := c.inNamespace(req.namespace)
	if err != nil {
		return nil, err
	}
	if err := c.once(); err != nil {
		return nil, err
	}
	w, err := c.h.node.Upsert(c.creating(), c.ix, ns, req.records)
	if err != nil {
		return nil, err
	}
	c.wrote(w)
	return upserted{len(req.records)}, nil
}

// updateRequest is the body of an update, by id or by filter.
type updateRequest struct {
	namespace, id string
	values        []float32
	sparse        *engine.Sparse
	set           metadata.Map // nil: not given
	filter        *filter.Expr
	hasFilter     bool
	dryRun        bool
}

var updateFields = []field[updateRequest]{
	textField("id", func(u *updateRequest) *string { return &u.id }),
	textField("namespace", func(u *updateRequest) *string { return &u.namespace }),
	{"values", func(u *updateRequest, r *reader) (err error) { u.values, err = r.floats(nil); return }},
	{"sparseValues", (*updateRequest).readSparse},
	{"setMetadata", func(u *updateRequest, r *reader) (err error) { u.set, err = readMetadata(r); return }},
	{"filter", (*updateRequest).readFilter},
	boolField("dryRun", func(u *updateRequest) *bool { return &u.dryRun }),
}

func (u *updateRequest) readSparse(r *reader) error {
	s, err := readSparse(r)
	if len(s.Indices) > 0 {
		u.sparse = &s
	}
	return err
}

func (u *updateRequest) readFilter(r *reader) (err error) {
	u.hasFilter = true
	u.filter, err = readFilter(r)
	return err
}

// validate checks what cannot be seen one field at a time.
func (u *updateRequest) validate(ix *cluster.Index) error {
	switch {
	case u.hasFilter && u.id != "":
		return errs.New(errs.Invalid, "id and filter are both given; an update is by one of them")
	case u.hasFilter:
		return u.validateWhere()
	case u.dryRun:
		return invalid("dryRun", "only an update by filter can be tried out")
	}
	if err := checkID(u.id); err != nil {
		return fieldFault(err, "id")
	}
	if len(u.values) == 0 && u.sparse == nil && u.set == nil {
		return errs.New(errs.Invalid, "nothing to change: give values, sparseValues or setMetadata")
	}
	if len(u.values) == 0 {
		return nil
	}
	if ix.Sparse {
		return invalid("values", "a sparse index takes no dense values")
	}
	return fieldFault(ofRecord(checkStored(ix, u.values), u.id), "values")
}

func (u *updateRequest) validateWhere() error {
	switch {
	case u.filter == nil:
		return invalid("filter", "an empty filter would change every record, and is refused")
	case len(u.values) > 0 || u.sparse != nil:
		return errs.New(errs.Invalid, "an update by filter changes metadata alone, not values or sparseValues")
	case u.set == nil && !u.dryRun:
		return invalid("setMetadata", "is needed with a filter")
	}
	return nil
}

type matched struct{ count int }

func (m matched) appendJSON(b []byte) ([]byte, error) {
	b = append(b, `{"matchedRecords":`...)
	return append(strconv.AppendInt(b, int64(m.count), 10), '}'), nil
}

func update(c *call) (reply, error) {
	var req updateRequest
	if err := decodeObject(c.body, &req, updateFields); err != nil {
		return nil, err
	}
	if err := req.validate(&c.ix); err != nil {
		return nil, err
	}
	ns, err := c.inNamespace(req.namespace)
	if err != nil {
		return nil, err
	}
	if err := c.once(); err != nil {
		return nil, err
	}
	if req.filter == nil {
		return c.written(c.h.node.Update(c.ctx, c.ix, ns, req.id, req.values, req.sparse, req.set))
	}
	w, err := c.h.node.UpdateWhere(c.ctx, c.ix, ns, req.filter, req.set, req.dryRun)
	if err != nil {
		return nil, err
	}
	c.wrote(w)
	return matched{w.Affected}, nil
}

// written is the answer of a write that tells nothing but its success.
func (c *call) written(w cluster.Written, err error) (reply, error) {
	if err != nil {
		return nil, err
	}
	c.wrote(w)
	return empty{}, nil
}

// deleteRequest is the body of a delete: by ids, by filter or of everything.
type deleteRequest struct {
	namespace string
	ids       []string
	hasIDs    bool
	all       bool
	filter    *filter.Expr
	hasFilter bool
}

var deleteFields = []field[deleteRequest]{
	{"ids", (*deleteRequest).readIDs},
	boolField("deleteAll", func(d *deleteRequest) *bool { return &d.all }),
	textField("namespace", func(d *deleteRequest) *string { return &d.namespace }),
	{"filter", (*deleteRequest).readFilter},
}

func (d *deleteRequest) readIDs(r *reader) (err error) {
	d.hasIDs = true
	if d.ids, err = r.texts(maxIDs); err != nil {
		return err
	}
	return checkIDs(d.ids)
}

func checkIDs(ids []string) error {
	for i, id := range ids {
		if err := checkID(id); err != nil {
			return within(err, index(i))
		}
	}
	return nil
}

func (d *deleteRequest) readFilter(r *reader) (err error) {
	d.hasFilter = true
	d.filter, err = readFilter(r)
	return err
}

func (d *deleteRequest) validate() error {
	ways := 0
	for _, given := range []bool{d.hasIDs, d.all, d.hasFilter} {
		if given {
			ways++
		}
	}
	switch {
	case ways != 1:
		return errs.New(errs.Invalid, "exactly one of ids, filter and deleteAll: true must be given, %d are", ways)
	case d.hasIDs && len(d.ids) == 0:
		return invalid("ids", "is empty, 1 to %d ids are needed", maxIDs)
	case d.hasFilter && d.filter == nil:
		return invalid("filter", "an empty filter would delete every record, and is refused").
			WithHint("to delete everything, send deleteAll: true")
	}
	return nil
}

func deleteRecords(c *call) (reply, error) {
	var req deleteRequest
	if err := decodeObject(c.body, &req, deleteFields); err != nil {
		return nil, err
	}
	if err := req.validate(); err != nil {
		return nil, err
	}
	ns, err := c.inNamespace(req.namespace)
	if err != nil {
		return nil, err
	}
	if err := c.once(); err != nil {
		return nil, err
	}
	switch {
	case req.all:
		return c.written(c.h.node.DeleteAll(c.ctx, c.ix, ns))
	case req.filter != nil:
		return c.written(c.h.node.DeleteWhere(c.ctx, c.ix, ns, req.filter))
	}
	return c.written(c.h.node.Delete(c.ctx, c.ix, ns, req.ids))
}
