package vfs

// Adviser is a Mapping of a file on a disk that can be told how it is read. What it is told changes no contents, and
// fails without a trace: a kernel that does not follow only reads slower.
type Adviser interface {
	// ReadAtRandom says that pages are read in no order: one that is missing is read without those around it, which
	// would take the place of pages that are used. Who reads front to back after that asks ahead by WillNeed.
	ReadAtRandom()
	// WillNeed begins to read n bytes from off into memory, and does not wait for them. What lies outside of the file is
	// passed over.
	WillNeed(off, n int)
	// InMemory tells whether the byte at off can be read without the disk, at this moment. Where the system does not
	// tell, it is taken for true.
	InMemory(off int) bool
}
