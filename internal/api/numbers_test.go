package api

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestAppendFloats(t *testing.T) {
	for in, want := range map[string][]float32{
		`[]`:                                     {},
		` [ ] `:                                  {},
		`[0]`:                                    {0},
		`[-0.0,1.5e3 , 2E-2]`:                    {float32(math.Copysign(0, -1)), 1500, 0.02},
		"[\n\t1,\r\n2]":                          {1, 2},
		`[3.4028234e38]`:                         {math.MaxFloat32},
		`[1e-46,1e-400,0e999]`:                   {0, 0, 0},
		`[1.401298464324817e-45]`:                {math.SmallestNonzeroFloat32},
		`[16777217,16777219]`:                    {16777216, 16777220}, // halfway cases go to even
		`[0.012345678955888748]`:                 {0.012345679},
		`[1` + strings.Repeat("0", 30) + `e-30]`: {1},
		`[0.` + strings.Repeat("0", 50) + `1e51]`:      {1},
		`[0.1` + strings.Repeat("0", 1<<16) + `1]`:     {0.1},
		`[1.000000059604644775390625000000000000001]`:  {1.0000001}, // a little more than halfway, told in the 40th digit
		`[1.000000059604644775390625]`:                 {1},         // exactly halfway
		`[1.00000005960464477539062499999999999999]`:   {1},
		`[8388608.5,8388609.5]`:                        {8388608, 8388610},
		`[340282356779733642748073463979561713663.99]`: {math.MaxFloat32},
	} {
		got, err := appendFloats([]float32{}, []byte(in))
		require.NoError(t, err, clip(in))
		require.Len(t, got, len(want), clip(in))
		for i := range want {
			require.Equal(t, math.Float32bits(want[i]), math.Float32bits(got[i]), "%s: want %v, got %v", clip(in), want[i], got[i])
		}
	}
}

func TestAppendFloatsRefuses(t *testing.T) {
	for in, message := range map[string]string{
		``:               "want an array of numbers, got ",
		`7`:              "want an array of numbers, got 7",
		`{"a":1}`:        "want an array of numbers",
		`[`:              "[0]: a number is missing",
		`[1`:             "the array does not end",
		`[1,]`:           "[1]: a number is missing",
		`[1,,2]`:         "[1]: a number is missing",
		`[1 2]`:          "[0]: 2 is not a number",
		`[1]x`:           `"x" follows the array`,
		`[]]`:            `"]" follows the array`,
		`[1,null]`:       "[1]: null is not a number",
		`["NaN"]`:        `[0]: "NaN" is not a number`,
		`[NaN]`:          "[0]: NaN is not a number",
		`[Infinity]`:     "[0]: Infinity is not a number",
		`[true]`:         "[0]: true is not a number",
		`[[1]]`:          "[0]: [1 is not a number",
		`[01]`:           "[0]: 01 is not a number",
		`[-01]`:          "[0]: -01 is not a number",
		`[-]`:            "[0]: - is not a number",
		`[+1]`:           "[0]: +1 is not a number",
		`[.5]`:           "[0]: .5 is not a number",
		`[5.]`:           "[0]: 5. is not a number",
		`[1e]`:           "[0]: 1e is not a number",
		`[1e+]`:          "[0]: 1e+ is not a number",
		`[0x10]`:         "[0]: x10 is not a number",
		`[1_0]`:          "[0]: _0 is not a number",
		`[0,1e39]`:       "[1]: 1e39 is beyond the range of a 32-bit float",
		`[-1e39]`:        "[0]: -1e39 is beyond the range",
		`[1e999999]`:     "[0]: 1e999999 is beyond the range",
		`[3.4028236e38]`: "[0]: 3.4028236e38 is beyond the range",
	} {
		_, err := appendFloats(nil, []byte(in))
		require.ErrorContains(t, err, message, in)
	}
}

func TestAppendFloatsGoesOnInItsBuffer(t *testing.T) {
	buf := make([]float32, 2, 8)
	got, err := appendFloats(buf, []byte(`[3,4]`))
	require.NoError(t, err)
	require.Equal(t, []float32{0, 0, 3, 4}, got)
	require.Same(t, &buf[0], &got[0])
	require.Zero(t, testing.AllocsPerRun(100, func() { appendFloats(buf[:0], []byte(`[0.1,0.12345678901234567,1e-40]`)) }))
}

