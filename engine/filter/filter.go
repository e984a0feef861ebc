// Package filter owns metadata filters: the tree that a filter is parsed into, its plain evaluation over one record,
// and the bitmaps that answer it for a whole partition.
package filter

// Expr is a parsed filter.
type Expr struct{}
