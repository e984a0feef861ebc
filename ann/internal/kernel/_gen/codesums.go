package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Codes narrower than a byte are not shifted into place where a mask will do: a sum of codes times 16 is divided once
// per row instead. The product of 240, 127 and 20,480 is far from the end of an int32.

// sum8AVX512 multiplies bytes as they are.
func sum8AVX512(reg.Register) func(cursor) reg.Register {
	return func(c cursor) reg.Register {
		sums := zeroed(ZMM, 4)
		c.unrolled(4, func(i int) {
			codes := ZMM()
			VMOVDQU64(c.codes(64*i), codes)
			VPDPBUSD(c.values(64*i), codes, sums[i])
		})
		return fold(add(sums))
	}
}

// sum4AVX512 keeps the sums of low and high nibbles apart.
func sum4AVX512(reg.Register) func(cursor) reg.Register {
	low, high := every(0x0f0f0f0f0f0f0f0f, ZMM()), every(0xf0f0f0f0f0f0f0f0, ZMM())
	shifts := ZMM()
	VMOVDQU64(shiftTable("shifts4", 0, 0, 4, 4), shifts)
	return func(c cursor) reg.Register {
		sums := zeroed(ZMM, 4)
		step := func(count int) func() {
			return func() {
				for i := range count {
					planes(c, 64*i, 128*i, []reg.VecVirtual{low, high}, sums[2*i:])
				}
			}
		}
		c.each("two", 4, step(2))
		c.each("one", 2, step(1))
		c.each("half", 1, func() {
			codes := ZMM()
			VBROADCASTI64X4(c.codes(0), codes)
			shifted(c, codes, shifts, low, sums[0])
		})
		lows, highs := add(sums[0:1:1], sums[2]), add(sums[1:2:2], sums[3])
		VPSRAD(operand.Imm(4), highs, highs)
		return fold(add([]reg.VecVirtual{lows, highs}))
	}
}

// sum2AVX512 keeps four sums, of the codes in each quarter of a byte.
func sum2AVX512(reg.Register) func(cursor) reg.Register {
	var masks []reg.VecVirtual
	for _, m := range []uint64{0x0303030303030303, 0x0c0c0c0c0c0c0c0c, 0x3030303030303030, 0xc0c0c0c0c0c0c0c0} {
		masks = append(masks, every(m, ZMM()))
	}
	shifts := ZMM()
	VMOVDQU64(shiftTable("shifts2", 0, 2, 4, 6), shifts)
	return func(c cursor) reg.Register {
		sums := zeroed(ZMM, 4)
		c.each("four", 4, func() { planes(c, 0, 0, masks, sums) })
		c.each("one", 1, func() {
			codes := ZMM()
			VBROADCASTI32X4(c.codes(0), codes)
			shifted(c, codes, shifts, masks[0], sums[0])
		})
		for i := 1; i < 4; i++ {
			VPSRAD(operand.Imm(uint64(2*i)), sums[i], sums[i])
		}
		return fold(add(sums))
	}
}

// planes adds to each sum the products of the codes under one mask, in place, with 64 values of the query.
func planes(c cursor, row, query int, masks, sums []reg.VecVirtual) {
	codes := ZMM()
	VMOVDQU64(c.codes(row), codes)
	for i, mask := range masks {
		masked := ZMM()
		VPANDD(mask, codes, masked)
		VPDPBUSD(c.values(query+64*i), masked, sums[i])
	}
}

// shifted adds to sum the products of 64 values of the query with codes, once each lane has its own to the right.
func shifted(c cursor, codes, shifts, mask, sum reg.VecVirtual) {
	VPSRLVD(shifts, codes, codes)
	VPANDD(mask, codes, codes)
	VPDPBUSD(c.values(0), codes, sum)
}

// sum1AVX512 uses the words of a row as masks of the query.
func sum1AVX512(reg.Register) func(cursor) reg.Register {
	ones := every(0x0101010101010101, ZMM())
	return func(c cursor) reg.Register {
		sums := zeroed(ZMM, 4)
		c.unrolled(4, func(i int) {
			word, values := K(), ZMM()
			KMOVQ(c.codes(8*i), word)
			VMOVDQU8_Z(c.values(64*i), word, values)
			VPDPBUSD(values, ones, sums[i])
		})
		return fold(add(sums))
	}
}

// turnedDims is for how many dimensions sum1TurnedAVX512 has room on the stack.
const turnedDims = 4096

