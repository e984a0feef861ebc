package cluster

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

// A search over many tenants: the node that is asked knows who lives where, asks each node once for all that it answers for, all
// at once, and merges what comes back by a heap. What does not come in time is named in the answer.

// searchName is what errors and the gate call all who search over many tenants.
const searchName = "cross-tenant search"

// MaxSearched is how many matches of a search can be had, over all pages.
const MaxSearched = 10_000

// Search asks for the nearest records of many tenants.
type Search struct {
	Index   Index
	Tenants []string     // whose records; nil: everybody's
	Query   engine.Query // K: matches of a page
	After   *SearchPlace // where the page before has ended; nil: the first page
	Fresh   bool         // do not answer with what was found for another a moment ago
}

// SearchPlace is a place between two matches of an answer.
type SearchPlace struct {
	Before int // matches on the pages before
	Score  float32
	Tenant string
	ID     string
}

// SearchAnswer is a page of what was found.
type SearchAnswer struct {
	Hits    []SearchHit // best first, equal ones by tenant and id
	Next    *SearchPlace
	Tenants int           // that were searched
	Shards  int           // that were asked
	Unknown []string      // asked for by name, and not there
	Missing SearchMissing // what could not be searched
	Cached  bool
	Age     time.Duration // of an answer that was cached
}

// SearchMissing is what a search should have searched and has not.
type SearchMissing struct {
	Shards  []MissingShard // by id
	Tenants []string       // in order: those of the shards
	Unsure  error          // tenants made a moment ago may be missing as well; nil: none is
}

// MissingShard is a shard of which something was not searched.
type MissingShard struct {
	Shard   int
	Node    string // that was asked last; empty: nobody was known to lead it
	Tenants int    // that are missing
	Err     error  // why, of the first of them
}

// Partial reports whether anything is missing.
func (a *SearchAnswer) Partial() bool {
	return len(a.Missing.Tenants) > 0 || a.Missing.Unsure != nil
}

// Search searches the partitions of many tenants, for as long as the tier tenancy.SearchTier or ctx allows, and answers in time with
// what was found until then. Deleted tenants are left out. RateLimited if there were too many searches, over all nodes;
// Invalid if the query cannot be; if nothing at all could be searched, the error says why.
func (n *Node) Search(ctx context.Context, s Search) (SearchAnswer, error) {
	begun := time.Now()
	a, err := n.search(ctx, &s)
	n.searches.note(&a, err, begun)
	return a, err
}

func (n *Node) search(ctx context.Context, s *Search) (SearchAnswer, error) {
	depth := s.Query.K
	if s.After != nil {
		depth += s.After.Before
	}
	if s.Query.K < 1 || depth > MaxSearched {
		return SearchAnswer{}, errs.New(errs.Invalid, "search: matches up to the %d. are asked for, 1 to %d can be had", depth, MaxSearched)
	}
	settings := n.searchSettings()
	ctx, cancel := n.searchTime(ctx, &settings)
	defer cancel()
	run := n.newSearchRun(ctx, s, depth+1) // one more tells whether there is another page
	kept, old := n.searches.cache.entry(run, s, &settings)
	a, ok := n.searchKept(ctx, old)
	if !ok {
		unsure, err := n.searchTurn(ctx, run.ask.level)
		if err != nil {
			return SearchAnswer{}, err
		}
		run.missing.Unsure = unsure
		if a, err = run.answer(s.Tenants); err != nil {
			return SearchAnswer{}, err
		}
		n.searches.cache.keep(kept, &a)
	}
	a.page(run.order, s, depth)
	return a, nil
}

// page cuts an answer that begins with the first match to the page that is asked for.
func (a *SearchAnswer) page(order hitOrder, s *Search, depth int) {
	more := len(a.Hits) > depth
	a.Hits = a.Hits[:min(len(a.Hits), depth)]
	before := 0
	if s.After != nil {
		last := SearchHit{Tenant: s.After.Tenant}
		last.Score, last.ID = s.After.Score, s.After.ID
		a.Hits = slices.DeleteFunc(slices.Clone(a.Hits), func(h SearchHit) bool { return order.compare(&h, &last) <= 0 })
		before = s.After.Before
	}
	if n := len(a.Hits); more && n > 0 && before+n < MaxSearched {
		last := &a.Hits[n-1]
		a.Next = &SearchPlace{before + n, last.Score, last.Tenant, last.ID}
	}
}

