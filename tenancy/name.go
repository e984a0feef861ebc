package tenancy

import (
	"strings"
	"unicode/utf8"

	"github.com/croftdb/croft/internal/errs"
)

// MaxName is the longest name of a tenant in bytes.
const MaxName = 512

// CheckName reports whether name may be a tenant's: any UTF-8 without NUL, compared byte by byte. Invalid if not. Names are data
// like any other: whoever writes one into a log line, a header, a label or a page quotes it.
func CheckName(name string) error {
	switch {
	case name == "":
		return errs.New(errs.Invalid, "is missing or empty; 1 to %d bytes of UTF-8 are needed", MaxName)
	case len(name) > MaxName:
		return errs.New(errs.Invalid, "has %d bytes, at most %d are taken", len(name), MaxName)
	}
	return CheckPart(name)
}

// CheckPart reports whether text may be part of a tenant's name; Invalid if not.
func CheckPart(text string) error {
	switch {
	case !utf8.ValidString(text):
		return errs.New(errs.Invalid, "%.100q is not valid UTF-8", text)
	case strings.IndexByte(text, 0) >= 0:
		return errs.New(errs.Invalid, "%.100q contains a NUL byte", text)
	}
	return nil
}
