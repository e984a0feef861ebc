//go:build !amd64

package kernel

func codeDots(_ way, width int, query []int8, rows *Rows, offset int, ids []uint32, out []int32) {
	codeDotsGeneric(width, query, rows, offset, ids, out)
}

func askRows(_ way, rows *Rows, ids []uint32, _ int) { askRowsGeneric(rows, ids) }

func unpack(_ way, width int, row []byte, out []int8) { unpackGeneric(width, row, out) }
