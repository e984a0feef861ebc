package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/client"
	"github.com/croftdb/croft/internal/errs"
)

// searchFlags are the flags of `croft search`: those of a query, and whose records.
type searchFlags struct {
	query   queryFlags
	tenants []string
	token   string
	fresh   bool
}

func (a *app) searchCommand() *cobra.Command {
	var f searchFlags
	cmd := &cobra.Command{
		Use:   "search INDEX",
		Short: "Find the nearest records of all tenants, or of some",
		Long: `It takes an admin's key. Searches have a tier of their own, cross-tenant, which lets ten a minute in unless it is changed. What could not be
searched in time is named, and the exit code is then 7.`,
		Example: `  croft search acme-docs --vector vector.json -k 20
  croft search acme-docs --vector '[0.1,0.2]' --tenants acme,globex --filter '{"lang":"en"}'`,
		Args: exactly("INDEX"),
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := a.searchRequest(&f, args[0])
			if err != nil {
				return err
			}
			c, err := a.connect(f.query.conn, 0)
			if err != nil {
				return err
			}
			start := time.Now()
			res, err := c.Search(cmd.Context(), req)
			if err != nil {
				return err
			}
			return a.printSearch(&res, time.Since(start))
		},
	}
	f.query.conn.addFlags(cmd)
	f.query.addNearest(cmd)
	s := cmd.Flags()
	s.StringSliceVar(&f.tenants, "tenants", nil, "whose records, by name, separated by commas (default everybody's)")
	s.StringVar(&f.token, "page", "", "token of the page, as the page before told it")
	s.BoolVar(&f.fresh, "fresh", false, "not what was found for another a moment ago")
	return cmd
}

func (a *app) searchRequest(f *searchFlags, index string) (client.SearchRequest, error) {
	if f.query.vector == "" && f.query.sparse == "" {
		return client.SearchRequest{}, usagef("a search needs a vector (--vector, --sparse-vector)")
	}
	q, err := a.queryRequest(f.query)
	return client.SearchRequest{
		Index: index, Tenants: f.tenants, Vector: q.Vector, SparseVector: q.SparseVector, TopK: q.TopK, Filter: q.Filter,
		IncludeValues: q.IncludeValues, IncludeMetadata: q.IncludeMetadata, Ef: q.Ef, Recall: q.Recall, Fresh: f.fresh, Token: f.token,
	}, err
}

// printSearch prints an answer. One that is partial fails, so that no script takes it for whole.
func (a *app) printSearch(res *client.SearchResponse, took time.Duration) error {
	l := listing{value: res, items: itemsOf(res.Matches), header: []string{"TENANT", "SHARD", "ID", "SCORE", "METADATA"}}
	for _, m := range res.Matches {
		l.rows = append(l.rows, []string{m.Tenant, strconv.Itoa(m.Shard), m.ID, scoreText(m.Score), compact(m.Metadata)})
	}
	if err := a.printPage(l, res.Pagination); err != nil {
		return err
	}
	from := ""
	if res.Cache.Hit {
		from = fmt.Sprintf(", as found %.1f s ago", float64(res.Cache.AgeMs)/1e3)
	}
	a.note("%s of %s in %.1f ms%s", matchesText(len(res.Matches)), counted(res.Tenants, "tenant"), float64(took.Microseconds())/1e3, from)
	if len(res.Unknown) > 0 {
		a.note("no such tenants: %s", strings.Join(res.Unknown, ", "))
	}
	return partialError(res)
}

// partialError says what an answer lacks; nil if it is whole.
func partialError(res *client.SearchResponse) error {
	if !res.Partial || res.Missing == nil {
		return nil
	}
	var lost []string
	for _, s := range res.Missing.Shards {
		lost = append(lost, fmt.Sprintf("shard %d (%s): %s", s.Shard, counted(s.Tenants, "tenant"), s.Reason))
	}
	if res.Missing.Metadata != "" {
		lost = append(lost, "tenants made a moment ago: "+res.Missing.Metadata)
	}
	return errs.New(errs.Unavailable, "the answer is partial: %s", strings.Join(lost, "; ")).
		WithHint("-o json names the tenants; croft health tells of shards and nodes")
}
