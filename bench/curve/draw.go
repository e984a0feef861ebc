package curve

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
)

// Sizes in pixels.
const (
	width, height = 860, 480
	left, right   = 76, 640 // of the plot
	top, bottom   = 72, 424
	legendStep    = 22
)

// recallTicks are the recalls that have a line of the grid.
var recallTicks = []float64{0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999}

// theme is a set of colours. Those of the lines are apart from each other for the colour-blind too (after Okabe & Ito).
type theme struct {
	page, ink, faint, grid string
	lines                  [colours]string
}

const colours = 7

var (
	light = theme{"#ffffff", "#1f2328", "#59636e", "#d8dde3",
		[colours]string{"#0072b2", "#d55e00", "#007a5a", "#a8487d", "#8f6a00", "#2f8fc4", "#5b5b5b"}}
	dark = theme{"#0d1117", "#f0f6fc", "#9198a1", "#2b313a",
		[colours]string{"#58a6ff", "#ff8c42", "#2fc28f", "#e58fc0", "#e3b341", "#8fd3ff", "#b0b0b0"}}
)

// style is the style sheet: light, and dark where the reader's system is. The picture paints its own page, for the one
// around it need not be as dark as the system. There are no variables in it, which many viewers of SVG do not know.
func style() string {
	return `
text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; }
.title { font-size: 17px; font-weight: 600; } .first { font-weight: 600; } .grid { stroke-width: 1; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; } .line.first { stroke-width: 3.5; }
` + light.rules() + "@media (prefers-color-scheme: dark) {\n" + dark.rules() + "}\n"
}

func (t *theme) rules() string {
	var b strings.Builder
	fmt.Fprintf(&b, ".page { fill: %s; } text { fill: %s; } .faint { fill: %s; } .grid { stroke: %s; }\n", t.page, t.ink, t.faint, t.grid)
	for i, colour := range t.lines {
		fmt.Fprintf(&b, ".line.c%d { stroke: %s; } circle.c%d { fill: %s; }\n", i, colour, i, colour)
	}
	return b.String()
}

// dashes tell lines apart once the colours begin anew.
var dashes = []string{"", "7 4", "2 3"}

// drawing is a chart on its way to SVG.
type drawing struct {
	chart *Chart
	lines []Series
	x, y  *scale
	out   bytes.Buffer
}

func newDrawing(c *Chart, lines []Series) *drawing {
	return &drawing{chart: c, lines: lines, x: recallScale(lines, left, right), y: rateScale(lines, bottom, top)}
}

func (d *drawing) draw() []byte {
	d.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">`,
		width, height, width, height, escape(d.chart.Title))
	d.printf("<style>%s</style>", style())
	d.printf(`<rect class="page" width="%d" height="%d"/>`, width, height)
	d.text(left, 30, "title", "start", d.chart.Title)
	d.text(left, 52, "faint", "start", d.chart.Note)
	d.grid()
	for i := len(d.lines) - 1; i >= 0; i-- { // the first on top
		d.line(i)
	}
	d.legend()
	d.printf("</svg>")
	return d.out.Bytes()
}

func (d *drawing) printf(format string, args ...any) {
	fmt.Fprintf(&d.out, format+"\n", args...)
}

func (d *drawing) text(x, y float64, class, anchor, text string) {
	if text != "" {
		d.printf(`<text class="%s" x="%s" y="%s" text-anchor="%s">%s</text>`, class, pixels(x), pixels(y), anchor, escape(text))
	}
}

func (d *drawing) grid() {
	for _, recall := range recallTicks {
		if nines(recall) <= d.x.to+1e-9 {
			x := d.x.at(recall)
			d.printf(`<path class="grid" d="M%s %d V%d"/>`, pixels(x), top, bottom)
			label := strconv.FormatFloat(recall, 'g', -1, 64)
			if recall == ends[len(ends)-1] {
				label += "+"
			}
			d.text(x, bottom+20, "faint", "middle", label)
		}
	}
	for _, rate := range rateTicks(d.y) {
		y := d.y.at(rate)
		d.printf(`<path class="grid" d="M%d %s H%d"/>`, left, pixels(y), right)
		d.text(left-8, y+4, "faint", "end", short(rate))
	}
	d.text((left+right)/2, bottom+44, "faint", "middle", fmt.Sprintf("recall@%d", d.chart.K))
	d.printf(`<text class="faint" transform="translate(20 %d) rotate(-90)" text-anchor="middle">queries per second</text>`, (top+bottom)/2)
}

func (d *drawing) line(i int) {
	var path strings.Builder
	for n, p := range d.lines[i].Points {
		fmt.Fprintf(&path, "%c%s %s", "ML"[min(n, 1)], pixels(d.x.at(p.Recall)), pixels(d.y.at(p.QPS)))
	}
	d.printf(`<path %s d="%s"/>`, look(i), path.String())
	for _, p := range d.lines[i].Points {
		d.printf(`<circle class="c%d" cx="%s" cy="%s" r="3.5"><title>%s: %.4f, %.0f/s</title></circle>`,
			i%colours, pixels(d.x.at(p.Recall)), pixels(d.y.at(p.QPS)), escape(d.lines[i].Name), p.Recall, p.QPS)
	}
}

func (d *drawing) legend() {
	for i, s := range d.lines {
		y := float64(top + 8 + legendStep*i)
		d.printf(`<path %s d="M%d %s h26"/>`, look(i), right+24, pixels(y))
		d.text(right+58, y+4, strings.TrimSpace(emphasis(i)), "start", s.Name)
	}
}

// emphasis is the class that the first line has besides.
func emphasis(i int) string {
	if i == 0 {
		return " first"
	}
	return ""
}

// look is what makes a line differ from others.
func look(i int) string {
	attributes := fmt.Sprintf(`class="line c%d%s"`, i%colours, emphasis(i))
	if dash := dashes[i/colours%len(dashes)]; dash != "" {
		attributes += ` stroke-dasharray="` + dash + `"`
	}
	return attributes
}

func pixels(x float64) string { return strconv.FormatFloat(x, 'f', 1, 64) }

// short is a rate as 500 or 20k.
func short(rate float64) string {
	if rate >= 1000 {
		return strconv.FormatFloat(rate/1000, 'g', 3, 64) + "k"
	}
	return strconv.FormatFloat(rate, 'g', 3, 64)
}

// escape makes text safe between tags and within quotes.
func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder does not fail
	return b.String()
}
