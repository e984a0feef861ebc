package ann

// Fetcher is a Source whose vectors may lie on a disk. Who is about to read several of them, such as those of a re-rank,
// fetches them first: reading those that are not in memory one after the other waits for the disk each time.
type Fetcher interface {
	Source
	// Fetch begins to bring the vectors of slots near, at most FetchLen of them, and does not wait for the disk. It returns
	// what to read them from instead of the Source, until Release; nil where the Source is as good. It allocates nothing
	// in steady state and costs next to nothing where vectors are in memory.
	Fetch(slots []uint32) Fetched
}

// FetchLen is how many slots are fetched at once at most. Disks are as busy with this many reads as with more.
const FetchLen = 64

// Fetched is a Source some of whose vectors are being fetched; who reads one waits for the disk if it must. It belongs to one
// goroutine.
type Fetched interface {
	Source
	// Add is Fetch for more slots. Those that were asked for already cost nothing, and those beyond FetchLen in all are
	// passed over.
	Add(slots []uint32)
	// Release gives the vectors up; they must not be used any more.
	Release()
}
