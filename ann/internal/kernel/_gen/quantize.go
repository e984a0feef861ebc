package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Kernels over the values of one row. The AVX2 forms take a multiple of 32 values, four registers that are packed
// into one of bytes, and leave the rest to Go; AVX-512 takes any number, a register at a time, the last one masked.
const packed = 32

// each emits loops over n values of x, and calls body with registers of what it loads there, one or four of them,
// and the mask of the lanes in use, nil for all. The other streams move with x.
func (w width) each(n, x reg.Register, body func(v []reg.VecVirtual, mask operand.Op), others ...stream) {
	streams := append(others, floatsAt(x))
	if !w.wide() {
		loop("each", n, packed, func() {
			v := make([]reg.VecVirtual, packed/w.lanes)
			for i := range v {
				v[i] = w.register()
				VMOVUPS(operand.Mem{Base: x, Disp: i * w.bytes()}, v[i])
			}
			body(v, nil)
		}, streams...)
		return
	}
	rest := GP64()
	MOVQ(n, rest)
	ANDQ(operand.Imm(uint64(w.lanes-1)), rest)
	mask := lowMask(rest)
	load := w.tail(rest)
	loop("each", n, w.lanes, func() {
		v := w.register()
		VMOVUPS(operand.Mem{Base: x}, v)
		body([]reg.VecVirtual{v}, nil)
	}, streams...)
	unless0("rest", n, func() { body([]reg.VecVirtual{load(x)}, mask) })
}

// maxAbs needs no tail of its own for what is left: a lane of zeros changes no maximum of absolute values.
func maxAbs(w width) {
	TEXT("maxAbs"+w.name, NOSPLIT, "func(x *float32, n int) float32")
	Pragma("noescape")
	Doc("maxAbs" + w.name + " returns the largest |x[i]| of n floats.")
	x := Load(Param("x"), GP64())
	n := Load(Param("n"), GP64())
	rest := GP64()
	MOVQ(n, rest)
	ANDQ(operand.Imm(uint64(w.lanes-1)), rest)
	last := w.tail(rest)
	magnitude := w.spread(math.MaxInt32)
	sums := w.accumulate([]reg.Register{x}, n, last, func(x, _ operand.Op, sum reg.VecVirtual) {
		VANDPS(magnitude, x, x)
		VMAXPS(x, sum, sum)
	})
	total := w.foldFloats(w.sum(sums, VMAXPS), VMAXPS)
	returnFloat(total, ReturnIndex(0))
	VZEROUPPER()
	RET()
}

func flipSigns(w width) {
	TEXT("flipSigns"+w.name, NOSPLIT, "func(x *float32, n int, signs *uint64)")
	Pragma("noescape")
	Doc("flipSigns" + w.name + " negates x[i] where bit i of signs is set, for n floats" + w.multiple())
	x := Load(Param("x"), GP64())
	n := Load(Param("n"), GP64())
	signs := stream{Load(Param("signs"), GP64()), 1}
	minus := w.spread(1 << 31)
	if w.wide() {
		w.each(n, x, func(v []reg.VecVirtual, mask operand.Op) {
			flip := K()
			KMOVW(operand.Mem{Base: signs.pointer}, flip)
			VPXORD(minus, v[0], flip, v[0])
			w.store(v[0], mask, operand.Mem{Base: x})
		}, signs)
	} else {
		shifts := toTop()
		w.each(n, x, func(v []reg.VecVirtual, _ operand.Op) {
			bits := YMM()
			VPBROADCASTD(operand.Mem{Base: signs.pointer}, bits)
			for i := range v {
				flip := YMM()
				VPSLLVD(shifts[i], bits, flip)
				VPAND(minus, flip, flip)
				VPXOR(flip, v[i], v[i])
				VMOVUPS(v[i], operand.Mem{Base: x, Disp: i * w.bytes()})
			}
		}, signs)
	}
	VZEROUPPER()
	RET()
}

func scale(w width) {
	TEXT("scale"+w.name, NOSPLIT, "func(x *float32, n int, by float32)")
	Pragma("noescape")
	Doc("scale" + w.name + " multiplies n floats" + w.multiple())
	x := Load(Param("x"), GP64())
	n := Load(Param("n"), GP64())
	by := w.spreadParam("by")
	w.each(n, x, func(v []reg.VecVirtual, mask operand.Op) {
		for i := range v {
			VMULPS(by, v[i], v[i])
			w.store(v[i], mask, operand.Mem{Base: x, Disp: i * w.bytes()})
		}
	})
	VZEROUPPER()
	RET()
}

// toTop returns how far each of 32 bits is from the top of its word, eight in a register.
func toTop() (shifts [packed / 8]reg.VecVirtual) {
	table := GLOBL("toTop", readOnly)
	for bit := range packed {
		DATA(4*bit, operand.U32(packed-1-bit))
	}
	for i := range shifts {
		shifts[i] = YMM()
		VMOVDQU(table.Offset(32*i), shifts[i])
	}
	return shifts
}

