package api

import (
	"encoding/binary"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/errs"
)

// maxIdempotencyKey is the longest name that a client may give a write, in bytes.
const maxIdempotencyKey = 255

// once makes the call's write take effect once, if the client has named it. The request is the operation, the index and
// the body as it was sent.
func (c *call) once() error {
	names := c.r.Header.Values("Idempotency-Key")
	if len(names) == 0 {
		return nil
	}
	name := names[0]
	if len(names) > 1 || name == "" || len(name) > maxIdempotencyKey || !printable(name) {
		return errs.New(errs.Invalid, "Idempotency-Key must be given once, with 1 to %d printable ASCII characters", maxIdempotencyKey).
			WithHint("a random UUID for each write, and the same one when that write is repeated")
	}
	index := binary.LittleEndian.AppendUint64(nil, uint64(c.ix.ID))
	c.ctx = cluster.WithOnce(c.ctx, name, []byte(c.op), index, c.body)
	return nil
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
