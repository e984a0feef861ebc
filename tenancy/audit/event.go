package audit

import (
	"strings"
	"time"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// Event is one act, or one or more refusals of the same kind.
type Event struct {
	At      time.Time `json:"at"`
	Node    string    `json:"node"` // where it was recorded
	Seq     uint64    `json:"seq"`  // in its chain of that node, from 1
	Actor   string    `json:"actor"`
	Role    string    `json:"role,omitzero"`
	Tenant  string    `json:"tenant,omitzero"` // whose event it is; empty: of all
	Action  string    `json:"action"`          // as metrics call it: create_index
	Target  string    `json:"target,omitzero"` // method and path
	From    string    `json:"from,omitzero"`   // address of the client
	Request string    `json:"request_id,omitzero"`
	Result  string    `json:"result"` // ok, Begun, or the kind of error
	Refused bool      `json:"refused"`
	Detail  string    `json:"detail,omitzero"` // of what went wrong
	Count   uint64    `json:"count"`           // how often; more than 1 for refusals that were repeated
	Last    time.Time `json:"last,omitzero"`   // of them

	begins bool   // what is before it was on disk when it was written
	ends   uint64 // event of its chain that told that the act would begin; 0: none did
	void   bool   // nothing was done: neither this nor what it ends is shown
}

// Begun is the result of an act of which nobody knows yet what came of it, or ever will: its node has ended in the middle of it.
const Begun = "begun"

// maxText bounds each text of an event, in bytes.
const maxText = 600

// eventVersion begins an encoded event. Those of version 1 end nothing.
const eventVersion = 2

// texts are an event's texts in the order in which they are written; new ones go to the end, with a new version.
func (e *Event) texts() []*string {
	return []*string{&e.Actor, &e.Role, &e.Tenant, &e.Action, &e.Target, &e.From, &e.Request, &e.Result, &e.Detail}
}

// bound cuts texts that are too long, and makes what a client chose fit for any page.
func (e *Event) bound() {
	for _, s := range e.texts() {
		if len(*s) > maxText {
			*s = (*s)[:maxText]
		}
		*s = strings.ToValidUTF8(*s, "\uFFFD")
	}
	e.Count = max(e.Count, 1)
}

const (
	flagRefused = 1 << iota
	flagBegins
	flagVoid
)

func (e *Event) flags() (f byte) {
	if e.Refused {
		f |= flagRefused
	}
	if e.begins {
		f |= flagBegins
	}
	if e.void {
		f |= flagVoid
	}
	return f
}

// AppendEvent encodes an event without its node.
func AppendEvent(b []byte, e *Event) []byte {
	b = append(b, eventVersion)
	b = codec.AppendUvarint(b, e.Seq)
	b = codec.AppendUint64(b, uint64(e.At.UnixNano()))
	b = codec.AppendUvarint(b, e.Count)
	var last int64 // after At
	if !e.Last.IsZero() {
		last = max(0, e.Last.Sub(e.At).Nanoseconds())
	}
	b = codec.AppendUvarint(b, uint64(last))
	b = append(b, e.flags())
	b = codec.AppendUvarint(b, e.ends)
	for _, s := range e.texts() {
		b = codec.AppendString(b, *s)
	}
	return b
}

// ReadEvent reads what AppendEvent wrote. Corrupt: it is damaged, or of a newer version.
func ReadEvent(r *codec.Reader) (e Event) {
	version := r.Byte()
	if version < 1 || version > eventVersion {
		r.Fail(errs.New(errs.Corrupt, "an audit event has version %d, this version reads %d", version, eventVersion))
		return e
	}
	e.Seq = r.Uvarint()
	e.At = time.Unix(0, int64(r.Uint64())).UTC()
	e.Count = r.Uvarint()
	if last := r.Uvarint(); last > 0 {
		e.Last = e.At.Add(time.Duration(last))
	}
	flags := r.Byte()
	e.Refused, e.begins, e.void = flags&flagRefused != 0, flags&flagBegins != 0, flags&flagVoid != 0
	if version > 1 {
		e.ends = r.Uvarint()
	}
	for _, s := range e.texts() {
		*s = r.String()
	}
	return e
}
