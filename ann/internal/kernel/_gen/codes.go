package main

import (
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
)

// block is how many dimensions every row is a multiple of.
const block = 64

// codes writes the kernels over rows of packed codes.
func codes() {
	rowKernel("codeDots1AVX512", "AVX-512 F, BW, VL and VNNI", sum1AVX512)
	rowKernel("codeDots1TurnedAVX512", "AVX-512 F, BW, VL and VNNI", sum1TurnedAVX512)
	rowKernel("codeDots2AVX512", "AVX-512 F, DQ and VNNI", sum2AVX512)
	rowKernel("codeDots4AVX512", "AVX-512 F and VNNI", sum4AVX512)
	rowKernel("codeDots8AVX512", "AVX-512 F and VNNI", sum8AVX512)
	rowKernel("codeDots1AVX2", "AVX2 and BMI2", sum1AVX2)
	rowKernel("codeDots2AVX2", "AVX2 and BMI2", sum2AVX2)
	rowKernel("codeDots4AVX2", "AVX2 and BMI2", sum4AVX2)
	rowKernel("codeDots8AVX2", "AVX2 and BMI2", sum8AVX2)
	prefetchRows()
}

// cursor is a place in a row and in the query, and the blocks left of both.
type cursor struct {
	row, query, left reg.GPVirtual
	bits             int // of a code
}

// each emits a loop over body while at least count blocks are left.
func (c cursor) each(name string, count int, body func()) {
	SUBQ(operand.I32(count), c.left)
	JL(operand.LabelRef(name + "Done"))
	Label(name)
	body()
	ADDQ(operand.I32(count*block*c.bits/8), c.row)
	ADDQ(operand.I32(count*block), c.query)
	SUBQ(operand.I32(count), c.left)
	JGE(operand.LabelRef(name))
	Label(name + "Done")
	ADDQ(operand.I32(count), c.left)
}

// unrolled emits loops that take n blocks at a time, then one; step is told the place of each among those.
func (c cursor) unrolled(n int, step func(i int)) {
	c.each("many", n, func() {
		for i := range n {
			step(i)
		}
	})
	c.each("one", 1, func() { step(0) })
}

func (c cursor) codes(disp int) operand.Mem  { return operand.Mem{Base: c.row, Disp: disp} }
func (c cursor) values(disp int) operand.Mem { return operand.Mem{Base: c.query, Disp: disp} }

// A summer emits what a kernel does once, and returns what emits the sum over one row: into the lowest lane of the
// register that it returns.
type summer func(job reg.Register) func(c cursor) reg.Register

// rowKernel emits a kernel that goes through the rows of a job. Each row is looked up twice: to check its id and ask
// for its cache lines while `ahead` rows before it are still to be summed, and to sum it.
func rowKernel(name, needs string, prepare summer) {
	TEXT(name, 0, "func(job *[12]uint64) int")
	Pragma("noescape")
	Doc(name+" sums the rows of a job that has some. It returns the number of ids found in range from the first on; if",
		"that is not all of them, what it wrote is of no use. Needs "+needs+".")
	bits := int(name[len("codeDots")] - '0')
	job := Load(Param("job"), GP64())
	sum := prepare(job)

	rows := loadMatrix(job)
	asked, summed := GP64(), GP64()
	XORQ(asked, asked)
	XORQ(summed, summed)
	MOVQ(operand.Mem{Base: job, Disp: jobAhead}, rows.credit)

	Label("ask")
	CMPQ(asked, operand.Mem{Base: job, Disp: jobCount})
	JGE(operand.LabelRef("sum"))
	rows.ask(job, asked)
	INCQ(asked)
	DECQ(rows.credit)
	JG(operand.LabelRef("ask"))

	Label("sum")
	c := cursor{row: rows.find(summed), query: GP64(), left: GP64(), bits: bits}
	MOVQ(operand.Mem{Base: job, Disp: jobQuery}, c.query)
	MOVQ(operand.Mem{Base: job, Disp: jobBlocks}, c.left)
	total := sum(c)
	out := GP64()
	MOVQ(operand.Mem{Base: job, Disp: jobOut}, out)
	VMOVD(total, operand.Mem{Base: out, Index: summed, Scale: 4})
	INCQ(summed)
	CMPQ(summed, operand.Mem{Base: job, Disp: jobCount})
	JL(operand.LabelRef("ask"))

	Label("end")
	VZEROUPPER()
	Store(asked, ReturnIndex(0))
	RET()
}