// sum1TurnedAVX512 repeats each word of a row eight times, in the b-th the b-th bits of its bytes, and so takes two
// operations for a word instead of three. The values of the query are brought in that order first.
func sum1TurnedAVX512(job reg.Register) func(cursor) reg.Register {
	turned := turn(job)
	bits, shifts := ZMM(), ZMM()
	VMOVDQU64(qwordTable("bits", func(i int) uint64 { return 0x0101010101010101 << i }), bits)
	VMOVDQU64(qwordTable("shifts1", func(i int) uint64 { return 0x0000000100000001 * uint64(i) }), shifts)
	return func(c cursor) reg.Register {
		MOVQ(turned, c.query)
		sums := zeroed(ZMM, 4)
		c.unrolled(8, func(i int) {
			masked := ZMM()
			VPANDQ_BCST(c.codes(8*i), bits, masked)
			VPDPBUSD(c.values(64*i), masked, sums[i%4])
		})
		total := add(sums)
		VPSRAVD(shifts, total, total)
		return fold(total)
	}
}

// turn writes the query to the stack, with value 8j+b of each 64 at 8b+j, and returns where.
func turn(job reg.Register) reg.Register {
	const line = 64
	turned, from, to, left := GP64(), GP64(), GP64(), GP64()
	LEAQ(AllocLocal(turnedDims+line), turned)
	ADDQ(operand.I32(line-1), turned)
	ANDQ(operand.I32(-line), turned)
	MOVQ(turned, to)
	MOVQ(operand.Mem{Base: job, Disp: jobQuery}, from)
	MOVQ(operand.Mem{Base: job, Disp: jobBlocks}, left)

	// Two groups of eight values that share a quarter of a register become eight pairs, then the pairs change places.
	pairs, places := ZMM(), ZMM()
	VBROADCASTI32X4(wordTable("pairs", 8, func(i int) uint16 { return uint16(8+i)<<8 | uint16(i) }), pairs)
	VMOVDQU64(wordTable("places", 32, func(i int) uint16 { return uint16(i%4*8 + i/4) }), places)
	Label("turn")
	values := ZMM()
	VMOVDQU64(operand.Mem{Base: from}, values)
	VPSHUFB(pairs, values, values)
	VPERMW(values, places, values)
	VMOVDQU64(values, operand.Mem{Base: to})
	ADDQ(operand.Imm(64), from)
	ADDQ(operand.Imm(64), to)
	DECQ(left)
	JNZ(operand.LabelRef("turn"))
	return turned
}

// sum8AVX2 widens both sides: VPMADDUBSW would saturate.
func sum8AVX2(reg.Register) func(cursor) reg.Register {
	return func(c cursor) reg.Register {
		sums := zeroed(YMM, 4)
		c.each("one", 1, func() {
			for i := range 4 {
				codes, values := YMM(), YMM()
				VPMOVZXBW(c.codes(16*i), codes)
				VPMOVSXBW(c.values(16*i), values)
				VPMADDWD(codes, values, values)
				VPADDD(values, sums[i], sums[i])
			}
		})
		return fold(add(sums))
	}
}

// sum4AVX2 goes through half a block at a time, whose dimensions are 64 apart, or 32 in a last block of 64.
func sum4AVX2(reg.Register) func(cursor) reg.Register {
	low, ones := every(0x0f0f0f0f0f0f0f0f, YMM()), every(0x0001000100010001, YMM())
	return func(c cursor) reg.Register {
		sums := zeroed(YMM, 2)
		half := func(row, query, apart int, sum reg.VecVirtual) {
			codes, high := YMM(), YMM()
			VMOVDQU(c.codes(row), codes)
			VPSRLW(operand.Imm(4), codes, high)
			VPAND(low, codes, codes)
			VPAND(low, high, high)
			VPMADDUBSW(c.values(query), codes, codes)
			VPMADDUBSW(c.values(query+apart), high, high)
			VPADDW(high, codes, codes)
			widen(codes, ones, sum)
		}
		c.each("two", 2, func() {
			half(0, 0, 64, sums[0])
			half(32, 32, 64, sums[1])
		})
		c.each("one", 1, func() { half(0, 0, 32, sums[0]) })
		return fold(add(sums))
	}
}

