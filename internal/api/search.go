package api

import (
	"crypto/sha256"
	"errors"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/engine/filter"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/tenancy"
)

// A search over many tenants: docs/search.md.

const (
	maxSearchTenants = 10_000 // that a request names
	maxMissingShown  = 1000   // tenants of whom an answer says that they are missing; all are counted
)

// searchRequest is the body of a search over many tenants.
type searchRequest struct {
	queryRequest
	index   string
	tenants []string // nil: all
	text    string
	token   string
	fresh   bool
}

// searchFields are those of a query but for what is about one namespace, and those that are about many.
var searchFields = append(liftFields(queryFields, func(s *searchRequest) *queryRequest { return &s.queryRequest }, "namespace", "id", "queries", "scanFactor"),
	textField("index", func(s *searchRequest) *string { return &s.index }),
	field[searchRequest]{"tenants", (*searchRequest).readTenants},
	textField("text", func(s *searchRequest) *string { return &s.text }),
	textField("paginationToken", func(s *searchRequest) *string { return &s.token }),
	boolField("fresh", func(s *searchRequest) *bool { return &s.fresh }),
)

// liftFields are the fields of a part, for the whole, but for those left out.
func liftFields[T, P any](fields []field[P], part func(*T) *P, without ...string) []field[T] {
	var lifted []field[T]
	for _, f := range fields {
		if !slices.Contains(without, f.name) {
			lifted = append(lifted, field[T]{f.name, func(t *T, r *reader) error { return f.read(part(t), r) }})
		}
	}
	return lifted
}

func (s *searchRequest) readTenants(r *reader) (err error) {
	if s.tenants, err = r.texts(maxSearchTenants); err != nil {
		return err
	}
	if len(s.tenants) == 0 {
		return faultf("the list is empty; leave it out to search all tenants")
	}
	for i, name := range s.tenants {
		if err := tenancy.CheckName(name); err != nil {
			return within(err, index(i))
		}
	}
	return nil
}

func searchTenants(c *call) (reply, error) {
	var req searchRequest
	if err := decodeObject(c.body, &req, searchFields); err != nil {
		return nil, err
	}
	if err := c.resolveNamed(req.index); err != nil {
		return nil, err
	}
	if req.text != "" {
		return nil, invalid("text", "index %q embeds no text: it has no embedding model; give a vector", c.ix.Name)
	}
	if err := req.validate(&c.ix); err != nil {
		return nil, err
	}
	settings := c.h.node.SearchSettings()
	c.terms.bound = min(c.terms.bound, settings.Duration(tenancy.Deadline))
	c.capBy(&req.queryRequest, &settings)
	req.limit = c.h.opts.Limits.ResultBytes
	req.MaxBytes = 2 * req.limit
	page := c.listing("", req.bound())
	after, err := c.h.tokens.open(page, req.token)
	if err != nil {
		return nil, err
	}
	place, err := parseSearchPlace(after)
	if err != nil {
		return nil, err
	}
	a, err := c.h.node.Search(c.ctx, cluster.Search{Index: c.ix, Tenants: req.tenants, Query: req.Query, After: place, Fresh: req.fresh})
	if errors.Is(err, engine.ErrAnswerTooLarge) {
		return nil, errResultTooLarge(req.limit)
	}
	if err != nil {
		return nil, err
	}
	shown := &searched{answer: a, limit: req.limit, took: time.Since(c.start)}
	if a.Next != nil {
		shown.next = c.h.tokens.seal(page, searchPlaceText(a.Next))
	}
	c.tellSearch(&a)
	return shown, nil
}

// resolveNamed finds the index that a body names, else the one that the connection means.
func (c *call) resolveNamed(name string) error {
	if name == "" {
		return c.resolve("")
	}
	return c.find(func() error {
		ix, ok := c.h.node.Index(name)
		if !ok {
			return errNoSuchIndex(name)
		}
		c.ix = ix
		return nil
	})
}

// tellSearch says in headers what the answer says as well.
func (c *call) tellSearch(a *cluster.SearchAnswer) {
	c.reading.Receipt.Cache = tenancy.CacheMiss
	if a.Cached {
		c.reading.Receipt.Cache = tenancy.CacheHit
		c.w.Header().Set("Age", strconv.Itoa(int(a.Age.Seconds())))
	}
	if a.Partial() {
		c.w.Header().Set("X-Croft-Partial", "true")
	}
}

