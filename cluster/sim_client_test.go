package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/lineartest"
)

const (
	simTenants = 4
	simDim     = 16
	// simEpoch is how long clients write to the same records: short histories of many records are judged faster than the
	// other way round. Later the records are only read, and must stay as they were.
	simEpoch   = 3 * time.Minute
	simRecords = 8 // in an epoch
)

// simClients are what all clients share.
type simClients struct {
	sim     *simulation
	history *lineartest.History

	mu   sync.Mutex
	tick int64
	next int                        // value
	sent map[string]map[string]bool // values by record, also of writes that failed
	keys []string                   // records in the order of their first write
}

func newSimClients(s *simulation) *simClients {
	c := &simClients{sim: s, sent: map[string]map[string]bool{}}
	c.history = lineartest.New(c.now)
	return c
}

// now is the bubble's time, made to grow with each call.
func (c *simClients) now() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tick = max(c.tick+1, int64(time.Since(c.sim.began)))
	return c.tick
}

// draw returns a value that was never written, to be written to a record.
func (c *simClients) draw(key string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	c.note(key, strconv.Itoa(c.next))
	return c.next
}

func (c *simClients) note(key, value string) {
	if c.sent[key] == nil {
		c.sent[key] = map[string]bool{}
		c.keys = append(c.keys, key)
	}
	c.sent[key][value] = true
}

// possible reports whether a record may have had a value at some time.
func (c *simClients) possible(key, value string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return value == lineartest.Absent || c.sent[key][value]
}

// records returns all that were written to so far.
func (c *simClients) records() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.keys)
}

func simKey(epoch, i int) string { return fmt.Sprintf("e%03d-%d", epoch, i) }

// tenantOf is the namespace of a record. The last one of each epoch has a namespace of its own, which its first write makes.
func tenantOf(key string) string {
	epoch, i, _ := strings.Cut(key, "-")
	n, err := strconv.Atoi(i)
	switch {
	case err != nil:
		panic(err)
	case n == simRecords-1:
		return "tenant-" + epoch
	}
	return fmt.Sprint("tenant", n%simTenants)
}

// simRecord is a record with a value: all that it holds follows from that.
func simRecord(key string, value int) engine.Record {
	m, err := metadata.Make(
		metadata.Field{Key: "v", Value: metadata.NumberValue(float64(value))},
		metadata.Field{Key: "pad", Value: metadata.StringValue(strings.Repeat("x", value%7*128))},
	)
	if err != nil {
		panic(err)
	}
	vec := make([]float32, simDim)
	for i := range vec {
		vec[i] = float32(value + i)
	}
	return engine.Record{ID: key, Values: vec, Metadata: m}
}

// valueOf is the value of a record, or an error if not all of it is of the same value.
func valueOf(r *engine.Record) (string, error) {
	if len(r.Values) != simDim {
		return "", fmt.Errorf("record %s has %d values", r.ID, len(r.Values))
	}
	v := int(r.Values[0])
	want := simRecord(r.ID, v)
	if !slices.Equal(r.Values, want.Values) || !r.Metadata.Equal(want.Metadata) {
		return "", fmt.Errorf("record %s is %v %v, of no single write", r.ID, r.Values, r.Metadata)
	}
	return strconv.Itoa(v), nil
}

// simClient does one thing after the other at one host.
type simClient struct {
	*simClients
	id   int
	host *host
	rng  *rand.Rand
}

// simPatience is how long a client waits for an answer.
const simPatience = 8 * time.Second

func (c *simClient) run(ctx context.Context) {
	for pause(ctx, time.Duration(c.rng.ExpFloat64()*float64(c.sim.think))) {
		if c.host.isGone() {
			c.host = c.sim.someHost(c.rng)
		}
		epoch := int(time.Since(c.sim.began) / simEpoch)
		key := simKey(epoch, c.rng.IntN(simRecords))
		switch p := c.rng.IntN(100); {
		case p < 30:
			c.upsert(ctx, key)
		case p < 40:
			c.upsertOnce(ctx, key)
		case p < 48:
			c.remove(ctx, key)
		case p < 53:
			c.read(ctx, simKey(c.rng.IntN(epoch+1), c.rng.IntN(simRecords)), Leader)
		case p < 75:
			c.read(ctx, key, Leader)
		case p < 85:
			c.read(ctx, key, Strong)
		case p < 90:
			c.scan(ctx, epoch, key)
		default:
			c.readAny(ctx, simKey(c.rng.IntN(epoch+1), c.rng.IntN(simRecords)))
		}
	}
}

