package client

import (
	"context"
	"net/http"
	"net/url"
)

// Namespace describes a namespace. The API gives its count as a decimal string.
type Namespace struct {
	Name        string `json:"name"`
	RecordCount uint64 `json:"record_count,string"`
	// Search is how the graph of the namespace does, where it has one and was asked for by name.
	Search *NamespaceSearch `json:"croft,omitzero"`
}

// NamespaceSearch is how the graph of a namespace does.
type NamespaceSearch struct {
	Indexed       uint64  `json:"indexed,string"`          // records in the graph; the others are searched exactly
	Ef            int     `json:"ef"`                      // breadth that finds 0.99 of the ten nearest, by what was measured
	SampledRecall float64 `json:"sampled_recall,omitzero"` // share of the true nearest that sampled searches found; 0: none yet
}

// NamespaceList is a page of namespaces, in order of name; TotalCount counts all pages.
type NamespaceList struct {
	Namespaces []Namespace `json:"namespaces"`
	Pagination *Pagination `json:"pagination,omitempty"`
	TotalCount int         `json:"total_count"`
}

// Namespaces returns a page of an index's namespaces.
func (ix *Index) Namespaces(ctx context.Context, p Page) (out NamespaceList, err error) {
	err = ix.do(ctx, call{method: http.MethodGet, path: "/namespaces", query: p.values()}, &out)
	return out, err
}

// DescribeNamespace returns one namespace.
func (ix *Index) DescribeNamespace(ctx context.Context, name string) (out Namespace, err error) {
	err = ix.do(ctx, call{method: http.MethodGet, path: namespacePath(name)}, &out)
	return out, err
}

// CreateNamespace makes an empty namespace. It is repeated only when the server has done nothing.
func (ix *Index) CreateNamespace(ctx context.Context, name string) (out Namespace, err error) {
	in := struct {
		Name string `json:"name"`
	}{name}
	err = ix.do(ctx, call{method: http.MethodPost, path: "/namespaces", in: in, once: true}, &out)
	return out, err
}

// DeleteNamespace drops a namespace with all its records. It is repeated only when the server has done nothing.
func (ix *Index) DeleteNamespace(ctx context.Context, name string) error {
	return ix.do(ctx, call{method: http.MethodDelete, path: namespacePath(name), once: true}, nil)
}

func namespacePath(name string) string { return "/namespaces/" + url.PathEscape(name) }
