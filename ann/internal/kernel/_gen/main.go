// Command _gen writes the assembly kernels of package kernel, one set of them per run. It is a module of its own, so
// that avo never enters croft's; run `go generate` in the parent folder after a change.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/mmcloughlin/avo/build"
)

var sets = map[string]func(){"floats": floats, "codes": codes}

func main() {
	set := flag.String("set", "", "the kernels to write: floats or codes")
	flag.Parse()
	write, ok := sets[*set]
	if !ok {
		fmt.Fprintf(os.Stderr, "-set %q is none of floats, codes\n", *set)
		os.Exit(2)
	}
	write()
	build.Generate()
}
