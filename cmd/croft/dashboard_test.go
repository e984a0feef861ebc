package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
)

type dashboardPanel struct {
	ID                       int
	Type, Title, Description string
	Links                    []struct{ URL string }
	GridPos                  struct{ X, Y, W, H int }
	Targets                  []struct{ Expr, LegendFormat string }
}

// TestDashboardNamesWhatIsThere: what the panels of the dashboard ask for is there, by the same walk as for the alerts; each panel says what it shows, leads
// to a page of ours, and lies beside the others.
func TestDashboardNamesWhatIsThere(t *testing.T) {
	var board struct {
		Panels     []dashboardPanel
		Templating struct {
			List []struct{ Name, Query string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(deployed(t, "grafana/croft.json")), &board, json.MatchCaseInsensitiveNames(true)))
	known, _ := shownMetrics(t)
	anchors := map[string]bool{"": true}
	for _, s := range append(sections(t, "runbooks.md"), sections(t, "observing.md")...) {
		anchors[strings.ToLower(s)] = true
	}
	variables := map[string]bool{"__rate_interval": true}
	for _, v := range board.Templating.List {
		variables[v.Name] = true
		if of, ok := strings.CutPrefix(v.Query, "label_values("); ok {
			name, _, _ := strings.Cut(strings.TrimRight(of, ")"), ",")
			requireNamesWhatIsThere(t, v.Name, name, known)
		}
	}
	ids, taken, asked := map[int]bool{}, map[[2]int]string{}, 0
	for _, p := range board.Panels {
		require.False(t, ids[p.ID], "%s: id %d", p.Title, p.ID)
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				require.Empty(t, taken[[2]int{x, y}], "%s lies on another", p.Title)
				taken[[2]int{x, y}] = p.Title
			}
		}
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		if p.Type == "row" {
			continue
		}
		asked++
		require.NotEmpty(t, p.Description, p.Title)
		require.NotEmpty(t, p.Targets, p.Title)
		require.Len(t, p.Links, 1, p.Title)
		_, anchor, _ := strings.Cut(p.Links[0].URL, "#")
		require.True(t, anchors[anchor], "%s: there is no section %s", p.Title, anchor)
		for _, target := range p.Targets {
			has := requireNamesWhatIsThere(t, p.Title, target.Expr, known)
			for _, m := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				require.Contains(t, has, m[1], "%s: its legend", p.Title)
			}
			for _, m := range regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(target.Expr, -1) {
				require.True(t, variables[m[1]], "%s: there is no variable %s", p.Title, m[1])
			}
		}
	}
	require.Greater(t, asked, 30)
}
