package cluster

import (
	"errors"
	"time"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// appendError appends what the other side is to know of an error:
//
//	kind u8 | retry-after in ns uvarint | message | hint | 0, or 1 and the leader's node id
func appendError(b []byte, err error) []byte {
	b = append(b, byte(errs.KindOf(err)))
	var typed *errs.Error
	retry := time.Duration(0)
	if errors.As(err, &typed) {
		retry = max(0, typed.RetryAfter)
	}
	b = codec.AppendUvarint(b, uint64(retry))
	b = codec.AppendString(b, err.Error())
	b = codec.AppendString(b, errs.HintOf(err))
	var elsewhere *notLeaderError
	if !errors.As(err, &elsewhere) {
		return append(b, 0)
	}
	return codec.AppendString(append(b, 1), elsewhere.leader)
}

// readError is the way back. A kind of a newer version is Internal. ok is false when b is damaged.
func readError(b []byte) (_ error, ok bool) {
	r := codec.NewReader(b)
	kind := errs.Kind(r.Byte())
	retry := time.Duration(min(r.Uvarint(), uint64(time.Hour)))
	err := &errs.Error{Kind: kind, RetryAfter: retry, Message: r.String(), Hint: r.String()}
	elsewhere := &notLeaderError{err: err}
	typed := r.Byte()
	if typed == 1 {
		elsewhere.leader = r.String()
	}
	if r.Done() != nil || typed > 1 {
		return nil, false
	}
	if int(kind) >= len(errs.Kinds()) {
		err.Kind = errs.Internal
	}
	if typed == 1 {
		return elsewhere, true
	}
	return err, true
}
