package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/api"
	"github.com/croftdb/croft/tenancy"
)

// shownMetrics are the names of the metrics that a node has, with their labels, from what its collectors say of themselves, so
// that those are known too that have no series yet; and the page that it shows.
func shownMetrics(t *testing.T) (labels map[string][]string, page string) {
	t.Helper()
	registry, cfg := newRegistry(), defaultConfig()
	node, err := cluster.Open(t.Context(), cluster.Options{
		Dir: t.TempDir(), Shards: 1, SegmentSize: 256 << 10, Gate: cfg.gate(), Registerer: registry, Engine: engine.Options{Registerer: registry},
		Logger: slog.New(slog.DiscardHandler), PeerListen: "127.0.0.1:0",
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, node.Close()) }()
	handler, err := api.New(api.Options{
		Node: node, Auth: &tenancy.Authenticator{}, Logger: slog.New(slog.DiscardHandler), Registerer: registry, Gatherer: registry,
	})
	require.NoError(t, err)
	for range 2 { // the second answer tells of the first
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
		page = w.Body.String()
	}
	descs := make(chan *prometheus.Desc)
	go func() {
		registry.Describe(descs)
		close(descs)
	}()
	labels = map[string][]string{"up": nil}
	said := regexp.MustCompile(`fqName: "(\w+)".*constLabels: \{(.*?)\}, variableLabels: \{(.*?)\}\}`)
	for d := range descs {
		m := said.FindStringSubmatch(d.String())
		require.NotNil(t, m, d.String())
		labels[m[1]] = strings.FieldsFunc(m[3], func(r rune) bool { return r == ',' })
		for _, l := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(m[2], -1) {
			labels[m[1]] = append(labels[m[1]], l[1])
		}
	}
	for name := range strings.FieldsSeq("process_open_fds process_max_fds process_start_time_seconds") {
		labels[name] = nil // its collector describes nothing on some systems
	}
	return labels, page
}

type alertRule struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

func alertRules(t *testing.T) (rules []alertRule) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []alertRule } }
	require.NoError(t, yaml.Unmarshal([]byte(deployed(t, "prometheus/croft-alerts.yaml")), &file))
	for _, g := range file.Groups {
		rules = append(rules, g.Rules...)
	}
	require.NotEmpty(t, rules)
	return rules
}

// seriesOf matches what an expression names: a metric with what stands in braces behind it, or a word of the language.
var seriesOf = regexp.MustCompile(`\b([a-zA-Z_]\w*)(\{[^}]*\})?(\s*\()?`)

// grouping is a list of labels, groupings are the words before one.
var grouping = regexp.MustCompile(`\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)`)

// namedBy returns the metrics that an expression names, each with the labels that it is chosen by, and the labels that it groups by.
func namedBy(expr string) (metrics map[string][]string, groupedBy []string) {
	metrics = map[string][]string{}
	for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
		groupedBy = append(groupedBy, strings.FieldsFunc(g[2], func(r rune) bool { return r == ',' || r == ' ' })...)
	}
	expr = grouping.ReplaceAllString(expr, "")
	expr = regexp.MustCompile(`\[[^\]]*\]`).ReplaceAllString(expr, "")
	for _, m := range seriesOf.FindAllStringSubmatch(expr, -1) {
		if m[3] != "" || slices.Contains([]string{"and", "or", "unless", "bool", "offset"}, m[1]) {
			continue
		}
		metrics[m[1]] = []string{}
		for _, l := range regexp.MustCompile(`(\w+)\s*[=!]~?"`).FindAllStringSubmatch(m[2], -1) {
			metrics[m[1]] = append(metrics[m[1]], l[1])
		}
	}
	return metrics, groupedBy
}

// base is the metric that a series of a histogram belongs to.
func base(name string, known map[string][]string) string {
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if of, ok := strings.CutSuffix(name, suffix); ok && known[name] == nil {
			if _, ok := known[of]; ok {
				return of
			}
		}
	}
	return name
}

