package main

import (
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progressEvery is the pause between two lines of progress where nobody watches a bar.
const progressEvery = 10 * time.Second

// progress tells how an import gets on.
type progress interface {
	advanced(s importState)
	tick(s importState)
	done()
}

// newProgress is a bar on a terminal, else a line now and then, or nothing.
func (a *app) newProgress(start importState) progress {
	switch {
	case a.quiet:
		return silent{}
	case a.noProgress || !isTerminal(a.stderr) || a.getenv("TERM") == "dumb":
		return &progressLines{a: a, begun: time.Now(), first: start}
	}
	bar := progressbar.NewOptions64(start.Input.Size,
		progressbar.OptionSetWriter(a.stderr),
		progressbar.OptionSetDescription("importing"),
		progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionSetWidth(30),
		progressbar.OptionOnCompletion(func() { _, _ = io.WriteString(a.stderr, "\n") }))
	_ = bar.Set64(start.Offset) // a bar that cannot be drawn is no reason to stop
	return &progressBar{bar: bar}
}

type silent struct{}

func (silent) advanced(importState) {}
func (silent) tick(importState)     {}
func (silent) done()                {}

type progressBar struct{ bar *progressbar.ProgressBar }

func (p *progressBar) advanced(s importState) {
	p.bar.Describe(counted(s.Stored, "vector"))
	_ = p.bar.Set64(s.Offset)
}

func (p *progressBar) tick(importState) {}
func (p *progressBar) done()            { _ = p.bar.Exit() }

type progressLines struct {
	a     *app
	begun time.Time
	first importState
}

func (p *progressLines) advanced(importState) {}
func (p *progressLines) done()                {}

func (p *progressLines) tick(s importState) {
	rate := float64(s.Stored-p.first.Stored) / time.Since(p.begun).Seconds()
	p.a.note("%s stored, %s rejected, %.0f%% of the file, %.0f vectors/s",
		thousands(s.Stored), thousands(s.Rejected), 100*float64(s.Offset)/float64(max(s.Input.Size, 1)), rate)
}
