package api

import (
	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/errs"
)

// namespaceShown is a NamespaceDescription. Its count is a string, as 64-bit numbers are in Pinecone's JSON.
type namespaceShown struct {
	Name        string `json:"name"`
	RecordCount string `json:"record_count"`
}

func showNamespace(n cluster.Namespace) namespaceShown {
	return namespaceShown{Name: n.Name, RecordCount: formatCount(n.Stats.Records)}
}

type namespacePage struct {
	Namespaces []namespaceShown `json:"namespaces"`
	Pagination *nextPage        `json:"pagination,omitzero"`
	Total      int              `json:"total_count"`
}

type nextPage struct {
	Next string `json:"next"`
}

func listNamespaces(c *call) (reply, error) {
	limit, err := c.params.integer("limit", defaultListed, 1, maxListed)
	if err != nil {
		return nil, err
	}
	prefix, err := c.prefix(maxNamespaceLen)
	if err != nil {
		return nil, err
	}
	at := listing{op: c.op, index: c.ix.ID, bound: prefix}
	after, err := c.h.tokens.open(at, c.params.text("paginationToken"))
	if err != nil {
		return nil, err
	}
	found, more, total, err := c.h.node.Namespaces(c.ctx, c.ix, prefix, after, limit)
	if err != nil {
		return nil, err
	}
	page := namespacePage{Namespaces: make([]namespaceShown, len(found)), Total: total}
	for i, n := range found {
		page.Namespaces[i] = showNamespace(n)
	}
	if more && len(found) > 0 {
		page.Pagination = &nextPage{c.h.tokens.seal(at, found[len(found)-1].Name)}
	}
	return document{page}, nil
}

// namespaceRequest is the body of POST /namespaces.
type namespaceRequest struct {
	name   string
	schema bool
}

var namespaceFields = []field[namespaceRequest]{
	textField("name", func(n *namespaceRequest) *string { return &n.name }),
	{"schema", func(n *namespaceRequest, r *reader) error {
		n.schema = true
		_, err := readSchema(r)
		return err
	}},
}

func createNamespace(c *call) (reply, error) {
	var req namespaceRequest
	if err := decodeObject(c.body, &req, namespaceFields); err != nil {
		return nil, err
	}
	if err := checkASCII(req.name, maxNamespaceLen); err != nil {
		return nil, fieldFault(err, "name")
	}
	c.namespace = req.name
	if req.name == cluster.DefaultNamespace {
		return nil, errs.New(errs.AlreadyExists, "the namespace %s always exists", req.name)
	}
	if req.schema {
		c.warn("schema has no effect: every metadata field stays filterable")
	}
	n, err := c.h.node.CreateNamespace(c.ctx, c.ix, req.name)
	if err != nil {
		return nil, err
	}
	return document{showNamespace(n)}, nil
}

func describeNamespace(c *call) (reply, error) {
	name, err := c.inNamespace(c.args[0])
	if err != nil {
		return nil, err
	}
	n, err := c.h.node.DescribeNamespace(c.ctx, c.ix, name)
	if err != nil {
		return nil, err
	}
	return document{showNamespace(n)}, nil
}

func deleteNamespace(c *call) (reply, error) {
	name, err := c.inNamespace(c.args[0])
	if err != nil {
		return nil, err
	}
	if err := c.h.node.DeleteNamespace(c.ctx, c.ix, name); err != nil {
		return nil, err
	}
	return empty{}, nil
}