// searchTask is tenants of a shard that are to be searched.
type searchTask struct {
	shard   uint16
	tenants []*tenant
	turn    int    // as route.turn
	node    string // that was asked last
	err     error  // why it is asked again
}

// searchCame is what has come of a call to a node.
type searchCame struct {
	call  int
	found searchFound
	err   error
}

// searchRun is one search, on the node that was asked.
type searchRun struct {
	n     *Node
	ctx   context.Context
	ask   searchAsk // without parts
	order hitOrder

	came      chan searchCame
	calls     int
	open      map[int][]searchTask // by call
	again     []searchTask         // to be asked again after a pause
	impatient bool                 // nothing is asked again any more
	lists     [][]SearchHit
	tooLarge  bool
	total     int // tenants
	missing   SearchMissing
	lost      map[uint16]*MissingShard
}

func (n *Node) newSearchRun(ctx context.Context, s *Search, k int) *searchRun {
	r := &searchRun{
		n: n, ctx: ctx, order: hitOrder(s.Index.Metric), came: make(chan searchCame), open: map[int][]searchTask{}, lost: map[uint16]*MissingShard{},
		ask: searchAsk{level: ReadingOf(ctx).level(), index: s.Index.ID, metric: s.Index.Metric, query: s.Query},
	}
	q := &r.ask.query
	q.K, q.Vector = k, slices.Clone(q.Vector) // who is late may go on with it when the caller has its answer
	q.Sparse = engine.Sparse{Indices: slices.Clone(q.Sparse.Indices), Values: slices.Clone(q.Sparse.Values)}
	if q.Ef == 0 && q.Recall == 0 {
		q.Recall = s.Index.TargetRecall
	}
	return r
}

// answer searches and puts together what was found.
func (r *searchRun) answer(names []string) (SearchAnswer, error) {
	tasks, unknown := r.plan(names)
	a := SearchAnswer{Unknown: unknown, Shards: len(tasks)}
	r.ask.meta = r.n.meta.state().index
	r.run(tasks)
	if r.tooLarge {
		return a, engine.ErrAnswerTooLarge
	}
	a.Missing = r.allMissing()
	a.Tenants = r.total - len(a.Missing.Tenants)
	if a.Tenants == 0 && len(a.Missing.Shards) > 0 {
		return a, a.Missing.error(a.Shards)
	}
	a.Hits = mergeHits(r.order, r.lists, r.ask.query.K)
	return a, nil
}

// plan says whose partitions are to be searched on which shard.
func (r *searchRun) plan(names []string) (tasks []searchTask, unknown []string) {
	s := r.n.meta.state()
	var all []*tenant
	if names == nil {
		all = slices.AppendSeq(make([]*tenant, 0, s.byName.n), s.byName.all())
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		if t, ok := s.tenant(name); ok {
			all = append(all, t)
		} else {
			unknown = append(unknown, name)
		}
	}
	r.total = len(all)
	return byHome(s, []searchTask{{tenants: all}}), unknown
}

// byHome puts the tenants of tasks that still live together by where they do.
func byHome(s *state, tasks []searchTask) []searchTask {
	homes := map[uint16]*searchTask{}
	for _, task := range tasks {
		for _, t := range task.tenants {
			home := s.home(t)
			to := homes[home]
			if to == nil {
				to = &searchTask{shard: home}
				homes[home] = to
			}
			to.tenants = append(to.tenants, t)
			if home == task.shard {
				to.turn, to.node, to.err = task.turn, task.node, task.err
			}
		}
	}
	sorted := make([]searchTask, 0, len(homes))
	for _, shard := range slices.Sorted(maps.Keys(homes)) {
		sorted = append(sorted, *homes[shard])
	}
	return sorted
}

