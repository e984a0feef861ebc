package api

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/croftdb/croft/internal/errs"
)

// spec is where and how an index runs at Pinecone. Here it runs on this cluster whatever it says: the spec is checked,
// kept and echoed, so that tools which read their own settings back find them.
type spec struct {
	Serverless *serverlessSpec `json:"serverless,omitzero"`
	Pod        *podSpec        `json:"pod,omitzero"`
	BYOC       *byocSpec       `json:"byoc,omitzero"`
}

type serverlessSpec struct {
	Cloud            string          `json:"cloud"`
	Region           string          `json:"region"`
	ReadCapacity     *readCapacity   `json:"read_capacity,omitzero"`
	Schema           *metadataSchema `json:"schema,omitzero"`
	sourceCollection string
}

type byocSpec struct {
	Environment  string          `json:"environment"`
	ReadCapacity *readCapacity   `json:"read_capacity,omitzero"`
	Schema       *metadataSchema `json:"schema,omitzero"`
}

type podSpec struct {
	Environment      string          `json:"environment"`
	PodType          string          `json:"pod_type"`
	Pods             int             `json:"pods"`
	Replicas         int             `json:"replicas"`
	Shards           int             `json:"shards"`
	MetadataConfig   *metadataConfig `json:"metadata_config,omitzero"`
	sourceCollection string
}

type metadataConfig struct {
	Indexed []string `json:"indexed"`
}

type metadataSchema struct {
	Fields map[string]schemaField `json:"fields"`
}

type schemaField struct {
	Filterable bool `json:"filterable"`
}

// readCapacity is how reads are provisioned. Status is there in answers only.
type readCapacity struct {
	Mode      string          `json:"mode"`
	Dedicated *dedicated      `json:"dedicated,omitzero"`
	Status    *capacityStatus `json:"status,omitzero"`
}

type dedicated struct {
	NodeType string         `json:"node_type"`
	Scaling  string         `json:"scaling"`
	Manual   *manualScaling `json:"manual,omitzero"`
}

type manualScaling struct {
	Replicas int `json:"replicas"`
	Shards   int `json:"shards"`
}

type capacityStatus struct {
	State    string `json:"state"`
	Replicas *int   `json:"current_replicas,omitzero"`
	Shards   *int   `json:"current_shards,omitzero"`
}

// member is a field that is a JSON object of its own, made when it is met.
func member[T, M any](name string, at func(*T) **M, fields []field[M]) field[T] {
	return field[T]{name, func(t *T, r *reader) error {
		m := new(M)
		*at(t) = m
		return object(r, m, fields)
	}}
}

var specFields = []field[spec]{
	member("serverless", func(s *spec) **serverlessSpec { return &s.Serverless }, serverlessFields),
	member("pod", func(s *spec) **podSpec { return &s.Pod }, podFields),
	member("byoc", func(s *spec) **byocSpec { return &s.BYOC }, byocFields),
}

var serverlessFields = []field[serverlessSpec]{
	textField("cloud", func(s *serverlessSpec) *string { return &s.Cloud }),
	textField("region", func(s *serverlessSpec) *string { return &s.Region }),
	member("read_capacity", func(s *serverlessSpec) **readCapacity { return &s.ReadCapacity }, capacityFields),
	textField("source_collection", func(s *serverlessSpec) *string { return &s.sourceCollection }),
	{"schema", func(s *serverlessSpec, r *reader) (err error) { s.Schema, err = readSchema(r); return }},
}

var byocFields = []field[byocSpec]{
	textField("environment", func(s *byocSpec) *string { return &s.Environment }),
	member("read_capacity", func(s *byocSpec) **readCapacity { return &s.ReadCapacity }, capacityFields),
	{"schema", func(s *byocSpec, r *reader) (err error) { s.Schema, err = readSchema(r); return }},
}

var podFields = []field[podSpec]{
	textField("environment", func(s *podSpec) *string { return &s.Environment }),
	textField("pod_type", func(s *podSpec) *string { return &s.PodType }),
	intField("pods", 1, 1<<20, func(s *podSpec) *int { return &s.Pods }),
	intField("replicas", 1, 1<<20, func(s *podSpec) *int { return &s.Replicas }),
	intField("shards", 1, 1<<20, func(s *podSpec) *int { return &s.Shards }),
	member("metadata_config", func(s *podSpec) **metadataConfig { return &s.MetadataConfig }, metadataConfigFields),
	textField("source_collection", func(s *podSpec) *string { return &s.sourceCollection }),
}

var metadataConfigFields = []field[metadataConfig]{
	{"indexed", func(m *metadataConfig, r *reader) (err error) { m.Indexed, err = r.texts(1000); return }},
}

var capacityFields = []field[readCapacity]{
	textField("mode", func(c *readCapacity) *string { return &c.Mode }),
	member("dedicated", func(c *readCapacity) **dedicated { return &c.Dedicated }, dedicatedFields),
}

