package engine

import (
	"math"
	"math/bits"
	"sync/atomic"
)

// alive is the death of a slot that has not died.
const alive = math.MaxUint64

const (
	firstColumn     = 16 // slots of the first column; each further one has as many as all before it
	firstColumnBits = 4
)

// column holds the attributes of a run of slots. Columns double in size, so that a tiny partition is tiny and a
// huge one has few.
//
// A slot is one version of one record. A search at sequence s sees it when born <= s < died; born is also the
// record's version. Slots are reused after their readers have gone, so a reader with a stale slot number must load
// died before born: the writer stores them in the opposite order.
type column struct {
	born  []atomic.Uint64
	died  []atomic.Uint64
	place []atomic.Uint64
	scale []float32
	id    []string
}

// columns is the growing table of slots. Readers go through an immutable directory.
type columns struct {
	dir atomic.Pointer[[]*column]
}

// locate returns the column of a slot and the position in it.
func locate(slot uint32) (col, i int) {
	if slot < firstColumn {
		return 0, int(slot)
	}
	top := bits.Len32(slot) - 1
	return top - firstColumnBits + 1, int(slot - 1<<top)
}

func columnSize(col int) int {
	if col == 0 {
		return firstColumn
	}
	return firstColumn << (col - 1)
}

// reserve makes room for slots below n. Only one goroutine may reserve at a time.
func (c *columns) reserve(n uint32) {
	if n == 0 {
		return
	}
	need, _ := locate(n - 1)
	var dir []*column
	if p := c.dir.Load(); p != nil {
		dir = *p
	}
	if need < len(dir) {
		return
	}
	grown := append([]*column(nil), dir...)
	for len(grown) <= need {
		size := columnSize(len(grown))
		grown = append(grown, &column{
			born: make([]atomic.Uint64, size), died: make([]atomic.Uint64, size), place: make([]atomic.Uint64, size),
			scale: make([]float32, size), id: make([]string, size),
		})
	}
	c.dir.Store(&grown)
}

// at returns the column and position of a reserved slot.
func (c *columns) at(slot uint32) (*column, int) {
	col, i := locate(slot)
	return (*c.dir.Load())[col], i
}

// set makes a slot visible to searches at sequence born and later.
func (c *columns) set(slot uint32, born uint64, p place, scale float32, id string) {
	col, i := c.at(slot)
	col.scale[i], col.id[i] = scale, id
	col.place[i].Store(uint64(p))
	col.born[i].Store(born)
	col.died[i].Store(alive)
}

// visible tells whether a search at sequence seq sees slot.
func (c *columns) visible(slot uint32, seq uint64) bool {
	col, i := c.at(slot)
	died := col.died[i].Load()
	return col.born[i].Load() <= seq && seq < died
}

// bytes is the memory of n slots, ids included at a mean length.
func (c *columns) bytes() int64 {
	const perSlot = 8 + 8 + 8 + 4 + 16
	p := c.dir.Load()
	if p == nil {
		return 0
	}
	n := 0
	for _, col := range *p {
		n += len(col.id)
	}
	return int64(n) * perSlot
}
