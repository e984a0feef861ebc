package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of codeJob, all of 8 bytes.
const (
	jobQuery = 8 * iota
	jobBlocks
	jobChunks
	jobShift
	jobLimit
	jobStride
	jobOffset
	jobIDs
	jobCount
	jobOut
	jobAhead
	jobAsked
	jobLines
	jobBehind
)

// block is how many dimensions every row is a multiple of, group how many rows are summed side by side.
const (
	block = 64
	group = 4
)

// codes writes the kernels over rows of packed codes.
func codes() {
	rowKernel("codeDots1AVX512", "AVX-512 F, BW, VL and VNNI", sum1AVX512)
	rowKernel("codeDots1TurnedAVX512", "AVX-512 F, BW, VL and VNNI", sum1TurnedAVX512(0))
	rowKernel("codeDots1ScanAVX512", "AVX-512 F, BW, VL and VNNI", sum1TurnedAVX512(8192))
	rowKernel("codeDots2AVX512", "AVX-512 F, DQ and VNNI", sum2AVX512)
	rowKernel("codeDots4AVX512", "AVX-512 F and VNNI", sum4AVX512)
	rowKernel("codeDots8AVX512", "AVX-512 F and VNNI", sum8AVX512)
	rowKernel("codeDots1AVX2", "AVX2 and BMI2", sum1AVX2)
	rowKernel("codeDots2AVX2", "AVX2 and BMI2", sum2AVX2)
	rowKernel("codeDots4AVX2", "AVX2 and BMI2", sum4AVX2)
	rowKernel("codeDots8AVX2", "AVX2 and BMI2", sum8AVX2)
	prefetchRows()
	unpackers()
	estimates()
}

// cursor is a place in some rows and in the query, and the blocks left of them.
type cursor struct {
	name            string // of its labels
	rows            []reg.GPVirtual
	at, query, left reg.GPVirtual // at counts the bytes of a row
	bits            int           // of a code
}

// each emits a loop over body while at least count blocks are left.
func (c cursor) each(count int, body func()) {
	name := fmt.Sprintf("%s%d", c.name, count)
	SUBQ(operand.I32(count), c.left)
	JL(operand.LabelRef(name + "Done"))
	Label(name)
	body()
	ADDQ(operand.I32(count*block*c.bits/8), c.at)
	SUBQ(operand.I32(count), c.left)
	JGE(operand.LabelRef(name))
	Label(name + "Done")
	ADDQ(operand.I32(count), c.left)
}

// unrolled emits loops that take n blocks at a time, then one; step is told the place of each among those.
func (c cursor) unrolled(n int, step func(i int)) {
	c.each(n, func() {
		for i := range n {
			step(i)
		}
	})
	c.each(1, func() { step(0) })
}

func (c cursor) codes(row, disp int) operand.Mem {
	return operand.Mem{Base: c.rows[row], Index: c.at, Scale: 1, Disp: disp}
}

func (c cursor) values(disp int) operand.Mem {
	return operand.Mem{Base: c.query, Index: c.at, Scale: uint8(8 / c.bits), Disp: disp}
}

// A summer emits what a kernel does once, and returns what emits the sums over rows: in the dwords of one register for
// each of them.
type summer func(job reg.Register) func(c cursor) []reg.VecVirtual

// rowKernel emits a kernel that goes through the rows of a job. Each row is looked up twice: to check its id and ask
// for its cache lines while `ahead` rows before it are still to be summed, and to sum it, in groups as long as there are
// enough: they share what is loaded of the query, and adding up the sums of four takes little more than those of one.
func rowKernel(name, needs string, prepare summer) {
	TEXT(name, 0, "func(job *[14]uint64) int")
	Pragma("noescape")
	Doc(name+" sums the rows of a job that has some. It returns the number of ids found in range from the first on; if",
		"that is not all of them, what it wrote is of no use. Needs "+needs+".")
	bits := int(name[len("codeDots")] - '0')
	job := Load(Param("job"), GP64())
	sum := prepare(job)

	m := loadMatrix(job)
	asked, summed, credit := GP64(), GP64(), GP64()
	XORQ(asked, asked)
	XORQ(summed, summed)
	MOVQ(operand.Mem{Base: job, Disp: jobAhead}, credit)
	ADDQ(operand.Imm(group-1), credit)

	Label("ask")
	CMPQ(asked, operand.Mem{Base: job, Disp: jobCount})
	JGE(operand.LabelRef("sum"))
	m.ask(asked)
	INCQ(asked)
	DECQ(credit)
	JG(operand.LabelRef("ask"))

	Label("sum")
	left := GP64()
	MOVQ(operand.Mem{Base: job, Disp: jobCount}, left)
	SUBQ(summed, left)
	CMPQ(left, operand.Imm(group))
	JL(operand.LabelRef("single"))
	for _, c := range []cursor{{name: "group", bits: bits}, {name: "single", bits: bits}} {
		count := group
		if c.name == "single" {
			count = 1
		}
		Label(c.name)
		m.find(&c, summed, count)
		store(fold(sum(c)), job, summed, count)
		c.copyBehind(job, summed)
		ADDQ(operand.Imm(uint64(count)), summed)
		ADDQ(operand.Imm(uint64(count)), credit)
		CMPQ(summed, operand.Mem{Base: job, Disp: jobCount})
		JL(operand.LabelRef("ask"))
		JMP(operand.LabelRef("end"))
	}

	Label("end")
	VZEROUPPER()
	Store(asked, ReturnIndex(0))
	RET()
}

