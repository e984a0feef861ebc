package metadata

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/internal/errs"
)

func TestBinaryGolden(t *testing.T) {
	m := Map{{"a", StringValue("x")}, {"b", NumberValue(1)}, {"c", BoolValue(true)}, {"d", StringsValue("y", "")}}
	want := "\x04" + "\x01a\x01\x01x" + "\x01b\x02\x00\x00\x00\x00\x00\x00\xf0\x3f" + "\x01c\x03\x01" + "\x01d\x04\x02\x01y\x00"
	require.Equal(t, want, string(AppendBinary(nil, m)))
	require.Equal(t, "pre"+want, string(AppendBinary([]byte("pre"), m)))
	require.Empty(t, AppendBinary(nil, Map{}))
}

func TestBinaryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := anyMap().Draw(t, "map")
		b := AppendBinary(nil, m)
		require.Equal(t, m.binarySize(), len(b))
		got, err := Decode(b)
		require.NoError(t, err)
		require.True(t, m.Equal(got))
		require.Equal(t, b, AppendBinary(nil, got))
		for n := 1; n < len(b); n++ {
			_, err := Decode(b[:n])
			require.True(t, errs.Is(err, errs.Corrupt), "cut to %d bytes: %v", n, err)
		}
	})
}

func TestDecodeRefuses(t *testing.T) {
	for name, b := range map[string]string{
		"count of zero":         "\x00",
		"padded count":          "\x81\x00\x01a\x03\x01",
		"padded length":         "\x01\x81\x00a\x03\x01",
		"padded list":           "\x01\x01a\x04\x80\x00",
		"bytes left over":       "\x01\x01a\x03\x01\x00",
		"unknown kind":          "\x01\x01a\x05\x01",
		"kind of zero":          "\x01\x01a\x00\x01",
		"bool of two":           "\x01\x01a\x03\x02",
		"repeated key":          "\x02\x01a\x03\x01\x01a\x03\x01",
		"keys out of order":     "\x02\x01b\x03\x01\x01a\x03\x01",
		"key not UTF-8":         "\x01\x01\xff\x03\x01",
		"value not UTF-8":       "\x01\x01a\x01\x01\xff",
		"list not UTF-8":        "\x01\x01a\x04\x01\x01\xff",
		"count beyond input":    "\xff\xff\xff\xff\x0f\x01a\x03\x01",
		"list beyond input":     "\x01\x01a\x04\xff\xff\xff\xff\x0f",
		"not a number":          "\x01\x01a\x02\x01\x00\x00\x00\x00\x00\xf8\x7f",
		"an infinite number":    "\x01\x01a\x02\x00\x00\x00\x00\x00\x00\xf0\xff",
		"varint without an end": strings.Repeat("\xff", 12),
	} {
		_, err := Decode([]byte(b))
		require.True(t, errs.Is(err, errs.Corrupt), "%s: %v", name, err)
	}
}

func TestDecodeDoesNotAliasItsInput(t *testing.T) {
	b := AppendBinary(nil, Map{{"key", StringValue("value")}})
	m, err := Decode(b)
	require.NoError(t, err)
	clear(b)
	require.Equal(t, Map{{"key", StringValue("value")}}, m)
}

func FuzzDecode(f *testing.F) {
	f.Add(AppendBinary(nil, Map{{"", NumberValue(math.Copysign(0, -1))}, {"b", BoolValue(false)}}))
	f.Add(AppendBinary(nil, Map{{"a", StringValue("x")}, {"l", StringsValue("p", "", "q")}}))
	f.Add([]byte("\x81\x00\x01a\x03\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			if !errs.Is(err, errs.Corrupt) {
				t.Fatalf("kind of %v is %v", err, errs.KindOf(err))
			}
			return
		}
		if got := AppendBinary(nil, m); string(got) != string(b) {
			t.Fatalf("decoded %x, encodes as %x", b, got)
		}
	})
}

func benchMap() Map {
	return Map{{"author", StringValue("Astrid Lindgren")}, {"genre", StringsValue("children", "adventure")},
		{"in_print", BoolValue(true)}, {"title", StringValue("Ronja Rövardotter")}, {"year", NumberValue(1981)}}
}

func BenchmarkDecode(b *testing.B) {
	bin := AppendBinary(nil, benchMap())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(bin); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendBinary(b *testing.B) {
	m, buf := benchMap(), []byte(nil)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendBinary(buf[:0], m)
	}
}
