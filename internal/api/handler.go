package api

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/tracing"
	"github.com/croftdb/croft/tenancy"
)

// Options of a Handler.
type Options struct {
	Node       Node // required
	Auth       *tenancy.Authenticator
	Logger     *slog.Logger          // nil: slog.Default
	Registerer prometheus.Registerer // nil: metrics are counted but not shown
	Gatherer   prometheus.Gatherer   // shown at /metrics; nil: prometheus.DefaultGatherer
	Tracer     *tracing.Tracer       // of spans; nil: none

	// Advertise is what clients dial, scheme included, as in http://croft.internal:5080. With {index} in it, as in
	// https://{index}.vectors.example.com, the first label of Host names the index. Empty: the address listened on.
	Advertise string
	Version   string // of the program, shown at /v1/cluster
	DocsURL   string // errors' "type" is this plus their slug
	// TokenSecret authenticates pagination tokens and must be the same on every node. Empty: derived from the
	// cluster's id and the hash of the operator's key.
	TokenSecret []byte
	SlowLog     time.Duration // requests that take longer are logged, one a second at most; 0: 100 ms, negative: off
	Limits      Limits
}

// Limits bound what one request, and all of them together, may take.
type Limits struct {
	BodyBytes   int           // of a body, after decompression; 0: 2 MiB + 64 KiB, so that 2 MB are taken whatever a client calls a MB
	ResultBytes int           // of a query's answer; 0: 4 MiB
	FetchBytes  int           // of a fetch's answer; 0: 16 MiB
	BodyRate    int           // bytes per second that a body must arrive with; 0: 1024
	BodyGrace   time.Duration // before BodyRate counts; 0: 5 s
	AnswerRate  int           // bytes per second that an answer must be taken with; 0: 64 KiB
	AnswerGrace time.Duration // before AnswerRate counts; 0: 10 s
	Light       ClassLimit    // answers from memory; 0: 1024 at once for 10 s
	Search      ClassLimit    // 0: 256 at once for 30 s
	Write       ClassLimit    // 0: 128 at once for 60 s
	QueueWait   time.Duration // for one of those places; 0: 5 s
}

// ClassLimit bounds one class of requests.
type ClassLimit struct {
	InFlight int
	Deadline time.Duration
}

// EnsureDefaults fills in what is not set.
func (o *Options) EnsureDefaults() {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Gatherer == nil {
		o.Gatherer = prometheus.DefaultGatherer
	}
	setDefault(&o.DocsURL, "https://github.com/croftdb/croft/blob/main/docs/errors.md#")
	setDefault(&o.SlowLog, 100*time.Millisecond)
	l := &o.Limits
	setDefault(&l.BodyBytes, 2<<20+64<<10)
	setDefault(&l.ResultBytes, 4<<20)
	setDefault(&l.FetchBytes, 16<<20)
	setDefault(&l.BodyRate, 1<<10)
	setDefault(&l.BodyGrace, 5*time.Second)
	setDefault(&l.AnswerRate, 64<<10)
	setDefault(&l.AnswerGrace, 10*time.Second)
	setDefault(&l.QueueWait, 5*time.Second)
	l.Light.ensure(1024, 10*time.Second)
	l.Search.ensure(256, 30*time.Second)
	l.Write.ensure(128, 60*time.Second)
}

