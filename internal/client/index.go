package client

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Index speaks to the data plane of one index. It may be used from any number of goroutines.
type Index struct {
	Model IndexModel
	c     *Client
	addr  *address
}

// Index describes an index and binds to its host. When the host cannot be dialled from here (a port that a container
// does not publish, a name that does not resolve), calls go to the control plane's address with the path prefix
// /i/<index> instead, for as long as the Index lives.
func (c *Client) Index(ctx context.Context, name string) (*Index, error) {
	m, err := c.DescribeIndex(ctx, name)
	if err != nil {
		return nil, err
	}
	prefixed := c.root.current().JoinPath("i", url.PathEscape(m.Name))
	host, err := parseBase(m.Host)
	if m.Host == "" || err != nil {
		host = prefixed
	}
	return &Index{Model: m, c: c, addr: newAddress(host, prefixed)}, nil
}

// Host is the address that calls go to.
func (ix *Index) Host() string { return ix.addr.current().String() }

func (ix *Index) do(ctx context.Context, k call, out any) error { return ix.c.do(ctx, ix.addr, k, out) }

// Sparse is a sparse vector: indices with as many values.
type Sparse struct {
	Indices []uint32  `json:"indices"`
	Values  []float32 `json:"values"`
}

// Vector is a record.
type Vector struct {
	ID           string         `json:"id"`
	Values       []float32      `json:"values,omitempty"`
	SparseValues *Sparse        `json:"sparseValues,omitempty"`
	Metadata     jsontext.Value `json:"metadata,omitzero"`
}

// QueryRequest asks for the nearest records to a vector, or to the record with an id.
type QueryRequest struct {
	Namespace       string         `json:"namespace,omitempty"`
	ID              string         `json:"id,omitempty"`
	Vector          []float32      `json:"vector,omitempty"`
	SparseVector    *Sparse        `json:"sparseVector,omitempty"`
	TopK            int            `json:"topK"`
	Filter          jsontext.Value `json:"filter,omitzero"`
	IncludeValues   bool           `json:"includeValues,omitzero"`
	IncludeMetadata bool           `json:"includeMetadata,omitzero"`
	Ef              int            `json:"maxCandidates,omitzero"` // breadth of a graph walk; 0: what Recall takes
	Recall          float64        `json:"recall,omitzero"`        // share of the true nearest to find; 0: the index's target
}

// Usage is what a read cost.
type Usage struct {
	ReadUnits int `json:"readUnits"`
}

// Match is one answer of a query. Values are empty unless they were asked for.
type Match struct {
	ID           string         `json:"id"`
	Score        float32        `json:"score"`
	Values       []float32      `json:"values"`
	SparseValues *Sparse        `json:"sparseValues,omitempty"`
	Metadata     jsontext.Value `json:"metadata,omitzero"`
}

// QueryResponse holds matches, best first.
type QueryResponse struct {
	Matches   []Match `json:"matches"`
	Namespace string  `json:"namespace"`
	Usage     *Usage  `json:"usage,omitempty"`
}

// Query searches a namespace.
func (ix *Index) Query(ctx context.Context, req QueryRequest) (out QueryResponse, err error) {
	err = ix.do(ctx, call{method: http.MethodPost, path: "/query", in: req}, &out)
	return out, err
}

// Upsert stores records, each replacing the one of the same id, and returns how many. A request is bounded to 1,000
// records and 2 MB.
func (ix *Index) Upsert(ctx context.Context, namespace string, vectors []Vector) (int, error) {
	in := struct {
		Vectors   []Vector `json:"vectors"`
		Namespace string   `json:"namespace,omitempty"`
	}{vectors, namespace}
	return ix.upsert(ctx, call{in: in})
}

// MaxUpsert and MaxBody bound one upsert: records, and bytes of its body.
const (
	MaxUpsert = 1000
	MaxBody   = 2 << 20
)

// UpsertEncoded is Upsert of records that are JSON objects already; they are sent as they are.
func (ix *Index) UpsertEncoded(ctx context.Context, namespace string, vectors []jsontext.Value) (int, error) {
	return ix.upsert(ctx, call{body: appendUpsert(nil, namespace, vectors)})
}

// UpsertOverhead bounds what a body of UpsertEncoded holds beyond its records and one byte for each.
func UpsertOverhead(namespace string) int {
	return 6*len(namespace) + len(`{"vectors":[],"namespace":""}`)
}

func appendUpsert(b []byte, namespace string, vectors []jsontext.Value) []byte {
	size := UpsertOverhead(namespace)
	for _, v := range vectors {
		size += len(v) + 1
	}
	b = append(slices.Grow(b, size), `{"vectors":[`...)
	for i, v := range vectors {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, v...)
	}
	b = append(b, ']')
	if namespace != "" {
		b = append(b, `,"namespace":`...)
		b, _ = jsontext.AppendQuote(b, namespace) // invalid UTF-8 is replaced, and refused by nobody but the server
	}
	return append(b, '}')
}

