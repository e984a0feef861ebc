package api

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/croftdb/croft/internal/errs"
)

// errorRow says how a kind of error leaves the house. The names are Pinecone's, the codes gRPC's.
type errorRow struct {
	status int
	grpc   int
	name   string
	title  string
	slug   string        // last part of the "type" URL
	retry  time.Duration // default of Retry-After; 0: none
}

var errorRows = map[errs.Kind]errorRow{
	errs.Internal:           {500, 13, "INTERNAL", "Internal error", "internal", 0},
	errs.Invalid:            {400, 3, "INVALID_ARGUMENT", "Invalid request", "invalid", 0},
	errs.Unauthenticated:    {401, 16, "UNAUTHENTICATED", "Missing or unknown API key", "unauthenticated", 0},
	errs.PermissionDenied:   {403, 7, "FORBIDDEN", "Not allowed", "forbidden", 0},
	errs.NotFound:           {404, 5, "NOT_FOUND", "Not found", "not-found", 0},
	errs.AlreadyExists:      {409, 6, "ALREADY_EXISTS", "Already exists", "already-exists", 0},
	errs.FailedPrecondition: {412, 9, "FAILED_PRECONDITION", "Not possible in this state", "failed-precondition", 0},
	errs.TooLarge:           {413, 11, "OUT_OF_RANGE", "Too large", "too-large", 0},
	errs.UnsupportedMedia:   {415, 3, "INVALID_ARGUMENT", "Encoding not spoken", "unsupported-media", 0},
	errs.RateLimited:        {429, 8, "RESOURCE_EXHAUSTED", "Over a rate limit", "rate-limited", time.Second},
	errs.QuotaExceeded:      {403, 7, "QUOTA_EXCEEDED", "Over a quota", "quota-exceeded", 0},
	errs.StorageFull:        {507, 8, "RESOURCE_EXHAUSTED", "Disk full", "storage-full", 30 * time.Second},
	errs.DeadlineExceeded:   {504, 4, "DEADLINE_EXCEEDED", "Took too long", "deadline-exceeded", time.Second},
	errs.Unavailable:        {503, 14, "UNAVAILABLE", "Not available now", "unavailable", time.Second},
	errs.OutcomeUnknown:     {503, 2, "UNKNOWN", "Outcome unknown", "outcome-unknown", time.Second},
	errs.Corrupt:            {500, 15, "DATA_LOSS", "Stored data is damaged", "data-loss", 0},
	errs.Canceled:           {499, 1, "ABORTED", "Given up by the caller", "canceled", 0},
	errs.MethodNotAllowed:   {405, 12, "UNIMPLEMENTED", "Method not allowed", "method-not-allowed", 0},
}

// appendError appends the one error body: Pinecone's control plane form (status, error), its data plane form (code,
// message, details) and RFC 9457 (type, title, detail) in one object, so that every client finds what it reads.
func appendError(b []byte, row errorRow, docs, message, hint, requestID string) []byte {
	quoted := appendQuoted(nil, message)
	b = append(b, `{"status":`...)
	b = strconv.AppendInt(b, int64(row.status), 10)
	b = append(b, `,"error":{"code":"`...)
	b = append(b, row.name...)
	b = append(b, `","message":`...)
	b = append(b, quoted...)
	b = append(b, `},"code":`...)
	b = strconv.AppendInt(b, int64(row.grpc), 10)
	b = append(b, `,"message":`...)
	b = append(b, quoted...)
	b = append(b, `,"details":[],"type":`...)
	b = appendQuoted(b, docs+row.slug)
	b = append(b, `,"title":`...)
	b = appendQuoted(b, row.title)
	b = append(b, `,"detail":`...)
	b = append(b, quoted...)
	if hint != "" {
		b = append(b, `,"hint":`...)
		b = appendQuoted(b, hint)
	}
	b = append(b, `,"request_id":`...)
	b = appendQuoted(b, requestID)
	return append(b, '}')
}

// appendQuoted appends s as a JSON string; bytes that are not UTF-8 become U+FFFD.
func appendQuoted(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s) // its error tells of bad UTF-8 alone, which it has replaced
	return b
}

// problem is an error ready to be sent.
type problem struct {
	errorRow
	message, hint string
	retry         time.Duration
}

// problemOf looks an error up. The text of an internal error is for the log: a client gets the request id instead.
func problemOf(err error, requestID string) problem {
	kind := errs.KindOf(err)
	row, ok := errorRows[kind]
	if !ok {
		row = errorRows[errs.Internal]
	}
	p := problem{errorRow: row, message: err.Error(), hint: errs.HintOf(err), retry: row.retry}
	if kind == errs.Internal || !ok {
		p.message = "internal error; the server's log has the cause under request id " + requestID
		p.hint = ""
	}
	var e *errs.Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		p.retry = e.RetryAfter
	}
	return p
}

// writeError sends an error body with its headers.
func (c *call) writeError(err error) int {
	p := problemOf(err, c.id)
	c.tell("Content-Type", c.errorType())
	if p.retry > 0 {
		c.tell("Retry-After", strconv.FormatInt(later(p.retry), 10))
	}
	if p.status == http.StatusUnauthorized {
		c.tell("Www-Authenticate", `Bearer realm="croft"`)
	}
	buf := getBuffer()
	defer putBuffer(buf)
	*buf = appendError((*buf)[:0], p.errorRow, c.h.opts.DocsURL, p.message, p.hint, c.id)
	return c.send(p.status, *buf)
}

// errorType is the media type of an error's body.
func (c *call) errorType() string {
	if accepts(c.r.Header, "application/problem+json") {
		return "application/problem+json"
	}
	return "application/json"
}

// accepts reports whether a media type is named in Accept.
func accepts(h http.Header, media string) bool {
	for _, line := range h.Values("Accept") {
		for part := range strings.SplitSeq(line, ",") {
			name, _, _ := strings.Cut(part, ";")
			if strings.EqualFold(strings.TrimSpace(name), media) {
				return true
			}
		}
	}
	return false
}

func errNoSuchIndex(name string) error {
	return errs.New(errs.NotFound, "Resource %s not found: there is no index of this name", clip(name)).
		WithHint("GET /indexes or `croft index list` shows those there are")
}

func errPanic(v any) error { return fmt.Errorf("panic: %v", v) }
