package bench

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/errs"
)

const comparison = `{"dataset":"some-set","n":100,"dim":8,"k":7,"metric":"euclidean","cpu":"a CPU","ratio":{"0.95":null},"peers":[
 {"name":"other","params":"M=16","version":"1","points":[{"ef":10,"recall":0.9,"qps":50,"p50_us":1,"p99_us":2}]},
 {"name":"croft","params":"M=16","points":[{"ef":10,"recall":0.9,"qps":100}]},
 {"name":"croft","params":"M=32","points":[{"ef":10,"recall":0.95,"qps":80},{"ef":9,"recall":0.85,"qps":90}]}]}`

func TestPlot(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, Plot(strings.NewReader(comparison), "", &out))
	svg := out.String()
	require.Contains(t, svg, ">some-set</text>")
	require.Contains(t, svg, "100 × 8, euclidean; a CPU")
	require.Contains(t, svg, ">recall@7</text>")
	require.Equal(t, 3, strings.Count(svg, "<circle"), "croft's settings make one line of two points, the beaten one left out")
	require.Less(t, strings.Index(svg, ">croft</text>"), strings.Index(svg, ">other</text>"))
	require.Contains(t, svg, `<text class="first" x="698.0" y="84.0" text-anchor="start">croft</text>`)

	out.Reset()
	require.NoError(t, Plot(strings.NewReader(comparison), "A < B", &out))
	require.Contains(t, out.String(), ">A &lt; B</text>")
}

func TestPlotRefuses(t *testing.T) {
	for input, want := range map[string]string{
		``:               "read comparison",
		`{"peers":7}`:    "read comparison",
		`{"points":[]}`:  "no peers",
		`{"peers":[{}]}`: "no point",
	} {
		var out bytes.Buffer
		err := Plot(strings.NewReader(input), "", &out)
		require.ErrorContains(t, err, want, input)
		require.Equal(t, errs.Invalid, errs.KindOf(err), input)
		require.Zero(t, out.Len())
	}
}

// FuzzPlot draws from damaged reports: a refusal or a well-formed drawing.
func FuzzPlot(f *testing.F) {
	f.Add([]byte(comparison))
	f.Add([]byte(`{"peers":[{"points":[{"recall":1,"qps":1e-308},{"recall":0.8,"qps":1e308}]}]}`))
	f.Fuzz(func(t *testing.T, report []byte) {
		var out bytes.Buffer
		if err := Plot(bytes.NewReader(report), "", &out); err != nil {
			return
		}
		in := xml.NewDecoder(&out)
		for {
			if _, err := in.Token(); err != nil {
				require.True(t, errors.Is(err, io.EOF), err)
				break
			}
		}
	})
}
