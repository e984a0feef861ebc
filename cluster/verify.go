package cluster

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/croftdb/croft/cluster/balance"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

const (
	// verifyEvery is how often the metadata plane's leader compares where tenants are with where they should be.
	verifyEvery = 5 * time.Minute
	// verifyPause is between two looks: only what both have seen is wrong, all else is on its way.
	verifyPause = 2 * time.Second
	// maxStrays bounds the strays that a report lists.
	maxStrays = 1000
)

// Kinds of strays.
const (
	StrayMisrouted = "misrouted" // requests go to a shard that has nothing of the tenant, and another has all
	StrayCopy      = "copy"      // a shard other than the home has data of the tenant too
	StrayUnknown   = "unknown"   // nobody knows a tenant of that id
	StrayLost      = "lost"      // the home says that the tenant has left, and nobody has it
)

// Stray is a tenant whose data is not where routing leads.
type Stray struct {
	Kind    string `json:"kind"`
	Tenant  string `json:"tenant"` // its name; empty where there is none
	ID      string `json:"id"`
	Home    int    `json:"home"` // where requests go; NoShard for an unknown tenant
	Shard   int    `json:"shard"`
	Records uint64 `json:"vectors"`
	Bytes   uint64 `json:"bytes"`
	Healed  string `json:"healed,omitempty"` // what was done about it; empty: nothing
	Fault   string `json:"error,omitempty"`  // why not, where that was tried

	id     engine.TenantID
	epoch  uint64 // of the tenant when it was seen
	atHome uint64 // records at its home, of a copy
	shut   bool   // its home takes no writes of it
}

// RoutingReport is what a comparison of routing with the shards has found.
type RoutingReport struct {
	At      time.Time `json:"at"`
	Took    float64   `json:"took_seconds"`
	By      string    `json:"node"`          // that looked: the metadata plane's leader
	Tenants int       `json:"tenants"`       // that have data somewhere
	Strays  []Stray   `json:"strays"`        // at most 1,000
	Silent  []int     `json:"silent_shards"` // shards that did not answer
}

// astray are the strays that are left.
func (r *RoutingReport) astray() (all []balance.Astray) {
	for i := range r.Strays {
		if s := &r.Strays[i]; s.Healed == "" {
			all = append(all, balance.Astray{Tenant: cmp.Or(s.Tenant, s.ID), Shard: s.Shard, What: s.what()})
		}
	}
	return all
}

func (s *Stray) what() string {
	switch s.Kind {
	case StrayMisrouted:
		return fmt.Sprintf("has its %d vectors on shard %d and is looked for on shard %d", s.Records, s.Shard, s.Home)
	case StrayCopy:
		return fmt.Sprintf("lives on shard %d and has %d vectors on shard %d too", s.Home, s.Records, s.Shard)
	case StrayLost:
		return fmt.Sprintf("is looked for on shard %d, which it has left, and no shard has it", s.Home)
	}
	return fmt.Sprintf("is not known and has %d vectors on shard %d", s.Records, s.Shard)
}

// strays compares what the shards told with what the metadata says, which is newer.
// Tenants that are being moved are passed over: they
// are where they should be by the rules of a migration. Shards that did not tell are not judged.
func strays(s *state, held map[uint16][]holding) (all []Stray) {
	has := func(shard uint16, t engine.TenantID) (h *holding, told bool) {
		hs, told := held[shard]
		i, ok := slices.BinarySearchFunc(hs, t, func(h holding, t engine.TenantID) int { return bytes.Compare(h.tenant[:], t[:]) })
		if !ok {
			return nil, told
		}
		return &hs[i], told
	}
	served := map[engine.TenantID]bool{} // somewhere, beside the home
	for _, shard := range slices.Sorted(maps.Keys(held)) {
		for i := range held[shard] {
			h := &held[shard][i]
			if h.hidden || h.records == 0 {
				continue
			}
			t, known := s.tenantByID(h.tenant)
			if known && (s.home(t) == shard || t.moving != 0) {
				continue
			}
			served[h.tenant] = true
			y := strayOf(h, shard)
			if y.Kind = StrayUnknown; known {
				y.of(s, t)
				at, told := has(s.home(t), h.tenant)
				switch y.Kind = StrayCopy; {
				case told && (at == nil || at.hidden || at.records == 0):
					y.Kind, y.shut = StrayMisrouted, at != nil && at.hidden
				case told:
					y.atHome = at.records
				}
			}
			all = append(all, y)
		}
	}
	for _, shard := range slices.Sorted(maps.Keys(held)) {
		for i := range held[shard] {
			h := &held[shard][i]
			t, known := s.tenantByID(h.tenant)
			if known && h.hidden && s.home(t) == shard && t.moving == 0 && t.life == tenantLive && !served[h.tenant] {
				y := strayOf(h, shard)
				y.Kind = StrayLost
				y.of(s, t)
				all = append(all, y)
			}
		}
	}
	return all
}

func strayOf(h *holding, shard uint16) Stray {
	return Stray{ID: h.tenant.String(), Home: NoShard, Shard: int(shard), Records: h.records, Bytes: h.bytes, id: h.tenant}
}

