package kernel

import (
	"encoding/binary"
	"unsafe"
)

// Eight codes are packed and unpacked at a time, as the bytes of a word; no sum below carries from byte to byte.
const (
	everyByte = 0x0101010101010101
	highBits  = 0x80 * everyByte
)

// Pack writes codes of width bits to row, which has room for them, in the layout of CodeDots. Bits of a code above
// width are lost.
func Pack(width int, codes []uint8, row []byte) {
	row = row[:codeBytes(width, len(codes))]
	switch width {
	case 1:
		packBits(codes, row)
		return
	case 8:
		copy(row, codes)
		return
	}
	for len(codes) > 0 {
		size, apart := codeGroup(width, len(codes))
		packGroup(width, apart, codes, row[:size])
		codes, row = codes[size*8/width:], row[size:]
	}
}

// packBits gathers the lowest bits of eight bytes in the highest of their product.
func packBits(codes []uint8, row []byte) {
	for i := range row {
		eight := binary.LittleEndian.Uint64(codes[8*i:]) & everyByte
		row[i] = byte(eight * 0x0102040810204080 >> 56)
	}
}

func packGroup(width, apart int, codes []uint8, group []byte) {
	mask := uint64(everyByte * (1<<width - 1))
	clear(group)
	for part := range 8 / width {
		codes, shift := codes[part*apart:][:len(group)], part*width
		for j := 0; j+8 <= len(group); j += 8 {
			packed := binary.LittleEndian.Uint64(group[j : j+8])
			packed |= binary.LittleEndian.Uint64(codes[j:j+8]) & mask << (shift & 7)
			binary.LittleEndian.PutUint64(group[j:j+8], packed)
		}
	}
}

// Unpack writes the codes of width bits in row to out, as signed numbers: u of 1, 2 or 4 bits as the odd number
// 2u-(2^width-1), u of 8 bits as u-128. So a row can be the query of CodeDots.
func Unpack(width int, row []byte, out []int8) {
	row = row[:codeBytes(width, len(out))]
	if len(out) == 0 {
		return
	}
	unpack(chosen, width, row, out)
}

func unpackGeneric(width int, row []byte, numbers []int8) {
	out := unsafe.Slice((*byte)(unsafe.Pointer(&numbers[0])), len(numbers))
	switch width {
	case 1:
		unpackBits(row, out)
		return
	case 8:
		unpackBytes(row, out)
		return
	}
	for len(out) > 0 {
		size, apart := codeGroup(width, len(out))
		unpackGroup(width, apart, row[:size], out)
		out, row = out[size*8/width:], row[size:]
	}
}

// unpackBits leaves bit i of a byte in its i-th copy, then carries it to the highest bit there.
func unpackBits(row, out []byte) {
	for i, b := range row {
		apart := uint64(b) * everyByte & 0x8040201008040201
		codes := (apart + 0x7f*everyByte) >> 7 & everyByte
		binary.LittleEndian.PutUint64(out[8*i:], signed(everyByte, codes))
	}
}

func unpackBytes(row, out []byte) {
	out = out[:len(row)]
	for i := 0; i+8 <= len(row); i += 8 {
		binary.LittleEndian.PutUint64(out[i:i+8], binary.LittleEndian.Uint64(row[i:i+8])^highBits)
	}
}

func unpackGroup(width, apart int, group, out []byte) {
	mask := uint64(everyByte * (1<<width - 1))
	for part := range 8 / width {
		out, shift := out[part*apart:][:len(group)], part*width
		for j := 0; j+8 <= len(group); j += 8 {
			codes := binary.LittleEndian.Uint64(group[j:j+8]) >> (shift & 7) & mask
			binary.LittleEndian.PutUint64(out[j:j+8], signed(mask, codes))
		}
	}
}

// signed turns each byte u of codes into 2u-largest, with the highest bit lent to the subtraction; largest is in every
// byte.
func signed(largest, codes uint64) uint64 { return (codes<<1 | highBits) - largest ^ highBits }
