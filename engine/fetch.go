package engine

import (
	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine/cold"
	"github.com/croftdb/croft/internal/vfs"
)

var (
	_ ann.Fetcher = (*space)(nil)
	_ cold.Rows   = (*space)(nil)
)

// Fetch implements ann.Fetcher.
func (sp *space) Fetch(slots []uint32) ann.Fetched { return sp.cold.Fetch(sp, sp.dim, slots) }

// ahead has the rows of slots, which are about to be read, brought into memory.
func (sp *space) ahead(slots []uint32) { sp.cold.Ahead(sp, sp.dim, slots) }

// Where implements cold.Rows. The caller's pin keeps the mapping open.
func (sp *space) Where(slot uint32) (m vfs.Mapping, off int) {
	p := place(sp.place(slot).Load())
	seg := sp.shard.blocks.segment(p)
	if seg == nil {
		return nil, 0
	}
	return seg.Where(p.offset())
}