func quantize(w width) {
	TEXT("quantize"+w.name, NOSPLIT, "func(x *float32, n int, scale float32, out *int8) int32")
	Pragma("noescape")
	Doc("quantize" + w.name + " sets out[i] to x[i]·scale rounded to even and clamped to ±127, and returns the sum, for n floats" + w.multiple())
	x := Load(Param("x"), GP64())
	n := Load(Param("n"), GP64())
	scale := w.spreadParam("scale")
	out := stream{Load(Param("out"), GP64()), 8}
	low, high, sum := w.spreadFloat(-127), w.spreadFloat(127), w.zero()
	w.each(n, x, func(v []reg.VecVirtual, mask operand.Op) {
		for i := range v {
			VMULPS(scale, v[i], v[i])
			VMAXPS(low, v[i], v[i]) // of a NaN, low
			VMINPS(high, v[i], v[i])
			masked(VCVTPS2DQ, VCVTPS2DQ_Z, v[i], mask, v[i])
			VPADDD(v[i], sum, sum)
		}
		w.storeBytes(v, mask, operand.Mem{Base: out.pointer}, VPACKSSWB)
	}, out)
	Store(w.foldInts(sum), ReturnIndex(0))
	VZEROUPPER()
	RET()
}

func encode(w width) {
	TEXT("encode"+w.name, NOSPLIT, "func(x *float32, n int, scale, half, top, centre float32, out *uint8) (u, uu uint32, xu float32)")
	Pragma("noescape")
	Doc("encode" + w.name + " sets out[i] to x[i]·scale+half rounded down and clamped to 0 and top, and returns Σ out[i], Σ out[i]², both modulo 2³², and Σ x[i]·(out[i]-centre), for n floats" + w.multiple())
	x := Load(Param("x"), GP64())
	n := Load(Param("n"), GP64())
	scale, half := w.spreadParam("scale"), w.spreadParam("half")
	top, centre := w.spreadParam("top"), w.spreadParam("centre")
	out := stream{Load(Param("out"), GP64()), 8}
	zero, sum, squares, products := w.zero(), w.zero(), w.zero(), w.zero()
	w.each(n, x, func(v []reg.VecVirtual, mask operand.Op) {
		codes := make([]reg.VecVirtual, len(v))
		for i := range v {
			u, t := w.register(), w.register()
			VMULPS(scale, v[i], u)
			VADDPS(half, u, u) // not fused, as in the portable form
			VMAXPS(zero, u, u) // of a NaN, zero
			VMINPS(top, u, u)
			masked(VCVTTPS2DQ, VCVTTPS2DQ_Z, u, mask, u)
			VPADDD(u, sum, sum)
			VPMADDWD(u, u, t)
			VPADDD(t, squares, squares)
			VCVTDQ2PS(u, t)
			VSUBPS(centre, t, t)
			VFMADD231PS(t, v[i], products)
			codes[i] = u
		}
		w.storeBytes(codes, mask, operand.Mem{Base: out.pointer}, VPACKUSWB)
	}, out)
	Store(w.foldInts(sum), Return("u"))
	Store(w.foldInts(squares), Return("uu"))
	returnFloat(w.foldFloats(products, VADDPS), Return("xu"))
	VZEROUPPER()
	RET()
}

// multiple ends a sentence about n with what the AVX2 forms demand of it.
func (w width) multiple() string {
	if w.wide() {
		return "."
	}
	return ", a multiple of 32."
}

// masked emits an instruction, or its form that leaves zeros in the lanes out of use.
func masked(all binary, some func(from, mask, to operand.Op), from, mask, to operand.Op) {
	if mask == nil {
		all(from, to)
	} else {
		some(from, mask, to)
	}
}

func (w width) store(v reg.VecVirtual, mask operand.Op, to operand.Mem) {
	if mask == nil {
		VMOVUPS(v, to)
	} else {
		VMOVUPS(v, mask, to)
	}
}

// storeBytes stores the low bytes of 32-bit lanes that fit a byte; words tells how AVX2 packs 16 bits to 8.
func (w width) storeBytes(v []reg.VecVirtual, mask operand.Op, to operand.Mem, words binary) {
	switch {
	case w.wide() && mask == nil:
		VPMOVDB(v[0], to)
	case w.wide():
		VPMOVDB(v[0], mask, to)
	default:
		order := YMM()
		VMOVDQU(interleaved, order)
		VPACKSSDW(v[1], v[0], v[0])
		VPACKSSDW(v[3], v[2], v[2])
		words(v[2], v[0], v[0])
		VPERMD(v[0], order, v[0])
		VMOVDQU(v[0], to)
	}
}

// interleaved puts in order the groups of four bytes that packing within halves of registers leaves.
var interleaved operand.Mem

func interleavedTable() {
	interleaved = GLOBL("interleaved", readOnly)
	for i, from := range []uint32{0, 4, 1, 5, 2, 6, 3, 7} {
		DATA(4*i, operand.U32(from))
	}
}
