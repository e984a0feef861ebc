package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// unroll is how many independent sums hide the latency of an addition.
const unroll = 4

// headerSize is that of a slice, whose first word points to the values.
const headerSize = 24

// floats writes the kernels over rows of float32.
func floats() {
	lowLanesTable()
	interleavedTable()
	stageSignsTables()
	for _, w := range widths {
		rows(w, "dotRows", "query·rows[i]", func(x, y operand.Op, sum reg.VecVirtual) {
			VFMADD231PS(y, x, sum)
		})
		rows(w, "squaredL2Rows", "|query-rows[i]|²", func(x, y operand.Op, sum reg.VecVirtual) {
			VSUBPS(y, x, x)
			VFMADD231PS(x, x, sum)
		})
		maxAbs(w)
		flipSigns(w)
		scale(w)
		quantize(w)
		encode(w)
		hadamard(w)
	}
}

// term adds the values of two registers to a sum; it may destroy x.
type term func(x, y operand.Op, sum reg.VecVirtual)

// rows writes one query against many rows. Prefetching is inside, since only here is it known when a row is at hand.
func rows(w width, name, what string, add term) {
	TEXT(name+w.name, NOSPLIT, "func(query *float32, dim int, rows *[]float32, n int, out *float32)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s%s sets out[i] to %s for the n rows that are not nil, of dim floats each, dim above 0.", name, w.name, what))
	query := Load(Param("query"), GP64())
	dim := Load(Param("dim"), GP64())
	header := Load(Param("rows"), GP64())
	n := Load(Param("n"), GP64())
	out := Load(Param("out"), GP64())

	rest := GP64()
	MOVQ(dim, rest)
	ANDQ(operand.Imm(uint64(w.lanes-1)), rest)
	last := w.tail(rest)

	Label("row")
	TESTQ(n, n)
	JE(operand.LabelRef("end"))
	prefetchNext(header, n)
	row := GP64()
	MOVQ(operand.Mem{Base: header}, row)
	TESTQ(row, row)
	JE(operand.LabelRef("next"))

	q, left := GP64(), GP64()
	MOVQ(query, q)
	MOVQ(dim, left)
	sums := w.accumulate([]reg.Register{q, row}, left, last, add)
	total := w.foldFloats(w.sum(sums, VADDPS), VADDPS)
	VMOVSS(total, operand.Mem{Base: out})

	Label("next")
	ADDQ(operand.Imm(headerSize), header)
	ADDQ(operand.Imm(4), out)
	DECQ(n)
	JMP(operand.LabelRef("row"))
	Label("end")
	VZEROUPPER()
	RET()
}

// prefetchLines is how many cache lines of the next row are asked for; the CPU follows by itself once it sees a row
// read in order. Measured for random rows of 128, 784 and 1,536 floats in 512 MiB: 1 to 8 lines save 5 to 14 % of the
// time, the better part of which is the walk of the page table; more lines save less, as do rows further ahead.
const prefetchLines = 2

// prefetchNext asks for the beginning of the row after the one at header, if there is one. That lines beyond a short
// row are asked for does no harm.
func prefetchNext(header, n reg.Register) {
	p := GP64()
	CMPQ(n, operand.Imm(1))
	JE(operand.LabelRef("prefetched"))
	MOVQ(operand.Mem{Base: header, Disp: headerSize}, p)
	for i := range prefetchLines {
		PREFETCHT0(operand.Mem{Base: p, Disp: 64 * i})
	}
	Label("prefetched")
}

// accumulate emits loops over left values of one or two rows, whose pointers move, and returns the sums.
func (w width) accumulate(pointers []reg.Register, left reg.Register, last tail, add term) [unroll]reg.VecVirtual {
	var sums [unroll]reg.VecVirtual
	for i := range sums {
		sums[i] = w.zero()
	}
	var streams []stream
	for _, p := range pointers {
		streams = append(streams, floatsAt(p))
	}
	step := func(count int) func() {
		return func() {
			for i := range count {
				x := w.register()
				VMOVUPS(operand.Mem{Base: pointers[0], Disp: w.bytes() * i}, x)
				y := operand.Mem{Base: pointers[len(pointers)-1], Disp: w.bytes() * i}
				add(x, y, sums[i])
			}
		}
	}
	loop("wide", left, unroll*w.lanes, step(unroll), streams...)
	loop("narrow", left, w.lanes, step(1), streams...)
	unless0("rest", left, func() {
		x := last(pointers[0])
		add(x, last(pointers[len(pointers)-1]), sums[1])
	})
	return sums
}

// sum combines the sums into one register.
func (w width) sum(sums [unroll]reg.VecVirtual, packed binary) reg.VecVirtual {
	packed(sums[1], sums[0], sums[0])
	packed(sums[3], sums[2], sums[2])
	packed(sums[2], sums[0], sums[0])
	return sums[0]
}
