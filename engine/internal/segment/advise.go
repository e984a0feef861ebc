package segment

// readAhead is how many blocks a reader that goes from block to block asks for at once: enough to keep a disk busy
// while one is summed up.
const readAhead = 4

// WillNeed begins to read n bytes of the row at off, and of those behind it, into memory and does not wait for them.
// Rows are read at random else: one that is missing waits for the disk, page by page.
func (s *Segment) WillNeed(off uint32, n int) {
	if s.adviser != nil {
		s.adviser.WillNeed(int(off)*Unit, n)
	}
}

// InMemory tells whether the row at off can be read without the disk, to judge by its first page.
func (s *Segment) InMemory(off uint32) bool {
	return s.adviser == nil || s.adviser.InMemory(int(off)*Unit)
}

// ahead begins to read block i and those behind it.
func (s *Segment) ahead(i int) {
	if s.adviser != nil {
		s.adviser.WillNeed(i*blockLen, readAhead*blockLen)
	}
}