var dedicatedFields = []field[dedicated]{
	textField("node_type", func(d *dedicated) *string { return &d.NodeType }),
	textField("scaling", func(d *dedicated) *string { return &d.Scaling }),
	member("manual", func(d *dedicated) **manualScaling { return &d.Manual }, manualFields),
}

var manualFields = []field[manualScaling]{
	intField("replicas", 0, 1<<20, func(m *manualScaling) *int { return &m.Replicas }),
	intField("shards", 1, 1<<20, func(m *manualScaling) *int { return &m.Shards }),
}

// maxSchemaFields bounds a metadata schema.
const maxSchemaFields = 50

// readSchema reads {"fields":{"genre":{"filterable":true}}}.
func readSchema(r *reader) (*metadataSchema, error) {
	s := &metadataSchema{Fields: map[string]schemaField{}}
	return s, object(r, s, []field[metadataSchema]{{"fields", (*metadataSchema).readFields}})
}

func (s *metadataSchema) readFields(r *reader) error {
	raw, err := r.rawObject()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &s.Fields, json.RejectUnknownMembers(true)); err != nil {
		return faultf("want objects as {\"genre\":{\"filterable\":true}}, got %s", clip(raw))
	}
	if len(s.Fields) > maxSchemaFields {
		return faultf("%d fields, at most %d are taken", len(s.Fields), maxSchemaFields)
	}
	for name, f := range s.Fields {
		switch {
		case strings.HasPrefix(name, "$"):
			return faultf("%q begins with $", clip(name))
		case !f.Filterable:
			return faultf("%q: filterable must be true; leave the field out otherwise", clip(name))
		}
	}
	return nil
}

// validate checks a new index's spec and fills in defaults.
func (s *spec) validate() error {
	kinds := 0
	for _, given := range []bool{s.Serverless != nil, s.Pod != nil, s.BYOC != nil} {
		if given {
			kinds++
		}
	}
	if kinds != 1 {
		return invalid("spec", "exactly one of serverless, pod and byoc must be given, %d are", kinds)
	}
	switch {
	case s.Serverless != nil:
		return s.Serverless.validate()
	case s.Pod != nil:
		return s.Pod.validate()
	}
	if s.BYOC.Environment == "" {
		return invalid("spec.byoc.environment", "is missing")
	}
	return s.BYOC.ReadCapacity.validate("spec.byoc.read_capacity")
}

func (s *serverlessSpec) validate() error {
	switch {
	case s.Cloud == "":
		return invalid("spec.serverless.cloud", "is missing; any text will do, for example aws")
	case s.Region == "":
		return invalid("spec.serverless.region", "is missing; any text will do, for example us-east-1")
	case s.sourceCollection != "":
		return errNoCollection(s.sourceCollection)
	}
	return s.ReadCapacity.validate("spec.serverless.read_capacity")
}

var podTypes = regexp.MustCompile(`^(s1|p1|p2)(\.x[1248])?$`)

// maxPods bounds replicas times shards: the texts of upstream's limit are what clients' suites look for.
const maxPods = 1000

func (p *podSpec) validate() error {
	setDefault(&p.PodType, "p1.x1")
	setDefault(&p.Replicas, 1)
	setDefault(&p.Shards, 1)
	switch {
	case p.Environment == "":
		return invalid("spec.pod.environment", "is missing; any text will do, for example us-east-1-aws")
	case !podTypes.MatchString(p.PodType):
		return invalid("spec.pod.pod_type", "%q is not s1, p1 or p2 with .x1, .x2, .x4 or .x8", clip(p.PodType))
	case p.sourceCollection != "":
		return errNoCollection(p.sourceCollection)
	case p.Pods != 0 && p.Pods != p.Replicas*p.Shards:
		return invalid("spec.pod.pods", "%d is not replicas times shards, %d", p.Pods, p.Replicas*p.Shards)
	}
	p.Pods = p.Replicas * p.Shards
	return p.checkCount()
}

func (p *podSpec) checkCount() error {
	if p.Pods > maxPods {
		return errs.New(errs.QuotaExceeded, "You've reached the max pods allowed: %d replicas of %d shards are %d pods, at most %d are taken",
			p.Replicas, p.Shards, p.Pods, maxPods)
	}
	return nil
}

func errNoCollection(name string) error {
	return errs.New(errs.NotFound, "Resource %s not found: there are no collections", clip(name))
}

func (c *readCapacity) validate(path string) error {
	switch {
	case c == nil:
		return nil
	case c.Mode == "OnDemand" && c.Dedicated == nil:
		return nil
	case c.Mode == "OnDemand":
		return invalid(path+".dedicated", "is given with mode OnDemand")
	case c.Mode != "Dedicated":
		return invalid(path+".mode", "%q is not OnDemand or Dedicated", clip(c.Mode))
	case c.Dedicated == nil:
		return invalid(path+".dedicated", "is missing with mode Dedicated")
	}
	d := c.Dedicated
	path += ".dedicated"
	switch {
	case d.NodeType != "b1" && d.NodeType != "t1":
		return invalid(path+".node_type", "%q is not b1 or t1", clip(d.NodeType))
	case d.Scaling != "Manual":
		return invalid(path+".scaling", "%q is not Manual", clip(d.Scaling))
	case d.Manual == nil || d.Manual.Shards == 0:
		return invalid(path+".manual", "needs replicas, 0 or more, and shards, 1 or more")
	}
	return nil
}

