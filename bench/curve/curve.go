// Package curve draws queries per second over recall, the way indexes are compared in the ANN literature, as SVG.
//
// It owns the look of the curves in docs/benchmarks: recall spread so that 0.9, 0.99 and 0.999 are equally far apart,
// queries on a logarithmic scale, one line for each index along its best points, readable on a light and on a dark page.
// It promises the same bytes for the same figures and text that can be searched. Package bench calls it. It measures
// nothing, reads no files and knows no index.
package curve

import (
	"cmp"
	"io"
	"math"
	"slices"

	"github.com/croftdb/croft/internal/errs"
)

// Point is one measurement.
type Point struct {
	Recall float64 // 0 to 1
	QPS    float64 // queries per second, above 0
}

// Series is what one index gives.
type Series struct {
	Name   string
	Points []Point // in any order; those beaten in both figures by another are not drawn
}

// Chart is one drawing.
type Chart struct {
	Title  string
	Note   string // a line below the title
	K      int    // neighbours a query, of which recall is a share
	Series []Series
}

const leastRecall = 0.8 // points below it are not drawn: nobody wants them, and they would take half the width

// ends are the recalls that the axis may end at. The last takes in what is beyond, a recall of 1 too.
var ends = []float64{0.99, 0.999, 0.9999}

// Write draws the chart. It refuses one without a point to draw.
func (c *Chart) Write(w io.Writer) error {
	var lines []Series
	for _, s := range c.Series {
		if front := frontOf(s.Points); len(front) > 0 {
			lines = append(lines, Series{s.Name, front})
		}
	}
	if len(lines) == 0 {
		return errs.New(errs.Invalid, "draw curves: no point has a recall from %g to 1 and a rate above 0", leastRecall)
	}
	_, err := w.Write(newDrawing(c, lines).draw())
	return err
}

// frontOf returns the points to draw by rising recall: none is beaten in both figures.
func frontOf(points []Point) []Point {
	var drawn []Point
	for _, p := range points {
		if p.Recall >= leastRecall && p.Recall <= 1 && p.QPS > 0 && !math.IsInf(p.QPS, 0) {
			drawn = append(drawn, p)
		}
	}
	slices.SortFunc(drawn, func(a, b Point) int {
		return cmp.Or(cmp.Compare(b.Recall, a.Recall), cmp.Compare(b.QPS, a.QPS))
	})
	var front []Point
	for _, p := range drawn {
		if len(front) == 0 || p.QPS > front[len(front)-1].QPS {
			front = append(front, p)
		}
	}
	slices.Reverse(front)
	return front
}

// scale maps figures to pixels.
type scale struct {
	from, to float64 // of the transformed figure
	low, hi  float64 // pixels
	shape    func(float64) float64
}

func (s *scale) at(figure float64) float64 {
	x := (s.shape(figure) - s.from) / (s.to - s.from)
	return s.low + (s.hi-s.low)*min(max(x, 0), 1)
}

// nines is 1 at 0.9, 2 at 0.99 and so on.
func nines(recall float64) float64 { return -math.Log10(1 - recall) }

// recallScale ends at the first of ends that shows all points apart.
func recallScale(lines []Series, low, hi float64) *scale {
	most := 0.0
	for _, s := range lines {
		most = max(most, s.Points[len(s.Points)-1].Recall)
	}
	end := ends[len(ends)-1]
	if i := slices.IndexFunc(ends, func(e float64) bool { return e >= most }); i >= 0 {
		end = ends[i]
	}
	return &scale{nines(leastRecall), nines(end), low, hi, nines}
}

// rateScale leaves some room below and above.
func rateScale(lines []Series, low, hi float64) *scale {
	least, most := math.Inf(1), 0.0
	for _, s := range lines {
		least, most = min(least, s.Points[len(s.Points)-1].QPS), max(most, s.Points[0].QPS)
	}
	return &scale{math.Log10(least) - 0.1, math.Log10(most) + 0.1, low, hi, math.Log10}
}

// rateTicks returns 1, 2 and 5 times the powers of ten that a scale shows; over many powers only these.
func rateTicks(s *scale) []float64 {
	steps := []float64{1, 2, 5}
	if s.to-s.from > 3 {
		steps = steps[:1]
	}
	var ticks []float64
	for power := math.Floor(s.from); power <= s.to; power++ {
		for _, step := range steps {
			if tick := step * math.Pow(10, power); s.shape(tick) >= s.from && s.shape(tick) <= s.to {
				ticks = append(ticks, tick)
			}
		}
	}
	return ticks
}
