package client

import (
	"context"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"
)

// SearchRequest asks for the nearest records of many tenants. Its zero fields are the server's choice.
type SearchRequest struct {
	Index           string         `json:"index,omitempty"`
	Tenants         []string       `json:"tenants,omitempty"` // empty: all
	Vector          []float32      `json:"vector,omitempty"`
	SparseVector    *Sparse        `json:"sparseVector,omitempty"`
	TopK            int            `json:"topK"` // matches of a page
	Filter          jsontext.Value `json:"filter,omitzero"`
	IncludeValues   bool           `json:"includeValues,omitzero"`
	IncludeMetadata bool           `json:"includeMetadata,omitzero"`
	Ef              int            `json:"maxCandidates,omitzero"`
	Recall          float64        `json:"recall,omitzero"`
	Fresh           bool           `json:"fresh,omitzero"` // not what was found for another a moment ago
	Token           string         `json:"paginationToken,omitempty"`
}

// TenantMatch is a match with the tenant whose record it is.
type TenantMatch struct {
	Tenant string `json:"tenant"`
	Shard  int    `json:"shard"`
	Match
}

// SearchResponse holds a page of matches, best first, equal ones by tenant and id.
type SearchResponse struct {
	Matches    []TenantMatch  `json:"matches"`
	Partial    bool           `json:"partial"`
	Missing    *SearchMissing `json:"missing,omitempty"`
	Unknown    []string       `json:"unknown_tenants,omitempty"`
	Tenants    int            `json:"tenants_searched"`
	Shards     int            `json:"shards_asked"`
	Cache      SearchCached   `json:"cache"`
	TookMs     float64        `json:"took_ms"`
	Pagination *Pagination    `json:"pagination,omitempty"`
}

// SearchCached tells of an answer that was found for another a moment ago.
type SearchCached struct {
	Hit   bool  `json:"hit"`
	AgeMs int64 `json:"age_ms"`
}

// SearchMissing is what could not be searched.
type SearchMissing struct {
	Shards   []MissingShard `json:"shards"`
	Tenants  []string       `json:"tenants"` // the first 1,000 of Total
	Total    int            `json:"tenants_total"`
	Metadata string         `json:"metadata,omitempty"` // why tenants made a moment ago may be missing as well
}

// MissingShard is a shard of which some tenants could not be searched.
type MissingShard struct {
	Shard   int    `json:"shard"`
	Node    string `json:"node,omitempty"`
	Tenants int    `json:"tenants"`
	Reason  string `json:"reason"`
}

// Search searches the records of many tenants at once; it takes an admin's key.
func (c *Client) Search(ctx context.Context, req SearchRequest) (out SearchResponse, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodPost, path: "/v1/search", in: req}, &out)
	return out, err
}
