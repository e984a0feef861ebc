package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Predicates of VCMPPD and VCMPPS, false for what is not a number.
const (
	lessQuiet     = 17
	notAboveQuiet = 18
)

// estimates writes the kernel behind Estimator.Near, for eight rows at a time. Its operations are those of the portable
// form, in the same order, so that every bit is the same.
func estimates() {
	TEXT("nearAVX512", NOSPLIT, "func(estimator *[5]float64, sums *int32, factors *uint64, reach *float32, ids *uint32, out *float32, count int) int")
	Pragma("noescape")
	Doc("nearAVX512 is Estimator.Near for count rows, at least one. Needs AVX-512 F and VL, BMI2 and POPCNT.")
	estimator := Load(Param("estimator"), GP64())
	sums, factors := Load(Param("sums"), GP64()), Load(Param("factors"), GP64())
	ids, out := Load(Param("ids"), GP64()), Load(Param("out"), GP64())
	left := Load(Param("count"), GP64())
	reach, at := YMM(), GP64()
	MOVQ(resolve(Param("reach")), at)
	VBROADCASTSS(operand.Mem{Base: at}, reach)

	var fields [5]reg.VecVirtual
	for i := range fields {
		fields[i] = ZMM()
		VBROADCASTSD(operand.Mem{Base: estimator, Disp: 8 * i}, fields[i])
	}
	base, weight, slope, unit, shift := fields[0], fields[1], fields[2], fields[3], fields[4]
	largest, least := every(math.Float64bits(math.MaxFloat32), ZMM()), every(math.Float64bits(-math.MaxFloat32), ZMM())
	one := every(math.Float64bits(1), ZMM())
	zero := ZMM()
	VPXORQ(zero, zero, zero)

	i, found := GP64(), GP64()
	XORQ(i, i)
	XORQ(found, found)
	ones, lanes := GP64(), K()
	MOVQ(operand.I32(-1), ones)
	Label("rows")
	some, bits := GP64(), GP64()
	MOVQ(operand.U32(8), some)
	CMPQ(left, some)
	CMOVQLT(left, some)
	BZHIQ(some, ones, bits)
	KMOVW(bits.As32(), lanes)

	sum, pairs, norm, gain := ZMM(), ZMM(), ZMM(), ZMM()
	whole := YMM()
	VMOVDQU32_Z(operand.Mem{Base: sums, Index: i, Scale: 4}, lanes, whole)
	VCVTDQ2PD(whole, sum)
	VMOVDQU64_Z(operand.Mem{Base: factors, Index: i, Scale: 8}, lanes, pairs)
	VPMOVQD(pairs, whole)
	VCVTPS2PD(whole, norm)
	VPSRLQ(operand.Imm(32), pairs, pairs)
	VPMOVQD(pairs, whole)
	VCVTPS2PD(whole, gain)

	d := ZMM()
	VSUBPD(shift, sum, sum)
	VMULPD(norm, unit, d)
	VMULPD(gain, d, d)
	VMULPD(sum, d, d)
	VMULPD(slope, d, d)
	square, none := ZMM(), K()
	VMULPD(norm, weight, square)
	VMULPD(norm, square, square)
	VADDPD(square, base, square)
	VSUBPD(d, square, d)
	VCMPPD(operand.Imm(lessQuiet), zero, norm, none)
	VMOVAPD(one, none, d)
	VMINPD(largest, d, d) // the largest as well if d is not a number
	VMAXPD(least, d, d)
	distance, near := YMM(), K()
	VCVTPD2PS(d, distance)
	VCMPPS(operand.Imm(notAboveQuiet), reach, distance, lanes, near)

	slots, count := YMM(), GP64()
	VMOVDQU32_Z(operand.Mem{Base: ids, Index: i, Scale: 4}, lanes, slots)
	VPCOMPRESSD_Z(slots, near, slots)
	VCOMPRESSPS_Z(distance, near, distance)
	KMOVW(near, count.As32())
	POPCNTQ(count, count)
	BZHIQ(count, ones, bits)
	KMOVW(bits.As32(), near)
	VMOVDQU32(slots, near, operand.Mem{Base: ids, Index: found, Scale: 4})
	VMOVUPS(distance, near, operand.Mem{Base: out, Index: found, Scale: 4})
	ADDQ(count, found)
	ADDQ(operand.Imm(8), i)
	SUBQ(operand.Imm(8), left)
	JG(operand.LabelRef("rows"))
	VZEROUPPER()
	Store(found, ReturnIndex(0))
	RET()
}
