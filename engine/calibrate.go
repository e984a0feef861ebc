package engine

import (
	"context"
	"sync/atomic"

	"github.com/croftdb/croft/ann/hnsw"
)

// calibrateSteps is how many vectors one step of maintenance asks for; each takes some milliseconds.
const calibrateSteps = 8

// calibration is the part of a builder that measures what searches of its graph take.
type calibration struct {
	at       *hnsw.Calibrator // nil: none is at work
	began    int64            // engine's clock when it began
	notAgain atomic.Int64     // engine's clock, before which new searches alone are no reason to
	replaced atomic.Int64     // nodes deleted since
}

// calibrate measures what searches of the graph take to find a share of the nearest, so that people can ask for recall
// and not for effort: some vectors at a time, when the graph has caught up, and anew when it has come to have twice or
// half as many nodes, when a fifth was replaced, and when other searches were made. Until then a default breadth has to
// do. The checkpoint holds the result, so it asks to be saved.
func (sp *space) calibrate(ctx context.Context, g *hnsw.Graph) (more bool, err error) {
	defer catchFault(&err)
	c := &sp.builder.calibration
	if c.at == nil {
		if !sp.calibrationDue(g) {
			return false, nil
		}
		sp.beginCalibration(g)
	}
	more = true
	for i := 0; i < calibrateSteps && more && err == nil; i++ {
		more, err = c.at.Step(ctx)
	}
	if more && err == nil {
		return true, nil
	}
	if ctx.Err() == nil {
		sp.calibrated(g)
	}
	c.at = nil
	return false, err
}

// beginCalibration takes searches that were made if there are enough, else the graph's own vectors.
func (sp *space) beginCalibration(g *hnsw.Graph) {
	c := &sp.builder.calibration
	c.began = sp.shard.engine.clock.Load()
	c.replaced.Store(0)
	if made := sp.asked.take(); made != nil {
		c.at = g.CalibrateFor(made)
	} else {
		c.at = g.Calibrate()
	}
}

// calibrated makes searches heed what was measured - of fewer vectors, if one of them could not be read.
func (sp *space) calibrated(g *hnsw.Graph) {
	c, now := &sp.builder.calibration, sp.shard.engine.clock.Load()
	c.notAgain.Store(now + max(recalibratePause, recalibrateShare*(now-c.began)))
	if e := c.at.Effort(); e != nil {
		g.SetEffort(e)
		sp.builder.changed(1, now)
	}
	found, wanted := c.at.Found() // told last: whoever sees it may count on the effort
	sp.sampled.add(found, wanted)
	sp.shard.engine.sampled.add(found, wanted)
}

// calibrationDue tells whether what was measured, if anything, is not true any more of the graph or of what is asked.
func (sp *space) calibrationDue(g *hnsw.Graph) bool {
	e, c := g.Effort(), &sp.builder.calibration
	if e == nil || g.Len() >= 2*e.Slots || 2*g.Len() <= e.Slots || c.replaced.Load() > int64(e.Slots/5) {
		return true
	}
	return sp.asked.full() && (!e.Leashed() || sp.shard.engine.clock.Load() >= c.notAgain.Load())
}

// recalibrate enqueues graphs that are to be measured anew although nothing is written to them.
func (e *Engine) recalibrate(spaces []*space) {
	for _, sp := range spaces {
		if g := sp.view.Load().graph; g != nil && sp.calibrationDue(g) {
			e.enqueue(sp)
		}
	}
}
