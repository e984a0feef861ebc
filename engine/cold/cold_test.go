package cold

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/vfs"
)

// fakeRows are rows of a mapping that plays which of its bytes are in memory and notes what it is asked for. The first of
// them is not in the mapping at all.
type fakeRows struct {
	stride  int
	missing func(off int) bool // nil: none
	looks   int
	asked   [][2]int // offset and length
}

func (r *fakeRows) Vector(uint32) ([]float32, float32) { return []float32{1}, 1 }
func (r *fakeRows) Where(slot uint32) (vfs.Mapping, int) {
	if slot == 0 {
		return nil, 0
	}
	return r, int(slot) * r.stride
}
func (r *fakeRows) Bytes() []byte       { return nil }
func (r *fakeRows) Close() error        { return nil }
func (r *fakeRows) ReadAtRandom()       {}
func (r *fakeRows) WillNeed(off, n int) { r.asked = append(r.asked, [2]int{off, n}) }
func (r *fakeRows) InMemory(off int) bool {
	r.looks++
	return r.missing == nil || !r.missing(off)
}

func (r *fakeRows) forget(missing func(int) bool) { r.missing, r.looks, r.asked = missing, 0, nil }

func all(int) bool { return true }

// TestLooks: rows are looked at rarely while all is well, and asked for each time while it is not.
func TestLooks(t *testing.T) {
	const dim = 6
	rows := &fakeRows{stride: 32}
	var r Reader
	for range 2 * warmLooks {
		r.Ahead(rows, dim, []uint32{0})
	}
	require.Zero(t, rows.looks)
	require.Empty(t, rows.asked)

	slots := []uint32{7, 8, 9, 40, 3, 4, 0}
	rows.forget(all)
	for i := 0; len(rows.asked) == 0; i++ {
		require.Less(t, i, 10*lookEvery)
		r.Ahead(rows, dim, slots)
	}
	require.Equal(t, [][2]int{{7 * 32, 2*32 + 24}, {40 * 32, 24}, {3 * 32, 32 + 24}}, rows.asked, "neighbours are one request")
	r.Ahead(rows, dim, nil)
	r.Ahead(rows, dim, slots[3:4])
	require.Equal(t, [2]int{40 * 32, 24}, rows.asked[3], "from now on each asks")

	rows.forget(nil)
	for range warmLooks {
		r.Ahead(rows, dim, slots[:1])
	}
	require.Len(t, rows.asked, warmLooks, "one look is not enough to call rows warm")
	rows.forget(nil)
	for range 10 * lookEvery {
		r.Ahead(rows, dim, slots[:6])
	}
	require.Equal(t, 10, rows.looks)
	require.Empty(t, rows.asked)

	rows.forget(func(off int) bool { return off == 9*32 })
	for range 100 * lookEvery {
		r.Ahead(rows, dim, slots)
	}
	require.NotEmpty(t, rows.asked, "any of the rows is looked at")
}

// TestFetchAsks: of a mapping that cannot be read past the page cache, just the rows that are missing are asked for.
func TestFetchAsks(t *testing.T) {
	rows := &fakeRows{stride: 4096, missing: func(off int) bool { return off < 3*4096 || off == 5*4096 }}
	var r Reader
	require.Nil(t, r.Fetch(rows, 256, []uint32{0, 1, 2, 3, 4, 5, 6}))
	require.Equal(t, [][2]int{{4096, 1024}, {8192, 1024}, {5 * 4096, 1024}}, rows.asked)
	rows.forget(nil)
	for range 2 * warmLooks * lookEvery {
		require.Nil(t, r.Fetch(rows, 256, []uint32{1, 2}))
	}
	require.Empty(t, rows.asked)
	require.Zero(t, testing.AllocsPerRun(100, func() { r.Fetch(rows, 256, []uint32{1, 2}) }))
}

// cache is memory for a number of rows; the one that was not asked for the longest goes.
type cache struct {
	fakeRows
	room int
	at   map[int]int // when a row, by where it begins, was used
	now  int
}

func (c *cache) Where(slot uint32) (vfs.Mapping, int) { return c, int(slot) }
func (c *cache) InMemory(off int) bool                { return c.at[off] > 0 }

func (c *cache) use(off int) {
	c.now++
	c.at[off] = c.now
	if len(c.at) <= c.room {
		return
	}
	oldest := off
	for o, at := range c.at {
		if at < c.at[oldest] {
			oldest = o
		}
	}
	delete(c.at, oldest)
}

// TestKeepsWhatThereIsRoomFor plays searches that read a dozen of 3,000 rows each. With room for them all are soon in memory;
// with room for a tenth, few are read into it, and yet not none.
func TestKeepsWhatThereIsRoomFor(t *testing.T) {
	for _, room := range []int{4000, 300} {
		c := &cache{room: room, at: map[int]int{}}
		rng := rand.New(rand.NewPCG(2, uint64(room)))
		var r Reader
		kept, missed, last := 0, 0, 0
		const rounds = 30_000
		for n := range uint32(rounds) {
			missing := uint32(0)
			for range 12 {
				slot := rng.Uint32N(3000)
				if c.InMemory(int(slot)) {
					c.use(int(slot))
					continue
				}
				keep := r.keep(c, slot, n+1, missing)
				missing++
				if keep {
					c.use(int(slot))
				}
				if n > rounds/2 {
					missed++
					if keep {
						kept++
					}
				}
			}
			last = len(c.at)
		}
		if room > 3000 {
			require.Equal(t, 3000, last)
			require.Zero(t, missed, "all rows have come into memory in the first half")
			continue
		}
		require.Equal(t, room, last)
		require.Less(t, kept, missed/4, "of those missed")
		require.Greater(t, kept, missed/100)
	}
}
