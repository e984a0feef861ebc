package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/croftdb/croft/internal/errs"
)

// maxResponse bounds an answer; the server's own limit on results is 4 MB.
const maxResponse = 64 << 20

// call is one request to the API, before it is bound to an address.
type call struct {
	method string
	path   string // escaped, with leading slash
	query  url.Values
	in     any    // encoded as the body
	body   []byte // the body, if already encoded
	once   bool   // sending it twice differs from sending it once
}

// do sends a call, repeats it as far as that is safe, and decodes the answer into out (nil: ignored).
func (c *Client) do(ctx context.Context, addr *address, k call, out any) error {
	if k.in != nil {
		b, err := json.Marshal(k.in)
		if err != nil {
			return errs.Wrap(errs.Invalid, err, "encode request")
		}
		k.body = b
	}
	for attempt := 0; ; {
		err := c.attempt(ctx, addr.current(), k, out)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if undialled(err) && addr.fallBack() {
			continue
		}
		pause, again := retryPause(err, k.once, attempt)
		if !again || attempt >= c.opts.Retries || c.sleep(ctx, pause) != nil {
			return err
		}
		attempt++
	}
}

// retryPause tells whether a failed call may be sent again, and when.
func retryPause(err error, once bool, attempt int) (time.Duration, bool) {
	var e *errs.Error
	if !errors.As(err, &e) {
		return 0, false
	}
	switch e.Kind {
	case errs.RateLimited, errs.Unavailable: // nothing was done
	case errs.OutcomeUnknown:
		if once {
			return 0, false
		}
	default:
		return 0, false
	}
	if e.RetryAfter > longestAdvice {
		return 0, false
	}
	return max(backoff(attempt), e.RetryAfter), true
}

// attempt sends a call once.
func (c *Client) attempt(ctx context.Context, base *url.URL, k call, out any) error {
	if c.opts.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.opts.Timeout)
		defer cancel()
	}
	req, err := c.newRequest(ctx, base, k)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return transportError(ctx, base, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	if err != nil {
		return transportError(ctx, base, err)
	}
	if len(body) > maxResponse {
		return errs.New(errs.TooLarge, "the answer of %s is over %d MiB", base, maxResponse>>20)
	}
	if resp.StatusCode/100 != 2 {
		return responseError(resp, body)
	}
	if out == nil || len(body) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return errs.Wrap(errs.Internal, err, "%s %s answered something that is not croft's API: decode it", base, k.path)
	}
	return nil
}

func (c *Client) newRequest(ctx context.Context, base *url.URL, k call) (*http.Request, error) {
	target := base.String() + k.path
	if len(k.query) > 0 {
		target += "?" + k.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, k.method, target, bytes.NewReader(k.body))
	if err != nil {
		return nil, errs.Wrap(errs.Invalid, err, "make request")
	}
	req.Header.Set("User-Agent", c.opts.UserAgent)
	req.Header.Set("X-Pinecone-Api-Version", apiVersion)
	if len(k.body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.opts.Consistency != "" {
		req.Header.Set("X-Croft-Consistency", c.opts.Consistency)
	}
	if c.opts.APIKey != "" {
		req.Header.Set("Api-Key", c.opts.APIKey)
	}
	return req, nil
}

// transportError tells a server that was never reached (nothing was done) from a conversation that broke off.
func transportError(ctx context.Context, base *url.URL, err error) error {
	cause := unwrapURLError(err)
	switch {
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled):
		return errs.Wrap(errs.Canceled, ctx.Err(), "call %s", base)
	case undialled(err):
		return errs.Wrap(errs.Unavailable, cause, "no server answers at %s", base)
	case errors.Is(err, context.DeadlineExceeded):
		return errs.Wrap(errs.DeadlineExceeded, cause, "no answer from %s in time", base)
	}
	return errs.Wrap(errs.OutcomeUnknown, cause, "connection to %s broke off", base)
}

func unwrapURLError(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func undialled(err error) bool {
	var dial *net.OpError
	return errors.As(err, &dial) && dial.Op == "dial"
}

// Refused reports whether err means that nothing listens at the server's address.
func Refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// Error is an answer of the server other than success. errors.As finds the *errs.Error in it.
type Error struct {
	Status    int
	Code      string // e.g. INVALID_ARGUMENT
	RequestID string // by which the server's log knows the request
	Cause     *errs.Error
}

func (e *Error) Error() string { return e.Cause.Message }

// Unwrap gives the kind, the message and the hint.
func (e *Error) Unwrap() error { return e.Cause }

// errorBody is the merged error body; see UX of the API.
type errorBody struct {
	Message string `json:"message"`
	Hint    string `json:"hint"`
	Error   struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

func responseError(resp *http.Response, body []byte) error {
	var b errorBody
	_ = json.Unmarshal(body, &b) // a body that is no JSON is told as it is
	msg := b.Error.Message
	if msg == "" {
		msg = b.Message
	}
	if msg == "" {
		msg = fmt.Sprintf("%s: %.200q", resp.Status, bytes.TrimSpace(body))
	}
	inner := errs.New(kindOf(resp.StatusCode, b.Error.Code), "%s", msg)
	inner.Hint = b.Hint
	inner.RetryAfter = retryAfter(resp.Header.Get("Retry-After"))
	return &Error{Status: resp.StatusCode, Code: b.Error.Code, RequestID: resp.Header.Get("X-Request-Id"), Cause: inner}
}

// kindByCode wins over kindByStatus where a status stands for several kinds.
var kindByCode = map[string]errs.Kind{
	"QUOTA_EXCEEDED":      errs.QuotaExceeded,
	"FAILED_PRECONDITION": errs.FailedPrecondition,
	"DATA_LOSS":           errs.Corrupt,
	"DEADLINE_EXCEEDED":   errs.DeadlineExceeded,
	"UNKNOWN":             errs.OutcomeUnknown,
}

var kindByStatus = map[int]errs.Kind{
	http.StatusBadRequest:            errs.Invalid,
	http.StatusUnauthorized:          errs.Unauthenticated,
	http.StatusForbidden:             errs.PermissionDenied,
	http.StatusNotFound:              errs.NotFound,
	http.StatusMethodNotAllowed:      errs.MethodNotAllowed,
	http.StatusRequestTimeout:        errs.DeadlineExceeded,
	http.StatusConflict:              errs.AlreadyExists,
	http.StatusPreconditionFailed:    errs.FailedPrecondition,
	http.StatusRequestEntityTooLarge: errs.TooLarge,
	http.StatusUnsupportedMediaType:  errs.UnsupportedMedia,
	http.StatusUnprocessableEntity:   errs.Invalid,
	http.StatusTooManyRequests:       errs.RateLimited,
	http.StatusBadGateway:            errs.Unavailable,
	http.StatusServiceUnavailable:    errs.Unavailable,
	http.StatusGatewayTimeout:        errs.DeadlineExceeded,
	http.StatusInsufficientStorage:   errs.StorageFull,
	499:                              errs.Canceled,
}

func kindOf(status int, code string) errs.Kind {
	if k, ok := kindByCode[code]; ok {
		return k
	}
	if k, ok := kindByStatus[status]; ok {
		return k
	}
	return errs.Internal
}

// retryAfter reads the header in its form of seconds; the form of a date is not used by our server.
func retryAfter(s string) time.Duration {
	seconds, err := strconv.ParseFloat(s, 64)
	if err != nil || seconds < 0 || seconds > 1e6 {
		return 0
	}
	return time.Duration(seconds * float64(time.Second))
}
