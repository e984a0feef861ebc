package api

import (
	"math"
	"strconv"
)

// appendFloats reads a JSON array of numbers and appends them to dst, correctly rounded to float32. It refuses
// everything that is not such an array, null and values that overflow float32 included; a value too small for float32
// becomes 0, as in every JSON reader. Faults are *fault with the element's place as path.
//
// An upsert spends its time on this: 40 ns a number, where encoding/json takes some 300 (BenchmarkAppendFloats and
// BenchmarkDecodeUpsertBaseline on a busy 2-core machine).
func appendFloats(dst []float32, b []byte) ([]float32, error) {
	i := skipSpace(b, 0)
	if i == len(b) || b[i] != '[' {
		return dst, wantGot("an array of numbers", b)
	}
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == ']' {
		return dst, trailing(b, i+1)
	}
	for n := 0; ; n++ {
		f, end, ok := scanFloat(b, i)
		if !ok {
			return dst, within(badNumber(b, i), index(n))
		}
		dst = append(dst, f)
		i = skipSpace(b, end)
		if i == len(b) {
			return dst, faultf("the array does not end")
		}
		switch b[i] {
		case ',':
			i = skipSpace(b, i+1)
		case ']':
			return dst, trailing(b, i+1)
		default:
			return dst, within(badNumber(b, i), index(n))
		}
	}
}

func trailing(b []byte, i int) error {
	if i = skipSpace(b, i); i != len(b) {
		return faultf("%q follows the array", clip(b[i:]))
	}
	return nil
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// pow10 holds the powers of ten that scale a mantissa; beyond 1e22 they are rounded.
var pow10 = func() (p [46]float64) {
	for i := range p {
		p[i], _ = strconv.ParseFloat("1e"+strconv.Itoa(i), 64)
	}
	return p
}()

// scanFloat reads the JSON number at b[i:] and returns the float32 nearest to it and the offset after it. ok is false
// if there is no number or if it overflows float32.
func scanFloat(b []byte, i int) (f float32, end int, ok bool) {
	start := i
	neg := i < len(b) && b[i] == '-'
	if neg {
		i++
	}
	if i == len(b) {
		return 0, i, false
	}
	var mant uint64 // significant digits; wraps beyond 19 of them, and then is not used
	digits, exp := 0, 0
	switch c := b[i]; {
	case c == '0':
		i++
	case '1' <= c && c <= '9':
		for ; i < len(b) && isDigit(b[i]); i++ {
			mant = mant*10 + uint64(b[i]-'0')
			digits++
		}
	default:
		return 0, i, false
	}
	if i < len(b) && b[i] == '.' {
		first := i + 1
		for i = first; i < len(b) && isDigit(b[i]); i++ {
			mant = mant*10 + uint64(b[i]-'0')
			if mant != 0 {
				digits++
			}
		}
		if i == first {
			return 0, i, false
		}
		exp = first - i
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		var e int
		if e, i, ok = scanExponent(b, i+1); !ok {
			return 0, i, false
		}
		exp += e
	}
	if i < len(b) && isDigit(b[i]) {
		return 0, i, false // a leading zero
	}
	if digits <= 19 {
		if f, ok = roundFloat(mant, exp); ok {
			if neg {
				f = -f
			}
			return f, i, true
		}
	}
	f64, err := strconv.ParseFloat(string(b[start:i]), 32)
	return float32(f64), i, err == nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// scanExponent reads the sign and digits after the e. Absurd exponents are cut to one that is still far out of range.
func scanExponent(b []byte, i int) (e, end int, ok bool) {
	neg := false
	if i < len(b) && (b[i] == '+' || b[i] == '-') {
		neg = b[i] == '-'
		i++
	}
	first := i
	for ; i < len(b) && isDigit(b[i]); i++ {
		e = min(e*10+int(b[i]-'0'), 1<<30)
	}
	if neg {
		e = -e
	}
	return e, i, i > first
}

// roundFloat rounds mant·10^exp to float32, or tells that it cannot be sure to.
//
// The product is made in float64, whose error here is below 3 units in its last place (half of one each for the
// mantissa's conversion, the power and the product, doubled by a change of binade). Rounding that to float32 goes the
// same way as rounding the true value unless a midpoint between two float32 lies between them, so results within 8
// units of a midpoint are left to strconv, as are those below float32's normal range, where midpoints lie elsewhere.
func roundFloat(mant uint64, exp int) (f float32, ok bool) {
	v := float64(mant)
	switch {
	case mant == 0:
		return 0, true
	case exp == 0:
	case 0 < exp && exp < len(pow10):
		v *= pow10[exp]
	case exp < 0 && -exp < len(pow10):
		v /= pow10[-exp]
	default:
		return 0, false
	}
	const (
		smallestNormal = 0x1p-126
		extraBits      = 52 - 23
		midpoint       = 1 << (extraBits - 1)
		margin         = 8
	)
	if v < smallestNormal*2 || v >= math.MaxFloat32 {
		return 0, false
	}
	low := math.Float64bits(v) & (1<<extraBits - 1)
	if midpoint-margin <= low && low <= midpoint+margin {
		return 0, false
	}
	return float32(v), true
}

// badNumber tells why there is no number at b[i:].
func badNumber(b []byte, i int) error {
	end := i
	for end < len(b) && b[end] != ',' && b[end] != ']' && b[end] != ' ' && b[end] != '\n' {
		end++
	}
	word := b[i:end]
	switch {
	case len(word) == 0:
		return faultf("a number is missing")
	case string(word) == "null":
		return faultf("null is not a number")
	}
	if f, n, _ := scanFloat(word, 0); n == len(word) && math.IsInf(float64(f), 0) {
		return faultf("%s is beyond the range of a 32-bit float (at most 3.4e38)", clip(word))
	}
	return faultf("%s is not a number", clip(word))
}