// sameAsStrconv compares one number with the library, in bits.
func sameAsStrconv(t interface{ Fatalf(string, ...any) }, s string) {
	want, err := strconv.ParseFloat(s, 32)
	got, end, ok := scanFloat([]byte(s), 0)
	if ok != (err == nil) || end != len(s) || ok && math.Float32bits(got) != math.Float32bits(float32(want)) {
		t.Fatalf("%s: got %v %v, want %v %v", s, got, ok, want, err)
	}
}

func TestScanFloatAgreesWithStrconv(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Numbers near midpoints between two float32 are where a shortcut would go wrong.
		f := math.Float32frombits(rapid.Uint32Range(0, 0x7f7fffff).Draw(t, "bits"))
		mid := (float64(f) + float64(math.Nextafter32(f, math.MaxFloat32))) / 2
		steps := rapid.IntRange(-12, 12).Draw(t, "steps")
		v := math.Float64frombits(uint64(int64(math.Float64bits(mid)) + int64(steps)))
		for _, format := range []byte{'e', 'f', 'g'} {
			for _, digits := range []int{-1, 7, 9, 15, 17, 19, 20, 25} {
				sameAsStrconv(t, strconv.FormatFloat(v, format, digits, 64))
			}
		}
		sameAsStrconv(t, strconv.FormatFloat(float64(f), 'g', -1, 32))
	})
}

func TestScanFloatAgreesOnRandomDigits(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		s := strconv.FormatUint(rng.Uint64()>>rng.IntN(64), 10)
		if i := rng.IntN(len(s) + 1); i > 0 && i < len(s) {
			s = s[:i] + "." + s[i:]
		}
		if rng.IntN(2) == 0 {
			s += fmt.Sprintf("e%d", rng.IntN(100)-50)
		}
		sameAsStrconv(t, s)
	}
}

func FuzzAppendFloats(f *testing.F) {
	for _, s := range []string{`[]`, `[1,2.5e-3]`, `[1e39]`, `[null]`, `[01]`, `[1.000000059604644775390625]`, `[-0]`, ` [ 0 ] `, `[1]]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := appendFloats(nil, b)
		var want []*float32 // pointers tell null from 0, which encoding/json takes for one another
		wantErr := json.Unmarshal(b, &want)
		for _, p := range want {
			if p == nil {
				wantErr = fmt.Errorf("null")
			}
		}
		if want == nil && wantErr == nil {
			wantErr = fmt.Errorf("null")
		}
		if (err == nil) != (wantErr == nil) || err == nil && len(got) != len(want) {
			t.Fatalf("%q: got %v %v, want %v", b, got, err, wantErr)
		}
		for i := range got {
			if err == nil && math.Float32bits(got[i]) != math.Float32bits(*want[i]) {
				t.Fatalf("%q: element %d is %v, want %v", b, i, got[i], *want[i])
			}
		}
	})
}

func TestAppendFloatTexts(t *testing.T) {
	for f, want := range map[float32]string{
		0: "0", 1: "1", 0.4: "0.4", -1.5: "-1.5", 1e-6: "0.000001", 1e-7: "1e-7", 1e20: "100000000000000000000",
		1e21: "1e+21", math.MaxFloat32: "3.4028235e+38", math.SmallestNonzeroFloat32: "1e-45", 16777216: "16777216",
	} {
		got, err := appendFloat32(nil, f)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		_, err := appendFloat(nil, f, 64)
		require.Error(t, err)
	}
}

func TestFloatsSurviveTheRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := math.Float32frombits(rapid.Uint32().Draw(t, "bits"))
		if f != f || math.IsInf(float64(f), 0) {
			return
		}
		b, err := appendFloats32(nil, []float32{f})
		require.NoError(t, err)
		want, err := json.Marshal([]float32{f})
		require.NoError(t, err)
		require.Equal(t, string(want), string(b))
		back, err := appendFloats(nil, b)
		require.NoError(t, err)
		require.Equal(t, math.Float32bits(f), math.Float32bits(back[0]))
	})
}
