package filter

import (
	"strings"
	"unsafe"

	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/codec"
)

// maxText is the longest string, in bytes, that is kept whole. Longer ones are known by their hash alone, which finds
// a superset: a long text is hardly ever asked for by its value, and must not cost its length again in memory.
const maxText = 256

// field indexes one key. A slot is in present once, and in a posting for each value that its record has under the key.
type field struct {
	present set
	texts   postings[string] // strings and elements of lists
	longs   postings[uint64] // those over maxText
	bools   postings[bool]
	numbers ordered
	numeric int // slots whose value is a number
	lists   int // slots whose value is a list; without any, no slot is in two postings
}

const fieldBytes = int64(unsafe.Sizeof(field{})) + 64

func (f *field) add(slot uint32, v *metadata.Value, mem *int64) {
	f.present.add(slot, mem)
	switch v.Kind {
	case metadata.String:
		f.addText(v.Str, slot, mem)
	case metadata.Number:
		f.numeric++
		f.numbers.add(v.Num, slot, mem)
	case metadata.Bool:
		f.bools.add(v.Boolean, slot, mem)
	case metadata.Strings:
		f.lists++
		for _, s := range v.List {
			f.addText(s, slot, mem)
		}
	}
}

func (f *field) remove(slot uint32, v *metadata.Value, mem *int64) {
	f.present.remove(slot, mem)
	switch v.Kind {
	case metadata.String:
		f.removeText(v.Str, slot, mem)
	case metadata.Number:
		f.numeric--
		f.numbers.remove(v.Num, slot, mem)
	case metadata.Bool:
		f.bools.remove(v.Boolean, slot, mem)
	case metadata.Strings:
		f.lists--
		for _, s := range v.List {
			f.removeText(s, slot, mem)
		}
	}
}

// addText keeps a copy of a new s, which would otherwise hold on to the whole metadata that it was cut from.
func (f *field) addText(s string, slot uint32, mem *int64) {
	if len(s) > maxText {
		f.longs.add(codec.HashString(s), slot, mem)
		return
	}
	if _, known := f.texts.m[s]; !known {
		s = strings.Clone(s)
		*mem += textBytes(s)
	}
	f.texts.add(s, slot, mem)
}

func (f *field) removeText(s string, slot uint32, mem *int64) {
	if len(s) > maxText {
		f.longs.remove(codec.HashString(s), slot, mem)
	} else if f.texts.remove(s, slot, mem) {
		*mem -= textBytes(s)
	}
}

// textBytes is what a string of its own takes, rounded as the allocator does.
func textBytes(s string) int64 { return int64(len(s)+15) &^ 15 }

// find returns the posting of a value. exact is false if it may hold slots with another value.
func (f *field) find(o operand) (p posting, found, exact bool) {
	exact = true
	switch {
	case o.kind == metadata.Number:
		p, found = f.numbers.get(o.num)
	case o.kind == metadata.Bool:
		p, found = f.bools.m[o.bool()]
	case len(o.str) > maxText:
		p, found = f.longs.m[codec.HashString(o.str)]
		exact = !found
	default:
		p, found = f.texts.m[o.str]
	}
	return p, found, exact
}
