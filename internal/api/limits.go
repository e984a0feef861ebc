package api

import (
	"maps"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// limitsShown are limits by name: numbers, or words for them.
type limitsShown map[string]any

func showLimits(ls *tenancy.Limits) limitsShown {
	shown := limitsShown{}
	for l, v := range ls.All() {
		shown[l.String()] = showLimit(l, v)
	}
	return shown
}

// showLimit is a number, or the word for it.
func showLimit(l tenancy.Limit, v int64) any {
	if l == tenancy.Overage || v == tenancy.Unlimited {
		return l.Format(v)
	}
	return v
}

// limitsField is a member that says which limits are to change: a value for each, or null for inherited.
func limitsField[T any](name string, at func(*T) *tenancy.Change) field[T] {
	return field[T]{name, func(t *T, r *reader) error {
		raw, err := r.rawObject()
		if err != nil {
			return err
		}
		var given map[string]jsontext.Value
		if err := json.Unmarshal(raw, &given); err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(given)) {
			if err := readLimit(at(t), name, given[name]); err != nil {
				return within(err, name)
			}
		}
		return nil
	}}
}

func readLimit(c *tenancy.Change, name string, value jsontext.Value) error {
	l, err := tenancy.ParseLimit(name)
	if err != nil {
		return err
	}
	text := string(value)
	switch value.Kind() {
	case 'n':
		c.Inherit = append(c.Inherit, l)
		return nil
	case '"':
		unquoted, err := jsontext.AppendUnquote(nil, value)
		if err != nil {
			return err
		}
		text = string(unquoted)
	case '0':
	default:
		return wantGot("a whole number, a word or null", value)
	}
	v, err := l.Parse(text)
	if err == nil {
		c.Set.Set(l, v)
	}
	return err
}

// overrideShown is an override that is in force. Who has set it and why is no business of the tenant's.
type overrideShown struct {
	Factor float64   `json:"factor"`
	Until  time.Time `json:"until"`
	Reason string    `json:"reason,omitzero"`
	By     string    `json:"by,omitzero"`
}

func (c *call) showOverride(o *tenancy.Override) *overrideShown {
	if !o.Active(c.start) {
		return nil
	}
	shown := &overrideShown{Factor: o.Factor, Until: o.Until}
	if c.principal.Tenant == "" {
		shown.Reason, shown.By = o.Reason, o.By
	}
	return shown
}

// maxOverride is the longest that an override is in force: what is to last is a change of the tier, or of the tenant.
const maxOverride = 30 * 24 * time.Hour

// overrideRequest is the body that asks for an override.
type overrideRequest struct {
	factor float64
	time   time.Duration
	reason string
}

var overrideFields = []field[overrideRequest]{
	{"factor", func(o *overrideRequest, r *reader) (err error) { o.factor, err = r.number(); return }},
	{"for", (*overrideRequest).readTime},
	textField("reason", func(o *overrideRequest) *string { return &o.reason }),
}

func (o *overrideRequest) readTime(r *reader) error {
	text, err := r.text()
	if err != nil {
		return err
	}
	if o.time, err = time.ParseDuration(text); err != nil || o.time <= 0 || o.time > maxOverride {
		return faultf("%q is no time such as 30m or 24h, at most %dh", clip(text), maxOverride/time.Hour)
	}
	return nil
}

func setOverride(c *call) (reply, error) {
	var o overrideRequest
	if err := decodeObject(c.body, &o, overrideFields); err != nil {
		return nil, err
	}
	switch {
	case o.factor == 0:
		return nil, invalid("factor", "is missing, a number above 0 is needed; DELETE takes an override back")
	case o.time == 0:
		return nil, invalid("for", "is missing, a time such as 30m is needed")
	}
	return c.tenantReply(c.h.node.OverrideTenant(c.ctx, c.args[0], tenancy.Override{
		Factor: o.factor, Until: time.Now().Add(o.time).UTC(), Reason: o.reason, By: c.principal.String(),
	}))
}

func deleteOverride(c *call) (reply, error) {
	return c.tenantReply(c.h.node.OverrideTenant(c.ctx, c.args[0], tenancy.Override{}))
}

// settingsShown are all limits of a tenant as they are in force, and where each came from.
type settingsShown struct {
	Tenant   string                  `json:"tenant"`
	Tier     string                  `json:"tier"`
	Version  uint64                  `json:"version"` // grows with each change
	Override *overrideShown          `json:"override,omitzero"`
	Settings map[string]settingShown `json:"settings"`
}

