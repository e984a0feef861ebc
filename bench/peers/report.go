package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// report is what a race found. Ratios are croft's figure over the other's, so that more is better for croft, or null
// where one of them has none.
type report struct {
	Dataset string `json:"dataset"`
	N       int    `json:"n"`
	Dim     int    `json:"dim"`
	Queries int    `json:"queries"`
	K       int    `json:"k"`
	Metric  string `json:"metric"`
	CPU     string `json:"cpu"`
	// Compiler that the C++ peers' headers were compiled with.
	Compiler string `json:"compiler"`
	Rounds   int    `json:"rounds"`
	Pick     string `json:"pick"`  // of the rounds: median or best
	Clock    string `json:"clock"` // of rates: wall or cpu
	Threads  int    `json:"threads"`
	// Ratio is, by recall, croft's queries a second over those of the best other.
	Ratio map[string]*float64 `json:"ratio"`
	Best  map[string]string   `json:"best"` // by recall, the best other
	// Before is, by recall, croft's queries a second over those of the other build of it.
	Before map[string]*float64 `json:"before,omitempty"`
	// BuildRatio is hnswlib's build time over croft's, each with the settings that search fastest at recall 0.95.
	BuildRatio *float64 `json:"build_ratio"`
	// MemoryRatio is hnswlib's resident memory over croft's, of the same two; AnonRatio without mapped files.
	MemoryRatio *float64 `json:"memory_ratio"`
	AnonRatio   *float64 `json:"anonymous_memory_ratio"`
	// Scaling is, by recall, croft's rate from all threads over that from one.
	Scaling map[string]*float64 `json:"scaling,omitempty"`
	Limited *limitReport        `json:"limited,omitempty"`
	Peers   []*entry            `json:"peers"`

	recalls []float64
}

// limitReport says what croft's process was limited to, in bytes.
type limitReport struct {
	Limit       int64 `json:"limit"`
	Peak        int64 `json:"peak"`    // of croft's group
	Hnswlib     int64 `json:"hnswlib"` // resident, unlimited: the whole process
	MajorFaults int64 `json:"major_faults"`
}

// entry is a library with settings.
type entry struct {
	Name         string  `json:"name"`
	Params       string  `json:"params"`
	Version      string  `json:"version"`
	BuildSeconds float64 `json:"build_seconds"`
	BuildThreads int     `json:"build_threads"`
	IndexBytes   int64   `json:"index_bytes"` // of the file
	Memory       memory  `json:"memory"`      // that the process grew by
	Points       []point `json:"points"`

	from *contestant
}

const (
	croftName     = "croft"
	beforeName    = "croft-before"
	yardstick     = "hnswlib" // of build time and memory
	yardstickRate = 0.95      // recall at which settings are chosen
)

func newReport(r *race) *report {
	o := r.opts
	p := &report{
		Dataset: r.data.Name, N: r.data.Base.Len(), Dim: r.data.Base.Dim(), Queries: len(r.data.Queries), K: o.K,
		Metric: r.data.Metric.String(), CPU: cpuModel(), Compiler: compiler(), Rounds: o.Rounds, Pick: "median", Clock: o.Clock, Threads: o.Threads,
		Limited: r.limit, recalls: o.Recalls,
	}
	if o.Best {
		p.Pick = "best"
	}
	for _, c := range r.contestants {
		p.Peers = append(p.Peers, newEntry(c, o))
		if r.limit != nil && c.library.name == croftName {
			r.limit.MajorFaults = c.last.Memory.MajorFaults
			r.limit.Peak = c.process.group.peak()
		}
	}
	p.compare()
	return p
}

// pick chooses one figure of all rounds.
func (o *options) pick(values []float64, mostWins bool) float64 {
	if o.Best {
		return best(values, mostWins)
	}
	return median(values)
}

