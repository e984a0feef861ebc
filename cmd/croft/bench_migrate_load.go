package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/croftdb/croft/bench"
	"github.com/croftdb/croft/internal/client"
	"github.com/croftdb/croft/internal/errs"
)

// Phases of a run; what is asked outside of them counts only when it fails.
const (
	moveBefore int32 = iota
	moveDuring
	moveAfter
	moveNone
)

const (
	moveTexts    = 256              // vectors that written records are made of
	movePatience = 20 * time.Second // when a client gives up
	deleted      = -1
)

// sample is a request that was answered.
type sample struct {
	tenant int
	due    time.Time
	took   time.Duration
	phase  int32
}

// entry is a record of the load, as far as its answers tell.
type entry struct {
	tenant int
	vector int  // of moveLoad.rows, or deleted
	busy   bool // it is being written
	sure   bool // the last write was answered
	last   lastWrite
}

// lastWrite is what was last asked of a record, for people who look into a fault.
type lastWrite struct {
	vector, status int
	due            time.Time
	took           time.Duration
}

// moveLoad writes and asks at a steady rate, whether answered or not, and keeps a book of what was written. Each record is written
// by one client at a time, so its last acknowledged state is what must be found.
type moveLoad struct {
	wires   *wirePool
	key     string
	tenants int
	seed    uint64
	rows    [][]float32
	texts   []string // of rows, in JSON
	queries []string // but for their first value
	phase   atomic.Int32
	number  atomic.Uint64

	mu       sync.Mutex
	book     []entry
	reads    []sample
	writes   []sample
	failures map[string]int
	said     map[string]string // of each kind of failure, the first answer
	unknown  int
}

// newMoveLoad writes vectors that follow the first n of the drawer.
func newMoveLoad(hosts []string, key string, tenants int, d *bench.Drawer, n int, seed uint64) *moveLoad {
	l := &moveLoad{wires: newWirePool(hosts), key: key, tenants: tenants, seed: seed, failures: map[string]int{}, said: map[string]string{}}
	l.phase.Store(moveNone)
	l.rows = d.Base(n/bench.DrawnBlock + 1)[:moveTexts]
	for _, row := range l.rows {
		l.texts = append(l.texts, "["+valuesText(row)+"]")
	}
	for _, q := range d.Queries(1)[:moveTexts] {
		l.queries = append(l.queries, valuesText(q[1:]))
	}
	return l
}

// valuesText are numbers with commas between them, exact.
func valuesText(values []float32) string {
	var b strings.Builder
	for i, x := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatFloat(float64(x), 'g', -1, 32))
	}
	return b.String()
}