func (ix *Index) upsert(ctx context.Context, k call) (int, error) {
	var out struct {
		UpsertedCount int `json:"upsertedCount"`
	}
	k.method, k.path = http.MethodPost, "/vectors/upsert"
	err := ix.do(ctx, k, &out)
	return out.UpsertedCount, err
}

// FetchResponse holds the records that exist, by id.
type FetchResponse struct {
	Vectors   map[string]Vector `json:"vectors"`
	Namespace string            `json:"namespace"`
	Usage     *Usage            `json:"usage,omitempty"`
}

// Fetch returns records by id; ids without a record are left out.
func (ix *Index) Fetch(ctx context.Context, namespace string, ids []string) (out FetchResponse, err error) {
	q := url.Values{"ids": ids}
	setNonEmpty(q, "namespace", namespace)
	err = ix.do(ctx, call{method: http.MethodGet, path: "/vectors/fetch", query: q}, &out)
	return out, err
}

// UpdateRequest changes one record, or with Filter the metadata of many.
type UpdateRequest struct {
	ID           string         `json:"id,omitempty"`
	Values       []float32      `json:"values,omitempty"`
	SparseValues *Sparse        `json:"sparseValues,omitempty"`
	SetMetadata  jsontext.Value `json:"setMetadata,omitzero"`
	Filter       jsontext.Value `json:"filter,omitzero"`
	DryRun       bool           `json:"dryRun,omitzero"`
	Namespace    string         `json:"namespace,omitempty"`
}

// UpdateResponse tells how many records matched, for updates by filter.
type UpdateResponse struct {
	MatchedRecords int `json:"matchedRecords"`
}

// Update changes records.
func (ix *Index) Update(ctx context.Context, req UpdateRequest) (out UpdateResponse, err error) {
	err = ix.do(ctx, call{method: http.MethodPost, path: "/vectors/update", in: req}, &out)
	return out, err
}

// DeleteRequest names records by exactly one of its first three fields.
type DeleteRequest struct {
	IDs       []string       `json:"ids,omitempty"`
	DeleteAll bool           `json:"deleteAll,omitzero"`
	Filter    jsontext.Value `json:"filter,omitzero"`
	Namespace string         `json:"namespace,omitempty"`
}

// Delete removes records.
func (ix *Index) Delete(ctx context.Context, req DeleteRequest) error {
	return ix.do(ctx, call{method: http.MethodPost, path: "/vectors/delete", in: req}, nil)
}

// Page asks for a part of a list: up to Limit entries (0: the server's default) whose name has Prefix, from Token on.
type Page struct {
	Prefix string
	Limit  int
	Token  string
}

func (p Page) values() url.Values {
	q := url.Values{}
	setNonEmpty(q, "prefix", p.Prefix)
	setNonEmpty(q, "paginationToken", p.Token)
	if p.Limit > 0 {
		q.Set("limit", strconv.Itoa(p.Limit))
	}
	return q
}

func setNonEmpty(q url.Values, key, value string) {
	if value != "" {
		q.Set(key, value)
	}
}

// Pagination points to the next page; nil on the last one.
type Pagination struct {
	Next string `json:"next"`
}

// NextToken is the token of the next page, "" on the last one.
func (p *Pagination) NextToken() string {
	if p == nil {
		return ""
	}
	return p.Next
}

// ListedID is an entry of List.
type ListedID struct {
	ID string `json:"id"`
}

// ListResponse is a page of ids, in order.
type ListResponse struct {
	Vectors    []ListedID  `json:"vectors"`
	Namespace  string      `json:"namespace"`
	Pagination *Pagination `json:"pagination,omitempty"`
	Usage      *Usage      `json:"usage,omitempty"`
}

// List returns a page of the ids of a namespace.
func (ix *Index) List(ctx context.Context, namespace string, p Page) (out ListResponse, err error) {
	q := p.values()
	setNonEmpty(q, "namespace", namespace)
	err = ix.do(ctx, call{method: http.MethodGet, path: "/vectors/list", query: q}, &out)
	return out, err
}

// NamespaceSummary is a namespace's line in Stats.
type NamespaceSummary struct {
	VectorCount int `json:"vectorCount"`
}

// Stats are an index's figures.
type Stats struct {
	Namespaces       map[string]NamespaceSummary `json:"namespaces"`
	Dimension        int                         `json:"dimension,omitzero"`
	IndexFullness    float32                     `json:"indexFullness"`
	TotalVectorCount int                         `json:"totalVectorCount"`
	Metric           string                      `json:"metric,omitempty"`
	VectorType       string                      `json:"vectorType,omitempty"`
}

// Stats returns an index's figures.
func (ix *Index) Stats(ctx context.Context) (out Stats, err error) {
	k := call{method: http.MethodPost, path: "/describe_index_stats", body: []byte("{}")}
	err = ix.do(ctx, k, &out)
	return out, err
}
