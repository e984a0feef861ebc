package curve

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/internal/errs"
)

var update = flag.Bool("update", false, "write golden files anew")

func example() *Chart {
	return &Chart{
		Title: "clustered-1536 <100,000 × 1536>",
		Note:  "cosine, one thread & \"one\" core",
		K:     10,
		Series: []Series{
			{"croft", []Point{{0.91, 21000}, {0.85, 25000}, {0.97, 16000}, {0.99, 11000}, {0.9985, 6000}, {0.96, 9000}}},
			{"hnswlib", []Point{{0.5, 90000}, {0.88, 6000}, {0.95, 4000}, {0.99, 1800}, {1, 600}}},
			{"lost", []Point{{0.7, 100}}},
		},
	}
}

func TestGolden(t *testing.T) {
	var got bytes.Buffer
	require.NoError(t, example().Write(&got))
	path := filepath.Join("testdata", "example.svg")
	if *update {
		require.NoError(t, os.WriteFile(path, got.Bytes(), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got.String())
}

func TestNothingToDraw(t *testing.T) {
	for name, points := range map[string][]Point{
		"no points":  nil,
		"low recall": {{0.79, 1}},
		"no rate":    {{0.9, 0}, {0.9, math.Inf(1)}, {0.9, math.NaN()}},
		"no recall":  {{math.NaN(), 1}, {1.01, 1}},
	} {
		err := (&Chart{Series: []Series{{"a", points}}}).Write(io.Discard)
		require.Equal(t, errs.Invalid, errs.KindOf(err), name)
	}
}

func TestFront(t *testing.T) {
	require.Equal(t, []Point{{0.85, 9}, {0.9, 5}, {0.95, 4}},
		frontOf([]Point{{0.9, 5}, {0.95, 4}, {0.9, 3}, {0.85, 9}, {0.84, 8}, {0.95, 4}}))
}

func TestScales(t *testing.T) {
	for most, end := range map[float64]float64{0.85: 0.99, 0.99: 0.99, 0.995: 0.999, 0.9995: 0.9999, 1: 0.9999} {
		s := recallScale([]Series{{"a", []Point{{most, 1}}}}, 0, 100)
		require.InDelta(t, 100, s.at(end), 1e-9, most)
		require.InDelta(t, 0, s.at(leastRecall), 1e-9)
		require.LessOrEqual(t, s.at(most), 100.0)
	}
	rates := rateScale([]Series{{"a", []Point{{0.9, 20000}, {0.99, 900}}}}, 100, 0)
	require.Equal(t, []float64{1000, 2000, 5000, 10000, 20000}, rateTicks(rates))
	require.Greater(t, rates.at(900), rates.at(20000), "faster is higher")
}

// TestDrawingsAreSound draws any figures: well-formed, the same each time, and no pixel is outside the picture.
func TestDrawingsAreSound(t *testing.T) {
	point := rapid.Custom(func(t *rapid.T) Point {
		return Point{rapid.Float64Range(0.7, 1).Draw(t, "recall"), rapid.Float64Range(0, 1e7).Draw(t, "qps")}
	})
	series := rapid.Custom(func(t *rapid.T) Series {
		return Series{rapid.String().Draw(t, "name"), rapid.SliceOfN(point, 0, 20).Draw(t, "points")}
	})
	rapid.Check(t, func(t *rapid.T) {
		c := Chart{Title: rapid.String().Draw(t, "title"), Note: rapid.String().Draw(t, "note"), Series: rapid.SliceOfN(series, 1, 9).Draw(t, "series")}
		var first, second bytes.Buffer
		if c.Write(&first) != nil {
			return
		}
		require.NoError(t, c.Write(&second))
		require.Equal(t, first.String(), second.String())
		require.Subset(t, []string{"svg", "style", "rect", "text", "path", "circle", "title"}, elements(t, &first))
		require.NotContains(t, second.String(), "NaN")
	})
}

// elements returns the names of an XML document's elements.
func elements(t require.TestingT, r io.Reader) []string {
	var names []string
	for in := xml.NewDecoder(r); ; {
		token, err := in.Token()
		if errors.Is(err, io.EOF) {
			return names
		}
		require.NoError(t, err)
		if start, ok := token.(xml.StartElement); ok && !slices.Contains(names, start.Name.Local) {
			names = append(names, start.Name.Local)
		}
	}
}
