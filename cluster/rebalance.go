package cluster

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/croftdb/croft/cluster/balance"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

// copyRate is what a move is reckoned to copy in a second: the default of the pace at which nodes hand out what they have.
const copyRate = 64 << 20

// RebalancePlan is what a run would do now.
type RebalancePlan struct {
	Moves    []PlannedMove
	Homeward int // tenants that are to follow the ring, beside these: shards were added or are being drained
	Bytes    uint64
	Took     time.Duration // that it takes, by estimate
	Before   []ShardSpread
	After    []ShardSpread
	Notes    []string // what stays as it is, and why

	of []runMove
}

// PlannedMove takes a tenant to another shard.
type PlannedMove struct {
	Tenant   string
	ID       string
	From, To int
	Vectors  uint64
	Bytes    uint64
	Why      string // what From has most too much of
}

// ShardSpread is what a shard on the ring carries, beside the mean.
type ShardSpread struct {
	Shard   int
	Load    map[string]float64 // by measure
	Ratios  map[string]float64 // 1: the mean
	Hottest float64            // the largest of these
}

// PlanRebalance proposes moves that spread what shards carry, as of now. Unavailable: a shard does not tell what it holds.
func (n *Node) PlanRebalance(ctx context.Context) (*RebalancePlan, error) {
	if err := n.Refresh(ctx); err != nil {
		return nil, err
	}
	held, silent := n.holdings(ctx, n.meta.state().shards)
	for _, id := range slices.Sorted(maps.Keys(silent)) {
		return nil, errs.Wrap(errs.Unavailable, silent[id], "plan without the figures of shard %d", id)
	}
	s := n.meta.state()
	in, tenants, homeward := s.balanceInput(held, time.Now())
	return describePlan(in, balance.NewPlan(in), tenants, homeward), nil
}

// balanceInput gathers what a plan is made from. A tenant that is to follow the ring counts where it will be.
func (s *state) balanceInput(held map[uint16][]holding, now time.Time) (in *balance.Input, tenants []*tenant, homeward int) {
	rules, capacity := s.balance.withDefaults(), s.rules.withDefaults()
	in = &balance.Input{Capacity: capacity.capacity(), MaxMoves: maxRunMoves, Parallel: rules.Parallel, Rate: copyRate}
	for _, id := range s.shards {
		_, off := s.dedicatedShard(id)
		in.Shards = append(in.Shards, balance.Shard{ID: int(id), Dedicated: off, Draining: s.isDraining(id)})
	}
	loads := s.loadsAtHome(held)
	resting := s.movedSince(now.Add(-rules.Cooldown))
	for t := range s.byID.all() {
		b := balance.Tenant{Shard: int(s.home(t)), Load: loads[t.id], Fixed: t.moving != 0 || t.life != tenantLive || resting[t.id]}
		b.Load[balance.Tenants] = 1
		if to, ok := s.wayOut(t); ok {
			b.Shard, b.Fixed = int(to), true
			homeward++
		}
		in.Tenants = append(in.Tenants, b)
		tenants = append(tenants, t)
	}
	in.May = func(tenant, shard int) bool { return s.mayLive(tenants[tenant], uint16(shard)) == nil }
	return in, tenants, homeward
}

// loadsAtHome are the tenants' loads by the word of the shards where they live.
func (s *state) loadsAtHome(held map[uint16][]holding) map[engine.TenantID]balance.Load {
	loads := make(map[engine.TenantID]balance.Load, s.byID.n)
	for shard, all := range held { // any order: a tenant has one home
		for i := range all {
			h := &all[i]
			if t, ok := s.tenantByID(h.tenant); ok && s.home(t) == shard {
				loads[h.tenant] = balance.Load{
					balance.Vectors: float64(h.records), balance.Bytes: float64(h.bytes), balance.Queries: h.queries, balance.Compute: h.compute,
				}
			}
		}
	}
	return loads
}

// movedSince are the tenants that have moved since a time, as far as migrations are remembered.
func (s *state) movedSince(since time.Time) map[engine.TenantID]bool {
	moved := map[engine.TenantID]bool{}
	for _, m := range s.moves {
		if m.epoch != 0 && m.changed() >= since.UnixNano() {
			moved[m.tenant] = true
		}
	}
	return moved
}

