package cluster

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
)

type onceKey struct{}

// WithOnce gives a context's write a name of the client's: however often it is sent, to whichever node, it has one effect, and
// each answer is the first one's (Written.Repeated tells). request are the parts that say what is to be written; the same name
// with others is refused with AlreadyExists. A name is a tenant's own, and is remembered as engine.Once says.
func WithOnce(ctx context.Context, name string, request ...[]byte) context.Context {
	key := sha256.Sum256([]byte(name))
	h := sha256.New()
	for _, part := range request {
		h.Write(codec.AppendUint64(nil, uint64(len(part))))
		h.Write(part)
	}
	return context.WithValue(ctx, onceKey{}, &engine.Once{
		Key: [16]byte(key[:16]), Body: [16]byte(h.Sum(nil)[:16]), At: time.Now().UnixMilli(),
	})
}

// onceOf returns what a context's write is to be known by, nil for nothing.
func onceOf(ctx context.Context) *engine.Once {
	o, _ := ctx.Value(onceKey{}).(*engine.Once)
	return o
}

// appendOnce and readOnce carry it to another node.
func appendOnce(b []byte, o *engine.Once) []byte {
	b = append(b, boolByte(o != nil))
	if o == nil {
		return b
	}
	b = append(append(b, o.Key[:]...), o.Body[:]...)
	return codec.AppendUint64(b, uint64(o.At))
}

func readOnce(r *codec.Reader) *engine.Once {
	if r.Byte() == 0 {
		return nil
	}
	o := new(engine.Once)
	copy(o.Key[:], r.Raw(len(o.Key)))
	copy(o.Body[:], r.Raw(len(o.Body)))
	o.At = int64(r.Uint64())
	return o
}
