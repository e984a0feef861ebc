package api

import (
	"compress/flate"
	"compress/gzip"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/croftdb/croft/internal/errs"
)

const (
	maxRatio   = 100      // of a body's length to that of its compressed form
	ratioFloor = 64 << 10 // below which the ratio does not matter: a small body of one repeated letter is no bomb
)

// readBody appends the request's body to buf, decompressed, and bounds its size and the time that it takes.
func (c *call) readBody(buf []byte) ([]byte, error) {
	limit := c.h.opts.Limits.BodyBytes
	if c.r.ContentLength > int64(limit) {
		c.dropConnection()
		return buf, errTooLarge(limit)
	}
	raw := &timedBody{c: c, limit: limit}
	var err error
	switch enc := strings.ToLower(strings.TrimSpace(strings.Join(c.r.Header.Values("Content-Encoding"), ","))); enc {
	case "", "identity":
		buf, err = appendAll(buf, raw, limit, nil)
	case "gzip":
		buf, err = c.gunzip(buf, raw, limit)
	default:
		return buf, errs.New(errs.UnsupportedMedia, "Content-Encoding %q is not spoken; send the body plain or as gzip", clip(enc))
	}
	if err != nil {
		c.dropConnection()
		return buf, bodyError(err, limit)
	}
	c.endBodyTime()
	return buf, nil
}

// dropConnection ends an HTTP/1 connection after the answer, since what is left of the body is not worth reading.
// HTTP/2 resets the one stream by itself; there the header would end all others too.
func (c *call) dropConnection() {
	if c.r.ProtoMajor == 1 {
		c.w.Header().Set("Connection", "close")
	}
}

func (c *call) gunzip(buf []byte, raw *timedBody, limit int) ([]byte, error) {
	z, err := gzip.NewReader(raw)
	if err != nil {
		return buf, err
	}
	buf, err = appendAll(buf, z, limit, func(n int) bool { return n > ratioFloor && n > maxRatio*raw.n })
	if err != nil {
		return buf, err
	}
	return buf, z.Close()
}

// errOverLimit is a body longer than its limit, or one that decompresses to far more than was sent.
var errOverLimit = errors.New("body over its limit")

// appendAll appends r to buf up to limit bytes; suspect, if not nil, is asked about the length so far.
func appendAll(buf []byte, r io.Reader, limit int, suspect func(n int) bool) ([]byte, error) {
	start := len(buf)
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		room := min(cap(buf), start+limit+1)
		n, err := r.Read(buf[len(buf):room])
		buf = buf[:len(buf)+n]
		if got := len(buf) - start; got > limit || suspect != nil && suspect(got) {
			return buf, errOverLimit
		}
		if err == io.EOF {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
	}
}

// bodyError gives what went wrong while reading a body its kind.
func bodyError(err error, limit int) error {
	var timeout net.Error
	var corrupt flate.CorruptInputError
	switch {
	case errors.Is(err, errOverLimit):
		return errTooLarge(limit)
	case errors.As(err, &timeout) && timeout.Timeout():
		return errs.New(errs.Invalid, "the body arrives too slowly")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errs.New(errs.Invalid, "the body ends before its announced length")
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum), errors.As(err, &corrupt):
		return errs.New(errs.Invalid, "the body is no valid gzip: %s", err)
	}
	return errs.New(errs.Invalid, "read the body: %s", err)
}

func errTooLarge(limit int) error {
	return errs.New(errs.TooLarge, "the body is longer than %d bytes", limit).
		WithHint("send fewer records per request; 100 of 1536 dimensions fit easily")
}

// timedBody counts what has been read of a body, fails past the limit and moves the deadline forward as bytes arrive.
type timedBody struct {
	c     *call
	n     int
	limit int
}

func (t *timedBody) Read(p []byte) (int, error) {
	n, err := t.c.r.Body.Read(p)
	t.n += n
	t.c.limitBodyTime(t.n)
	if t.n > t.limit {
		return n, errOverLimit
	}
	return n, err
}

// limitBodyTime sets the deadline for the next bytes of a body of which n have come: a grace, then a least rate. It
// covers bodies that no handler reads as well, since the server drains those.
func (c *call) limitBodyTime(n int) {
	if c.r.Body == nil || c.r.Body == http.NoBody {
		return // with no body, the server waits for the next request already, on its own deadline
	}
	l := c.h.opts.Limits
	due := c.start.Add(l.BodyGrace + time.Duration(n)*time.Second/time.Duration(l.BodyRate))
	// Recorders in tests have no deadlines; every real connection has.
	_ = http.NewResponseController(c.w).SetReadDeadline(due)
}

// endBodyTime lifts the deadline once the body is complete: the server's reader would take it for a lost client.
func (c *call) endBodyTime() {
	if c.r.Body != nil && c.r.Body != http.NoBody {
		_ = http.NewResponseController(c.w).SetReadDeadline(time.Time{})
	}
}
