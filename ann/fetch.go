package ann

// Fetcher is a Source whose vectors may lie on a disk. Who is about to read several of them, such as those of a re-rank,
// tells it first: reading rows that are not in memory one after the other waits for the disk each time.
type Fetcher interface {
	// Fetch asks for the vectors of slots to be brought near, all at once. It is a hint: it promises nothing, waits for
	// no disk, allocates nothing and costs next to nothing where they are in memory.
	Fetch(slots []uint32)
}
