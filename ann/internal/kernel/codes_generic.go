package kernel

import (
	"encoding/binary"
	"math/bits"
	"unsafe"
)

// at returns size bytes from offset on of row id.
func (r *Rows) at(id uint32, offset, size int) []byte {
	i := int(id)
	if i >= r.len() {
		panic(outside(id, r))
	}
	chunk := r.Chunks[i>>r.Shift]
	return unsafe.Slice((*byte)(unsafe.Add(chunk, i&(1<<r.Shift-1)*r.Stride+offset)), size)
}

func codeDotsGeneric(width int, query []int8, rows *Rows, offset int, ids []uint32, out []int32, behind []uint64) {
	size := len(query) / 8 * width
	for i, id := range ids {
		out[i] = codeDotGeneric(width, query, rows.at(id, offset, size))
		if len(behind) > 0 {
			behind[i] = binary.LittleEndian.Uint64(rows.at(id, offset+size, 8))
		}
	}
}

// codeDotGeneric is the specification of a row's layout and sum.
func codeDotGeneric(width int, query []int8, row []byte) int32 {
	switch width {
	case 1:
		return bitDot(query, row)
	case 8:
		return byteDot(query, row)
	}
	var sum int32
	for len(query) > 0 {
		size, apart := codeGroup(width, len(query))
		if width == 4 {
			sum += halvesDot(apart, query, row[:size])
		} else {
			sum += quartersDot(apart, query, row[:size])
		}
		query, row = query[size*8/width:], row[size:]
	}
	return sum
}

// codeGroup returns the size in bytes of the next block of a row with dims dimensions left, for codes of 2 or 4 bits.
// That is also how many dimensions lie between two codes of one byte.
func codeGroup(width, dims int) (size, apart int) {
	full := 64 * 8 / width
	if dims >= full {
		return 64, 64
	}
	return codeBlock / 8 * width, codeBlock / 8 * width
}

func halvesDot(apart int, query []int8, group []byte) int32 {
	n := len(group)
	low, high := query[:n], query[apart:][:n]
	var sum int32
	for j, u := range group {
		sum += int32(u&15)*int32(low[j]) + int32(u>>4)*int32(high[j])
	}
	return sum
}

func quartersDot(apart int, query []int8, group []byte) int32 {
	n := len(group)
	q0, q1, q2, q3 := query[:n], query[apart:][:n], query[2*apart:][:n], query[3*apart:][:n]
	var sum int32
	for j, u := range group {
		sum += int32(u&3)*int32(q0[j]) + int32(u>>2&3)*int32(q1[j]) + int32(u>>4&3)*int32(q2[j]) + int32(u>>6)*int32(q3[j])
	}
	return sum
}

func byteDot(query []int8, row []byte) int32 {
	row = row[:len(query)]
	var sum int32
	for j, v := range query {
		sum += int32(row[j]) * int32(v)
	}
	return sum
}

func bitDot(query []int8, row []byte) int32 {
	var sum int32
	for ; len(query) > 0; query, row = query[64:], row[8:] {
		values := query[:64]
		for w := binary.LittleEndian.Uint64(row); w != 0; w &= w - 1 {
			sum += int32(values[bits.TrailingZeros64(w)])
		}
	}
	return sum
}

// askRowsGeneric checks ids only: there is no portable way to ask for memory.
func askRowsGeneric(rows *Rows, ids []uint32) {
	for _, id := range ids {
		if int(id) >= rows.len() {
			panic(outside(id, rows))
		}
	}
}