// matrix are the registers by which rows are found.
type matrix struct {
	chunks, shift, stride, offset, ids reg.GPVirtual
	credit                             reg.GPVirtual // rows that may be asked for before the next is summed
}

func loadMatrix(job reg.Register) matrix {
	m := matrix{GP64(), GP64(), GP64(), GP64(), GP64(), GP64()}
	MOVQ(operand.Mem{Base: job, Disp: jobChunks}, m.chunks)
	MOVQ(operand.Mem{Base: job, Disp: jobShift}, m.shift)
	MOVQ(operand.Mem{Base: job, Disp: jobStride}, m.stride)
	MOVQ(operand.Mem{Base: job, Disp: jobOffset}, m.offset)
	MOVQ(operand.Mem{Base: job, Disp: jobIDs}, m.ids)
	return m
}

// find returns the address of the i-th row asked for.
func (m matrix) find(i reg.Register) reg.GPVirtual {
	id := GP64()
	MOVL(operand.Mem{Base: m.ids, Index: i, Scale: 4}, id.As32())
	return m.address(id)
}

// address turns an id into the address of its row: Chunks[id>>shift] + (id & (1<<shift-1))·stride + offset.
func (m matrix) address(id reg.GPVirtual) reg.GPVirtual {
	chunk, whole := GP64(), GP64()
	SHRXQ(m.shift, id, chunk)
	SHLXQ(m.shift, chunk, whole)
	SUBQ(whole, id)
	IMULQ(m.stride, id)
	ADDQ(operand.Mem{Base: m.chunks, Index: chunk, Scale: 8}, id)
	ADDQ(m.offset, id)
	return id
}

// ask checks the i-th id, leaving for "end" if it is out of range, and asks for the first bytes of its row: the
// line of the last, those 64 bytes before each other, and that of the first, as rows need not begin with a line. PREFETCHT1, into the second cache: lines on their
// way to the first are few at a time, and long rows came 5 to 15 % later by PREFETCHT0.
func (m matrix) ask(job, i reg.Register) {
	id, left := GP64(), GP64()
	MOVL(operand.Mem{Base: m.ids, Index: i, Scale: 4}, id.As32())
	CMPQ(id, operand.Mem{Base: job, Disp: jobLimit})
	JCC(operand.LabelRef("end")) // above or equal
	MOVQ(operand.Mem{Base: job, Disp: jobAsked}, left)
	row := m.address(id)
	Label("line")
	PREFETCHT1(operand.Mem{Base: row, Index: left, Scale: 1, Disp: -1})
	SUBQ(operand.Imm(64), left)
	JG(operand.LabelRef("line"))
	PREFETCHT1(operand.Mem{Base: row})
}

// prefetchRows is the asking half of a kernel.
func prefetchRows() {
	TEXT("prefetchRows", NOSPLIT, "func(job *[12]uint64) int")
	Pragma("noescape")
	Doc("prefetchRows asks for the first bytes of the rows of a job that has some. It returns like the kernels.",
		"Needs BMI2.")
	job := Load(Param("job"), GP64())
	rows := loadMatrix(job)
	i := GP64()
	XORQ(i, i)
	Label("row")
	rows.ask(job, i)
	INCQ(i)
	CMPQ(i, operand.Mem{Base: job, Disp: jobCount})
	JL(operand.LabelRef("row"))
	Label("end")
	Store(i, ReturnIndex(0))
	RET()
}