func newEntry(c *contestant, o *options) *entry {
	e := &entry{
		Name: c.library.name, Params: string(c.with), Version: c.library.version(), BuildSeconds: c.index.Seconds,
		BuildThreads: c.index.Threads, IndexBytes: c.bytes(), Memory: c.last.Memory, from: c,
	}
	for _, ef := range o.Efs {
		s := c.laps[ef]
		p := point{Ef: ef, Recall: s.recall, QPS: o.pick(s.qps, true), P50: o.pick(s.p50, false), P99: o.pick(s.p99, false)}
		if len(s.many) > 0 {
			p.ThreadsQPS = o.pick(s.many, true)
		}
		e.Points = append(e.Points, p)
	}
	return e
}

func rate(p point) float64        { return p.QPS }
func threadsRate(p point) float64 { return p.ThreadsQPS }

// frontOf joins the points of the entries with a name into one front.
func (p *report) frontOf(name string, rate func(point) float64) front {
	var spots []spot
	for _, e := range p.Peers {
		if e.Name == name {
			spots = append(spots, e.spots(rate)...)
		}
	}
	return newFront(spots)
}

func (e *entry) spots(rate func(point) float64) []spot {
	var spots []spot
	for _, p := range e.Points {
		spots = append(spots, spot{p.Recall, rate(p)})
	}
	return spots
}

// names returns the libraries of the report, each once.
func (p *report) names() []string {
	var names []string
	for _, e := range p.Peers {
		if !slices.Contains(names, e.Name) {
			names = append(names, e.Name)
		}
	}
	return names
}

// compare fills in the ratios.
func (p *report) compare() {
	p.Ratio, p.Best = map[string]*float64{}, map[string]string{}
	croft := p.frontOf(croftName, rate)
	for _, recall := range p.recalls {
		name, best := p.bestAt(recall)
		p.Ratio[key(recall)] = ratio(croft.at(recall), best)
		if best != nil {
			p.Best[key(recall)] = name
		}
	}
	if p.Threads > 1 {
		p.Scaling = p.ratios(p.frontOf(croftName, threadsRate), croft)
	}
	if before := p.frontOf(beforeName, rate); before != nil {
		p.Before = p.ratios(croft, before)
	}
	p.compareCosts()
}

// ratios divides two fronts at each recall.
func (p *report) ratios(a, b front) map[string]*float64 {
	ratios := map[string]*float64{}
	for _, recall := range p.recalls {
		ratios[key(recall)] = ratio(a.at(recall), b.at(recall))
	}
	return ratios
}

// bestAt returns the fastest other at a recall; nil if none reaches it.
func (p *report) bestAt(recall float64) (name string, best *float64) {
	for _, n := range p.names() {
		if n == croftName || n == beforeName {
			continue
		}
		if qps := p.frontOf(n, rate).at(recall); qps != nil && (best == nil || *qps > *best) {
			name, best = n, qps
		}
	}
	return name, best
}

// chosen returns the entry of a library that is fastest at yardstickRate; nil if none reaches it.
func (p *report) chosen(name string) *entry {
	var chosen *entry
	var most float64
	for _, e := range p.Peers {
		if e.Name != name {
			continue
		}
		if qps := newFront(e.spots(rate)).at(yardstickRate); qps != nil && *qps > most {
			chosen, most = e, *qps
		}
	}
	return chosen
}

// compareCosts fills in what compares one entry of hnswlib with one of croft.
func (p *report) compareCosts() {
	other, croft := p.chosen(yardstick), p.chosen(croftName)
	if other == nil || croft == nil {
		return
	}
	over := func(f func(e *entry) float64) *float64 {
		a, b := f(other), f(croft)
		return ratio(&a, &b)
	}
	p.BuildRatio = over(func(e *entry) float64 { return e.BuildSeconds })
	p.MemoryRatio = over(func(e *entry) float64 { return float64(e.Memory.Resident) })
	p.AnonRatio = over(func(e *entry) float64 { return float64(e.Memory.Resident - e.Memory.File) })
}

