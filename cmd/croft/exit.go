package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/croftdb/croft/internal/client"
	"github.com/croftdb/croft/internal/errs"
)

// Exit codes. Scripts rely on them: never renumber.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitAuth        = 4
	exitConflict    = 5
	exitQuota       = 6
	exitUnavailable = 7
	exitUnshown     = 8
	exitInterrupted = 130
)

var exitByKind = map[errs.Kind]int{
	errs.Internal:           exitFailure,
	errs.Invalid:            exitFailure,
	errs.Unauthenticated:    exitAuth,
	errs.PermissionDenied:   exitAuth,
	errs.NotFound:           exitNotFound,
	errs.AlreadyExists:      exitConflict,
	errs.FailedPrecondition: exitConflict,
	errs.TooLarge:           exitQuota,
	errs.UnsupportedMedia:   exitFailure,
	errs.RateLimited:        exitQuota,
	errs.QuotaExceeded:      exitQuota,
	errs.StorageFull:        exitQuota,
	errs.DeadlineExceeded:   exitUnavailable,
	errs.Unavailable:        exitUnavailable,
	errs.OutcomeUnknown:     exitUnavailable,
	errs.Corrupt:            exitFailure,
	errs.Canceled:           exitInterrupted,
	errs.MethodNotAllowed:   exitFailure,
}

// usageError is a command line that cannot be run.
type usageError struct {
	err  error
	hint string
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) *usageError {
	return &usageError{err: fmt.Errorf(format, args...)}
}

func (e *usageError) withHint(format string, args ...any) *usageError {
	e.hint = fmt.Sprintf(format, args...)
	return e
}

func exitCode(err error) int {
	var usage *usageError
	var unshown *unshownError
	var unwell *unwellError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &unshown), errors.As(err, &unwell):
		return exitUnshown
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.Is(err, syscall.ENOSPC):
		return exitQuota
	}
	return exitByKind[errs.KindOf(err)]
}

// report tells a failure: what went wrong, what to do next, and by which id the server's log knows it.
func report(w io.Writer, err error) {
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(w, "croft: interrupted")
		return
	}
	fmt.Fprintf(w, "croft: %v\n", err)
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(w, "  hint: %s\n", hint)
	}
	var answer *client.Error
	if errors.As(err, &answer) && answer.RequestID != "" {
		fmt.Fprintf(w, "  request id: %s\n", answer.RequestID)
	}
}

func hintOf(err error) string {
	var usage *usageError
	if errors.As(err, &usage) && usage.hint != "" {
		return usage.hint
	}
	if hint := errs.HintOf(err); hint != "" {
		return hint
	}
	switch {
	case client.Refused(err):
		return "start a server with `croft demo` or `croft serve --data DIR`, or name one with --url"
	case errors.Is(err, syscall.ENOSPC):
		return "the disk is full: free some space"
	case errs.Is(err, errs.Unauthenticated):
		return "give the server's key with --api-key or CROFT_API_KEY"
	}
	return ""
}