// bound is what a page's token is bound to: all that chooses matches.
func (s *searchRequest) bound() string {
	var b []byte
	for _, name := range slices.Sorted(slices.Values(s.tenants)) {
		b = codec.AppendString(b, name)
	}
	b = codec.AppendUint64(b, uint64(len(s.tenants)))
	b = codec.AppendBytes(b, codec.Float32Bytes(s.Vector))
	for _, i := range s.Sparse.Indices {
		b = codec.AppendUint32(b, i)
	}
	b = codec.AppendBytes(b, codec.Float32Bytes(s.Sparse.Values))
	b = codec.AppendUint32(codec.AppendUint64(b, uint64(s.Ef)), math.Float32bits(s.Recall))
	sum := sha256.Sum256(filter.AppendBinary(b, s.Filter))
	return string(sum[:])
}

// searchPlaceText and parseSearchPlace write a place into a page's token.
func searchPlaceText(p *cluster.SearchPlace) string {
	b := codec.AppendUint32(codec.AppendUvarint(nil, uint64(p.Before)), math.Float32bits(p.Score))
	return string(codec.AppendString(codec.AppendString(b, p.Tenant), p.ID))
}

func parseSearchPlace(text string) (*cluster.SearchPlace, error) {
	if text == "" {
		return nil, nil
	}
	r := codec.NewReader([]byte(text))
	p := &cluster.SearchPlace{Before: int(min(r.Uvarint(), cluster.MaxSearched)), Score: math.Float32frombits(r.Uint32()), Tenant: r.String(), ID: r.String()}
	if r.Done() != nil {
		return nil, errBadToken()
	}
	return p, nil
}

// searched is the answer.
type searched struct {
	answer cluster.SearchAnswer
	limit  int
	took   time.Duration
	next   string
}

// missingShown is what could not be searched.
type missingShown struct {
	Shards   []missingShardShown `json:"shards"`
	Tenants  []string            `json:"tenants"`           // the first of them, by name
	Total    int                 `json:"tenants_total"`     // of all that are missing
	Metadata string              `json:"metadata,omitzero"` // why tenants that were made a moment ago may be missing as well
}

type missingShardShown struct {
	Shard   int    `json:"shard"`
	Node    string `json:"node,omitzero"`
	Tenants int    `json:"tenants"`
	Reason  string `json:"reason"`
}

func showMissing(m *cluster.SearchMissing) missingShown {
	s := missingShown{Shards: []missingShardShown{}, Tenants: listOf(m.Tenants[:min(len(m.Tenants), maxMissingShown)]), Total: len(m.Tenants)}
	for _, lost := range m.Shards {
		s.Shards = append(s.Shards, missingShardShown{lost.Shard, lost.Node, lost.Tenants, lost.Err.Error()})
	}
	if m.Unsure != nil {
		s.Metadata = m.Unsure.Error()
	}
	return s
}

// searchTold is what an answer tells beside its matches.
type searchTold struct {
	Partial bool          `json:"partial"`
	Missing *missingShown `json:"missing,omitzero"`
	Unknown []string      `json:"unknown_tenants,omitzero"`
	Tenants int           `json:"tenants_searched"`
	Shards  int           `json:"shards_asked"`
	Cache   searchCached  `json:"cache"`
	TookMs  float64       `json:"took_ms"`
	Page    *nextPage     `json:"pagination,omitzero"`
}

type searchCached struct {
	Hit   bool  `json:"hit"`
	AgeMs int64 `json:"age_ms"`
}

func (s *searched) appendJSON(b []byte) (_ []byte, err error) {
	b = append(b, `{"matches":[`...)
	for i := range s.answer.Hits {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendHit(b, &s.answer.Hits[i]); err != nil {
			return b, err
		}
		if len(b) > s.limit {
			return b, errResultTooLarge(s.limit)
		}
	}
	told, err := document{s.told()}.appendJSON(nil)
	if err != nil {
		return b, err
	}
	b = append(b, "],"...)
	return append(b, told[1:]...), nil
}

func (s *searched) told() searchTold {
	a := &s.answer
	told := searchTold{
		Partial: a.Partial(), Unknown: a.Unknown, Tenants: a.Tenants, Shards: a.Shards,
		Cache: searchCached{a.Cached, a.Age.Milliseconds()}, TookMs: float64(s.took.Microseconds()) / 1e3,
	}
	if told.Partial {
		missing := showMissing(&a.Missing)
		told.Missing = &missing
	}
	if s.next != "" {
		told.Page = &nextPage{s.next}
	}
	return told
}

// appendHit appends a match with its tenant and shard.
func appendHit(b []byte, h *cluster.SearchHit) ([]byte, error) {
	b = append(appendQuoted(append(b, `{"tenant":`...), h.Tenant), `,"shard":`...)
	b = append(strconv.AppendInt(b, int64(h.Shard), 10), ',')
	return appendMatchMembers(b, &h.Match)
}