// errDown is the answer of a host where nobody listens: nothing was sent.
var errDown = errs.New(errs.Unavailable, "nobody listens")

// errDied is the answer of a process that ended before it could answer.
var errDied = errs.New(errs.OutcomeUnknown, "the process has died")

// call asks the client's node, as from another machine.
func (c *simClient) call(ctx context.Context, f func(context.Context, *Node) error) error {
	c.host.awake()
	l, n := c.host.running()
	if l == nil {
		return errDown
	}
	ctx, cancel := context.WithTimeout(ctx, simPatience)
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)()
	err := f(ctx, n)
	c.host.awake()
	if l.ctx.Err() != nil {
		return errDied
	}
	return err
}

// outcome is what an error says of a write.
func (c *simClient) outcome(err error) lineartest.Outcome {
	switch errs.KindOf(err) {
	case errs.OutcomeUnknown, errs.DeadlineExceeded, errs.Canceled:
		return lineartest.Unknown
	case errs.Unavailable, errs.StorageFull:
		return lineartest.Refused
	case errs.FailedPrecondition:
		if c.host.isLeaving() { // what a node answers that was removed
			return lineartest.Refused
		}
	}
	c.sim.log.violate("answer", "client %d at %v: a write was answered with %v error: %v", c.id, c.host, errs.KindOf(err), err)
	return lineartest.Unknown
}

// write records a write that f sends, in one attempt.
func (c *simClient) write(ctx context.Context, key, value string, f func(context.Context, *Node) error) lineartest.Outcome {
	end := c.history.Write(c.id, key, value)
	err := c.call(ctx, f)
	o := lineartest.Done
	if err != nil {
		o = c.outcome(err)
	}
	c.end(end, o, "write of %q to %s: %v", value, key, err)
	return o
}

func (c *simClient) end(end func(lineartest.Outcome), o lineartest.Outcome, format string, args ...any) {
	end(o)
	name := map[lineartest.Outcome]string{lineartest.Done: "done", lineartest.Unknown: "unknown", lineartest.Refused: "refused"}[o]
	c.sim.log.count("writes " + name)
	if o != lineartest.Done {
		c.sim.log.operation("client %d at %v, %s: "+format, append([]any{c.id, c.host, name}, args...)...)
	}
}

func (c *simClient) upsert(ctx context.Context, key string) lineartest.Outcome {
	value := c.draw(key)
	return c.write(ctx, key, strconv.Itoa(value), func(ctx context.Context, n *Node) error {
		_, err := n.Upsert(ctx, c.sim.index(), tenantOf(key), []engine.Record{simRecord(key, value)})
		return err
	})
}

func (c *simClient) remove(ctx context.Context, key string) {
	c.write(ctx, key, lineartest.Absent, func(ctx context.Context, n *Node) error {
		_, err := n.Delete(ctx, c.sim.index(), tenantOf(key), []string{key})
		if errs.Is(err, errs.NotFound) { // nobody has written to the namespace yet
			return nil
		}
		return err
	})
}