// rebuild times the two entries of compareCosts anew, in turns.
func (p *report) rebuild(ctx context.Context, r *race) error {
	pair := []*entry{p.chosen(yardstick), p.chosen(croftName)}
	if pair[0] == nil || pair[1] == nil {
		return nil
	}
	times := make([][]float64, len(pair))
	for range r.opts.BuildRounds {
		for i, e := range pair {
			seconds, err := r.store.rebuild(ctx, &e.from.library, e.from.with, r.opts.BuildThreads)
			if err != nil {
				return err
			}
			fmt.Fprintf(r.notes, "%s %s: rebuilt in %.1f s\n", e.Name, e.Params, seconds)
			times[i] = append(times[i], seconds)
		}
	}
	for i, e := range pair {
		e.BuildSeconds = r.opts.pick(times[i], false)
	}
	p.compareCosts()
	return nil
}

// key is a recall as a name.
func key(recall float64) string { return fmt.Sprintf("%.2f", recall) }

func (p *report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(p)
}

// print writes tables for people.
func (p *report) print(w io.Writer) error {
	fmt.Fprintf(w, "%s  %s  %d x %d  %d queries, k %d, %s of %d rounds, one pinned core, %s time\n%s; %s\n",
		p.Dataset, p.Metric, p.N, p.Dim, p.Queries, p.K, p.Pick, p.Rounds, p.Clock, p.CPU, p.Compiler)
	for _, e := range p.Peers {
		if err := e.print(w, p.Threads); err != nil {
			return err
		}
	}
	if err := p.printRates(w); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%s / croft: build time %s, memory %s (without mapped files %s)\n",
		yardstick, times(p.BuildRatio), times(p.MemoryRatio), times(p.AnonRatio))
	if l := p.Limited; l != nil {
		fmt.Fprintf(w, "croft's process limited to %s, peak %s, %d major faults; %s unlimited, %s\n",
			megabytes(l.Limit), megabytes(l.Peak), l.MajorFaults, yardstick, megabytes(l.Hnswlib))
	}
	return nil
}

func (e *entry) print(w io.Writer, threads int) error {
	fmt.Fprintf(w, "\n%s (%s)  %s  built in %.1f s by %d threads, %s on disk, %s in memory, of which mapped files %s\n", e.Name,
		e.Version, e.Params, e.BuildSeconds, e.BuildThreads, megabytes(e.IndexBytes), megabytes(e.Memory.Resident), megabytes(e.Memory.File))
	t := table(w)
	fmt.Fprint(t, "ef\trecall\tqueries/s\tp50 us\tp99 us\t")
	if threads > 1 {
		fmt.Fprintf(t, "%d threads\t", threads)
	}
	fmt.Fprintln(t)
	for _, p := range e.Points {
		fmt.Fprintf(t, "%d\t%.4f\t%.0f\t%.0f\t%.0f\t", p.Ef, p.Recall, p.QPS, p.P50, p.P99)
		if threads > 1 {
			fmt.Fprintf(t, "%.0f\t", p.ThreadsQPS)
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// printRates writes queries a second by library and recall, and the ratios below them.
func (p *report) printRates(w io.Writer) error {
	fmt.Fprintln(w)
	t := table(w)
	row := func(name string, figure func(recall float64) string) {
		fmt.Fprintf(t, "%s\t", name)
		for _, recall := range p.recalls {
			fmt.Fprintf(t, "%s\t", figure(recall))
		}
		fmt.Fprintln(t)
	}
	row("queries/s at recall", key)
	for _, name := range p.names() {
		f := p.frontOf(name, rate)
		row(name, func(recall float64) string { return whole(f.at(recall)) })
	}
	row("croft / best other", func(recall float64) string { return times(p.Ratio[key(recall)]) })
	if p.Before != nil {
		row("croft / before", func(recall float64) string { return times(p.Before[key(recall)]) })
	}
	if p.Scaling != nil {
		row(fmt.Sprintf("croft, %d threads / one", p.Threads), func(recall float64) string { return times(p.Scaling[key(recall)]) })
	}
	return t.Flush()
}

func table(w io.Writer) *tabwriter.Writer {
	return tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
}

func whole(x *float64) string {
	if x == nil {
		return "-"
	}
	return fmt.Sprintf("%.0f", *x)
}

func times(x *float64) string {
	if x == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f x", *x)
}

func megabytes(n int64) string { return fmt.Sprintf("%.0f MB", float64(n)/1e6) }
