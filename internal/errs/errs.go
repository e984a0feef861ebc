// Package errs owns the kinds of failure that croft tells apart and the error type that carries them.
//
// Every error that reaches a caller of a floor has one Kind: the HTTP status, the gRPC code, the command line's
// exit code and the retry advice are all looked up from it, each in one table. A message says what failed, which
// object, the limit and the value met; a hint says what to do next. Every package may call it; it imports none.
package errs

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Kind is the class of an error. Numbers may travel between nodes: append only, never renumber.
type Kind uint8

const (
	// Internal is a defect of ours; the default for errors without a kind.
	Internal Kind = iota
	// Invalid is input that can never succeed as sent.
	Invalid
	// Unauthenticated is a missing or unknown credential.
	Unauthenticated
	// PermissionDenied is a known credential without the right, or a protected object.
	PermissionDenied
	// NotFound is an object that does not exist, or one that the caller may not know about.
	NotFound
	// AlreadyExists is a creation of something that is there.
	AlreadyExists
	// FailedPrecondition is a request that the state of the object forbids for now.
	FailedPrecondition
	// TooLarge is a body or result over its byte limit.
	TooLarge
	// UnsupportedMedia is a content type or encoding that is not spoken.
	UnsupportedMedia
	// RateLimited is a request over a rate; it may be repeated later.
	RateLimited
	// QuotaExceeded is an object over a stored-amount quota.
	QuotaExceeded
	// StorageFull is a write refused because the disk has only its reserve left.
	StorageFull
	// DeadlineExceeded is work stopped at its deadline.
	DeadlineExceeded
	// Unavailable is a passing condition: starting, stopping, no leader, overloaded. Nothing was done.
	Unavailable
	// OutcomeUnknown is a write that may or may not have taken effect.
	OutcomeUnknown
	// Corrupt is stored data that failed a checksum.
	Corrupt
	// Canceled is work given up because the caller went away.
	Canceled
	// MethodNotAllowed is a known path asked with a method that it does not have.
	MethodNotAllowed

	kindCount
)

var kindNames = [kindCount]string{
	"internal", "invalid", "unauthenticated", "permission denied", "not found", "already exists",
	"failed precondition", "too large", "unsupported media", "rate limited", "quota exceeded", "storage full",
	"deadline exceeded", "unavailable", "outcome unknown", "corrupt", "canceled", "method not allowed",
}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Kinds lists every kind, so that tables keyed by kind can be tested for completeness.
func Kinds() []Kind {
	ks := make([]Kind, kindCount)
	for i := range ks {
		ks[i] = Kind(i)
	}
	return ks
}

// Error is a failure with a kind. Message is the whole text for people, causes included; Hint, if any, names the
// next step.
type Error struct {
	Kind       Kind
	Message    string
	Hint       string
	RetryAfter time.Duration // zero: no advice
	Err        error         // cause for errors.Is and errors.As, already told in Message; may be nil
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Err }

// New makes an error of a kind. The format may wrap a cause with %w.
func New(k Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: k, Message: err.Error(), Err: errors.Unwrap(err)}
}

// Wrap gives err a kind and a verb phrase ("open segment"); nil stays nil.
func Wrap(k Kind, err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: k, Message: fmt.Sprintf(format, args...) + ": " + err.Error(), Err: err}
}

// WithHint sets the hint and returns e.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// WithRetryAfter sets the retry advice and returns e.
func (e *Error) WithRetryAfter(d time.Duration) *Error {
	e.RetryAfter = d
	return e
}

// KindOf returns the kind of the outermost *Error in err's chain; context errors have kinds of their own.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.DeadlineExceeded):
		return DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return Canceled
	}
	return Internal
}

// Is reports whether err has kind k.
func Is(err error, k Kind) bool { return err != nil && KindOf(err) == k }

// HintOf returns the first hint in err's tree, or "".
func HintOf(err error) string {
	var e *Error
	for errors.As(err, &e) {
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}
