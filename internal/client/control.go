package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

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
	Graph              Graph             `json:"-"`
}

// Graph holds the build parameters of an index's graph, which Pinecone's API does not know; they travel as headers.
// Zero: the server's default.
type Graph struct {
	M              int
	EfConstruction int
}

// defaultSpec is the smallest spec that the API takes.
var defaultSpec = jsontext.Value(`{"serverless":{"cloud":"aws","region":"us-east-1"}}`)

func (g Graph) header() http.Header {
	h := http.Header{}
	if g.M > 0 {
		h.Set("X-Croft-M", strconv.Itoa(g.M))
	}
	if g.EfConstruction > 0 {
		h.Set("X-Croft-Ef-Construction", strconv.Itoa(g.EfConstruction))
	}
	return h
}

// CreateIndex defines an index. It is repeated only when the server has done nothing.
func (c *Client) CreateIndex(ctx context.Context, req CreateIndexRequest) (m IndexModel, err error) {
	if len(req.Spec) == 0 {
		req.Spec = defaultSpec
	}
	k := call{method: http.MethodPost, path: "/indexes", in: req, header: req.Graph.header(), once: true}
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
