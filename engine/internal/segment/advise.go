package segment

import "github.com/croftdb/croft/internal/vfs"

// readAhead is how many blocks a reader that goes from block to block asks for at once: enough to keep a disk busy
// while one is summed up.
const readAhead = 4

// Where returns the mapping and the byte in it that the row at off begins at. Rows are read at random: one that is not in
// memory waits for the disk, page by page.
func (s *Segment) Where(off uint32) (m vfs.Mapping, at int) { return s.mapping, int(off) * Unit }

// ahead begins to read block i and those behind it.
func (s *Segment) ahead(i int) {
	if s.adviser != nil {
		s.adviser.WillNeed(i*blockLen, readAhead*blockLen)
	}
}
