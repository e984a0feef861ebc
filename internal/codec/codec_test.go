package codec_test

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// field is one value with the way to append it and to read it back.
type field struct {
	value  any
	append func(b []byte) []byte
	read   func(r *codec.Reader) any
}

// fields draws values of all types that the codec knows. Floats are compared by their bits.
func fields() *rapid.Generator[[]field] {
	return rapid.SliceOf(rapid.OneOf(
		rapid.Map(rapid.Uint64(), func(v uint64) field {
			return field{v, func(b []byte) []byte { return codec.AppendUvarint(b, v) }, func(r *codec.Reader) any { return r.Uvarint() }}
		}),
		rapid.Map(rapid.Uint32(), func(v uint32) field {
			return field{v, func(b []byte) []byte { return codec.AppendUint32(b, v) }, func(r *codec.Reader) any { return r.Uint32() }}
		}),
		rapid.Map(rapid.Uint64(), func(v uint64) field {
			return field{v, func(b []byte) []byte { return codec.AppendUint64(b, v) }, func(r *codec.Reader) any { return r.Uint64() }}
		}),
		rapid.Map(rapid.Uint64(), func(bits uint64) field {
			v := math.Float64frombits(bits)
			return field{bits, func(b []byte) []byte { return codec.AppendFloat64(b, v) }, func(r *codec.Reader) any { return math.Float64bits(r.Float64()) }}
		}),
		rapid.Map(rapid.String(), func(v string) field {
			return field{v, func(b []byte) []byte { return codec.AppendString(b, v) }, func(r *codec.Reader) any { return r.String() }}
		}),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(v []byte) field {
			return field{string(v), func(b []byte) []byte { return codec.AppendBytes(b, v) }, func(r *codec.Reader) any { return string(r.Bytes()) }}
		}),
		rapid.Map(rapid.Byte(), func(v byte) field {
			return field{v, func(b []byte) []byte { return append(b, v) }, func(r *codec.Reader) any { return r.Byte() }}
		}),
		rapid.Map(rapid.SliceOf(rapid.Uint32()), float32Field),
	))
}

func float32Field(bits []uint32) field {
	v := make([]float32, len(bits))
	for i, b := range bits {
		v[i] = math.Float32frombits(b)
	}
	return field{bits, func(b []byte) []byte { return codec.AppendFloat32s(b, v) }, func(r *codec.Reader) any {
		got := make([]float32, len(bits))
		r.Float32s(got)
		return bitsOf(got)
	}}
}

func bitsOf(v []float32) []uint32 {
	bits := make([]uint32, len(v))
	for i, f := range v {
		bits[i] = math.Float32bits(f)
	}
	return bits
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fs := fields().Draw(t, "fields")
		var b []byte
		for _, f := range fs {
			b = f.append(b)
		}
		r := codec.NewReader(b)
		for i, f := range fs {
			if diff := cmp.Diff(f.value, f.read(r)); diff != "" {
				t.Fatalf("field %d: %s", i, diff)
			}
		}
		if err := r.Done(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestShortInput cuts encodings short: the fault is told, is Corrupt, and sticks.
func TestShortInput(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fs := rapid.Custom(func(t *rapid.T) []field {
			return append(fields().Draw(t, "fields"), field{byte(1), nil, nil})
		}).Draw(t, "fields and a last byte")
		var b []byte
		for _, f := range fs[:len(fs)-1] {
			b = f.append(b)
		}
		b = append(b, 1)
		r := codec.NewReader(b[:rapid.IntRange(0, len(b)-1).Draw(t, "length")])
		for _, f := range fs[:len(fs)-1] {
			f.read(r)
		}
		r.Byte()
		err := r.Done()
		if errs.KindOf(err) != errs.Corrupt || err == nil {
			t.Fatalf("want Corrupt, got %v", err)
		}
		if r.Len() != 0 || r.Uint64() != 0 || r.Uvarint() != 0 || r.Bytes() != nil || !errors.Is(r.Err(), err) {
			t.Fatal("the first fault must stick")
		}
	})
}

