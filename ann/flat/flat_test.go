package flat_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/anntest"
	"github.com/croftdb/croft/ann/flat"
)

// members keeps the slots of an index: a new slice for every change.
type members struct {
	*flat.Index
	mu    sync.Mutex
	slots []uint32
	gone  []uint32
}

func (m *members) Slots() []uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.slots
}

func (m *members) Insert(slot uint32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.slots = append(slices.Clip(m.slots), slot)
	return nil
}

func (m *members) Delete(slot uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.slots = slices.DeleteFunc(slices.Clone(m.slots), func(s uint32) bool { return s == slot })
	m.gone = append(m.gone, slot)
}

func (m *members) Reclaim() ([]uint32, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	gone := m.gone
	m.gone = nil
	return gone, nil
}

func TestConformance(t *testing.T) {
	anntest.Run(t, anntest.Options{
		Recall: 1,
		New: func(_ *testing.T, metric ann.Metric, dim int, src ann.Source) anntest.Index {
			m := &members{}
			m.Index = flat.New(metric, dim, src, m)
			return m
		},
	})
}

func TestScanGathersFromSeveralPlaces(t *testing.T) {
	const dim, n = 16, 1000
	data := anntest.Clustered(7, n+1, dim)
	src := anntest.NewVectors(ann.Cosine, n)
	slots := make([]uint32, n)
	for i := range slots {
		slots[i] = uint32(i)
		src.Set(uint32(i), data[i])
	}
	want := anntest.Exact(ann.Cosine, src, slots, data[n], 20)
	q := ann.Bind(ann.Cosine, data[n])
	var top ann.TopK
	top.Reset(20)
	for part := range slices.Chunk(slots, 333) {
		require.NoError(t, flat.Scan(t.Context(), &q, src, part, nil, &top))
	}
	require.Equal(t, want, top.Sorted(nil))
}
