package main

import (
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/client"
)

// queryFlags are the flags of `croft query`, before they are read.
type queryFlags struct {
	conn   connection
	req    client.QueryRequest
	vector string
	sparse string
	filter string
}

func (a *app) queryCommand() *cobra.Command {
	var q queryFlags
	cmd := &cobra.Command{
		Use:   "query INDEX",
		Short: "Find the records nearest to a vector or to a record",
		Example: `  croft query acme-docs -n tenant-0001 --id doc-1 -k 3
  croft query acme-docs -n tenant-0001 --id doc-1 --filter '{"lang":"en","year":{"$gte":2023}}'`,
		Args: exactly("INDEX"),
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := a.queryRequest(q)
			if err != nil {
				return err
			}
			ix, err := a.connectIndex(cmd.Context(), q.conn, args[0])
			if err != nil {
				return err
			}
			start := time.Now()
			res, err := ix.Query(cmd.Context(), req)
			if err != nil {
				return err
			}
			took := time.Since(start)
			if err := a.print(matchListing(res)); err != nil {
				return err
			}
			a.note("%s in %.1f ms", matchesText(len(res.Matches)), float64(took.Microseconds())/1000)
			return nil
		},
	}
	q.addFlags(cmd)
	return cmd
}

func (q *queryFlags) addFlags(cmd *cobra.Command) {
	q.conn.addFlags(cmd)
	addNamespaceFlag(cmd, &q.req.Namespace)
	cmd.Flags().StringVar(&q.req.ID, "id", "", "search near the record with this id")
	q.addNearest(cmd)
}

// addNearest adds the flags that say what is near.
func (q *queryFlags) addNearest(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&q.vector, "vector", "", "search near this vector: JSON array, path of a file, or -")
	f.StringVar(&q.sparse, "sparse-vector", "", `sparse vector: {"indices":[…],"values":[…]}, path or -`)
	f.StringVar(&q.filter, "filter", "", "only records whose metadata match: JSON object, path or -")
	f.IntVarP(&q.req.TopK, "top-k", "k", 10, "matches wanted, 1 to 10000")
	f.IntVar(&q.req.Ef, "ef", 0, "breadth of the graph search (default: what --recall takes)")
	f.Float64Var(&q.req.Recall, "recall", 0, "share of the true nearest to find, 0.5 to 0.999 (default: the index's target)")
	f.BoolVar(&q.req.IncludeValues, "include-values", false, "also print the vectors")
	f.BoolVar(&q.req.IncludeMetadata, "include-metadata", true, "also print the metadata")
}

func (a *app) queryRequest(q queryFlags) (client.QueryRequest, error) {
	req := q.req
	if (req.ID == "") == (q.vector == "" && q.sparse == "") {
		return req, usagef("a query needs either --id or a vector (--vector, --sparse-vector)")
	}
	if req.Ef != 0 && req.Recall != 0 {
		return req, usagef("--ef and --recall exclude each other")
	}
	var err error
	if q.vector != "" {
		if req.Vector, err = a.vectorArgument("--vector", q.vector); err != nil {
			return req, err
		}
	}
	if q.sparse != "" {
		v, err := a.objectArgument("--sparse-vector", q.sparse)
		if err != nil {
			return req, err
		}
		if err := json.Unmarshal(v, &req.SparseVector); err != nil {
			return req, usagef("--sparse-vector: %w", err)
		}
	}
	req.Filter, err = a.objectArgument("--filter", q.filter)
	return req, err
}

func matchesText(n int) string {
	if n == 1 {
		return "1 match"
	}
	return thousands(n) + " matches"
}

func scoreText(score float32) string { return strconv.FormatFloat(float64(score), 'f', 4, 32) }

func matchListing(res client.QueryResponse) listing {
	l := listing{value: res, items: itemsOf(res.Matches), header: []string{"ID", "SCORE", "METADATA"}}
	withValues := false
	for _, m := range res.Matches {
		withValues = withValues || len(m.Values) > 0
	}
	if withValues {
		l.header = append(l.header, "VALUES")
	}
	for _, m := range res.Matches {
		row := []string{m.ID, scoreText(m.Score), compact(m.Metadata)}
		if withValues {
			row = append(row, compactFloats(m.Values))
		}
		l.rows = append(l.rows, row)
	}
	return l
}

// compact is JSON on one line, keys in order.
func compact(v jsontext.Value) string {
	if len(v) == 0 {
		return ""
	}
	v = v.Clone()
	_ = v.Canonicalize() // what cannot be put in order is shown as it came
	return string(v)
}

func compactFloats(values []float32) string {
	b, err := json.Marshal(values)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
