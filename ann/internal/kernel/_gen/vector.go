package main

import (
	"math"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/gotypes"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// width is one size of vector registers: the same kernel is written once for each.
type width struct {
	name     string
	lanes    int // float32 values in a register
	register func() reg.VecVirtual
}

var widths = []width{{"AVX2", 8, YMM}, {"AVX512", 16, ZMM}}

func (w width) wide() bool { return w.lanes == 16 }

func (w width) bytes() int { return 4 * w.lanes }

// readOnly marks a table without pointers.
const readOnly = attr.RODATA | attr.NOPTR

// zero returns a register of zeros.
func (w width) zero() reg.VecVirtual {
	z := w.register()
	if w.wide() {
		VPXORD(z, z, z)
	} else {
		VPXOR(z, z, z)
	}
	return z
}

// spread returns a register with bits in each lane.
func (w width) spread(bits uint32) reg.VecVirtual {
	g, x, v := GP32(), XMM(), w.register()
	MOVL(operand.U32(bits), g)
	VMOVD(g, x)
	VPBROADCASTD(x, v)
	return v
}

func (w width) spreadFloat(f float32) reg.VecVirtual { return w.spread(math.Float32bits(f)) }

// spreadParam returns a register with the float32 argument of that name in each lane. Like returnFloat, it keeps away
// from the moves that avo writes, of SSE: between instructions of AVX each of them costs hundreds of nanoseconds.
func (w width) spreadParam(name string) reg.VecVirtual {
	v := w.register()
	VBROADCASTSS(resolve(Param(name)), v)
	return v
}

// returnFloat stores the lowest lane of v as that result.
func returnFloat(v reg.VecVirtual, result gotypes.Component) { VMOVSS(v, resolve(result)) }

func resolve(c gotypes.Component) operand.Mem {
	b, err := c.Resolve()
	if err != nil {
		panic(err)
	}
	return b.Addr
}

// stream is a pointer that moves on by so many bits per value.
type stream struct {
	pointer reg.Register
	bits    int
}

func floatsAt(p reg.Register) stream { return stream{p, 32} }

// loop emits a loop that eats count values of each stream while that many of n are left.
func loop(name string, n reg.Register, count int, body func(), streams ...stream) {
	Label(name)
	CMPQ(n, operand.I32(count))
	JL(operand.LabelRef(name + "Done"))
	body()
	for _, s := range streams {
		ADDQ(operand.I32(count*s.bits/8), s.pointer)
	}
	SUBQ(operand.I32(count), n)
	JMP(operand.LabelRef(name))
	Label(name + "Done")
}

// unless0 emits body under a test that n is not 0.
func unless0(name string, n reg.Register, body func()) {
	TESTQ(n, n)
	JE(operand.LabelRef(name))
	body()
	Label(name)
}

// lowMask returns a mask of the lowest n lanes, n below 16.
func lowMask(n reg.Register) reg.OpmaskVirtual {
	bits, k := GP64(), K()
	MOVQ(operand.I32(-1), bits)
	BZHIQ(n, bits, bits)
	KMOVW(bits.As32(), k)
	return k
}

// tail loads what is left of a row after its last full register, lanes beyond it being 0.
type tail func(p reg.Register) reg.VecVirtual

// tail returns how to load the last n values of rows, n below the number of lanes. It destroys n.
func (w width) tail(n reg.Register) tail {
	if w.wide() {
		k := lowMask(n)
		return func(p reg.Register) reg.VecVirtual {
			v := ZMM()
			VMOVUPS_Z(operand.Mem{Base: p}, k, v)
			return v
		}
	}
	table, mask := GP64(), YMM()
	LEAQ(lowLanes, table)
	SHLQ(operand.Imm(2), n)
	SUBQ(n, table)
	VMOVDQU(operand.Mem{Base: table, Disp: 32}, mask)
	return func(p reg.Register) reg.VecVirtual {
		v := YMM()
		VMASKMOVPS(operand.Mem{Base: p}, mask, v)
		return v
	}
}

// lowLanes is eight lanes of ones before eight of zeros: read 4n bytes before its middle, it masks the first n lanes.
var lowLanes operand.Mem

func lowLanesTable() {
	lowLanes = GLOBL("lowLanes", readOnly)
	for i := range 4 {
		DATA(8*i, operand.U64(math.MaxUint64))
	}
	for i := range 4 {
		DATA(32+8*i, operand.U64(0))
	}
}

// binary is an instruction on sources and a destination, last in Go's order.
type binary func(ops ...operand.Op)

// foldFloats combines the lanes of v into the lowest.
func (w width) foldFloats(v reg.VecVirtual, packed binary) reg.VecVirtual {
	y := v.AsY()
	if w.wide() {
		high := YMM()
		VEXTRACTF64X4(operand.Imm(1), v, high)
		packed(high, y, high)
		y = high
	}
	low, other := XMM(), XMM()
	VEXTRACTF128(operand.Imm(1), y, other)
	packed(other, y.(reg.Vec).AsX(), low)
	VPERMILPD(operand.Imm(1), low, other)
	packed(other, low, low)
	VMOVSHDUP(low, other)
	packed(other, low, low)
	return low
}

// foldInts adds up the 32-bit lanes of v.
func (w width) foldInts(v reg.VecVirtual) reg.GPVirtual {
	y := v.AsY()
	if w.wide() {
		high := YMM()
		VEXTRACTI64X4(operand.Imm(1), v, high)
		VPADDD(high, y, high)
		y = high
	}
	low, other, sum := XMM(), XMM(), GP32()
	VEXTRACTI128(operand.Imm(1), y, other)
	VPADDD(other, y.(reg.Vec).AsX(), low)
	VPSHUFD(operand.Imm(0x4E), low, other)
	VPADDD(other, low, low)
	VPSHUFD(operand.Imm(0xB1), low, other)
	VPADDD(other, low, low)
	VMOVD(low, sum)
	return sum
}