// run asks until all is answered, given up, or late.
func (r *searchRun) run(tasks []searchTask) {
	r.send(tasks)
	patience := time.NewTimer(electionPatience)
	defer patience.Stop()
	pause, over := retryPause, (<-chan time.Time)(nil)
	for len(r.open) > 0 || len(r.again) > 0 {
		if len(r.again) > 0 && over == nil {
			over = time.After(pause)
			pause = min(2*pause, maxRetryPause)
		}
		select {
		case c := <-r.came:
			tasks := r.open[c.call]
			delete(r.open, c.call)
			r.take(tasks, &c)
		case <-over:
			over, tasks = nil, r.again
			r.again = nil
			r.send(r.alive(tasks))
		case <-patience.C:
			r.impatient = true
			r.giveUp(r.again)
			r.again = nil
		case <-r.ctx.Done():
			for _, tasks := range r.open { // any order: they are sorted in the end
				for _, task := range tasks {
					r.n.doubtLeader(task.shard, task.node)
				}
				r.giveUp(tasks)
			}
			r.giveUp(r.again)
			return
		}
	}
}

// alive puts tasks where their tenants live by now. Those that were deleted meanwhile are left out.
func (r *searchRun) alive(tasks []searchTask) []searchTask {
	s := r.n.meta.state()
	for i := range tasks {
		live := tasks[i].tenants[:0:0]
		for _, t := range tasks[i].tenants {
			if now, ok := s.tenantByID(t.id); ok && now.life == tenantLive {
				live = append(live, now)
			}
		}
		r.total -= len(tasks[i].tenants) - len(live)
		tasks[i].tenants = live
	}
	return byHome(s, tasks)
}

// send asks each node once for all of its tasks.
func (r *searchRun) send(tasks []searchTask) {
	nodes := map[string][]searchTask{}
	for _, task := range tasks {
		to := r.n.searchNode(task.shard, task.turn, r.ask.level)
		if to == "" {
			task.err = newNotLeaderError(shardName(task.shard), "")
			r.later(task)
			continue
		}
		task.node = to
		nodes[to] = append(nodes[to], task)
	}
	for to, tasks := range nodes { // any order: all at once
		r.call(to, tasks)
	}
}

// searchNode is the node to ask for a shard: this one if it may answer, else as target.
func (n *Node) searchNode(shard uint16, turn int, level Consistency) string {
	sh := n.replica(shard)
	if sh != nil && (level == Any && turn == 0 || sh.group.leads()) {
		return n.id.NodeID
	}
	return n.target(&route{shard: shard, turn: turn})
}

// call asks one node, in the background.
func (r *searchRun) call(to string, tasks []searchTask) {
	ask := r.ask
	for _, task := range tasks {
		p := searchPart{shard: task.shard, tenants: make([]engine.TenantID, len(task.tenants))}
		for i, t := range task.tenants {
			p.tenants[i] = t.id
		}
		ask.parts = append(ask.parts, p)
	}
	r.calls++
	c := searchCame{call: r.calls}
	r.open[c.call] = tasks
	r.n.background.Go(func() {
		c.found, c.err = r.n.searchAt(r.ctx, to, &ask)
		select {
		case r.came <- c:
		case <-r.ctx.Done():
		}
	})
}

// searchAt has a node search; this one needs no link for it.
func (n *Node) searchAt(ctx context.Context, to string, ask *searchAsk) (found searchFound, err error) {
	if to == n.id.NodeID {
		return n.searchHere(ctx, ask), nil
	}
	x := callBuffers.Get().(*callBuffer)
	defer x.release()
	x.request = ask.append(x.request[:0])
	answer, err := n.peers.call(ctx, to, methodSearch, x.request, x.answer[:0])
	if err != nil {
		return found, err
	}
	x.answer = answer
	in := x.read(answer)
	found.read(in, ask.parts)
	if err := in.Done(); err != nil {
		return found, answerError(methodSearch, to, err)
	}
	return found, nil
}

