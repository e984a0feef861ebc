package bench

import (
	"fmt"
	"io"
	"slices"

	"github.com/go-json-experiment/json"

	"github.com/croftdb/croft/bench/curve"
	"github.com/croftdb/croft/internal/errs"
)

// race is the part of a comparison's report that a drawing needs: the JSON of bench/peers.
type race struct {
	Dataset string `json:"dataset"`
	N       int    `json:"n"`
	Dim     int    `json:"dim"`
	K       int    `json:"k"`
	Metric  string `json:"metric"`
	CPU     string `json:"cpu"`
	Peers   []struct {
		Name   string        `json:"name"`
		Points []RecallPoint `json:"points"`
	} `json:"peers"`
}

// Plot reads the JSON of a comparison and draws its curves as SVG, one for each index along the best points of all its
// settings, croft's first. An empty title becomes the data set's name.
func Plot(report io.Reader, title string, out io.Writer) error {
	var r race
	if err := json.UnmarshalRead(report, &r); err != nil {
		return errs.Wrap(errs.Invalid, err, "read comparison")
	}
	if len(r.Peers) == 0 {
		return errs.New(errs.Invalid, "read comparison: no peers in it").WithHint("bench/peers prints one with --json")
	}
	chart := curve.Chart{Title: title, Note: r.note(), K: r.K, Series: r.series()}
	if title == "" {
		chart.Title = r.Dataset
	}
	return chart.Write(out)
}

func (r *race) note() string {
	if r.N == 0 {
		return ""
	}
	note := fmt.Sprintf("%d × %d, %s", r.N, r.Dim, r.Metric)
	if r.CPU != "" {
		note += "; " + r.CPU
	}
	return note
}

// series joins the entries of a name, which are one index with several settings.
func (r *race) series() []curve.Series {
	var all []curve.Series
	for _, peer := range r.Peers {
		i := slices.IndexFunc(all, func(s curve.Series) bool { return s.Name == peer.Name })
		if i < 0 {
			i = len(all)
			all = append(all, curve.Series{Name: peer.Name})
		}
		for _, p := range peer.Points {
			all[i].Points = append(all[i].Points, curve.Point{Recall: p.Recall, QPS: p.QPS})
		}
	}
	slices.SortStableFunc(all, func(a, b curve.Series) int { return rank(a.Name) - rank(b.Name) })
	return all
}

func rank(name string) int {
	if name == "croft" {
		return 0
	}
	return 1
}