func (c *ClassLimit) ensure(inFlight int, deadline time.Duration) {
	setDefault(&c.InFlight, inFlight)
	setDefault(&c.Deadline, deadline)
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// Validate tells all faults at once.
func (o *Options) Validate() error {
	var faults []error
	if o.Node == nil {
		faults = append(faults, errors.New("no Node"))
	}
	if o.Auth == nil {
		faults = append(faults, errors.New("no Auth"))
	}
	if o.Advertise != "" && !strings.HasPrefix(o.Advertise, "http://") && !strings.HasPrefix(o.Advertise, "https://") {
		faults = append(faults, errors.New("Advertise must begin with http:// or https://, else clients assume https"))
	}
	l := o.Limits
	if min(l.BodyBytes, l.ResultBytes, l.FetchBytes, l.BodyRate, l.AnswerRate, l.Light.InFlight, l.Search.InFlight, l.Write.InFlight) < 0 {
		faults = append(faults, errors.New("a limit is negative"))
	}
	return errors.Join(faults...)
}

// Handler answers HTTP requests. It is safe for concurrent use and has no goroutine of its own.
type Handler struct {
	opts    Options
	node    Node
	router  *router
	metrics *requestMetrics
	figures figures
	tokens  tokenKey
	advert  *advertiser
	places  [3]chan struct{} // by cost
	away    turnedAway
	slow    slowLog
	seeker  seeker
}

// New checks opts and returns a Handler. It fails on wrong options and on metrics that are registered already.
func New(opts Options) (*Handler, error) {
	opts.EnsureDefaults()
	if err := opts.Validate(); err != nil {
		return nil, errs.Wrap(errs.Invalid, err, "api options")
	}
	m, err := newRequestMetrics(opts.Registerer)
	if err != nil {
		return nil, errs.Wrap(errs.Internal, err, "register metrics")
	}
	h := &Handler{
		opts: opts, node: opts.Node, router: newRouter(routes()), metrics: m, figures: newFigures(opts.Gatherer),
		tokens: newTokenKey(opts.TokenSecret, opts.Node.ClusterID(), opts.Auth.Admin),
		away:   newTurnedAway(opts.DocsURL, routes(), m),
		advert: newAdvertiser(opts.Advertise), slow: slowLog{threshold: opts.SlowLog, logger: opts.Logger},
	}
	h.seeker.places, h.seeker.pause = make(chan struct{}, maxSeekers), seekPause
	for c, l := range h.classes() {
		h.places[c] = make(chan struct{}, l.InFlight)
	}
	return h, nil
}

func (h *Handler) classes() [3]ClassLimit {
	return [...]ClassLimit{light: h.opts.Limits.Light, search: h.opts.Limits.Search, write: h.opts.Limits.Write}
}

// ServeHTTP is the one wrapper around every route: it names the request, finds its route, serves it, writes what
// comes back and counts it. A panic ends the request, not the process.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.serve(h.router, w, r) }

func (h *Handler) serve(rt *router, w http.ResponseWriter, r *http.Request) {
	c := &call{h: h, router: rt, w: w, r: r, id: requestID(r.Header), start: time.Now(), op: "unknown"}
	c.setHeaders()
	if c.turnAway() {
		return
	}
	c.trace()
	status := 0
	var err error
	defer func() {
		if v := recover(); v != nil {
			status = c.recovered(v)
		}
		c.endTrace(status, err)
		h.metrics.observe(c.op, status, time.Since(c.start))
		h.slow.note(c, status)
	}()
	var rep reply
	if rep, err = c.serve(); err == nil {
		err = c.checkOwner(rep)
	}
	c.audit(err)
	status = c.finish(rep, err)
}

// call is one request on its way.
type call struct {
	h         *Handler
	router    *router
	w         http.ResponseWriter
	r         *http.Request
	ctx       context.Context // with the request's deadline
	terms     terms
	id        string
	start     time.Time
	op        string
	route     *route
	args      []string // wildcards of the path
	principal tenancy.Principal
	vetted    bool          // it is the credential's
	again     time.Duration // how long a request that is turned away is to wait; 0: it is not
	ix        cluster.Index // that the request means
	params    params
	reading   cluster.Reading
	body      []byte
	sum       uint64 // of path and body, once hashed
	hashed    bool
	namespace string         // for the log
	begun     uint64         // event of the audit log that told of this act
	object    string         // that the path does not name, for the audit log
	denial    tenancy.Denial // why it is refused, if it is for what it asks for
	span      tracing.Span
	travels   bool // the request has brought a trace or baggage, or has got one here
	scoped    bool // what the request reaches for was found to be in the principal's reach
	sent      bool
	values    [18]string // of headers
	told      int        // of values
}

func (c *call) setHeaders() {
	c.tell("X-Request-Id", c.id)
	c.tell("X-Pinecone-Request-Id", c.id)
	version, warning := nearestVersion(c.r.Header.Get("X-Pinecone-Api-Version"))
	c.tell("X-Pinecone-Api-Version", version)
	c.tell("X-Content-Type-Options", "nosniff")
	if warning != "" {
		c.warn(warning)
	}
}

// tell sets a header, whose name is in canonical form already, to a value in the call's own memory: there are many in each answer.
func (c *call) tell(name, value string) {
	if c.told == len(c.values) {
		c.w.Header().Set(name, value)
		return
	}
	c.values[c.told] = value
	c.w.Header()[name] = c.values[c.told : c.told+1 : c.told+1]
	c.told++
}

// warn adds a line that tells a client about something that was accepted but has no effect.
func (c *call) warn(text string) { c.w.Header().Add("X-Croft-Warning", text) }

// serve runs the steps that every request takes. Nothing of a body is read before its sender is known.
func (c *call) serve() (reply, error) {
	c.limitBodyTime(0)
	prefixIndex, path := cutIndexPrefix(c.r.URL.EscapedPath())
	var allow string
	var err error
	if c.route, c.args, allow, err = c.router.match(c.r.Method, path); err != nil {
		if allow != "" {
			c.w.Header().Set("Allow", allow)
		}
		return nil, err
	}
	if prefixIndex != "" && !c.route.index {
		return nil, errNoSuchPath(c.r.Method, c.r.URL.EscapedPath())
	}
	c.op = c.route.op
	if err := c.authorize(); err != nil {
		return nil, err
	}
	if c.params, err = parseParams(c.r.URL.RawQuery, c.route.query); err != nil {
		return nil, err
	}
	if err := c.readConsistency(); err != nil {
		return nil, err
	}
	if err := c.readDeadline(); err != nil {
		return nil, err
	}
	if c.route.index {
		if err := c.resolve(prefixIndex); err != nil {
			return nil, err
		}
	}
	if err := c.refuseBody(); err != nil {
		return nil, err
	}
	if c.route.body {
		buf := getBuffer()
		defer func() { *buf = c.body; putBuffer(buf) }()
		if c.body, err = c.readBody((*buf)[:0]); err != nil {
			return nil, err
		}
	}
	return c.run()
}

// refuseBody refuses settings that would be passed over in silence. An empty object is what some clients send for nothing.
func (c *call) refuseBody() error {
	if c.route.body || c.r.Method != http.MethodPost || c.r.ContentLength <= int64(len("{}")) {
		return nil
	}
	err := errs.New(errs.Invalid, "%s %s takes no body", c.r.Method, c.route.pattern)
	if len(c.route.query) == 0 {
		return err
	}
	return err.WithHint("put its settings in the address: ?%s=...", strings.Join(c.route.query, "=...&"))
}

// run has a request handled unless it was refused a moment ago. Its time begins when it need not wait for having come too early.
func (c *call) run() (reply, error) {
	err := c.knock()
	var rep reply
	if err == nil {
		rep, err = c.handle()
	}
	c.noteRefusal(err)
	return rep, err
}

// handle waits for a place among the requests of the route's class and calls its handler. The place is taken after the
// body has arrived, so that slow senders hold none.
func (c *call) handle() (reply, error) {
	defer c.limitTime()()
	leave, err := c.h.enter(c.ctx, c.route.cost)
	if err != nil {
		return nil, c.tooLate(err)
	}
	defer leave()
	c.announce()
	rep, err := c.route.handle(c)
	err = c.tooLate(err)
	if err == nil && !c.scoped {
		return nil, errs.New(errs.Internal, "%s %s was answered without a look at whose data it is", c.r.Method, c.route.pattern)
	}
	return rep, err
}

func (h *Handler) enter(ctx context.Context, class cost) (leave func(), err error) {
	places := h.places[class]
	leave = func() { <-places }
	select {
	case places <- struct{}{}:
		return leave, nil
	default:
	}
	wait := time.NewTimer(h.opts.Limits.QueueWait)
	defer wait.Stop()
	select {
	case places <- struct{}{}:
		return leave, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-wait.C:
		return nil, errs.New(errs.Unavailable, "the node is busy: %d requests of this class are running", cap(places)).
			WithHint("retry later, or send fewer requests at once")
	}
}

// finish encodes and sends an answer or an error and returns the status.
func (c *call) finish(rep reply, err error) int {
	if r, ok := rep.(interface{ release() }); ok {
		defer r.release()
	}
	if err != nil && c.again > 0 {
		return c.sendAway()
	}
	if err != nil {
		return c.fail(err)
	}
	c.tellStaleness()
	if rep == nil {
		return c.send(c.route.status, nil)
	}
	if p, ok := rep.(*page); ok {
		return c.send(p.code, p.body)
	}
	buf := getBuffer()
	defer putBuffer(buf)
	if *buf, err = rep.appendJSON((*buf)[:0]); err != nil {
		return c.fail(err)
	}
	c.tell("Content-Type", "application/json")
	status := c.route.status
	if s, ok := rep.(interface{ status() int }); ok {
		status = s.status()
	}
	return c.send(status, *buf)
}

func (c *call) send(status int, body []byte) int {
	c.limitAnswerTime(len(body))
	c.tellTerms(status)
	c.tell("Content-Length", strconv.Itoa(len(body)))
	c.sent = true
	c.w.WriteHeader(status)
	c.w.Write(body) // a failure is the client's going away, which nobody can be told
	return status
}

// limitAnswerTime sets the deadline for an answer of n bytes: an answer waits in memory until it is taken, so that a
// client which asks much and reads nothing must not keep it for long.
func (c *call) limitAnswerTime(n int) {
	l := c.h.opts.Limits
	due := time.Now().Add(l.AnswerGrace + time.Duration(n)*time.Second/time.Duration(l.AnswerRate))
	_ = http.NewResponseController(c.w).SetWriteDeadline(due) // as in limitBodyTime
}

// fail sends an error; one of ours is logged, since its text is kept from the client.
func (c *call) fail(err error) int {
	if k := errs.KindOf(err); k == errs.Internal || k == errs.Corrupt {
		c.h.opts.Logger.ErrorContext(c.r.Context(), "request failed", "op", c.op, "request", c.id, "tenant", clip(c.namespace), "actor", c.principal.String(), "err", err)
	}
	return c.writeError(err)
}

func (c *call) recovered(v any) int {
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(v)
	}
	c.h.opts.Logger.ErrorContext(c.r.Context(), "panic in a handler", "op", c.op, "request", c.id, "err", v, "stack", string(debug.Stack()))
	if c.sent {
		panic(http.ErrAbortHandler) // the answer is half out: cut it, so that nobody takes it for whole
	}
	return c.writeError(errPanic(v))
}

// requestID echoes a caller's id if it is fit for a log line, else makes one.
func requestID(h http.Header) string {
	if id := h.Get("X-Request-Id"); saneID(id) {
		return id
	}
	var b [16]byte
	binary.NativeEndian.PutUint64(b[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(b[8:], rand.Uint64())
	var text [2 * len(b)]byte
	hex.Encode(text[:], b[:])
	return string(text[:])
}

func saneID(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !isDigit(c) && (c|0x20 < 'a' || c|0x20 > 'z') && !strings.ContainsRune("-_.:", rune(c)) {
			return false
		}
	}
	return true
}