// upsertOnce writes under a name of its own, and repeats that at other hosts until it has an answer. If more than one
// attempt had an effect, a later write of somebody else would be undone.
func (c *simClient) upsertOnce(ctx context.Context, key string) {
	value := c.draw(key)
	name := strconv.Itoa(value)
	end := c.history.Write(c.id, key, name)
	home := c.host
	defer func() { c.host = home }()
	o, faults := lineartest.Refused, []error{}
	for range 6 {
		err := c.call(ctx, func(ctx context.Context, n *Node) error {
			w, err := n.Upsert(WithOnce(ctx, name, []byte(name)), c.sim.index(), tenantOf(key), []engine.Record{simRecord(key, value)})
			if w.Repeated {
				c.sim.log.count("writes repeated that had been done")
			}
			return err
		})
		if err == nil {
			o = lineartest.Done
			break
		}
		faults = append(faults, err)
		o = min(o, c.outcome(err)) // one that is unknown stays so
		if !pause(ctx, time.Duration(c.rng.Int64N(int64(c.sim.think)))) {
			break
		}
		c.host = c.sim.someHost(c.rng)
	}
	c.end(end, o, "write of %s to %s, attempts: %v", name, key, faults)
}

// read fetches a record.
func (c *simClient) read(ctx context.Context, key string, level Consistency) {
	end := c.history.Read(c.id, key)
	value, err := c.fetch(ctx, key, level)
	if c.readFailed(err, "%v read of %s", level, key) {
		return
	}
	c.sim.log.count(fmt.Sprintf("reads %v", level))
	end(value)
}

func (c *simClient) readFailed(err error, format string, args ...any) bool {
	switch {
	case err == nil:
		return false
	case errs.Is(err, errs.Unavailable), errs.Is(err, errs.DeadlineExceeded), errs.Is(err, errs.Canceled), errors.Is(err, errDied):
		c.sim.log.count("reads without answer")
		c.sim.log.operation("client %d at %v, "+format+": %v", append(append([]any{c.id, c.host}, args...), err)...)
	case errs.Is(err, errs.Internal) && c.host.wasIll(): // by the disk's fault that is about to end the process
		c.sim.log.count("reads that met an ill disk")
	default:
		c.sim.log.violate("answer", "client %d at %v, "+format+": %v", append(append([]any{c.id, c.host}, args...), err)...)
	}
	return true
}

func (c *simClient) fetch(ctx context.Context, key string, level Consistency) (value string, err error) {
	values, err := c.fetchAll(ctx, tenantOf(key), []string{key}, level)
	return values[key], err
}

// fetchAll reads records of a tenant.
func (c *simClient) fetchAll(ctx context.Context, tenant string, keys []string, level Consistency) (map[string]string, error) {
	values := map[string]string{}
	err := c.call(ctx, func(ctx context.Context, n *Node) error {
		recs, err := n.Fetch(WithReading(ctx, &Reading{Consistency: level}), c.sim.index(), tenant, keys)
		if err != nil {
			return err
		}
		return c.collect(recs, values)
	})
	return values, err
}

func (c *simClient) collect(recs []engine.Record, values map[string]string) error {
	for i := range recs {
		v, err := valueOf(&recs[i])
		if err != nil {
			return err
		}
		values[recs[i].ID] = v
	}
	return nil
}

// scan reads all records of an epoch that belong to a record's tenant.
func (c *simClient) scan(ctx context.Context, epoch int, like string) {
	var keys []string
	var ends []func(string)
	for i := range simRecords {
		if key := simKey(epoch, i); tenantOf(key) == tenantOf(like) {
			keys, ends = append(keys, key), append(ends, c.history.Read(c.id, key))
		}
	}
	values := map[string]string{}
	err := c.call(ctx, func(ctx context.Context, n *Node) error {
		recs, _, err := n.Scan(ctx, c.sim.index(), tenantOf(like), like[:strings.IndexByte(like, '-')], "", nil, 1000)
		if err != nil {
			return err
		}
		return c.collect(recs, values)
	})
	if c.readFailed(err, "scan of epoch %d", epoch) {
		return
	}
	c.sim.log.count("scans")
	for i, key := range keys {
		ends[i](values[key])
	}
}

// readAny reads whatever the node has: no promise but that it was written.
func (c *simClient) readAny(ctx context.Context, key string) {
	value, err := c.fetch(ctx, key, Any)
	if c.readFailed(err, "any read of %s", key) {
		return
	}
	c.sim.log.count("reads any")
	if !c.possible(key, value) {
		c.sim.log.violate("any", "client %d at %v read %q of %s, which nobody has written", c.id, c.host, value, key)
	}
}
