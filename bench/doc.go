// Package bench measures croft: recall, queries per second and latency over data sets in the formats of the
// ANN literature.
//
// It owns those formats (fvecs, bvecs, ivecs), the measuring loop and its report; what is measured hides behind
// Target, an index in this process or a running server. The command line calls it. It promises that a figure is never
// taken over a shortcut: answers are compared with exact neighbours, ties counted by distance. It stores nothing but
// the files it is told to write and prints nothing by itself.
package bench
