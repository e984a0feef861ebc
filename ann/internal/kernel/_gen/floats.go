package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// lanes is how many float32 fit a YMM register, unroll how many independent sums hide the latency of an FMA.
const (
	lanes  = 8
	unroll = 4
)

// floats writes the kernels over rows of float32.
func floats() {
	squaredL2()
	prefetch()
}

// squaredL2 is the loop of vek's Distance without the root at its end.
func squaredL2() {
	TEXT("squaredL2AVX2", NOSPLIT, "func(a, b *float32, n int) float32")
	Pragma("noescape")
	Doc("squaredL2AVX2 sums (a[i]-b[i])² over n floats. Needs AVX2 and FMA.")
	a := Load(Param("a"), GP64())
	b := Load(Param("b"), GP64())
	n := Load(Param("n"), GP64())

	var sums [unroll]reg.VecVirtual
	for i := range sums {
		sums[i] = YMM()
		VXORPS(sums[i], sums[i], sums[i])
	}
	step(a, b, n, "wide", unroll, sums[:])
	VADDPS(sums[1], sums[0], sums[0])
	VADDPS(sums[3], sums[2], sums[2])
	VADDPS(sums[2], sums[0], sums[0])
	step(a, b, n, "narrow", 1, sums[:1])

	total := fold(sums[0])
	tail(a, b, n, total)
	VZEROUPPER()
	Store(total, ReturnIndex(0))
	RET()
}

// step emits a loop that eats count vectors of both rows while that many are left.
func step(a, b, n reg.Register, name string, count int, sums []reg.VecVirtual) {
	Label(name)
	CMPQ(n, operand.Imm(uint64(lanes*count)))
	JL(operand.LabelRef(name + "Done"))
	for i := range count {
		d := YMM()
		VMOVUPS(operand.Mem{Base: a, Disp: 32 * i}, d)
		VSUBPS(operand.Mem{Base: b, Disp: 32 * i}, d, d)
		VFMADD231PS(d, d, sums[i])
	}
	ADDQ(operand.Imm(uint64(32*count)), a)
	ADDQ(operand.Imm(uint64(32*count)), b)
	SUBQ(operand.Imm(uint64(lanes*count)), n)
	JMP(operand.LabelRef(name))
	Label(name + "Done")
}

// fold adds up the eight lanes of v.
func fold(v reg.VecVirtual) reg.VecVirtual {
	low, high := XMM(), XMM()
	VEXTRACTF128(operand.Imm(1), v, high)
	VADDPS(high, v.AsX(), low)
	VPERMILPD(operand.Imm(1), low, high)
	VADDPS(high, low, low)
	VMOVSHDUP(low, high)
	VADDSS(high, low, low)
	return low
}

// tail adds the last up to seven floats one by one.
func tail(a, b, n reg.Register, total reg.VecVirtual) {
	Label("tail")
	TESTQ(n, n)
	JE(operand.LabelRef("tailDone"))
	d := XMM()
	VMOVSS(operand.Mem{Base: a}, d)
	VSUBSS(operand.Mem{Base: b}, d, d)
	VFMADD231SS(d, d, total)
	ADDQ(operand.Imm(4), a)
	ADDQ(operand.Imm(4), b)
	DECQ(n)
	JMP(operand.LabelRef("tail"))
	Label("tailDone")
}

// prefetch asks for cache lines ahead of their use.
func prefetch() {
	TEXT("prefetchLines", NOSPLIT, "func(p *float32, lines int)")
	Pragma("noescape")
	Doc("prefetchLines asks for that many cache lines from p on, at least one.")
	p := Load(Param("p"), GP64())
	n := Load(Param("lines"), GP64())
	Label("next")
	PREFETCHT0(operand.Mem{Base: p})
	ADDQ(operand.Imm(64), p)
	DECQ(n)
	JNZ(operand.LabelRef("next"))
	RET()
}
