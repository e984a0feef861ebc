package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/go-json-experiment/json/jsontext"
)

// IndexModel describes an index.
type IndexModel struct {
	Name               string            `json:"name"`
	Metric             string            `json:"metric"`
	Dimension          int               `json:"dimension,omitzero"`
	VectorType         string            `json:"vector_type,omitzero"`
	Host               string            `json:"host"`
	Status             IndexStatus       `json:"status"`
	Spec               jsontext.Value    `json:"spec,omitzero"`
	DeletionProtection string            `json:"deletion_protection,omitzero"`
	Tags               map[string]string `json:"tags,omitempty"`
	Graph              GraphSettings     `json:"croft,omitzero"`
}

// GraphSettings say how graphs of an index are built and walked. Zero fields stand for the server's defaults; a server
// that is not croft, and a sparse index, have none.
type GraphSettings struct {
	Quantization   string  `json:"quantization,omitzero"` // auto, none, 1, 2, 4 or 8
	M              int     `json:"m,omitzero"`
	EfConstruction int     `json:"ef_construction,omitzero"`
	TargetRecall   float64 `json:"target_recall,omitzero"`
}

// IndexStatus tells whether an index can be used.
type IndexStatus struct {
	Ready bool   `json:"ready"`
	State string `json:"state"`
}

// CreateIndexRequest defines an index. Spec may be empty: serverless on a made-up region, which a server of one's
// own ignores.
type CreateIndexRequest struct {
	Name               string            `json:"name"`
	Dimension          int               `json:"dimension,omitzero"`
	Metric             string            `json:"metric,omitzero"`
	VectorType         string            `json:"vector_type,omitzero"`
	DeletionProtection string            `json:"deletion_protection,omitzero"`
	Tags               map[string]string `json:"tags,omitempty"`
	Spec               jsontext.Value    `json:"spec"`
	Graph              GraphSettings     `json:"croft,omitzero"`
}

// defaultSpec is the smallest spec that the API takes.
var defaultSpec = jsontext.Value(`{"serverless":{"cloud":"aws","region":"us-east-1"}}`)

// CreateIndex defines an index. It is repeated only when the server has done nothing.
func (c *Client) CreateIndex(ctx context.Context, req CreateIndexRequest) (m IndexModel, err error) {
	if len(req.Spec) == 0 {
		req.Spec = defaultSpec
	}
	k := call{method: http.MethodPost, path: "/indexes", in: req, once: true}
	err = c.do(ctx, c.root, k, &m)
	return m, err
}

// ListIndexes returns all indexes.
func (c *Client) ListIndexes(ctx context.Context) ([]IndexModel, error) {
	var out struct {
		Indexes []IndexModel `json:"indexes"`
	}
	err := c.do(ctx, c.root, call{method: http.MethodGet, path: "/indexes"}, &out)
	return out.Indexes, err
}

// DescribeIndex returns one index.
func (c *Client) DescribeIndex(ctx context.Context, name string) (m IndexModel, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodGet, path: "/indexes/" + url.PathEscape(name)}, &m)
	return m, err
}

// ConfigureIndexRequest changes an index; zero fields stay. A tag with an empty value is removed.
type ConfigureIndexRequest struct {
	DeletionProtection string            `json:"deletion_protection,omitzero"`
	Tags               map[string]string `json:"tags,omitempty"`
	Graph              GraphSettings     `json:"croft,omitzero"` // only TargetRecall can be changed
}

// ConfigureIndex changes an index and describes it.
func (c *Client) ConfigureIndex(ctx context.Context, name string, req ConfigureIndexRequest) (m IndexModel, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodPatch, path: "/indexes/" + url.PathEscape(name), in: req}, &m)
	return m, err
}

// DeleteIndex drops an index with all its records. It is repeated only when the server has done nothing.
func (c *Client) DeleteIndex(ctx context.Context, name string) error {
	k := call{method: http.MethodDelete, path: "/indexes/" + url.PathEscape(name), once: true}
	return c.do(ctx, c.root, k, nil)
}

// Ready asks the server whether it serves everything. The error tells what fails, or that nothing answers.
func (c *Client) Ready(ctx context.Context) error {
	return c.do(ctx, c.root, call{method: http.MethodGet, path: "/readyz"}, nil)
}

// Healthy asks the server whether it is alive at all.
func (c *Client) Healthy(ctx context.Context) error {
	return c.do(ctx, c.root, call{method: http.MethodGet, path: "/healthz"}, nil)
}

// ShardStats are figures of all shards together.
type ShardStats struct {
	Records       uint64
	Indexed       *uint64 // records that need no exact scan of newcomers any more; nil: the server does not tell
	SegmentBytes  uint64
	ResidentBytes int64
}

// Shards asks croft's own API for the figures of all shards and adds them up.
func (c *Client) Shards(ctx context.Context) (sum ShardStats, err error) {
	var out struct {
		Shards []struct {
			Records       uint64  `json:"records"`
			Indexed       *uint64 `json:"indexed"`
			SegmentBytes  uint64  `json:"segment_bytes"`
			ResidentBytes int64   `json:"resident_bytes"`
		} `json:"shards"`
	}
	err = c.do(ctx, c.root, call{method: http.MethodGet, path: "/v1/shards"}, &out)
	for _, s := range out.Shards {
		sum.Records += s.Records
		sum.SegmentBytes += s.SegmentBytes
		sum.ResidentBytes += s.ResidentBytes
		if s.Indexed == nil {
			continue
		}
		if sum.Indexed == nil {
			sum.Indexed = new(uint64)
		}
		*sum.Indexed += *s.Indexed
	}
	return sum, err
}
