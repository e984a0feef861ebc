package main

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestFront(t *testing.T) {
	f := newFront([]spot{{0.9, 1000}, {0.99, 10}, {0.95, 900}, {0.94, 100}, {0.95, 800}, {0.9, 900}})
	require.Equal(t, front{{0.9, 1000}, {0.95, 900}, {0.99, 10}}, f)
	tests := []struct {
		name   string
		recall float64
		want   float64
	}{
		{"on a spot", 0.95, 900},
		{"on the last", 0.99, 10},
		{"below the first: no better than it", 0.5, 1000},
		{"half way is the geometric mean", 0.97, 94.868329805},
		{"half way of the first two", 0.925, 948.683298051},
	}
	for _, tt := range tests {
		got := f.at(tt.recall)
		require.NotNil(t, got, tt.name)
		require.InEpsilon(t, tt.want, *got, 1e-9, tt.name)
	}
	require.Nil(t, f.at(0.991), "no figure is made up beyond the last spot")
	require.Nil(t, front(nil).at(0.5))
}

// A front holds the best spots, in order, and what it says of a recall is never more than some spot of that recall or
// better gives, nor less than the best of them.
func TestFrontProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spots := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) spot {
			return spot{float64(rapid.IntRange(1, 50).Draw(t, "recall")) / 50, float64(rapid.IntRange(1, 1000).Draw(t, "qps"))}
		}), 0, 20).Draw(t, "spots")
		f := newFront(spots)
		for i := 1; i < len(f); i++ {
			if f[i].recall <= f[i-1].recall || f[i].qps >= f[i-1].qps {
				t.Fatalf("%v is no front", f)
			}
		}
		recall := rapid.Float64Range(0, 1).Draw(t, "recall asked")
		least, most := 0.0, 0.0
		for _, s := range spots {
			most = max(most, s.qps)
			if s.recall >= recall {
				least = max(least, s.qps)
			}
		}
		got := f.at(recall)
		switch {
		case least == 0:
			if got != nil {
				t.Fatalf("%v at %v, which no spot reaches", *got, recall)
			}
		case got == nil || *got < least*(1-1e-9) || *got > most*(1+1e-9):
			t.Fatalf("%v at %v, the spots say %v to %v", got, recall, least, most)
		}
	})
}

func TestPick(t *testing.T) {
	require.Equal(t, 2.0, median([]float64{3, 1, 2}))
	require.Equal(t, 3.0, median([]float64{4, 1, 3, 2}))
	require.Equal(t, 4.0, (&options{Best: true}).pick([]float64{3, 4, 1}, true))
	require.Equal(t, 1.0, (&options{Best: true}).pick([]float64{3, 4, 1}, false))
	require.Equal(t, 3.0, (&options{}).pick([]float64{3, 4, 1}, true))
}
