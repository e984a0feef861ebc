package errs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/errs"
)

// TestKindNumbers pins the numbers, which travel between nodes of different versions: append, never renumber.
func TestKindNumbers(t *testing.T) {
	want := []struct {
		kind errs.Kind
		name string
	}{
		{errs.Internal, "internal"},
		{errs.Invalid, "invalid"},
		{errs.Unauthenticated, "unauthenticated"},
		{errs.PermissionDenied, "permission denied"},
		{errs.NotFound, "not found"},
		{errs.AlreadyExists, "already exists"},
		{errs.FailedPrecondition, "failed precondition"},
		{errs.TooLarge, "too large"},
		{errs.UnsupportedMedia, "unsupported media"},
		{errs.RateLimited, "rate limited"},
		{errs.QuotaExceeded, "quota exceeded"},
		{errs.StorageFull, "storage full"},
		{errs.DeadlineExceeded, "deadline exceeded"},
		{errs.Unavailable, "unavailable"},
		{errs.OutcomeUnknown, "outcome unknown"},
		{errs.Corrupt, "corrupt"},
		{errs.Canceled, "canceled"},
		{errs.MethodNotAllowed, "method not allowed"},
	}
	kinds := errs.Kinds()
	require.Len(t, kinds, len(want), "a new kind belongs at the end of this table")
	for i, w := range want {
		require.Equal(t, w.kind, kinds[i])
		require.EqualValues(t, i, w.kind)
		require.Equal(t, w.name, w.kind.String())
	}
	require.Equal(t, "kind(200)", errs.Kind(200).String(), "of a newer node")
}

func TestKindOf(t *testing.T) {
	notFound := errs.New(errs.NotFound, "no index %q", "x")
	cases := []struct {
		name string
		err  error
		want errs.Kind
	}{
		{"no kind", io.EOF, errs.Internal},
		{"its own", notFound, errs.NotFound},
		{"below fmt", fmt.Errorf("open: %w", notFound), errs.NotFound},
		{"the outermost wins", errs.Wrap(errs.Unavailable, notFound, "route"), errs.Unavailable},
		{"joined", errors.Join(io.EOF, notFound), errs.NotFound},
		{"deadline", fmt.Errorf("search: %w", context.DeadlineExceeded), errs.DeadlineExceeded},
		{"canceled", fmt.Errorf("search: %w", context.Canceled), errs.Canceled},
		{"a kind beats its cause", errs.New(errs.OutcomeUnknown, "propose: %w", context.Canceled), errs.OutcomeUnknown},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, errs.KindOf(c.err))
			require.True(t, errs.Is(c.err, c.want))
			require.False(t, errs.Is(c.err, errs.MethodNotAllowed))
		})
	}
	require.False(t, errs.Is(nil, errs.Internal))
}

func TestMessagesAndCauses(t *testing.T) {
	err := errs.New(errs.Corrupt, "segment %d: %w", 7, io.ErrUnexpectedEOF)
	require.EqualError(t, err, "segment 7: unexpected EOF")
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)

	wrapped := errs.Wrap(errs.Unavailable, err, "open shard %s", "s1")
	require.EqualError(t, wrapped, "open shard s1: segment 7: unexpected EOF")
	require.ErrorIs(t, wrapped, io.ErrUnexpectedEOF)
	require.NoError(t, errs.Wrap(errs.Corrupt, nil, "open"))

	var typed *errs.Error
	require.ErrorAs(t, fmt.Errorf("serve: %w", wrapped), &typed)
	require.Equal(t, errs.Unavailable, typed.Kind)
}

func TestAdvice(t *testing.T) {
	inner := errs.New(errs.RateLimited, "over 100 requests a second").WithHint("wait %d s", 2).WithRetryAfter(2 * time.Second)
	require.Equal(t, 2*time.Second, inner.RetryAfter)
	require.Equal(t, "wait 2 s", errs.HintOf(fmt.Errorf("query: %w", inner)))
	outer := errs.New(errs.Unavailable, "query: %w", inner)
	require.Equal(t, "wait 2 s", errs.HintOf(outer), "an error without a hint lets the one below through")
	require.Equal(t, "try later", errs.HintOf(outer.WithHint("try later")))
	require.Empty(t, errs.HintOf(io.EOF))
	require.Empty(t, errs.HintOf(nil))
}
