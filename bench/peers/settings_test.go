package main

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/hnsw"
)

func TestSettings(t *testing.T) {
	var s struct {
		N    int
		Bits uint8
		X    float32
		On   bool
		Name string
		Addr netip.Addr // a TextUnmarshaler
		List []int
		low  int
	}
	require.NoError(t, settings("N=-3,Bits=4,X=1.5,On=true,Name=a=b,Addr=::1").apply(&s))
	require.Equal(t, []any{-3, uint8(4), float32(1.5), true, "a=b", netip.IPv6Loopback(), 0}, []any{s.N, s.Bits, s.X, s.On, s.Name, s.Addr, s.low})
	for given, want := range map[settings]string{ // any order: independent
		"N":         "not of the form",
		"Missing=1": "no such field",
		"low=1":     "no such field",
		"Bits=256":  "out of range",
		"N=x":       "invalid syntax",
		"List=1":    "cannot be set from text",
	} {
		require.ErrorContains(t, given.apply(&s), want)
	}
}

func TestMean(t *testing.T) {
	r := &rows{metric: ann.Cosine, n: 3, dim: 2, values: []float32{3, 0, 0, 5, 7, 7}}
	require.Equal(t, []float32{0.5, 0.5}, meanOf(r, 2), "of unit vectors under cosine")
	r.metric = ann.Euclidean
	require.Equal(t, []float32{1.5, 2.5}, meanOf(r, 2))
	require.Len(t, meanOf(r, 100), 2, "no more rows than there are")
}

func TestSettingsOfLibraries(t *testing.T) {
	m, ef, err := links(32, 400).links()
	require.NoError(t, err)
	require.Equal(t, [2]int{32, 400}, [2]int{m, ef})
	_, _, err = settings("M=16,Bits=4").links()
	require.ErrorContains(t, err, "no such field", "peers have no other settings")

	r := &rows{metric: ann.Cosine, dim: 3}
	cfg, err := croftConfig(r, links(32, 400))
	require.NoError(t, err)
	want := hnsw.Config{Metric: ann.Cosine, Dim: 3, M: 32, EfConstruction: 400}
	want.EnsureDefaults()
	require.Equal(t, want, cfg.Config)
	_, err = croftConfig(r, "M=1")
	require.ErrorContains(t, err, "M 1")
}
