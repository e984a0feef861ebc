package engine

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine/internal/segment"
	"github.com/croftdb/croft/internal/vfs"
)

// advisedFS is a disk that plays which of its pages are in memory and notes what it is asked for.
type advisedFS struct {
	vfs.FS
	mu    sync.Mutex
	cold  func(off int) bool // nil: all is in memory
	looks int
	asked [][2]int // offset and length
	order []string
}

func (d *advisedFS) Map(path string) (vfs.Mapping, error) {
	m, err := d.FS.Map(path)
	return advisedMapping{m, d}, err
}

type advisedMapping struct {
	vfs.Mapping
	disk *advisedFS
}

func (m advisedMapping) ReadAtRandom() {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	m.disk.order = append(m.disk.order, "random")
}

func (m advisedMapping) WillNeed(off, n int) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	m.disk.asked = append(m.disk.asked, [2]int{off, n})
}

func (m advisedMapping) InMemory(off int) bool {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	m.disk.looks++
	return m.disk.cold == nil || !m.disk.cold(off)
}

// forget forgets what was noted and plays other pages.
func (d *advisedFS) forget(cold func(off int) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cold, d.looks, d.asked = cold, 0, nil
}

// TestFetch tells a space's rows in the buffer, which are in memory, from those of segments, which may be missing.
func TestFetch(t *testing.T) {
	const dim, stride = 6, 32 // two units of 16 bytes
	disk := &advisedFS{FS: vfs.NewMem()}
	s := newSubject(t, Options{FS: disk, InMemory: true, GraphAbove: 1 << 30, Logger: quiet()})
	require.EqualValues(t, stride, segment.Stride(dim)*segment.Unit)
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: dim, Metric: ann.Euclidean}})
	c := &Command{Op: OpUpsert, Key: testKey(1, 1)}
	for i := range 100 {
		c.Records = append(c.Records, Record{ID: "id-" + strconv.Itoa(1000+i), Values: []float32{float32(i), 0, 0, 0, 0, 0}})
	}
	s.apply(c)
	var res Result
	require.NoError(t, s.shard.Query(context.Background(), testKey(1, 1), &Query{Vector: make([]float32, dim), K: 1}, &res))
	sp := s.shard.registry.find(testKey(1, 1)).space.Load()
	slots := []uint32{7, 8, 9, 40, 3, 4}
	for range 200 {
		sp.ahead(slots)
	}
	require.Zero(t, disk.looks, "rows of the buffer are in memory")
	require.Empty(t, disk.asked)

	_, err := s.shard.Flush(context.Background())
	require.NoError(t, err)
	require.Equal(t, []string{"random"}, disk.order, "the segment")
	first := int(place(sp.place(0).Load()).offset()) * segment.Unit
	at := func(slot, n int) [2]int { return [2]int{first + slot*stride, (n-1)*stride + 4*dim} }

	disk.forget(func(int) bool { return true })
	for i := 0; disk.looks == 0; i++ {
		require.Less(t, i, 100)
		sp.ahead(slots)
	}
	require.Equal(t, [][2]int{at(7, 3), at(40, 1), at(3, 2)}, disk.asked, "rows side by side are one request")
	disk.forget(func(int) bool { return true })
	require.Nil(t, sp.Fetch(slots[3:5]), "no disk that can be read past its cache")
	require.Equal(t, [][2]int{{at(40, 1)[0], 4 * dim}, {at(3, 1)[0], 4 * dim}}, disk.asked)

	disk.forget(func(int) bool { return true })
	for range 100 {
		require.NoError(t, s.shard.Query(context.Background(), testKey(1, 1), &Query{Vector: make([]float32, dim), K: 1}, &res))
	}
	require.True(t, slices.Contains(disk.asked, at(0, 100)), "a scan asks for its rows: %v", disk.asked)
}

// TestFetchAllocatesNothing: it is on the path of each search.
func TestFetchAllocatesNothing(t *testing.T) {
	disk := &advisedFS{FS: vfs.NewMem()}
	s := newSubject(t, Options{FS: disk, InMemory: true, GraphAbove: 1 << 30, Logger: quiet()})
	smallPartition(s, 50, 8)
	sp := s.shard.registry.find(testKey(1, 1)).space.Load()
	require.NotNil(t, sp)
	slots := []uint32{1, 5, 9}
	require.Zero(t, testing.AllocsPerRun(100, func() { sp.Fetch(slots) }))
}
