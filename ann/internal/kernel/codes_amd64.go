package kernel

import "unsafe"

const (
	cacheLine = 64 // bytes
	maxLines  = 31 // what a kernel asks for of a row
)

// codeJob is what an assembly kernel is told. Its fields are of eight bytes each, in the order of _gen/codes.go.
type codeJob struct {
	query  *int8
	blocks int // of codeBlock dimensions
	chunks *unsafe.Pointer
	shift  uint
	limit  int // rows there are
	stride int
	offset int
	ids    *uint32
	count  int // of ids, at least 1
	out    *int32
	ahead  int     // rows asked for before they are summed, at least 1
	asked  int     // bytes asked for of each, from 1 to 64·maxLines
	lines  int     // what that is in cache lines, rounded up
	behind *uint64 // where the eight bytes behind the codes go, if anywhere
}

func codeDots(w way, width int, query []int8, rows *Rows, offset int, ids []uint32, out []int32, behind []uint64) {
	if w == generic {
		codeDotsGeneric(width, query, rows, offset, ids, out, behind)
		return
	}
	job := newJob(rows, ids)
	job.query, job.blocks = &query[0], len(query)/codeBlock
	job.offset, job.out, job.behind = offset, &out[0], unsafe.SliceData(behind)
	job.plan(rows.Stride - offset) // what lies behind the codes is wanted as well: the factors of an estimate
	if done := job.run(w, width); done < len(ids) {
		panic(outside(ids[done], rows))
	}
}

func newJob(rows *Rows, ids []uint32) codeJob {
	return codeJob{
		chunks: unsafe.SliceData(rows.Chunks), shift: rows.Shift, limit: rows.len(), stride: rows.Stride,
		ids: &ids[0], count: len(ids),
	}
}

// plan sets how far ahead rows of that many bytes are asked for, and how much of them: all of up to 16 lines. A longer
// row the CPU follows by itself once it is read, and more requests only stand in each other's way. Measured on lists of
// 16 and 32 random ids out of cache, against asking for the next row's first line: 16 to 192 bytes come 1.5 to 3 times as
// fast, 416 to 1,536 bytes 1.4 to 2 times; 4 and 8 rows ahead gain less.
func (j *codeJob) plan(size int) {
	if size <= 16*cacheLine {
		j.ahead = 32
		j.ask(size)
		return
	}
	j.ahead = 16
	j.ask(8 * cacheLine)
}

func (j *codeJob) ask(size int) {
	j.asked = min(size, maxLines*cacheLine)
	j.lines = (j.asked + cacheLine - 1) / cacheLine
}

func (j *codeJob) run(w way, width int) int {
	turned := width == 1 && j.blocks <= turnedBlocks && j.count >= turnedCount
	switch {
	case w == avx2:
		return runAVX2(j.words(), width)
	case turned && j.ids == &ordinals[0]: // a scan
		return codeDots1ScanAVX512(j.words())
	case turned:
		return codeDots1TurnedAVX512(j.words())
	}
	return runAVX512(j.words(), width)
}

// To turn the query pays from so many rows on, and there is room for so many blocks of it.
const (
	turnedCount  = 4
	turnedBlocks = 4096 / codeBlock
)

// words is how the generator, which knows no types of ours, sees a job.
func (j *codeJob) words() *[14]uint64 { return (*[unsafe.Sizeof(*j) / 8]uint64)(unsafe.Pointer(j)) }

func runAVX512(job *[14]uint64, width int) int {
	switch width {
	case 1:
		return codeDots1AVX512(job)
	case 2:
		return codeDots2AVX512(job)
	case 4:
		return codeDots4AVX512(job)
	}
	return codeDots8AVX512(job)
}

func runAVX2(job *[14]uint64, width int) int {
	switch width {
	case 1:
		return codeDots1AVX2(job)
	case 2:
		return codeDots2AVX2(job)
	case 4:
		return codeDots4AVX2(job)
	}
	return codeDots8AVX2(job)
}

func askRows(w way, rows *Rows, ids []uint32, lines int) {
	if w == generic {
		askRowsGeneric(rows, ids)
		return
	}
	job := newJob(rows, ids)
	job.ask(lines * cacheLine)
	if done := prefetchRows(job.words()); done < len(ids) {
		panic(outside(ids[done], rows))
	}
}

func unpack(w way, width int, row []byte, out []int8) {
	if w == generic {
		unpackGeneric(width, row, out)
		return
	}
	blocks := len(out) / codeBlock
	switch width {
	case 1:
		unpack1AVX2(&row[0], &out[0], blocks)
	case 2:
		unpack2AVX2(&row[0], &out[0], blocks)
	case 4:
		unpack4AVX2(&row[0], &out[0], blocks)
	case 8:
		unpack8AVX2(&row[0], &out[0], blocks)
	}
}

func near(w way, e *Estimator, sums []int32, factors []uint64, reach float32, ids []uint32, out []float32) int {
	if w != avx512 {
		return nearGeneric(e, sums, factors, reach, ids, out)
	}
	fields := (*[unsafe.Sizeof(*e) / 8]float64)(unsafe.Pointer(e))
	return nearAVX512(fields, &sums[0], &factors[0], &reach, &ids[0], &out[0], len(ids))
}
