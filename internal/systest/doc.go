// Package systest holds tests of the whole system: real `croft serve` processes, built once, spoken to over HTTP and
// treated as the world treats them: killed at any moment, traced call by call, run on disks that lie, fail, fill up
// and lose power, and driven by the official Node client.
//
// It promises that a green run means what DESIGN.md beside this file says about acknowledged writes, and that each
// checker has been seen to catch what it is for. The go command runs it, and .ci/run with larger settings. It never
// looks inside the server: all it knows is what a client could know, and it holds no code but tests.
package systest
