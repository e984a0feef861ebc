package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// hadamard writes the parts of a Walsh-Hadamard transform: the stages inside a register, alone or with three more
// across eight registers, and passes of one to three stages over a longer row. Each stage adds and subtracts the
// same two numbers whatever the width, so that the result is the same in every bit.
func hadamard(w width) {
	hadamardBlocks(w, 1)
	hadamardBlocks(w, 8)
	for _, radix := range []int{2, 4, 8} {
		hadamardPass(w, radix)
	}
}

// hadamardBlocks writes the transform of each block of count registers.
func hadamardBlocks(w width, count int) {
	floats := count * w.lanes
	name := fmt.Sprintf("hadamard%dx%s", count, w.name)
	TEXT(name, NOSPLIT, "func(x *float32, n int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s transforms each block of %d floats, of which n is a multiple.", name, floats))
	x := Load(Param("x"), GP64())
	n := Load(Param("n"), GP64())
	signs := w.signs()
	loop("block", n, floats, func() {
		v := make([]reg.VecVirtual, count)
		for i := range v {
			v[i] = w.register()
			VMOVUPS(operand.Mem{Base: x, Disp: i * w.bytes()}, v[i])
			w.butterflyInside(v[i], signs)
		}
		w.butterflies(v)
		for i := range v {
			VMOVUPS(v[i], operand.Mem{Base: x, Disp: i * w.bytes()})
		}
	}, floatsAt(x))
	VZEROUPPER()
	RET()
}

// stageSigns has for each stage inside a register -1 in the lanes that are subtracted from their partner, else 1.
var stageSigns [4]operand.Mem

func stageSignsTables() {
	for stage := range stageSigns {
		stageSigns[stage] = GLOBL(fmt.Sprintf("signs%d", 1<<stage), readOnly)
		for i := range 16 {
			sign := float32(1)
			if i>>stage&1 == 1 {
				sign = -1
			}
			DATA(4*i, operand.U32(math.Float32bits(sign)))
		}
	}
}

// signs returns those of the stages that fit a register.
func (w width) signs() []reg.VecVirtual {
	var all []reg.VecVirtual
	for stage := 0; 1<<stage < w.lanes; stage++ {
		v := w.register()
		VMOVUPS(stageSigns[stage], v)
		all = append(all, v)
	}
	return all
}

// butterflyInside emits the stages between lanes of v: each lane, with its sign, is added to its partner.
func (w width) butterflyInside(v reg.VecVirtual, signs []reg.VecVirtual) {
	for stage, sign := range signs {
		partner := w.register()
		switch {
		case stage == 0:
			VPERMILPS(operand.Imm(0xB1), v, partner)
		case stage == 1:
			VPERMILPS(operand.Imm(0x4E), v, partner)
		case !w.wide():
			VPERM2F128(operand.Imm(0x01), v, v, partner)
		case stage == 2:
			VSHUFF32X4(operand.Imm(0xB1), v, v, partner)
		default:
			VSHUFF32X4(operand.Imm(0x4E), v, v, partner)
		}
		VFMADD213PS(partner, sign, v)
	}
}

// butterflies emits the stages between registers.
func (w width) butterflies(v []reg.VecVirtual) {
	for stride := 1; stride < len(v); stride *= 2 {
		for i := range v {
			if i&stride != 0 {
				continue
			}
			difference := w.register()
			VSUBPS(v[i+stride], v[i], difference)
			VADDPS(v[i+stride], v[i], v[i])
			v[i+stride] = difference
		}
	}
}

// hadamardPass writes the stages between values that are stride, 2·stride, … radix/2·stride apart.
func hadamardPass(w width, radix int) {
	name := fmt.Sprintf("hadamardRadix%d%s", radix, w.name)
	TEXT(name, NOSPLIT, "func(x *float32, n, stride int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s runs the stages of strides from stride to %d·stride over n floats; n is a multiple of %d·stride, and stride of %d.", name, radix/2, radix, w.lanes))
	x := Load(Param("x"), GP64())
	n := Load(Param("n"), GP64())
	stride := Load(Param("stride"), GP64())

	end, step, step3 := GP64(), GP64(), GP64()
	LEAQ(operand.Mem{Base: x, Index: n, Scale: 4}, end)
	MOVQ(stride, step)
	SHLQ(operand.Imm(2), step)
	LEAQ(operand.Mem{Base: step, Index: step, Scale: 2}, step3)
	second, groupEnd := GP64(), GP64()

	Label("group")
	LEAQ(operand.Mem{Base: x, Index: step, Scale: 1}, second)
	MOVQ(second, groupEnd)
	Label("column")
	at := []operand.Mem{
		{Base: x}, {Base: second}, {Base: x, Index: step, Scale: 2}, {Base: x, Index: step3, Scale: 1},
		{Base: x, Index: step, Scale: 4}, {Base: second, Index: step, Scale: 4}, {Base: x, Index: step3, Scale: 2},
		{Base: second, Index: step3, Scale: 2},
	}[:radix]
	v := make([]reg.VecVirtual, radix)
	for i := range v {
		v[i] = w.register()
		VMOVUPS(at[i], v[i])
	}
	w.butterflies(v)
	for i := range v {
		VMOVUPS(v[i], at[i])
	}
	ADDQ(operand.I32(w.bytes()), x)
	ADDQ(operand.I32(w.bytes()), second)
	CMPQ(x, groupEnd)
	JB(operand.LabelRef("column"))
	for range radix - 1 {
		ADDQ(step, x)
	}
	CMPQ(x, end)
	JB(operand.LabelRef("group"))
	VZEROUPPER()
	RET()
}
