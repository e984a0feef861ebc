package balance

import (
	"cmp"
	"fmt"
	"slices"
)

// Kinds of warnings. The names are part of the API.
const (
	HotTenants    = "hot_shard_tenant_count"
	HotVectors    = "hot_shard_vector_count"
	HighLatency   = "high_latency"
	NearCapacity  = "near_capacity"
	UnderUtilised = "under_utilised"
	Routing       = "routing_inconsistency"
	UnderReplica  = "under_replicated"
	NoLeader      = "no_leader"
	SilentNode    = "silent_node"
	Residency     = "residency_violation"
)

// Kinds returns all kinds of warnings.
func Kinds() []string {
	return []string{HotTenants, HotVectors, HighLatency, NearCapacity, UnderUtilised, Routing, UnderReplica, NoLeader, SilentNode, Residency}
}

// Severities. Advice saves money and can wait; a warning becomes trouble; what is critical is trouble.
const (
	Advice   = "advice"
	Warned   = "warning"
	Critical = "critical"
	Healthy  = "healthy" // of a report without warnings
)

// When a warning is given.
const (
	hotRatio   = 1.5  // of the mean
	hotTenants = 5    // tenants more than the mean: what differs by fewer differs by chance
	hotVectors = 1000 // as well, in vectors
	slowRatio  = 1.5  // of the mean of the shards that were asked
	slowLeast  = 20   // ms, below which a shard is not slow, whatever the others are
	slowAdd    = 800  // ms, from which another shard is advised
	slowLimit  = 1000 // ms
	nearlyFull = 0.8  // of the capacity
	hardlyUsed = 0.5  // of the capacity, as a mean over all shared shards
)

// Warning is one thing that is not as it should be.
type Warning struct {
	Type           string   `json:"type"`
	Severity       string   `json:"severity"`
	Shards         []int    `json:"shards,omitempty"`
	Nodes          []string `json:"nodes,omitempty"`
	Tenants        []string `json:"tenants,omitempty"`
	Measure        string   `json:"measure"` // what value and threshold count
	Value          float64  `json:"value"`
	Threshold      float64  `json:"threshold"`
	Message        string   `json:"message"`
	Recommendation string   `json:"recommendation"`
}

// Figures are what the state of a cluster is judged by.
type Figures struct {
	Shards   []Shard
	Capacity Capacity
	Silent   []string // nodes that did not answer
	Astray   []Astray // tenants whose data is not where routing says, and that nobody could put right
	// Misplaced are tenants with data where it may not be.
	Misplaced []Astray
}

// Astray is a tenant whose data and home disagree.
type Astray struct {
	Tenant string // its name, or its id where nobody knows a name
	Shard  int    // where the data is
	What   string // what is wrong, as part of a sentence
}

// Check lists what is wrong, the worst first.
func Check(f *Figures) (all []Warning) {
	mean, n := meanLoad(f.Shards)
	slow := meanP95(f.Shards)
	for i := range f.Shards {
		s := &f.Shards[i]
		all = append(all, replication(s)...)
		if s.shared() && n > 1 {
			all = append(all, hot(s, HotTenants, Tenants, mean[Tenants], hotTenants)...)
			all = append(all, hot(s, HotVectors, Vectors, mean[Vectors], hotVectors)...)
		}
		all = append(all, latency(s, slow)...)
		all = append(all, fullness(s, &f.Capacity)...)
	}
	all = append(all, idle(f)...)
	all = append(all, routing(f.Astray)...)
	all = append(all, misplaced(f.Misplaced)...)
	if len(f.Silent) > 0 {
		all = append(all, Warning{Type: SilentNode, Severity: Warned, Nodes: f.Silent, Measure: "nodes", Value: float64(len(f.Silent)),
			Message:        fmt.Sprintf("%d nodes do not answer: the figures lack what is known there alone", len(f.Silent)),
			Recommendation: "see whether their processes run: croft nodes list"})
	}
	slices.SortStableFunc(all, func(a, b Warning) int { return cmp.Compare(rank(b.Severity), rank(a.Severity)) })
	return all
}

func rank(severity string) int {
	return slices.Index([]string{Healthy, Advice, Warned, Critical}, severity)
}

// Worst is the severity of the worst of some warnings. Advice alone leaves a cluster healthy.
func Worst(all []Warning) string {
	worst := Healthy
	for i := range all {
		if s := all[i].Severity; s != Advice && rank(s) > rank(worst) {
			worst = s
		}
	}
	return worst
}

func hot(s *Shard, kind string, m Measure, mean, least float64) []Warning {
	have := s.Load[m]
	if have <= hotRatio*mean || have-mean < least {
		return nil
	}
	return []Warning{{
		Type: kind, Severity: Warned, Shards: []int{s.ID}, Measure: m.String(), Value: have, Threshold: hotRatio * mean,
		Message:        fmt.Sprintf("shard %d has %.0f %s, %.1f times the mean of %.0f", s.ID, have, m, have/mean, mean),
		Recommendation: "spread them: croft rebalance --dry-run",
	}}
}

// meanP95 is the mean of the shards that were asked anything.
func meanP95(shards []Shard) float64 {
	sum, n := 0.0, 0
	for i := range shards {
		if shards[i].P95 > 0 {
			sum += shards[i].P95
			n++
		}
	}
	return sum / float64(max(1, n))
}