func TestFaults(t *testing.T) {
	huge := codec.AppendUvarint(nil, math.MaxUint64)
	cases := []struct {
		name string
		in   []byte
		read func(r *codec.Reader)
	}{
		{"empty", nil, func(r *codec.Reader) { r.Byte() }},
		{"varint without end", []byte{0x80, 0x80}, func(r *codec.Reader) { r.Uvarint() }},
		{"varint over 64 bits", []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, func(r *codec.Reader) { r.Uvarint() }},
		{"string longer than the input", []byte{5, 'a'}, func(r *codec.Reader) { _ = r.String() }},
		{"length over any int", huge, func(r *codec.Reader) { r.Bytes() }},
		{"count over any int", huge, func(r *codec.Reader) { r.Count(1) }},
		{"count of large items", []byte{3, 0, 0, 0, 0}, func(r *codec.Reader) { r.Count(2) }},
		{"count of items without size", []byte{9, 0}, func(r *codec.Reader) { r.Count(0) }},
		{"negative raw", []byte{1, 2}, func(r *codec.Reader) { r.Raw(-1) }},
		{"floats", []byte{1, 2, 3}, func(r *codec.Reader) { r.Float32s(make([]float32, 1)) }},
		{"left over", []byte{1, 2}, func(r *codec.Reader) { r.Byte() }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := codec.NewReader(c.in)
			c.read(r)
			require.True(t, errs.Is(r.Done(), errs.Corrupt), "%v", r.Err())
		})
	}
}

func TestBytesAliasButCannotGrowIntoTheRest(t *testing.T) {
	in := []byte{2, 'a', 'b', 'c'}
	r := codec.NewReader(in)
	got := append(r.Bytes(), 'X')
	require.Equal(t, "abX", string(got))
	require.Equal(t, byte('c'), r.Byte())
}

func TestFloat32Views(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.SliceOf(rapid.Float32()).Draw(t, "values")
		b := codec.Float32Bytes(v)
		if diff := cmp.Diff(codec.AppendFloat32s(nil, v), b, cmp.Transformer("string", func(b []byte) string { return string(b) })); diff != "" {
			t.Fatal(diff)
		}
		if diff := cmp.Diff(bitsOf(v), bitsOf(codec.Float32sFromBytes(b))); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestSums pins the sums, which are stored: the check values are those of the published algorithms.
func TestSums(t *testing.T) {
	require.Equal(t, uint32(0xe3069283), codec.CRC([]byte("123456789")))
	require.Equal(t, codec.CRC([]byte("123456789")), codec.UpdateCRC(codec.CRC([]byte("1234")), []byte("56789")))
	require.Equal(t, crc32.Checksum([]byte("x"), crc32.MakeTable(crc32.Castagnoli)), codec.CRC([]byte("x")))
	require.Equal(t, uint64(0xef46db3751d8e999), codec.Hash(nil))
	require.Equal(t, uint64(0x44bc2cf5ad770999), codec.HashString("abc"))
	require.Equal(t, codec.Hash([]byte("abc")), codec.HashString("abc"))
}

// FuzzReader runs a program of reads, one per byte of ops, over any input: no panic, no more memory than the input, and
// every byte is read once at most.
func FuzzReader(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8}, []byte("\x05hello\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Add([]byte{1, 1, 1}, []byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01})
	f.Add([]byte{7, 5}, binary.AppendUvarint(nil, math.MaxUint64))
	f.Fuzz(func(t *testing.T, ops, in []byte) {
		r := codec.NewReader(in)
		var dst [3]float32
		for _, op := range ops {
			before, failed := r.Len(), r.Err() != nil
			held := 0
			switch op % 9 {
			case 0:
				r.Byte()
			case 1:
				r.Uvarint()
			case 2:
				r.Uint32()
			case 3:
				r.Uint64()
			case 4:
				r.Float64()
			case 5:
				held = len(r.Bytes())
			case 6:
				held = len(r.String())
			case 7:
				held = r.Count(int(op)%5) * (int(op) % 5)
			case 8:
				r.Float32s(dst[:])
			}
			if held > before || r.Len() > before {
				t.Fatalf("op %d: %d bytes from %d, %d left", op%9, held, before, r.Len())
			}
			if failed && r.Err() == nil {
				t.Fatal("a fault must stick")
			}
		}
		_ = r.Done()
	})
}
