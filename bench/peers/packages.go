package main

import (
	_ "embed"
	"fmt"
	"os/exec"
	"runtime/debug"
	"strings"
)

// packages are the Debian packages that the C++ libraries need: the one place that names them.
//
//go:embed packages.txt
var packages string

// packageVersion formats the version of an installed Debian package; "unknown" where dpkg does not know it.
func packageVersion(format, name string) string {
	version := "unknown"
	out, err := exec.Command("dpkg-query", "--show", "--showformat=${Version}", name).Output()
	if err == nil {
		version = strings.TrimSpace(string(out))
	}
	return fmt.Sprintf(format, version)
}

// moduleVersion returns the version of a Go module in this program.
func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range info.Deps {
		if m.Path == path && m.Replace == nil {
			return m.Version
		}
	}
	return "of this tree"
}
