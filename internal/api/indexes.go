package api

import (
	"maps"
	"regexp"
	"slices"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/errs"
)

const (
	maxIndexName   = 45
	maxTags        = 64
	maxTagKeyLen   = 80
	maxTagValueLen = 120
)

// indexShown is an IndexModel.
type indexShown struct {
	Name               string            `json:"name"`
	Metric             string            `json:"metric"`
	Host               string            `json:"host"`
	VectorType         string            `json:"vector_type"`
	Dimension          int               `json:"dimension,omitzero"`
	Spec               spec              `json:"spec"`
	Status             indexStatus       `json:"status"`
	DeletionProtection string            `json:"deletion_protection"`
	Tags               map[string]string `json:"tags,omitempty"`
	Croft              *graphShown       `json:"croft,omitzero"`
}

type indexStatus struct {
	Ready bool   `json:"ready"`
	State string `json:"state"`
}

func (c *call) showIndex(ix *cluster.Index) indexShown {
	return indexShown{
		Name: ix.Name, Metric: ix.Metric.String(), Host: c.h.advert.host(ix, c.r), VectorType: vectorType(ix.Sparse),
		Dimension: ix.Dim, Spec: parseSpec(ix.Spec).shown(), Status: indexStatus{Ready: true, State: "Ready"},
		DeletionProtection: protection(ix.DeletionProtection), Tags: ix.Tags, Croft: showGraph(ix),
	}
}

func protection(on bool) string {
	if on {
		return "enabled"
	}
	return "disabled"
}

func listIndexes(c *call) (reply, error) {
	all := c.h.node.Indexes()
	shown := make([]indexShown, len(all))
	for i := range all {
		shown[i] = c.showIndex(&all[i])
	}
	return document{map[string]any{"indexes": shown}}, nil
}

// named finds the index in the path.
func (c *call) named() (cluster.Index, error) {
	err := c.find(func() error {
		ix, ok := c.h.node.Index(c.args[0])
		if !ok {
			return errNoSuchIndex(c.args[0])
		}
		c.ix = ix
		return nil
	})
	return c.ix, err
}

func describeIndex(c *call) (reply, error) {
	ix, err := c.named()
	if err != nil {
		return nil, err
	}
	return document{c.showIndex(&ix)}, nil
}

// indexRequest is the body of POST /indexes.
type indexRequest struct {
	name, metric, vectorType string
	dimension                int
	protection               string
	spec                     *spec
	tags                     map[string]string
	graph                    *graphRequest
}

var indexFields = []field[indexRequest]{
	textField("name", func(q *indexRequest) *string { return &q.name }),
	intField("dimension", 1, maxDimension, func(q *indexRequest) *int { return &q.dimension }),
	textField("metric", func(q *indexRequest) *string { return &q.metric }),
	textField("vector_type", func(q *indexRequest) *string { return &q.vectorType }),
	textField("deletion_protection", func(q *indexRequest) *string { return &q.protection }),
	member("spec", func(q *indexRequest) **spec { return &q.spec }, specFields),
	{"tags", func(q *indexRequest, r *reader) (err error) { q.tags, err = readTags(r, false); return }},
	member("croft", func(q *indexRequest) **graphRequest { return &q.graph }, graphFields),
	modernField("schema"), modernField("deployment"),
}

// modernField refuses a field of the API's newer shape with a word about it.
func modernField(name string) field[indexRequest] {
	return field[indexRequest]{name, func(*indexRequest, *reader) error {
		f := faultf("belongs to API version 2026-07, which is not spoken yet")
		f.hint = "send dimension, metric and spec, as in version " + apiVersions[len(apiVersions)-1]
		return f
	}}
}

var indexNames = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

func checkIndexName(name string) error {
	switch {
	case len(name) < 1 || len(name) > maxIndexName:
		return invalid("name", "has %d characters, 1 to %d are needed", len(name), maxIndexName)
	case !indexNames.MatchString(name):
		return invalid("name", "%q: Name must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
			clip(name))
	}
	return nil
}

// index checks the request and returns the index that it asks for.
func (q *indexRequest) index() (cluster.Index, error) {
	ix := cluster.Index{Name: q.name, Dim: q.dimension, Tags: q.tags}
	if err := checkIndexName(q.name); err != nil {
		return ix, err
	}
	var err error
	if ix.Sparse, ix.Metric, err = q.vectors(); err != nil {
		return ix, err
	}
	if ix.DeletionProtection, err = parseProtection(q.protection); err != nil {
		return ix, err
	}
	if q.spec == nil {
		return ix, invalid("spec", "is missing").WithHint(`for example {"serverless":{"cloud":"aws","region":"us-east-1"}}`)
	}
	if err = q.spec.validate(); err != nil {
		return ix, err
	}
	if err = q.graph.settle(&ix); err != nil {
		return ix, err
	}
	ix.Spec, err = q.spec.encode()
	return ix, err
}

