//go:build !cgo

package main

import "strings"

// nativeHint follows the list of peers where some are left out.
var nativeHint = "; the C++ libraries are not in a build with CGO_ENABLED=0; they need the packages " +
	strings.Join(strings.Fields(packages), " ")

func compiler() string { return "none (built without cgo)" }

func nativeLibraries() []library { return nil }
