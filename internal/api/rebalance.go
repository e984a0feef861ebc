package api

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/croftdb/croft/cluster"
)

// planShown is what a run would do now.
type planShown struct {
	Moves    []moveShown   `json:"moves"`
	Homeward int           `json:"homeward"` // tenants that are to follow the ring, beside the moves
	Bytes    uint64        `json:"bytes"`
	Seconds  float64       `json:"estimated_seconds"`
	Before   []spreadShown `json:"before"`
	After    []spreadShown `json:"after"`
	Notes    []string      `json:"notes"` // what stays as it is, and why
}

// moveShown takes a tenant to another shard.
type moveShown struct {
	Tenant  string `json:"tenant"`
	ID      string `json:"id"`
	From    int    `json:"from"`
	To      int    `json:"to"`
	Vectors uint64 `json:"vectors"`
	Bytes   uint64 `json:"bytes"`
	Why     string `json:"why"` // what the shard has most too much of
}

// spreadShown is what a shard carries beside the mean of all on the ring.
type spreadShown struct {
	Shard   int                `json:"shard"`
	Load    map[string]float64 `json:"load"`
	Ratios  map[string]float64 `json:"ratios"`
	Hottest float64            `json:"hottest"` // the largest ratio
}

func showSpread(all []cluster.ShardSpread) []spreadShown {
	shown := make([]spreadShown, len(all))
	for i, s := range all {
		shown[i] = spreadShown(s)
	}
	return shown
}

func rebalancePlan(c *call) (reply, error) {
	p, err := c.h.node.PlanRebalance(c.ctx)
	if err != nil {
		return nil, err
	}
	shown := planShown{
		Moves: []moveShown{}, Homeward: p.Homeward, Bytes: p.Bytes, Seconds: p.Took.Seconds(), Before: showSpread(p.Before), After: showSpread(p.After),
		Notes: listOf(p.Notes),
	}
	for _, m := range p.Moves {
		shown.Moves = append(shown.Moves, moveShown(m))
	}
	return document{shown}, nil
}

// runShown is one time that tenants are moved to spread the load, or to follow the ring.
type runShown struct {
	ID       uint64     `json:"id"`
	State    string     `json:"state"` // running, done or aborted
	By       string     `json:"by"`
	InWindow bool       `json:"in_window"` // moves begin within the windows of the rules only
	Waiting  bool       `json:"waiting"`   // for such a window
	Began    *time.Time `json:"started_at"`
	Ended    *time.Time `json:"ended_at,omitzero"`
	Planned  int        `json:"moves"`
	Moved    int        `json:"moved"`
	Failed   int        `json:"failed"`
	Under    int        `json:"under_way"` // migrations of it
	Homeward int        `json:"homeward"`  // tenants that are to follow the ring still, beside the moves
	Bytes    uint64     `json:"bytes"`
	Seconds  float64    `json:"estimated_seconds"`
	Before   float64    `json:"hottest_before"` // what the hottest shard had, in means
	After    float64    `json:"hottest_after,omitzero"`
	Error    string     `json:"error,omitzero"`
}

func showRun(r *cluster.Run) runShown {
	return runShown{
		ID: r.ID, State: r.State, By: r.By, InWindow: r.Windowed, Waiting: r.Waiting, Began: momentOf(r.Began), Ended: momentOf(r.Ended), Planned: r.Planned,
		Moved: r.Moved, Failed: r.Failed, Under: r.Under, Homeward: r.Homeward, Bytes: r.Bytes, Seconds: r.Estimate.Seconds(),
		Before: r.Before, After: r.After, Error: r.Fault,
	}
}

// runsShown are the runs that are remembered, the newest first.
type runsShown struct {
	Runs  []runShown        `json:"runs"`
	Rules balanceRulesShown `json:"rules"`
}

func rebalancing(c *call) (reply, error) {
	runs, err := c.h.node.Rebalancing(c.ctx)
	if err != nil {
		return nil, err
	}
	shown := runsShown{Runs: []runShown{}, Rules: showBalanceRules(c.h.node.BalanceRules())}
	for i := range runs {
		shown.Runs = append(shown.Runs, showRun(&runs[i]))
	}
	return document{shown}, nil
}

// rebalanceAsked is the body that begins a run.
type rebalanceAsked struct{ inWindow bool }

var rebalanceFields = []field[rebalanceAsked]{
	boolField("in_window", func(r *rebalanceAsked) *bool { return &r.inWindow }),
}

// rebalance begins a run. The body may be left out.
func rebalance(c *call) (reply, error) {
	var asked rebalanceAsked
	if err := c.decodeOptional(func() error { return decodeObject(c.body, &asked, rebalanceFields) }); err != nil {
		return nil, err
	}
	r, err := c.h.node.Rebalance(c.ctx, c.principal.String(), asked.inWindow)
	if err != nil {
		return nil, err
	}
	return document{showRun(&r)}, nil
}

