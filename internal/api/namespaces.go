package api

import (
	"strings"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// namespaceShown is a NamespaceDescription. Its count is a string, as 64-bit numbers are in Pinecone's JSON.
type namespaceShown struct {
	Name        string       `json:"name"`
	RecordCount string       `json:"record_count"`
	Search      *searchShown `json:"croft,omitzero"`
}

// searchShown is the "croft" of a namespace that is searched by a graph: what the graph's searches find, and at which
// effort. Lists go without: it tells of one namespace.
type searchShown struct {
	Indexed       string  `json:"indexed"`                 // records in the graph; the others are searched exactly
	Ef            int     `json:"ef"`                      // breadth that finds 0.99 of the ten nearest, by what was measured
	SampledRecall float64 `json:"sampled_recall,omitzero"` // none before searches were sampled
}

func showNamespace(n cluster.Namespace) namespaceShown {
	return namespaceShown{Name: n.Name, RecordCount: formatCount(n.Stats.Records)}
}

type namespacePage struct {
	Namespaces []namespaceShown `json:"namespaces"`
	Pagination *nextPage        `json:"pagination,omitzero"`
	Total      int              `json:"total_count"`
}

func (n namespaceShown) owners() []string { return []string{n.Name} }
func (p namespacePage) owners() []string {
	return namesOf(p.Namespaces, func(n *namespaceShown) string { return n.Name })
}

type nextPage struct {
	Next string `json:"next"`
}

func listNamespaces(c *call) (reply, error) {
	limit, err := c.params.integer("limit", defaultListed, 1, maxListed)
	if err != nil {
		return nil, err
	}
	prefix := c.params.text("prefix")
	if err := tenancy.CheckPart(prefix); err != nil {
		return nil, fieldFault(err, "prefix")
	}
	at := c.listing("", prefix)
	after, err := c.h.tokens.open(at, c.params.text("paginationToken"))
	if err != nil {
		return nil, err
	}
	found, more, total, err := c.namespaces(prefix, after, limit)
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

// namespaces lists those that the principal reaches, as Node.Namespaces does. A tenant has at most one in an index.
func (c *call) namespaces(prefix, after string, limit int) (page []cluster.Namespace, more bool, total int, err error) {
	own, all := c.sight()
	if all {
		return c.h.node.Namespaces(c.ctx, c.ix, prefix, after, limit)
	}
	if !strings.HasPrefix(own, prefix) {
		return nil, false, 0, nil
	}
	page, err = c.ownNamespace(own)
	if total = len(page); after >= own {
		page = nil
	}
	return page, false, total, err
}

// ownNamespace is the one namespace that a tenant's principal sees of an index, if it is there.
func (c *call) ownNamespace(name string) ([]cluster.Namespace, error) {
	n, err := c.h.node.DescribeNamespace(c.ctx, c.ix, name)
	switch {
	case errs.Is(err, errs.NotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case n.Shard == cluster.NoShard: // the default one, which is always there, and here has nothing
		return nil, nil
	}
	return []cluster.Namespace{n}, nil
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
	if err := tenancy.CheckName(req.name); err != nil {
		return nil, fieldFault(err, "name")
	}
	c.namespace = req.name
	if err := c.reach(req.name); err != nil {
		return nil, err
	}
	if req.name == cluster.DefaultNamespace {
		return nil, errs.New(errs.AlreadyExists, "the namespace %s always exists", req.name)
	}
	if req.schema {
		c.warn("schema has no effect: every metadata field stays filterable")
	}
	n, err := c.h.node.CreateNamespace(c.creating(), c.ix, req.name)
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
	shown := showNamespace(n)
	if st := n.Stats; st.Ef > 0 {
		shown.Search = &searchShown{formatCount(st.Indexed), st.Ef, st.SampledRecall}
	}
	return document{shown}, nil
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