// query asks at a rate until ctx ends.
func (l *moveLoad) query(ctx context.Context, rate float64) {
	rng := rand.New(rand.NewPCG(l.seed, 1))
	l.atRate(ctx, rate, func(due time.Time, phase int32) func(*wire) {
		tenant, q, n := rng.IntN(l.tenants), rng.IntN(len(l.queries)), l.number.Add(1)
		return func(w *wire) {
			// No two are alike, so that none is answered from a cache.
			body := fmt.Sprintf(`{"namespace":%q,"topK":10,"vector":[0.%09d,%s]}`, tenantOf(tenant), n, l.queries[q])
			status, err := w.postBody(ctx, l.key, "/i/"+migrateIndex+"/query", body, movePatience)
			if ctx.Err() != nil {
				return
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.answeredLocked("query", w, status, err) {
				l.reads = append(l.reads, sample{tenant, due, time.Since(due), phase})
			}
		}
	})
}

// write writes at a rate until ctx ends.
func (l *moveLoad) write(ctx context.Context, rate float64) {
	rng := rand.New(rand.NewPCG(l.seed, 2))
	l.atRate(ctx, rate, func(due time.Time, phase int32) func(*wire) {
		id, vector := l.choose(rng)
		return func(w *wire) {
			// What is on its way at the end is waited for: the book must tell what was answered.
			status, err := l.send(context.WithoutCancel(ctx), w, id, vector)
			l.note(w, id, vector, status, err, sample{due: due, took: time.Since(due), phase: phase})
		}
	})
}

// atRate has requests sent at even times, through each node in turn, until ctx ends; next makes one.
func (l *moveLoad) atRate(ctx context.Context, rate float64, next func(due time.Time, phase int32) func(*wire)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	begun := time.Now()
	for n := 0; ; n++ {
		due := begun.Add(time.Duration(float64(n) / rate * float64(time.Second)))
		if pauseUntil(ctx, due) != nil {
			return
		}
		do := next(due, l.phase.Load())
		wg.Go(func() { l.wires.use(n%len(l.wires.addrs), do) })
	}
}

// choose says what to write next: of ten, seven new records, two others overwritten and one deleted.
func (l *moveLoad) choose(rng *rand.Rand) (id, vector int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	dice, vector := rng.IntN(10), rng.IntN(len(l.rows))
	if dice >= 7 && len(l.book) > 0 {
		id := rng.IntN(len(l.book))
		if e := &l.book[id]; !e.busy && e.sure && e.vector != deleted {
			if dice == 9 {
				vector = deleted
			}
			e.busy = true
			return id, vector
		}
	}
	l.book = append(l.book, entry{tenant: rng.IntN(l.tenants), vector: deleted, busy: true, sure: true})
	return len(l.book) - 1, vector
}

func recordOf(id int) string { return "w" + strconv.Itoa(id) }

func (l *moveLoad) send(ctx context.Context, w *wire, id, vector int) (status int, err error) {
	l.mu.Lock()
	tenant := tenantOf(l.book[id].tenant)
	l.mu.Unlock()
	path, body := "/vectors/delete", fmt.Sprintf(`{"namespace":%q,"ids":[%q]}`, tenant, recordOf(id))
	if vector != deleted {
		path, body = "/vectors/upsert", fmt.Sprintf(`{"namespace":%q,"vectors":[{"id":%q,"values":%s}]}`, tenant, recordOf(id), l.texts[vector])
	}
	return w.postBody(ctx, l.key, "/i/"+migrateIndex+path, body, movePatience)
}

// outcomeUnknown is in answers of status 503 that do not say that nothing was done.
const outcomeUnknown = `"code":"UNKNOWN"`

// note writes down what became of a write.
func (l *moveLoad) note(w *wire, id, vector, status int, err error, s sample) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &l.book[id]
	e.busy, s.tenant = false, e.tenant
	e.last = lastWrite{vector, status, s.due, s.took}
	switch answered := l.answeredLocked("write", w, status, err); {
	case answered:
		e.vector = vector
		l.writes = append(l.writes, s)
	case !refusedBy(status) || strings.Contains(w.said, outcomeUnknown):
		e.last.status = 0
		e.sure = false
		l.unknown++
	}
}

// answeredLocked counts a failure, or reports that there is none.
func (l *moveLoad) answeredLocked(what string, w *wire, status int, err error) bool {
	if err == nil && status == http.StatusOK {
		return true
	}
	said := w.said
	if what += ": " + strconv.Itoa(status); err != nil {
		what, said = what+" "+errs.KindOf(err).String(), err.Error()
	}
	if l.failures[what]++; l.failures[what] == 1 {
		l.said[what] = said
	}
	return false
}

// live are the vectors of the records that are there now, as far as is known.
func (l *moveLoad) live() (rows [][]float32) {
	for _, e := range l.book {
		if e.vector != deleted {
			rows = append(rows, l.rows[e.vector])
		}
	}
	return rows
}

// watchedMove is a move, with what was seen of it.
type watchedMove struct {
	number int // of its tenant
	took   time.Duration
	last   client.Migration
}

// movePoll is how often a move is looked at.
const movePoll = 10 * time.Millisecond

// watchMove moves a tenant, and returns when it is served at its new home.
func watchMove(ctx context.Context, api *client.Client, tenant string, to int) (watchedMove, error) {
	begun := time.Now()
	m, err := api.MoveTenant(ctx, client.NewMigration{Tenant: tenant, To: to, Reason: "croft bench migrate"})
	w := watchedMove{last: m}
	for err == nil {
		if w.last = m; !m.Running {
			w.took = time.Since(begun)
			return w, outcomeOf(m, "")
		}
		if err = pauseFor(ctx, movePoll); err == nil {
			m, err = api.Migration(ctx, m.ID)
		}
	}
	return w, err
}