// take takes in what a node has answered.
func (r *searchRun) take(tasks []searchTask, c *searchCame) {
	if c.err != nil {
		for _, task := range tasks {
			if isSilence(c.err) {
				r.n.doubtLeader(task.shard, task.node)
			}
			task.turn++
			r.fail(task, callError(r.ctx, methodSearch, c.err))
		}
		return
	}
	if c.found.tooLarge {
		r.tooLarge = true
		return
	}
	ReadingOf(r.ctx).note(c.found.stale)
	for i, p := range c.found.parts {
		r.takePart(tasks[i], &p)
	}
	hits := c.found.hits
	for i := range hits {
		task := &tasks[hits[i].part]
		t := task.tenants[hits[i].at]
		hits[i].Tenant, hits[i].tenantID, hits[i].Shard = t.name, t.id, int(task.shard)
	}
	r.order.sort(hits) // it is, but for tenants whose name the node did not know
	r.lists = append(r.lists, hits)
}

func (r *searchRun) takePart(task searchTask, p *partOutcome) {
	if p.err != nil {
		hint := leaderHint(p.err)
		if task.turn++; hint != "" && hint != task.node {
			r.n.noteLeader(task.shard, hint)
			task.turn = 0
		}
		r.fail(task, p.err)
		return
	}
	if task.turn > 0 && r.ask.level != Any {
		r.n.noteLeader(task.shard, task.node)
	}
	moved := task
	moved.tenants, moved.turn = nil, 0
	for _, l := range p.left {
		t := task.tenants[l.at]
		switch l.why {
		case leftMoved:
			moved.tenants = append(moved.tenants, t)
			moved.err = errs.New(errs.Unavailable, "tenant %q has moved, and was not found where it lives", t.name)
		case leftGone:
			r.total--
		case leftLate:
			r.miss(task, errSearchLate(), t)
		default:
			r.miss(task, errs.New(errs.Internal, "search of tenant %q: %s", t.name, l.err), t)
		}
	}
	if len(moved.tenants) > 0 {
		r.later(moved)
	}
}

func errSearchLate() error { return errs.New(errs.DeadlineExceeded, "not searched in time") }

// fail has a task asked again if nothing was done for a reason that may be gone in a moment.
func (r *searchRun) fail(task searchTask, err error) {
	if task.err = err; passing(err) {
		r.later(task)
		return
	}
	r.giveUp([]searchTask{task})
}

func (r *searchRun) later(task searchTask) {
	if r.impatient {
		r.giveUp([]searchTask{task})
		return
	}
	r.again = append(r.again, task)
}

// giveUp notes what is missing of tasks that will not be answered.
func (r *searchRun) giveUp(tasks []searchTask) {
	for _, task := range tasks {
		err := task.err
		if err == nil {
			err = errSearchLate()
		}
		r.miss(task, err, task.tenants...)
	}
}

func (r *searchRun) miss(task searchTask, err error, tenants ...*tenant) {
	lost := r.lost[task.shard]
	if lost == nil {
		lost = &MissingShard{Shard: int(task.shard), Node: task.node, Err: err}
		r.lost[task.shard] = lost
	}
	lost.Tenants += len(tenants)
	for _, t := range tenants {
		r.missing.Tenants = append(r.missing.Tenants, t.name)
	}
}

// allMissing is what is missing, in order.
func (r *searchRun) allMissing() SearchMissing {
	m := r.missing
	slices.Sort(m.Tenants)
	for _, lost := range r.lost { // any order: sorted below
		m.Shards = append(m.Shards, *lost)
	}
	slices.SortFunc(m.Shards, func(a, b MissingShard) int { return cmp.Compare(a.Shard, b.Shard) })
	return m
}

// error is that of a search of which all is missing.
func (m *SearchMissing) error(shards int) error {
	names := make([]string, len(m.Shards))
	for i, s := range m.Shards {
		names[i] = strconv.Itoa(s.Shard)
	}
	first := m.Shards[0].Err
	return errs.Wrap(errs.KindOf(first), first, "no answer from shards %s of %d", strings.Join(names, ", "), shards)
}
