package balance

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// How full shards are best: below lowUse they cost more than they serve, above highUse there is no room to grow.
const (
	lowUse  = 0.7
	highUse = 0.8
)

// When what is advised.
const (
	fewTenants    = 80        // below which one shard serves as well
	fewVectors    = 1_000_000 // as well
	topTenants    = 10
	topHeavy      = 0.7 // of all vectors, in the top tenants, from which these should have shards of their own
	manyCrossings = 0.2 // of all queries, from which tenants are searched together too often
)

// Kinds of advice. The names are part of the API.
const (
	AddShards     = "add_shards"
	MergeShards   = "merge_shards"
	Dedicate      = "dedicate"
	CrossTenant   = "cross_tenant"
	DoNotShard    = "do_not_shard"
	RebalanceMore = "rebalance"
)

// Estate is what capacity is judged by.
type Estate struct {
	Shards   []Shard
	Tenants  []Holding // of all shards; only their vectors count
	Capacity Capacity
	Nodes    int
	// Costs of a month, in the operator's currency.
	ShardCost float64 // of each shard
	NodeCost  float64 // of each node
	CrossRate float64 // queries of many tenants a second; those of one tenant are in the shards' loads
	// Expected tenants and vectors, 0: those that there are.
	ExpectedTenants int
	ExpectedVectors uint64
}

// Holding is how much of a shard's vectors a tenant has.
type Holding struct {
	Name    string
	Shard   int
	Vectors uint64
}

// Report is what a number of tenants and vectors needs, what there is, and what to do about the difference.
type Report struct {
	Tenants     int       `json:"tenants"`
	Vectors     uint64    `json:"vectors"`
	Shared      int       `json:"shared_shards"`
	Dedicated   int       `json:"dedicated_shards"`
	Utilisation float64   `json:"utilisation"` // of the shared shards, in what is scarcer
	Needed      Needed    `json:"needed"`
	Cost        Cost      `json:"cost"`
	Merges      []Merge   `json:"merges"`
	Top         []TopOne  `json:"top_tenants"`
	TopShare    float64   `json:"top_share"`   // of all vectors, in the top ten tenants
	CrossShare  float64   `json:"cross_share"` // of all queries, those over many tenants
	Advice      []Advised `json:"advice"`
}

// Needed is how many shared shards hold everything at 70 to 80 % of their capacity.
type Needed struct {
	Shards     int    `json:"shards"`        // at 70 %: with room to grow
	AtLeast    int    `json:"at_least"`      // at 80 %
	ScarceFor  string `json:"scarce"`        // tenants or vectors: what decides
	PerShard   int    `json:"shard_tenants"` // capacity that was reckoned with
	PerVectors int    `json:"shard_vectors"`
}

// Cost is what a month costs.
type Cost struct {
	Currency   string  `json:"currency,omitempty"`
	Month      float64 `json:"month"`
	Shard      float64 `json:"shard_month"`
	Tenant     float64 `json:"tenant_month"`
	Million    float64 `json:"million_vectors_month"`
	Wasted     float64 `json:"wasted_month"`  // for shards that are not needed
	WastedOnes int     `json:"wasted_shards"` // how many these are
}

// Merge says which shard to drain: the others take what it has.
type Merge struct {
	Shard   int    `json:"shard"`
	Tenants int    `json:"tenants"`
	Vectors uint64 `json:"vectors"`
	Bytes   uint64 `json:"bytes"`
}

// TopOne is one of the largest tenants.
type TopOne struct {
	Tenant  string  `json:"tenant"`
	Shard   int     `json:"shard"`
	Vectors uint64  `json:"vectors"`
	Share   float64 `json:"share"` // of all vectors
	Cost    float64 `json:"month"` // its part of what a month costs
}

// Advised is one thing to do.
type Advised struct {
	Type    string `json:"type"`
	Message string `json:"message"`
	Command string `json:"command,omitempty"`
}

// Advise says how many shards are needed, what they cost and what to do.
func Advise(e *Estate) Report {
	r := Report{Merges: []Merge{}, Advice: []Advised{}}
	sum, fullest := e.sum(&r)
	r.Needed = e.needed(&sum)
	if r.Shared > 0 {
		r.Utilisation = e.Capacity.used(&sum) / float64(r.Shared)
	}
	e.top(&r)
	e.price(&r)
	e.merge(&r, &sum)
	e.cross(&r)
	e.advise(&r, fullest)
	return r
}

// sum counts shards and what they hold, and how full the fullest is.
func (e *Estate) sum(r *Report) (shared Load, fullest float64) {
	var all Load
	for i := range e.Shards {
		s := &e.Shards[i]
		all.add(&s.Load)
		switch {
		case s.Dedicated:
			r.Dedicated++
		case s.Draining:
			shared.add(&s.Load)
		default:
			r.Shared++
			shared.add(&s.Load)
			fullest = max(fullest, e.Capacity.used(&s.Load))
		}
	}
	r.Tenants, r.Vectors = int(all[Tenants]), uint64(all[Vectors])
	if e.ExpectedTenants > 0 {
		shared[Tenants] += float64(e.ExpectedTenants) - all[Tenants]
		r.Tenants = e.ExpectedTenants
	}
	if e.ExpectedVectors > 0 {
		shared[Vectors] += float64(e.ExpectedVectors) - all[Vectors]
		r.Vectors = e.ExpectedVectors
	}
	for m := range shared {
		shared[m] = max(0, shared[m])
	}
	return shared, fullest
}

