// Package kernel measures distances between rows of float32 or of packed codes, and does the arithmetic that codes
// are made with: rotations, rounding and their sums.
//
// It owns one specification, the portable Go of the files named generic, and the faster ways that a CPU may have; which
// one runs is chosen once at start from the CPU's features, or forced by CROFT_KERNEL=generic|avx2|avx512. Results that
// are integers, signs or transforms are the same in every bit whatever the way; sums of float32 agree with exact
// arithmetic to a relative error of 1e-5·sqrt(length) of the sum of absolute terms, and two equal rows are at squared
// distance 0 exactly. Packages below ann alone call it. It never allocates, keeps no state between calls and knows
// nothing of metrics, slots or norms.
//
//go:generate sh -c "cd _gen && go run . -set floats -out ../kernels_amd64.s -stubs ../kernels_amd64.go -pkg kernel"
//go:generate sh -c "cd _gen && go run . -set codes -out ../codes_asm_amd64.s -stubs ../codes_asm_amd64.go -pkg kernel"
package kernel

import (
	"os"
	"strings"

	"github.com/croftdb/croft/internal/errs"
)

// Variable is the environment variable that forces a kernel.
const Variable = "CROFT_KERNEL"

// way is one implementation; a switch on it keeps calls direct, so that arguments do not escape to the heap.
type way uint8

const (
	generic way = iota
	avx2
	avx512
)

var wayNames = [...]string{generic: "generic", avx2: "avx2", avx512: "avx512"}

func (w way) String() string { return wayNames[w] }

var chosen, chosenErr = choose(os.Getenv(Variable), best())

// choose returns the way of that name if this machine has it. An unknown or missing one gives the specification,
// which runs everywhere, with an error for whoever starts the process to report.
func choose(name string, best way) (way, error) {
	if name == "" {
		return best, nil
	}
	for w := generic; int(w) < len(wayNames); w++ {
		switch {
		case w.String() != name:
		case w > best:
			return generic, errs.New(errs.Invalid, "%s=%s: this CPU lacks what that kernel needs", Variable, name).
				WithHint("unset %s: the best kernel of this CPU is %s", Variable, best)
		default:
			return w, nil
		}
	}
	return generic, errs.New(errs.Invalid, "%s=%q is none of %s", Variable, name, strings.Join(wayNames[:], ", "))
}

// Name returns the kernel in use.
func Name() string { return chosen.String() }

// Check returns why the kernel that CROFT_KERNEL asks for is not in use, or nil.
func Check() error { return chosenErr }

// Dot returns Σ a[i]·b[i]; 0 for empty rows. It panics if the lengths differ. The sum of finite values may still be
// infinite or, where partial sums overflow both ways, not a number.
func Dot(a, b []float32) float32 { return dot(chosen, a, b) }

// SquaredL2 returns Σ (a[i]-b[i])²; 0 for empty rows. It panics if the lengths differ.
func SquaredL2(a, b []float32) float32 { return squaredL2(chosen, a, b) }

// DotMany sets out[i] to Dot(query, rows[i]), leaving out the rows that are nil. Every other row is as long as the
// query, and out at least as long as rows; else it panics.
func DotMany(query []float32, rows [][]float32, out []float32) { dotMany(chosen, query, rows, out) }

// SquaredL2Many sets out[i] to SquaredL2(query, rows[i]), leaving out the rows that are nil, as DotMany does.
func SquaredL2Many(query []float32, rows [][]float32, out []float32) {
	squaredL2Many(chosen, query, rows, out)
}

func mustMatch(a, b []float32) {
	if len(a) != len(b) {
		panic("kernel: rows of different length")
	}
}

func mustMatchAll(query []float32, rows [][]float32, out []float32) {
	if len(out) < len(rows) {
		panic("kernel: more rows than results")
	}
	for _, row := range rows {
		if row != nil {
			mustMatch(query, row)
		}
	}
}