func (s settingsShown) owners() []string { return []string{s.Tenant} }

type settingShown struct {
	Value any    `json:"value"`
	From  string `json:"from"`
	Unit  string `json:"unit,omitzero"`
}

func showSettings(s *tenancy.Settings) map[string]settingShown {
	shown := map[string]settingShown{}
	for _, l := range tenancy.AllLimits() {
		shown[l.String()] = settingShown{showLimit(l, s.Get(l)), s.Source(l).String(), l.Unit()}
	}
	return shown
}

func tenantSettings(c *call) (reply, error) {
	t, err := c.h.node.DescribeTenant(c.ctx, c.args[0])
	if err != nil {
		return nil, err
	}
	s := c.h.node.Standing(t.Name).Settings
	return document{settingsShown{t.Name, s.Tier, s.Version, c.showOverride(&t.Override), showSettings(s)}}, nil
}

// tierShown is a tier: what it sets itself, and what follows for a tenant with nothing of its own.
type tierShown struct {
	Tier     string                  `json:"tier"`
	Limits   limitsShown             `json:"limits"`
	Changed  bool                    `json:"changed"` // it is not as it was shipped
	Tenants  int                     `json:"tenants"`
	Settings map[string]settingShown `json:"settings,omitzero"`
}

func showTier(t *cluster.Tier) tierShown {
	return tierShown{Tier: t.Name, Limits: showLimits(&t.Limits), Changed: t.Changed, Tenants: t.Tenants}
}

func listTiers(c *call) (reply, error) {
	all := c.h.node.Tiers()
	shown := make([]tierShown, len(all))
	for i := range all {
		shown[i] = showTier(&all[i])
	}
	return document{map[string]any{"tiers": shown}}, nil
}

func describeTier(c *call) (reply, error) {
	return tierReply(c.h.node.DescribeTier(c.ctx, c.args[0]))
}

func tierReply(t cluster.Tier, err error) (reply, error) {
	if err != nil {
		return nil, err
	}
	shown := showTier(&t)
	shown.Settings = showSettings(t.Settings)
	return document{shown}, nil
}

// tierRequest is the body that makes or changes a tier.
type tierRequest struct {
	name   string
	limits tenancy.Change
}

var tierFields = []field[tierRequest]{
	textField("tier", func(t *tierRequest) *string { return &t.name }),
	limitsField("limits", func(t *tierRequest) *tenancy.Change { return &t.limits }),
}

func createTier(c *call) (reply, error) {
	var t tierRequest
	if err := decodeObject(c.body, &t, tierFields); err != nil {
		return nil, err
	}
	if t.name == "" {
		return nil, invalid("tier", "is missing")
	}
	c.object = t.name
	return tierReply(c.h.node.SetTier(c.ctx, t.name, true, t.limits))
}

func setTier(c *call) (reply, error) {
	var t tierRequest
	if err := decodeObject(c.body, &t, tierFields[1:]); err != nil {
		return nil, err
	}
	if t.limits.IsEmpty() {
		return nil, errs.New(errs.Invalid, "there is nothing to change: give limits")
	}
	return tierReply(c.h.node.SetTier(c.ctx, c.args[0], false, t.limits))
}

func deleteTier(c *call) (reply, error) {
	return empty{}, c.h.node.DeleteTier(c.ctx, c.args[0])
}

// storeSettings are what holds for all tenants.
type storeSettings struct {
	CreateOnWrite bool                    `json:"create_on_write"`
	DefaultTier   string                  `json:"default_tier"`
	Limits        map[string]settingShown `json:"limits"` // where neither tier nor tenant says otherwise
}

func getSettings(c *call) (reply, error) {
	s := tenancy.Resolve(&tenancy.Tier{}, &tenancy.Limits{}, &tenancy.Override{}, 0, time.Time{})
	return document{storeSettings{c.h.node.CreatesOnWrite(), tenancy.DefaultTier, showSettings(&s)}}, nil
}

var storeSettingsFields = []field[storeSettings]{
	boolField("create_on_write", func(s *storeSettings) *bool { return &s.CreateOnWrite }),
}

func setSettings(c *call) (reply, error) {
	s := storeSettings{CreateOnWrite: c.h.node.CreatesOnWrite()}
	if err := decodeObject(c.body, &s, storeSettingsFields); err != nil {
		return nil, err
	}
	if err := c.h.node.SetCreatesOnWrite(c.ctx, s.CreateOnWrite); err != nil {
		return nil, err
	}
	return getSettings(c)
}