func (e *Estate) needed(sum *Load) Needed {
	tenants, vectors := e.Capacity.shares(sum)
	n := Needed{ScarceFor: Vectors.String(), PerShard: e.Capacity.Tenants, PerVectors: e.Capacity.Vectors}
	if tenants > vectors {
		n.ScarceFor = Tenants.String()
	}
	used := max(tenants, vectors)
	n.Shards, n.AtLeast = max(1, int(math.Ceil(used/lowUse-1e-9))), max(1, int(math.Ceil(used/highUse-1e-9)))
	return n
}

// price reckons costs. A node's are spread over all shards.
func (e *Estate) price(r *Report) {
	shards := r.Shared + r.Dedicated
	c := &r.Cost
	c.Month = e.ShardCost*float64(shards) + e.NodeCost*float64(e.Nodes)
	c.Shard = cents(c.Month / float64(max(1, shards)))
	c.Tenant = cents(c.Month / float64(max(1, r.Tenants)))
	c.Million = cents(c.Month / math.Max(1e-6, float64(r.Vectors)/1e6))
	if r.Vectors == 0 {
		c.Million = 0
	}
	c.WastedOnes = max(0, r.Shared-r.Needed.Shards)
	c.Wasted = cents(c.Month / float64(max(1, shards)) * float64(c.WastedOnes))
	c.Month = cents(c.Month)
	for i := range r.Top {
		r.Top[i].Cost = cents(c.Month * r.Top[i].Share)
	}
}

// cents rounds to what somebody might pay.
func cents(x float64) float64 { return math.Round(x*1e4) / 1e4 }

// merge chooses the shards that are not needed: those with the fewest bytes to move.
func (e *Estate) merge(r *Report, sum *Load) {
	var shared []*Shard
	for i := range e.Shards {
		if e.Shards[i].shared() {
			shared = append(shared, &e.Shards[i])
		}
	}
	slices.SortStableFunc(shared, func(a, b *Shard) int {
		return cmp.Or(cmp.Compare(a.Load[Bytes], b.Load[Bytes]), cmp.Compare(a.Load[Tenants], b.Load[Tenants]), cmp.Compare(b.ID, a.ID))
	})
	for _, s := range shared[:min(len(shared), max(0, len(shared)-r.Needed.Shards))] {
		r.Merges = append(r.Merges, Merge{s.ID, int(s.Load[Tenants]), uint64(s.Load[Vectors]), uint64(s.Load[Bytes])})
	}
}

func (e *Estate) top(r *Report) {
	slices.SortStableFunc(e.Tenants, func(a, b Holding) int { return cmp.Or(cmp.Compare(b.Vectors, a.Vectors), cmp.Compare(a.Name, b.Name)) })
	all := uint64(0)
	for i := range e.Tenants {
		all += e.Tenants[i].Vectors
	}
	r.Top = []TopOne{}
	for _, t := range e.Tenants[:min(topTenants, len(e.Tenants))] {
		share := float64(t.Vectors) / float64(max(1, all))
		r.Top = append(r.Top, TopOne{Tenant: t.Name, Shard: t.Shard, Vectors: t.Vectors, Share: cents(share)})
		r.TopShare += share
	}
	r.TopShare = cents(r.TopShare)
}

func (e *Estate) cross(r *Report) {
	single := 0.0
	for i := range e.Shards {
		single += e.Shards[i].Load[Queries]
	}
	if all := single + e.CrossRate; all > 0 {
		r.CrossShare = cents(e.CrossRate / all)
	}
}

func (e *Estate) advise(r *Report, fullest float64) {
	say := func(kind, command, format string, args ...any) {
		r.Advice = append(r.Advice, Advised{kind, fmt.Sprintf(format, args...), command})
	}
	small := r.Tenants < fewTenants || r.Vectors < fewVectors
	switch {
	case small && r.Needed.AtLeast == 1 && r.Shared > 1:
		say(DoNotShard, "", "%d tenants with %d vectors need no shards: below %d tenants or %d vectors one serves as well", r.Tenants, r.Vectors, fewTenants, fewVectors)
	case r.Needed.AtLeast > r.Shared:
		say(AddShards, "croft shards add", "%d shared shards are too few: %d hold this at %s, %d at %s, %s being scarce", r.Shared,
			r.Needed.AtLeast, percent(highUse), r.Needed.Shards, percent(lowUse), r.Needed.ScarceFor)
	case fullest > highUse && r.Needed.AtLeast <= r.Shared:
		say(RebalanceMore, "croft rebalance --dry-run", "all together have room, and one shard is used to %s: spread what is there", percent(fullest))
	}
	if len(r.Merges) > 0 {
		say(MergeShards, fmt.Sprintf("croft shards drain %d", r.Merges[0].Shard), "%d of %d shared shards are not needed, at %g a month together: drain those listed one by one",
			len(r.Merges), r.Shared, r.Cost.Wasted)
	}
	if len(e.Tenants) > 2*topTenants && r.TopShare > topHeavy {
		say(Dedicate, "croft shards add --dedicated", "the %d largest of %d tenants have %s of all vectors: give them shards of their own", topTenants, len(e.Tenants), percent(r.TopShare))
	}
	if r.CrossShare > manyCrossings {
		say(CrossTenant, "", "%s of all queries go over many tenants, and so to all shards: keep what is searched together in a tenant of its own, or use fewer shards", percent(r.CrossShare))
	}
}