func describePlan(in *balance.Input, p *balance.Plan, tenants []*tenant, homeward int) *RebalancePlan {
	d := &RebalancePlan{
		Homeward: homeward, Bytes: p.Bytes, Took: time.Duration(p.Seconds * float64(time.Second)),
		Before: describeSpread(p.Before), After: describeSpread(p.After),
	}
	for _, m := range p.Moves {
		t := tenants[m.Tenant]
		d.Moves = append(d.Moves, PlannedMove{t.name, t.id.String(), m.From, m.To, m.Vectors, m.Bytes, m.Why.String()})
		d.of = append(d.of, runMove{t.id, uint16(m.From), uint16(m.To)})
	}
	for _, k := range p.Stuck {
		note := fmt.Sprintf("shard %d keeps %.2f times the mean of %s: no tenant there fits anywhere else", k.Shard, k.Ratio, k.Measure)
		if k.Tenant >= 0 {
			note = fmt.Sprintf("shard %d keeps %.2f times the mean of %s: tenant %q carries more than a shard's share by itself, a dedicated shard would hold it",
				k.Shard, k.Ratio, k.Measure, tenants[k.Tenant].name)
		}
		d.Notes = append(d.Notes, note)
	}
	if len(p.Moves) == in.MaxMoves {
		d.Notes = append(d.Notes, fmt.Sprintf("a plan has at most %d moves: plan again when these are done", in.MaxMoves))
	}
	return d
}

func describeSpread(all []balance.Spread) []ShardSpread {
	shown := make([]ShardSpread, len(all))
	for i := range all {
		s := ShardSpread{Shard: all[i].Shard, Load: map[string]float64{}, Ratios: map[string]float64{}}
		for m, v := range all[i].Load {
			name := balance.Measure(m).String()
			s.Load[name], s.Ratios[name] = v, all[i].Ratios[m]
			s.Hottest = max(s.Hottest, all[i].Ratios[m])
		}
		shown[i] = s
	}
	return shown
}

// hottest is what the hottest shard has, in means.
func hottest(all []ShardSpread) float64 {
	if len(all) == 0 {
		return 0
	}
	return slices.MaxFunc(all, func(a, b ShardSpread) int { return cmp.Compare(a.Hottest, b.Hottest) }).Hottest
}

// Run is one time that tenants are moved to spread the load, or to follow the ring.
type Run struct {
	ID       uint64
	State    string // running, done, aborted
	By       string
	Windowed bool
	Waiting  bool // for a window
	Began    time.Time
	Ended    time.Time // zero: it has not
	Planned  int       // moves
	Moved    int       // of these, done
	Failed   int       // known when it is over
	Under    int       // migrations of it that are under way now
	Homeward int       // tenants that still are to follow the ring
	Bytes    uint64    // of the planned moves, by estimate
	Estimate time.Duration
	Before   float64 // what the hottest shard had, in means
	After    float64 // known when it is over; 0: unknown
	Fault    string
}

// Rebalancing returns the runs that are remembered, the newest first.
func (n *Node) Rebalancing(ctx context.Context) ([]Run, error) {
	if err := n.Refresh(ctx); err != nil {
		return nil, err
	}
	s, now := n.meta.state(), time.Now()
	var all []Run
	for _, r := range slices.Backward(s.runs) {
		all = append(all, s.describeRun(r, now))
	}
	return all, nil
}

func (s *state) describeRun(r *run, now time.Time) Run {
	d := Run{
		ID: r.id, State: r.state.String(), By: r.by, Windowed: r.windowed, Began: timeOf(r.began), Ended: timeOf(r.ended), Planned: r.total,
		Moved: r.moved, Failed: r.failed, Bytes: r.bytes, Estimate: time.Duration(r.seconds * float64(time.Second)), Before: r.before, After: r.after, Fault: r.fault,
	}
	if r.state != runRunning {
		return d
	}
	d.Waiting = r.windowed && !s.balance.open(now)
	d.Moved, d.Under, d.Homeward = s.movedBy(r), len(s.movesOf(r)), s.homewards()
	return d
}

// movedBy counts the moves of a run that are done. Of tenants that follow the ring, others may have joined since it began.
func (s *state) movedBy(r *run) (n int) {
	n = max(0, r.homeward-s.homewards())
	for _, m := range r.moves {
		if t, ok := s.tenantByID(m.tenant); ok && s.home(t) == m.to {
			n++
		}
	}
	return n
}

// movesOf lists the migrations of a run that are to bring their tenant somewhere still.
func (s *state) movesOf(r *run) (all []*migration) {
	reason := r.reason()
	for _, m := range s.moves {
		if m.phase.running() && m.reason == reason {
			all = append(all, m)
		}
	}
	return all
}

