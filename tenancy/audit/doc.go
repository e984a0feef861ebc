// Package audit owns the record of who did what to the store, and of who was refused: events in files that are only ever appended
// to, each bound to the one before by a hash.
//
// It promises that an event is on disk when Record returns without error; that what is changed, taken out or put in between
// later is found by Verify; that a flood of refusals takes bounded memory, bounded disk and none of the room
// of the acts. Files are bounded in size and age: the oldest go, and the chain of the others stays whole. The node of cluster keeps a
// Trail and merges those of all nodes, internal/api writes to it. It never holds a secret: actors are named by public ids.
// It cannot tell that the newest events were cut off; where that matters, keep Report.Head elsewhere.
//
// docs/format/audit.md describes the files.
package audit
