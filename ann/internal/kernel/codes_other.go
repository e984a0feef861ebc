//go:build !amd64

package kernel

func codeDots(_ way, width int, query []int8, rows *Rows, offset int, ids []uint32, out []int32, behind []uint64) {
	codeDotsGeneric(width, query, rows, offset, ids, out, behind)
}

func askRows(_ way, rows *Rows, ids []uint32, _ int) { askRowsGeneric(rows, ids) }

func unpack(_ way, width int, row []byte, out []int8) { unpackGeneric(width, row, out) }

func near(_ way, e *Estimator, sums []int32, factors []uint64, reach float32, ids []uint32, out []float32) int {
	return nearGeneric(e, sums, factors, reach, ids, out)
}