func (y *Stray) of(s *state, t *tenant) { y.Tenant, y.Home, y.epoch = t.name, int(s.home(t)), t.epoch }

// verifier compares routing with the shards, time after time. Every node has one; only that of the metadata plane's leader looks.
type verifier struct {
	node   *Node
	logger *slog.Logger

	looking sync.Mutex // held over a look
	mu      sync.Mutex
	last    *RoutingReport // nil: none since this node leads
}

func (v *verifier) run(ctx context.Context) {
	tick := time.NewTicker(verifyEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if !v.node.meta.group.leads() {
			v.note(nil)
			continue
		}
		if _, err := v.look(ctx); err != nil && ctx.Err() == nil {
			v.logger.Warn("comparing routing with the shards failed, it is tried again", "err", err)
		}
	}
}

func (v *verifier) note(r *RoutingReport) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.last = r
}

func (v *verifier) report() *RoutingReport {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.last
}

// look compares now, heals what it may, and returns what it found.
func (v *verifier) look(ctx context.Context) (*RoutingReport, error) {
	v.looking.Lock()
	defer v.looking.Unlock()
	n, begun := v.node, time.Now()
	held, silent := n.holdings(ctx, n.meta.state().shards)
	found, err := v.compare(ctx, held)
	if err != nil {
		return nil, err
	}
	if len(found) > 0 {
		if found, err = v.again(ctx, found, held, silent); err != nil {
			return nil, err
		}
	}
	r := &RoutingReport{At: begun.UTC(), By: n.id.NodeID, Strays: []Stray{}, Silent: []int{}}
	for _, hs := range held { // any order: a sum
		for i := range hs {
			if !hs[i].hidden && hs[i].records > 0 {
				r.Tenants++
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(silent)) {
		r.Silent = append(r.Silent, int(id))
	}
	for i := range found {
		y := &found[i]
		if y.Healed, err = n.heal(ctx, y); err != nil {
			y.Fault = err.Error()
		}
		v.logger.Warn("a tenant's data is not where routing leads", "tenant", y.ID, "home", y.Home, "shard", y.Shard, "kind", y.Kind,
			"healed", y.Healed, "err", err)
	}
	r.Strays = append(r.Strays, found[:min(len(found), maxStrays)]...)
	r.Took = time.Since(begun).Seconds()
	v.note(r)
	return r, nil
}

// compare compares with metadata that is newer than what was told.
func (v *verifier) compare(ctx context.Context, held map[uint16][]holding) ([]Stray, error) {
	if err := v.node.Refresh(ctx); err != nil {
		return nil, err
	}
	return strays(v.node.meta.state(), held), nil
}

// again looks a second time at the shards concerned, and returns what is still so and has not moved meanwhile.
func (v *verifier) again(ctx context.Context, found []Stray, held map[uint16][]holding, silent map[uint16]error) ([]Stray, error) {
	select {
	case <-time.After(verifyPause):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var concerned []uint16
	for i := range found {
		for _, id := range []int{found[i].Shard, found[i].Home} {
			if id != NoShard && !slices.Contains(concerned, uint16(id)) {
				concerned = append(concerned, uint16(id))
			}
		}
	}
	anew, unheard := v.node.holdings(ctx, concerned)
	for id, err := range unheard { // any order: each is another shard
		delete(held, id)
		silent[id] = err
	}
	maps.Copy(held, anew)
	now, err := v.compare(ctx, held)
	return slices.DeleteFunc(now, func(y Stray) bool {
		return !slices.ContainsFunc(found, func(o Stray) bool {
			return o.id == y.id && o.Shard == y.Shard && o.epoch == y.epoch && o.Kind == y.Kind
		})
	}), err
}

// Routing returns what the metadata plane's leader has found when it compared routing with the shards last, nil if it has not yet;
// with verify it compares now. Unavailable while there is no leader.
func (n *Node) Routing(ctx context.Context, verify bool) (*RoutingReport, error) {
	if n.meta.group.leads() {
		return n.routingHere(ctx, verify)
	}
	leader := n.meta.group.leader()
	if leader == "" || leader == n.id.NodeID {
		return nil, newNotLeaderError(metaName, "")
	}
	b, err := n.peers.call(ctx, leader, methodRouting, []byte{boolByte(verify)}, nil)
	if err != nil || len(b) == 0 {
		return nil, err
	}
	r := new(RoutingReport)
	return r, errs.Wrap(errs.Corrupt, json.Unmarshal(b, r), "read the report of node %s", leader)
}

func (n *Node) routingHere(ctx context.Context, verify bool) (*RoutingReport, error) {
	if !verify {
		return n.verifier.report(), nil
	}
	return n.verifier.look(ctx)
}

// answerRouting serves methodRouting.
func (n *Node) answerRouting(ctx context.Context, from string, request, dst []byte) ([]byte, error) {
	if err := n.checkCaller(from); err != nil {
		return dst, err
	}
	if !n.meta.group.leads() {
		return dst, newNotLeaderError(metaName, n.meta.group.leader())
	}
	r, err := n.routingHere(ctx, len(request) > 0 && request[0] != 0)
	if err != nil || r == nil {
		return dst, err
	}
	b, err := json.Marshal(r)
	return append(dst, b...), err
}