func (r *run) reason() string { return fmt.Sprintf("rebalance run %d", r.id) }

// homewards counts the tenants that are to follow the ring.
func (s *state) homewards() (n int) {
	for t := range s.byID.all() {
		if _, ok := s.wayOut(t); ok {
			n++
		}
	}
	return n
}

// Rebalance begins to spread what shards carry, by what PlanRebalance says now, and to bring to where the ring says all tenants that
// are to follow it. It returns at once. With windowed, moves begin within the windows of the rules only. AlreadyExists: a run
// is under way. FailedPrecondition: there is nothing to do.
func (n *Node) Rebalance(ctx context.Context, by string, windowed bool) (Run, error) {
	p, err := n.PlanRebalance(ctx)
	if err != nil {
		return Run{}, err
	}
	return n.carryOut(ctx, p, by, windowed)
}

func (n *Node) carryOut(ctx context.Context, p *RebalancePlan, by string, windowed bool) (Run, error) {
	if len(p.Moves) == 0 && p.Homeward == 0 {
		return Run{}, errs.New(errs.FailedPrecondition, "there is nothing to move: the hottest shard has %.2f times the mean", hottest(p.Before))
	}
	return n.startRun(ctx, run{
		by: by, windowed: windowed, moves: p.of, homeward: p.Homeward, bytes: p.Bytes, seconds: p.Took.Seconds(), before: hottest(p.Before), began: time.Now().UnixNano(),
	})
}

func (n *Node) startRun(ctx context.Context, r run) (Run, error) {
	if _, err := n.changeMeta(ctx, &metaCommand{op: metaStartRun, runCommand: runCommand{run: r}}); err != nil {
		return Run{}, err
	}
	s := n.meta.state()
	if now := s.running(); now != nil {
		return s.describeRun(now, time.Now()), nil
	}
	return s.describeRun(s.runs[len(s.runs)-1], time.Now()), nil // it is over already
}

// runRing has the tenants that are to follow the ring do so. A run that is under way takes them along.
func (n *Node) runRing(ctx context.Context, by string) error {
	homeward := n.meta.state().homewards()
	if homeward == 0 {
		return nil
	}
	_, err := n.startRun(ctx, run{by: by, homeward: homeward, began: time.Now().UnixNano()})
	if errs.Is(err, errs.AlreadyExists) {
		return nil
	}
	return err
}

// AbortRebalance ends the run that is under way. What has moved stays moved; moves that have not come to their end are taken back.
// Tenants that were to follow the ring stay where they are, pinned, until the next run. NotFound: there is none.
func (n *Node) AbortRebalance(ctx context.Context) (Run, error) {
	if err := n.Refresh(ctx); err != nil {
		return Run{}, err
	}
	s := n.meta.state()
	r := s.running()
	if r == nil {
		return Run{}, errs.New(errs.NotFound, "no run is under way")
	}
	if err := n.endRun(ctx, r, runAborted, runEnd{moved: s.movedBy(r)}); err != nil {
		return Run{}, err
	}
	for _, m := range n.meta.state().movesOf(r) {
		if _, err := n.CancelMigration(ctx, m.id); err != nil && !errs.Is(err, errs.FailedPrecondition) && !errs.Is(err, errs.NotFound) {
			return Run{}, errs.Wrap(errs.KindOf(err), err, "the run is ended; cancel migration %d", m.id)
		}
	}
	s = n.meta.state()
	i := slices.IndexFunc(s.runs, func(o *run) bool { return o.id == r.id })
	return s.describeRun(s.runs[i], time.Now()), nil
}

func (n *Node) endRun(ctx context.Context, r *run, as runState, end runEnd) error {
	end.ended = time.Now().UnixNano()
	_, err := n.changeMeta(ctx, &metaCommand{op: metaEndRun, runCommand: runCommand{run: run{id: r.id, state: as, runEnd: end}}})
	return err
}

// BalanceRules returns the rules of rebalancing in force.
func (n *Node) BalanceRules() BalanceRules { return n.meta.state().balance.withDefaults() }

// SetBalanceRules changes them for all nodes. Invalid.
func (n *Node) SetBalanceRules(ctx context.Context, r BalanceRules) error {
	if err := r.validate(); err != nil {
		return err
	}
	_, err := n.changeMeta(ctx, &metaCommand{op: metaSetBalance, runCommand: runCommand{balance: r}})
	return err
}