// sum2AVX2 goes through half a block of 256 dimensions at a time, then through blocks of 64.
func sum2AVX2(reg.Register) func(cursor) reg.Register {
	mask, ones := every(0x0303030303030303, YMM()), every(0x0001000100010001, YMM())
	lower, upper := YMM(), YMM()
	table := shiftTable("shifts2x2", 0, 2, 4, 6)
	VMOVDQU(table, lower)
	VMOVDQU(table.Offset(32), upper)
	return func(c cursor) reg.Register {
		sums := zeroed(YMM, 2)
		c.each("four", 4, func() {
			for half := range 2 {
				codes, total := YMM(), YMM()
				VMOVDQU(c.codes(32*half), codes)
				for i := range 4 {
					part := total
					if i > 0 {
						part = YMM()
						VPSRLW(operand.Imm(2), codes, codes)
					}
					VPAND(mask, codes, part)
					VPMADDUBSW(c.values(64*i+32*half), part, part)
					if i > 0 {
						VPADDW(part, total, total)
					}
				}
				widen(total, ones, sums[half])
			}
		})
		c.each("one", 1, func() {
			codes := YMM()
			VBROADCASTI128(c.codes(0), codes)
			for i, shifts := range []reg.VecVirtual{lower, upper} {
				part := YMM()
				VPSRLVD(shifts, codes, part)
				VPAND(mask, part, part)
				VPMADDUBSW(c.values(32*i), part, part)
				widen(part, ones, sums[i])
			}
		})
		return fold(add(sums))
	}
}

// sum1AVX2 spreads 32 bits over as many bytes to mask the query with.
func sum1AVX2(reg.Register) func(cursor) reg.Register {
	bit, ones, wide := every(0x8040201008040201, YMM()), every(0x0101010101010101, YMM()), every(0x0001000100010001, YMM())
	spread := YMM()
	VMOVDQU(qwordTable("spread", func(i int) uint64 { return 0x0101010101010101 * uint64(i) }), spread)
	return func(c cursor) reg.Register {
		sums := zeroed(YMM, 2)
		c.each("one", 1, func() {
			for i, sum := range sums {
				mask := YMM()
				VPBROADCASTD(c.codes(4*i), mask)
				VPSHUFB(spread, mask, mask)
				VPAND(bit, mask, mask)
				VPCMPEQB(bit, mask, mask)
				VPAND(c.values(32*i), mask, mask)
				VPMADDUBSW(mask, ones, mask)
				widen(mask, wide, sum)
			}
		})
		return fold(add(sums))
	}
}

// widen adds pairs of words to the dwords of sum.
func widen(words, ones, sum reg.VecVirtual) {
	VPMADDWD(ones, words, words)
	VPADDD(words, sum, sum)
}

// zeroed returns n sums.
func zeroed(register func() reg.VecVirtual, n int) []reg.VecVirtual {
	sums := make([]reg.VecVirtual, n)
	for i := range sums {
		sums[i] = register()
		VPXOR(sums[i].AsX(), sums[i].AsX(), sums[i].AsX()) // clears the rest of the register as well
	}
	return sums
}

// add adds up registers, pair by pair, into the first.
func add(sums []reg.VecVirtual, more ...reg.VecVirtual) reg.VecVirtual {
	sums = append(sums, more...)
	for n := len(sums); n > 1; n = (n + 1) / 2 {
		for i := range n / 2 {
			VPADDD(sums[n-1-i], sums[i], sums[i])
		}
	}
	return sums[0]
}

// fold adds up the dwords of v into its lowest.
func fold(v reg.VecVirtual) reg.Register {
	low, high := XMM(), XMM()
	if v.Size() == 64 {
		upper := YMM()
		VEXTRACTI64X4(operand.Imm(1), v, upper)
		VPADDD(upper, v.AsY(), v.AsY())
	}
	VEXTRACTI128(operand.Imm(1), v.AsY(), high)
	VPADDD(high, v.AsX(), low)
	for _, order := range []uint64{0b1110, 0b01} { // the upper half down, then the upper quarter
		VPSHUFD(operand.Imm(order), low, high)
		VPADDD(high, low, low)
	}
	return low
}

// constants are those already in the file.
var constants = map[string]operand.Mem{}

func constant(name string, write func()) operand.Mem {
	if _, ok := constants[name]; !ok {
		constants[name] = GLOBL(name, 8|16) // RODATA|NOPTR
		write()
	}
	return constants[name]
}

// every fills a register with the eight bytes of v.
func every(v uint64, to reg.VecVirtual) reg.VecVirtual {
	VPBROADCASTQ(constant(fmt.Sprintf("every%016x", v), func() { DATA(0, operand.U64(v)) }), to)
	return to
}

// shiftTable is 64 bytes, each quarter of which repeats one dword.
func shiftTable(name string, quarters ...uint64) operand.Mem {
	return qwordTable(name, func(i int) uint64 { return 0x0000000100000001 * quarters[i/2] })
}

func qwordTable(name string, at func(i int) uint64) operand.Mem {
	return constant(name, func() {
		for i := range 8 {
			DATA(8*i, operand.U64(at(i)))
		}
	})
}

func wordTable(name string, n int, at func(i int) uint16) operand.Mem {
	return constant(name, func() {
		for i := range n {
			DATA(2*i, operand.U16(at(i)))
		}
	})
}
