package ann

// Set is a set of slots, a bit for each: slot i is bit i%64 of word i/64. Slots beyond its end are not in it.
type Set []uint64

// Has reports whether slot is in the set.
func (s Set) Has(slot uint32) bool {
	word := int(slot >> 6)
	return word < len(s) && s[word]>>(slot&63)&1 != 0
}
