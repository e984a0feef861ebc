package cluster

import (
	"errors"
	"time"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// appendError appends what the other side is to know of an error:
//
//	kind u8 | retry-after in ns uvarint | message | hint | 0, or 1 and the leader's node id, or 2 and a gate's receipt, or 3 and the
//	entry of the metadata plane that says where a tenant lives
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
	if elsewhere, ok := errors.AsType[*notLeaderError](err); ok {
		return codec.AppendString(append(b, 1), elsewhere.leader)
	}
	if no, ok := errors.AsType[*refusal](err); ok {
		return appendReceipt(append(b, 2), &no.told)
	}
	if moved, ok := errors.AsType[*movedError](err); ok {
		return codec.AppendUvarint(append(b, 3), moved.at)
	}
	return append(b, 0)
}

// readError is the way back. A kind of a newer version is Internal. ok is false when b is damaged.
func readError(b []byte) (_ error, ok bool) {
	r := codec.NewReader(b)
	kind := errs.Kind(r.Byte())
	retry := time.Duration(min(r.Uvarint(), uint64(time.Hour)))
	err := &errs.Error{Kind: kind, RetryAfter: retry, Message: r.String(), Hint: r.String()}
	if int(kind) >= len(errs.Kinds()) {
		err.Kind = errs.Internal
	}
	var typed error = err
	switch r.Byte() {
	case 0:
	case 1:
		typed = &notLeaderError{err: err, leader: r.String()}
	case 2:
		typed = &refusal{err, readReceipt(r)}
	case 3:
		typed = &movedError{err: err, at: r.Uvarint()}
	default:
		return nil, false
	}
	return typed, r.Done() == nil
}
