// Package bench measures croft: recall, queries per second and latency over data sets in the formats of the
// ANN literature, under filters and after churn, and makes such data sets.
//
// It owns those formats (fvecs, bvecs, ivecs), the recipes of generated sets, the measuring loops and their reports;
// what is measured hides behind Target, an index in this process or a running server. The command line calls it. It
// promises that a figure is never taken over a shortcut - answers are compared with exact neighbours, ties counted by
// distance - and that a recipe and a seed give the same files on every machine. It stores nothing but the files it is
// told to write and prints nothing by itself.
package bench
