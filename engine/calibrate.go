package engine

import (
	"context"

	"github.com/croftdb/croft/ann/hnsw"
)

// calibrateSteps is how many vectors one step of maintenance asks for; each takes some milliseconds.
const calibrateSteps = 8

// calibrate measures what searches of the graph take to find a share of the nearest, so that people can ask for recall
// and not for effort: some vectors at a time, when the graph has caught up, and anew when it has come to have twice or
// half as many nodes. Until then a default breadth has to do. The checkpoint holds the result, so it asks to be saved.
func (sp *space) calibrate(ctx context.Context, g *hnsw.Graph) (more bool, err error) {
	defer catchFault(&err)
	b := &sp.builder
	if b.calibrator == nil {
		if !calibrationDue(g) {
			return false, nil
		}
		b.calibrator = g.Calibrate()
	}
	more = true
	for i := 0; i < calibrateSteps && more && err == nil; i++ {
		more, err = b.calibrator.Step(ctx)
	}
	if more && err == nil {
		return true, nil
	}
	if e := b.calibrator.Effort(); e != nil && ctx.Err() == nil {
		g.SetEffort(e) // of fewer vectors, if one of them cannot be read
		b.changed(1, sp.shard.engine.clock.Load())
	}
	b.calibrator = nil
	return false, err
}

func calibrationDue(g *hnsw.Graph) bool {
	e := g.Effort()
	return e == nil || g.Len() >= 2*e.Slots || 2*g.Len() <= e.Slots
}