func latency(s *Shard, mean float64) []Warning {
	w := Warning{Type: HighLatency, Severity: Warned, Shards: []int{s.ID}, Measure: "p95_ms", Value: s.P95}
	switch {
	case s.P95 > slowLimit:
		w.Severity, w.Threshold = Critical, slowLimit
		w.Recommendation = "add a shard: croft shards add; who takes most of this one: croft tenants top"
	case s.P95 > slowAdd:
		w.Threshold = slowAdd
		w.Recommendation = "add a shard before it gets worse: croft shards add"
	case s.P95 > slowRatio*mean && s.P95 >= slowLeast:
		w.Threshold = slowRatio * mean
		w.Recommendation = "see who takes most of it: croft tenants top; then croft rebalance --dry-run"
	default:
		return nil
	}
	w.Message = fmt.Sprintf("95 %% of the queries of shard %d are answered within %.0f ms, the mean over all shards is %.0f ms", s.ID, s.P95, mean)
	return []Warning{w}
}

func fullness(s *Shard, c *Capacity) []Warning {
	tenants, vectors := c.shares(&s.Load)
	m, limit, share := Vectors, c.Vectors, vectors
	if tenants > vectors {
		m, limit, share = Tenants, c.Tenants, tenants
	}
	if share < nearlyFull {
		return nil
	}
	w := Warning{
		Type: NearCapacity, Severity: Warned, Shards: []int{s.ID}, Measure: m.String(), Value: s.Load[m], Threshold: nearlyFull * float64(limit),
		Message:        fmt.Sprintf("shard %d has %.0f %s, %s of the %d that it is meant to hold", s.ID, s.Load[m], m, percent(share), limit),
		Recommendation: "see whether others have room: croft rebalance --dry-run; else croft shards add",
	}
	if share >= 1 {
		w.Severity = Critical
	}
	return []Warning{w}
}

// idle advises to do with fewer shards where all together are hardly used, in what is scarcer, as Advise reckons.
func idle(f *Figures) []Warning {
	var all Load
	n, ids := 0, []int(nil)
	for i := range f.Shards {
		s := &f.Shards[i]
		if !s.shared() {
			continue
		}
		all.add(&s.Load)
		n++
		if f.Capacity.used(&s.Load) < hardlyUsed {
			ids = append(ids, s.ID)
		}
	}
	used := f.Capacity.used(&all) / float64(max(1, n))
	if n < 2 || used >= hardlyUsed {
		return nil
	}
	return []Warning{{
		Type: UnderUtilised, Severity: Advice, Shards: ids, Measure: "utilisation", Value: used, Threshold: hardlyUsed,
		Message:        fmt.Sprintf("%d shared shards are used to %s of their capacity", n, percent(used)),
		Recommendation: "fewer would do: croft capacity says which",
	}}
}

func replication(s *Shard) []Warning {
	switch {
	case !s.Led:
		return []Warning{{
			Type: NoLeader, Severity: Critical, Shards: []int{s.ID}, Measure: "leaders", Threshold: 1,
			Message:        fmt.Sprintf("shard %d has no leader: it takes no write", s.ID),
			Recommendation: "start the nodes that have its replicas: croft shards get; croft nodes list",
		}}
	case s.Voters < s.Wanted:
		w := Warning{
			Type: UnderReplica, Severity: Warned, Shards: []int{s.ID}, Measure: "replicas", Value: float64(s.Voters), Threshold: float64(s.Wanted),
			Message:        fmt.Sprintf("shard %d has %d of %d replicas", s.ID, s.Voters, s.Wanted),
			Recommendation: "start the node that is missing; one that is gone for ten minutes is replaced by itself where there is another",
		}
		if s.Voters <= s.Wanted/2+s.Wanted%2 && s.Wanted > 2 { // the next loss stops it
			w.Message += ": without one more of them it takes no write"
		}
		return []Warning{w}
	}
	return nil
}

// named bounds the tenants that a warning names.
const named = 20

func routing(astray []Astray) []Warning {
	if len(astray) == 0 {
		return nil
	}
	return []Warning{ofTenants(Warning{
		Type:           Routing,
		Message:        fmt.Sprintf("%d tenants have data that routing does not lead to; the first: tenant %s %s", len(astray), astray[0].Tenant, astray[0].What),
		Recommendation: "see all of them: croft health --verify; nothing is deleted before somebody decides",
	}, astray)}
}

func misplaced(all []Astray) []Warning {
	if len(all) == 0 {
		return nil
	}
	return []Warning{ofTenants(Warning{
		Type:           Residency,
		Message:        fmt.Sprintf("%d tenants have data where it may not be; the first: tenant %s %s", len(all), all[0].Tenant, all[0].What),
		Recommendation: "replicas outside of their zones move by themselves where there is a node for them: croft shards get, croft nodes list",
	}, all)}
}

// ofTenants completes a critical warning about tenants.
func ofTenants(w Warning, all []Astray) Warning {
	w.Severity, w.Measure, w.Value = Critical, "tenants", float64(len(all))
	for _, a := range all {
		if !slices.Contains(w.Shards, a.Shard) {
			w.Shards = append(w.Shards, a.Shard)
		}
		if len(w.Tenants) < named && !slices.Contains(w.Tenants, a.Tenant) {
			w.Tenants = append(w.Tenants, a.Tenant)
		}
	}
	slices.Sort(w.Shards)
	return w
}

// Places names what a warning is about, to tell it from others of its type.
func (w *Warning) Places() string { return fmt.Sprint(w.Shards, w.Nodes) }