// matrix are the registers by which rows are found.
type matrix struct{ job, chunks, shift, ids reg.Register }

func loadMatrix(job reg.Register) matrix {
	m := matrix{job, GP64(), GP64(), GP64()}
	MOVQ(operand.Mem{Base: job, Disp: jobChunks}, m.chunks)
	MOVQ(operand.Mem{Base: job, Disp: jobShift}, m.shift)
	MOVQ(operand.Mem{Base: job, Disp: jobIDs}, m.ids)
	return m
}

// find points c at the beginning of count rows from the i-th asked for on, and of the query.
func (m matrix) find(c *cursor, i reg.Register, count int) {
	for k := range count {
		id := GP64()
		MOVL(operand.Mem{Base: m.ids, Index: i, Scale: 4, Disp: 4 * k}, id.As32())
		m.locate(id)
		c.rows = append(c.rows, id)
	}
	c.at, c.query, c.left = GP64(), GP64(), GP64()
	XORQ(c.at, c.at)
	MOVQ(operand.Mem{Base: m.job, Disp: jobQuery}, c.query)
	MOVQ(operand.Mem{Base: m.job, Disp: jobBlocks}, c.left)
}

// locate turns an id into the address of its row: Chunks[id>>shift] + (id & (1<<shift-1))·stride + offset.
func (m matrix) locate(id reg.Register) {
	chunk, whole := GP64(), GP64()
	SHRXQ(m.shift, id, chunk)
	SHLXQ(m.shift, chunk, whole)
	SUBQ(whole, id)
	IMULQ(operand.Mem{Base: m.job, Disp: jobStride}, id)
	ADDQ(operand.Mem{Base: m.chunks, Index: chunk, Scale: 8}, id)
	ADDQ(operand.Mem{Base: m.job, Disp: jobOffset}, id)
}

// ask checks the i-th id, leaving for "end" if it is out of range, and asks for the first bytes of its row: the line of
// the last, those 64 bytes before each other, and that of the first, as rows need not begin with a line. PREFETCHT1,
// into the second cache: lines on their way to the first are few at a time, and long rows came 5 to 15 % later by
// PREFETCHT0.
func (m matrix) ask(i reg.Register) {
	id, last := GP64(), GP64()
	MOVL(operand.Mem{Base: m.ids, Index: i, Scale: 4}, id.As32())
	CMPQ(id, operand.Mem{Base: m.job, Disp: jobLimit})
	JCC(operand.LabelRef("end")) // above or equal
	m.locate(id)
	MOVQ(operand.Mem{Base: m.job, Disp: jobAsked}, last)
	ADDQ(id, last)
	for n := 16; n > 0; n /= 2 {
		skip := fmt.Sprintf("less%d", n)
		TESTB(operand.Imm(uint64(n)), operand.Mem{Base: m.job, Disp: jobLines})
		JEQ(operand.LabelRef(skip))
		for k := range n {
			PREFETCHT1(operand.Mem{Base: last, Disp: -1 - 64*k})
		}
		SUBQ(operand.I32(64*n), last)
		Label(skip)
	}
	PREFETCHT1(operand.Mem{Base: id})
}

// store writes count sums to out from the i-th on.
func store(sums, job, i reg.Register, count int) {
	out := GP64()
	MOVQ(operand.Mem{Base: job, Disp: jobOut}, out)
	if count == 1 {
		VMOVD(sums, operand.Mem{Base: out, Index: i, Scale: 4})
		return
	}
	VMOVUPS(sums, operand.Mem{Base: out, Index: i, Scale: 4})
}

// copyBehind copies the eight bytes behind the codes of each row, from the i-th on, if the job says where to.
func (c cursor) copyBehind(job, i reg.Register) {
	out := GP64()
	MOVQ(operand.Mem{Base: job, Disp: jobBehind}, out)
	TESTQ(out, out)
	JEQ(operand.LabelRef(c.name + "Copied"))
	for r, row := range c.rows {
		MOVQ(operand.Mem{Base: row, Index: c.at, Scale: 1}, row)
		MOVQ(row, operand.Mem{Base: out, Index: i, Scale: 8, Disp: 8 * r})
	}
	Label(c.name + "Copied")
}

// prefetchRows is the asking half of a kernel.
func prefetchRows() {
	TEXT("prefetchRows", NOSPLIT, "func(job *[14]uint64) int")
	Pragma("noescape")
	Doc("prefetchRows asks for the first bytes of the rows of a job that has some. It returns like the kernels.",
		"Needs BMI2.")
	job := Load(Param("job"), GP64())
	m := loadMatrix(job)
	i := GP64()
	XORQ(i, i)
	Label("row")
	m.ask(i)
	INCQ(i)
	CMPQ(i, operand.Mem{Base: job, Disp: jobCount})
	JL(operand.LabelRef("row"))
	Label("end")
	Store(i, ReturnIndex(0))
	RET()
}