// scrapeLabels are those that Prometheus adds, and that of buckets.
var scrapeLabels = []string{"job", "instance", "le"}

func TestAlertsNameWhatIsThere(t *testing.T) {
	known, page := shownMetrics(t)
	require.Contains(t, page, "croft_gate_limit{")
	require.Contains(t, page, "croft_cluster_disk_reserve_bytes ")
	require.Contains(t, page, `croft_http_requests_total{code="200"`)
	runbooks := sections(t, "runbooks.md")
	for _, r := range alertRules(t) {
		requireNamesWhatIsThere(t, r.Alert, r.Expr, known)
		require.Contains(t, []string{"info", "warning", "critical"}, r.Labels["severity"], r.Alert)
		require.NotEmpty(t, r.Annotations["summary"], r.Alert)
		require.NotEmpty(t, r.Annotations["description"], r.Alert)
		require.Equal(t, "https://github.com/croftdb/croft/blob/main/docs/runbooks.md#"+strings.ToLower(r.Alert), r.Annotations["runbook_url"])
		require.Contains(t, runbooks, r.Alert, "a section of docs/runbooks.md")
	}
	require.Len(t, runbooks, len(alertRules(t)), "docs/runbooks.md has sections of no alert")
}

// requireNamesWhatIsThere demands that a node has the metrics that an expression names, with the labels that it chooses and groups by. It
// returns the labels that these metrics have.
func requireNamesWhatIsThere(t *testing.T, who, expr string, known map[string][]string) (has []string) {
	t.Helper()
	metrics, groupedBy := namedBy(expr)
	require.NotEmpty(t, metrics, who)
	has = slices.Clone(scrapeLabels)
	for name, chosen := range metrics {
		labels, ok := known[base(name, known)]
		require.True(t, ok, "%s: there is no metric %s", who, name)
		require.Subset(t, append(slices.Clone(labels), scrapeLabels...), chosen, "%s: labels of %s", who, name)
		has = append(has, labels...)
	}
	require.Subset(t, has, groupedBy, "%s: what it groups by", who)
	return has
}

// sections are the headings of a document.
func sections(t *testing.T, name string) (found []string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`(?m)^## (.+)$`).FindAllStringSubmatch(string(b), -1) {
		found = append(found, m[1])
	}
	return found
}

// TestWalkFindsWhatIsWrong sees that the walk over an expression misses nothing.
func TestWalkFindsWhatIsWrong(t *testing.T) {
	metrics, groupedBy := namedBy(`sum by (job, le) (rate(a_total{code=~"5..",op="x"}[5m])) / on (job) group_left () b_count > 0.5 and c == 1e3`)
	require.Equal(t, map[string][]string{"a_total": {"code", "op"}, "b_count": {}, "c": {}}, metrics)
	require.Equal(t, []string{"job", "le", "job"}, groupedBy)
	known := map[string][]string{"b": nil, "d_count": {}}
	require.Equal(t, []string{"b", "d_count", "e_sum"}, []string{base("b_count", known), base("d_count", known), base("e_sum", known)})
}

// TestMetricsAreDocumented compares the table of docs/observing.md with what a node has.
func TestMetricsAreDocumented(t *testing.T) {
	known, _ := shownMetrics(t)
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "observing.md"))
	require.NoError(t, err)
	told := map[string][]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(croft_\\w+)` \\| ([^|]*) \\|").FindAllStringSubmatch(string(b), -1) {
		told[m[1]] = strings.FieldsFunc(strings.ReplaceAll(m[2], "`", ""), func(r rune) bool { return r == ',' || r == ' ' })
	}
	for name, labels := range known {
		if strings.HasPrefix(name, "croft_") {
			_, ok := told[name]
			require.True(t, ok, "docs/observing.md does not tell of %s", name)
			require.ElementsMatch(t, labels, told[name], "labels of %s", name)
		}
	}
	for name := range told {
		_, ok := known[name]
		require.True(t, ok, "docs/observing.md tells of %s, which there is not", name)
	}
}