// shown is a spec with what only answers have: Go's client 5.2 cannot read one without read_capacity.
func (s spec) shown() spec {
	if s.Serverless != nil {
		own := *s.Serverless
		own.ReadCapacity = own.ReadCapacity.shown()
		s.Serverless = &own
	}
	if s.BYOC != nil {
		own := *s.BYOC
		own.ReadCapacity = own.ReadCapacity.shown()
		s.BYOC = &own
	}
	return s
}

func (c *readCapacity) shown() *readCapacity {
	if c == nil {
		c = &readCapacity{Mode: "OnDemand"}
	}
	own := *c
	own.Status = &capacityStatus{State: "Ready"}
	if own.Dedicated != nil {
		own.Status.Replicas, own.Status.Shards = &own.Dedicated.Manual.Replicas, &own.Dedicated.Manual.Shards
	}
	return &own
}

// parseSpec reads a spec back that was stored. One that is missing or not ours is shown as the default: what it says
// has no effect, so it is no reason to hide an index.
func parseSpec(stored []byte) spec {
	var s spec
	if err := json.Unmarshal(stored, &s); err != nil || s == (spec{}) {
		return spec{Serverless: &serverlessSpec{Cloud: "croft", Region: "local"}}
	}
	return s
}

func (s *spec) encode() ([]byte, error) { return json.Marshal(s, json.Deterministic(true)) }

// patchSpec is the "spec" of a PATCH.
type patchSpec struct {
	serverless, byoc *capacityPatch
	pod              *podPatch
}

type capacityPatch struct{ capacity *readCapacity }

type podPatch struct {
	replicas int
	podType  string
}

var patchSpecFields = []field[patchSpec]{
	member("serverless", func(p *patchSpec) **capacityPatch { return &p.serverless }, capacityPatchFields),
	member("byoc", func(p *patchSpec) **capacityPatch { return &p.byoc }, capacityPatchFields),
	member("pod", func(p *patchSpec) **podPatch { return &p.pod }, podPatchFields),
}

var capacityPatchFields = []field[capacityPatch]{
	member("read_capacity", func(p *capacityPatch) **readCapacity { return &p.capacity }, capacityFields),
}

var podPatchFields = []field[podPatch]{
	intField("replicas", 1, 1<<20, func(p *podPatch) *int { return &p.replicas }),
	textField("pod_type", func(p *podPatch) *string { return &p.podType }),
}

// apply changes s as p says. The kind of a spec never changes.
func (p *patchSpec) apply(s *spec) error {
	switch {
	case p.serverless != nil && s.Serverless == nil, p.byoc != nil && s.BYOC == nil, p.pod != nil && s.Pod == nil:
		return invalid("spec", "the index is %s, which cannot be changed", s.kind())
	case p.pod != nil:
		return p.pod.apply(s.Pod)
	case p.serverless != nil && p.serverless.capacity != nil:
		s.Serverless.ReadCapacity = p.serverless.capacity
		return s.Serverless.ReadCapacity.validate("spec.serverless.read_capacity")
	case p.byoc != nil && p.byoc.capacity != nil:
		s.BYOC.ReadCapacity = p.byoc.capacity
		return s.BYOC.ReadCapacity.validate("spec.byoc.read_capacity")
	}
	return nil
}

func (s *spec) kind() string {
	switch {
	case s.Serverless != nil:
		return "serverless"
	case s.Pod != nil:
		return "pod-based"
	}
	return "byoc"
}

func (p *podPatch) apply(s *podSpec) error {
	if p.podType != "" {
		if !podTypes.MatchString(p.podType) {
			return invalid("spec.pod.pod_type", "%q is not s1, p1 or p2 with .x1, .x2, .x4 or .x8", clip(p.podType))
		}
		oldKind, oldSize := podSize(s.PodType)
		kind, size := podSize(p.podType)
		switch {
		case kind != oldKind:
			return invalid("spec.pod.pod_type", "pods of type %s cannot become %s", oldKind, kind)
		case size < oldSize:
			return invalid("spec.pod.pod_type", "Cannot scale down from %s to %s", s.PodType, p.podType)
		}
		s.PodType = p.podType
	}
	if p.replicas != 0 {
		s.Replicas = p.replicas
		s.Pods = s.Replicas * s.Shards
	}
	return s.checkCount()
}

// podSize splits p1.x2 into p1 and 2; a bare p1 is of size 1.
func podSize(podType string) (kind string, size int) {
	kind, x, _ := strings.Cut(podType, ".x")
	size, err := strconv.Atoi(x)
	if err != nil {
		size = 1
	}
	return kind, size
}