// vectors checks what an index holds and how it is compared.
func (q *indexRequest) vectors() (sparse bool, m ann.Metric, err error) {
	switch q.vectorType {
	case "", "dense":
		setDefault(&q.metric, "cosine")
		if q.dimension == 0 {
			return false, 0, invalid("dimension", "is missing, a dense index needs one from 1 to %d", maxDimension)
		}
	case "sparse":
		setDefault(&q.metric, "dotproduct")
		if q.dimension != 0 {
			return true, 0, invalid("dimension", "is given, but a sparse index has none")
		}
		if q.metric != "dotproduct" {
			return true, 0, invalid("metric", "%q: a sparse index is compared by dotproduct alone", clip(q.metric))
		}
	default:
		return false, 0, invalid("vector_type", "%q is not dense or sparse", clip(q.vectorType))
	}
	if m, err = ann.ParseMetric(q.metric); err != nil {
		return false, 0, invalid("metric", "%q is not cosine, dotproduct or euclidean", clip(q.metric))
	}
	return q.vectorType == "sparse", m, nil
}

func parseProtection(s string) (bool, error) {
	switch s {
	case "", "disabled":
		return false, nil
	case "enabled":
		return true, nil
	}
	return false, invalid("deletion_protection", "%q is not enabled or disabled", clip(s))
}

var (
	tagKeys   = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	tagValues = regexp.MustCompile(`^[A-Za-z0-9;@_.+ -]*$`)
)

// readTags reads an object of strings. In a patch, an empty or null value removes its key.
func readTags(r *reader, patch bool) (map[string]string, error) {
	tags := map[string]string{}
	if err := r.eachTag(tags); err != nil {
		return nil, err
	}
	if len(tags) > maxTags {
		return nil, faultf("%d tags, at most %d are taken", len(tags), maxTags)
	}
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		if err := checkTag(k, tags[k]); err != nil {
			return nil, err
		}
		if tags[k] == "" && !patch {
			delete(tags, k)
		}
	}
	return tags, nil
}

func (r *reader) eachTag(tags map[string]string) error {
	if r.dec.PeekKind() != '{' {
		return r.mismatch("an object of strings")
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return err
	}
	for r.dec.PeekKind() != '}' {
		key, err := r.text()
		if err != nil {
			return err
		}
		if tags[key], err = r.textOrNull(); err != nil {
			return within(err, clip(key))
		}
	}
	_, err := r.dec.ReadToken()
	return err
}

func checkTag(key, value string) error {
	switch {
	case len(key) > maxTagKeyLen || !tagKeys.MatchString(key):
		return faultf("the key %q is not 1 to %d of the characters A-Z a-z 0-9 _ -", clip(key), maxTagKeyLen)
	case len(value) > maxTagValueLen || !tagValues.MatchString(value):
		return within(faultf("the value %q is not at most %d of the characters A-Z a-z 0-9 ; @ _ . + - and space", clip(value), maxTagValueLen), key)
	}
	return nil
}

func createIndex(c *call) (reply, error) {
	var req indexRequest
	if err := decodeObject(c.body, &req, indexFields); err != nil {
		return nil, err
	}
	ix, err := req.index()
	if err != nil {
		return nil, err
	}
	if ix, err = c.h.node.CreateIndex(c.ctx, ix); err != nil {
		return nil, err
	}
	c.ix, c.object = ix, ix.Name
	return document{c.showIndex(&ix)}, nil
}

// patchRequest is the body of PATCH /indexes/{index}.
type patchRequest struct {
	protection *string
	tags       map[string]string
	spec       *patchSpec
	graph      *graphRequest
}

var patchFields = []field[patchRequest]{
	{"deletion_protection", func(p *patchRequest, r *reader) error {
		s, err := r.text()
		p.protection = &s
		return err
	}},
	{"tags", func(p *patchRequest, r *reader) (err error) { p.tags, err = readTags(r, true); return }},
	member("spec", func(p *patchRequest) **patchSpec { return &p.spec }, patchSpecFields),
	member("croft", func(p *patchRequest) **graphRequest { return &p.graph }, graphFields),
	{"embed", func(*patchRequest, *reader) error {
		return faultf("this index has no embedding model; models are not served")
	}},
}

// patch checks the request against the index and returns what changes.
func (p *patchRequest) patch(ix *cluster.Index) (out cluster.IndexPatch, err error) {
	if p.protection != nil {
		on, err := parseProtection(*p.protection)
		if err != nil {
			return out, err
		}
		out.DeletionProtection = &on
	}
	out.Tags = p.tags
	if out.TargetRecall, err = p.graph.patch(ix); err != nil {
		return out, err
	}
	if p.spec != nil {
		s := parseSpec(ix.Spec)
		if err := p.spec.apply(&s); err != nil {
			return out, err
		}
		if out.Spec, err = s.encode(); err != nil {
			return out, err
		}
	}
	return out, nil
}

func configureIndex(c *call) (reply, error) {
	ix, err := c.named()
	if err != nil {
		return nil, err
	}
	var req patchRequest
	if err := decodeObject(c.body, &req, patchFields); err != nil {
		return nil, err
	}
	patch, err := req.patch(&ix)
	if err != nil {
		return nil, err
	}
	if ix, err = c.h.node.ConfigureIndex(c.ctx, ix.Name, patch); err != nil {
		return nil, err
	}
	return document{c.showIndex(&ix)}, nil
}

// deleteIndex answers with an empty body: clients want exactly that here, and here alone.
func deleteIndex(c *call) (reply, error) {
	ix, err := c.named()
	if err != nil {
		return nil, err
	}
	if ix.DeletionProtection {
		return nil, errs.New(errs.PermissionDenied, "Deletion protection is enabled for this index").
			WithHint("PATCH /indexes/%s with {\"deletion_protection\":\"disabled\"} first", ix.Name)
	}
	return nil, c.h.node.DeleteIndex(c.ctx, ix.Name)
}
