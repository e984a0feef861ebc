package main

import (
	"strconv"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// unpackers writes the kernels that turn the codes of a row into signed numbers.
func unpackers() {
	unpackKernel(1, unpack1)
	unpackKernel(2, unpackPlanes)
	unpackKernel(4, unpackPlanes)
	unpackKernel(8, unpack8)
}

// unpackKernel emits the kernel for codes of that many bits. The query of the cursor that write gets is where the
// numbers go.
func unpackKernel(bits int, write func(c cursor)) {
	name := "unpack" + strconv.Itoa(bits) + "AVX2"
	TEXT(name, NOSPLIT, "func(row *byte, out *int8, blocks int)")
	Pragma("noescape")
	Doc(name + " writes the codes of so many blocks of 64 dimensions as signed numbers. Needs AVX2.")
	c := cursor{name: "block", rows: []reg.GPVirtual{GP64()}, at: GP64(), query: GP64(), left: GP64(), bits: bits}
	Load(Param("row"), c.rows[0])
	Load(Param("out"), c.query)
	Load(Param("blocks"), c.left)
	XORQ(c.at, c.at)
	write(c)
	VZEROUPPER()
	RET()
}

// unpack8 flips the highest bit of each byte.
func unpack8(c cursor) {
	flip := every(0x8080808080808080, YMM())
	c.each(1, func() {
		for _, at := range []int{0, 32} {
			v := YMM()
			VPXOR(c.codes(0, at), flip, v)
			VMOVDQU(v, c.values(at))
		}
	})
}

// unpackPlanes goes through full blocks of 64 bytes, then through blocks of 64 dimensions, which for 2 bits are 16 bytes.
func unpackPlanes(c cursor) {
	v := every(0x0101010101010101*(1<<c.bits-1), YMM())
	mask := func(codes reg.VecVirtual) reg.Register {
		if codes.Size() == 16 {
			return v.AsX()
		}
		return v
	}
	planes := func(codes, out reg.VecVirtual, from, to, apart int) {
		VMOVDQU(c.codes(0, from), codes)
		for i := range 8 / c.bits {
			VPAND(mask(codes), codes, out)
			VPADDB(out, out, out)
			VPSUBB(mask(codes), out, out) // the mask is the largest code
			VMOVDQU(out, c.values(to+apart*i))
			VPSRLW(operand.Imm(uint64(c.bits)), codes, codes)
		}
	}
	c.each(8/c.bits, func() {
		planes(YMM(), YMM(), 0, 0, 64)
		planes(YMM(), YMM(), 32, 32, 64)
	})
	c.each(1, func() {
		if c.bits == 2 {
			planes(XMM(), XMM(), 0, 0, 16)
		} else {
			planes(YMM(), YMM(), 0, 0, 32)
		}
	})
}

// unpack1 spreads 32 bits over as many bytes, 0 or -1, from which it makes -1 or 1.
func unpack1(c cursor) {
	bit, minus, spread := every(0x8040201008040201, YMM()), every(0xffffffffffffffff, YMM()), spreadTable()
	c.each(1, func() {
		for i := range 2 {
			v := YMM()
			VPBROADCASTD(c.codes(0, 4*i), v)
			VPSHUFB(spread, v, v)
			VPAND(bit, v, v)
			VPCMPEQB(bit, v, v)
			VPADDB(v, v, v)
			VPSUBB(v, minus, v)
			VMOVDQU(v, c.values(32*i))
		}
	})
}