func abortRebalance(c *call) (reply, error) {
	r, err := c.h.node.AbortRebalance(c.ctx)
	if err != nil {
		return nil, err
	}
	return document{showRun(&r)}, nil
}

// balanceRulesShown say when and how tenants are moved to spread the load.
type balanceRulesShown struct {
	Automatic bool          `json:"automatic"`
	Parallel  int           `json:"parallel"` // moves at once
	Cooldown  string        `json:"cooldown"` // for which a tenant that was moved stays
	Windows   []windowShown `json:"windows"`
}

// windowShown is a part of days, in UTC.
type windowShown struct {
	Days []string `json:"days,omitempty"` // none: all
	From string   `json:"from"`           // 22:00
	To   string   `json:"to"`             // 06:00; before From: of the next day
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

func showBalanceRules(r cluster.BalanceRules) balanceRulesShown {
	s := balanceRulesShown{Automatic: r.Auto, Parallel: r.Parallel, Cooldown: r.Cooldown.String(), Windows: []windowShown{}}
	clock := func(minute uint16) string { return fmt.Sprintf("%02d:%02d", minute/60, minute%60) }
	for _, w := range r.Windows {
		shown := windowShown{From: clock(w.From), To: clock(w.To)}
		for day, name := range weekdays {
			if w.Days>>day&1 != 0 {
				shown.Days = append(shown.Days, name)
			}
		}
		s.Windows = append(s.Windows, shown)
	}
	return s
}

func rebalanceRules(c *call) (reply, error) {
	return document{showBalanceRules(c.h.node.BalanceRules())}, nil
}

var balanceRulesFields = []field[cluster.BalanceRules]{
	boolField("automatic", func(r *cluster.BalanceRules) *bool { return &r.Auto }),
	intField("parallel", 1, 64, func(r *cluster.BalanceRules) *int { return &r.Parallel }),
	{"cooldown", func(b *cluster.BalanceRules, r *reader) error {
		s, err := r.text()
		if err != nil {
			return err
		}
		if b.Cooldown, err = time.ParseDuration(s); err != nil || b.Cooldown < time.Second {
			return faultf("want a duration such as 90s or 2h, got %q", clip(s))
		}
		b.Cooldown = b.Cooldown.Truncate(time.Second)
		return nil
	}},
	{"windows", func(b *cluster.BalanceRules, r *reader) error {
		b.Windows = nil
		return r.array(func(int) error {
			var w cluster.Window
			err := object(r, &w, windowFields)
			b.Windows = append(b.Windows, w)
			return err
		})
	}},
}

var windowFields = []field[cluster.Window]{
	{"days", func(w *cluster.Window, r *reader) error {
		names, err := r.texts(len(weekdays))
		for _, name := range names {
			day := slices.Index(weekdays, name)
			if day < 0 {
				return faultf("%q is none of %s", clip(name), strings.Join(weekdays, ", "))
			}
			w.Days |= 1 << day
		}
		return err
	}},
	{"from", func(w *cluster.Window, r *reader) (err error) { w.From, err = r.clock(); return }},
	{"to", func(w *cluster.Window, r *reader) (err error) { w.To, err = r.clock(); return }},
}

// clock reads a time of day as minutes since midnight; 24:00 is its end.
func (r *reader) clock() (uint16, error) {
	s, err := r.text()
	if err != nil {
		return 0, err
	}
	if s == "24:00" {
		return 24 * 60, nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, faultf("want a time as 22:00, got %q", clip(s))
	}
	return uint16(t.Hour()*60 + t.Minute()), nil
}

// setRebalanceRules changes the rules; what the body leaves out stays.
func setRebalanceRules(c *call) (reply, error) {
	rules := c.h.node.BalanceRules()
	if err := decodeObject(c.body, &rules, balanceRulesFields); err != nil {
		return nil, err
	}
	if err := c.h.node.SetBalanceRules(c.ctx, rules); err != nil {
		return nil, err
	}
	return rebalanceRules(c)
}

// maxExpected bounds what may be asked about.
const maxExpected = 1 << 40

// capacity says how many shards are needed, what they cost, and what to do.
func capacity(c *call) (reply, error) {
	tenants, err := c.params.integer("tenants", 0, 0, maxExpected)
	if err != nil {
		return nil, err
	}
	vectors, err := c.params.integer("vectors", 0, 0, maxExpected)
	if err != nil {
		return nil, err
	}
	r, err := c.h.node.Capacity(c.ctx, tenants, uint64(vectors))
	if err != nil {
		return nil, err
	}
	return document{r}, nil
}
