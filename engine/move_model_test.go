package engine

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/errs"
)

// wanderer is a tenant that moves between two shards, back and forth, while it is written to; each shard has a tenant of its own,
// too. All that took effect is done to a third shard as well, in which nobody moves: it says what must be there in the end.
type wanderer struct {
	t      *testing.T
	rt     *rapid.T
	shards [2]*subject
	still  *subject

	home    int
	move    Move
	stage   int // how far the move is, see advance
	export  *TenantExport
	exports int // which shard it is of
	given   [2][]*Command
	terms   [2]uint64
	clock   int64
	index   IndexID // the one that may be dropped, and made again under the next number
	ahead   bool    // it was dropped in the target before the copy had heard of that from the source
	moved   int
}

const wanders = byte(1)

var wandering = TenantID{wanders}

func newWanderer(t *testing.T, rt *rapid.T) *wanderer {
	w := &wanderer{t: t, rt: rt, still: inMemory(t, Options{}), move: Move{ID: 1, Attempt: 1}, index: 2}
	for i := range w.shards {
		w.shards[i] = inMemory(t, Options{FlushBytes: 32 << 10, GraphAbove: 8, FlatBelow: 4})
	}
	for _, s := range []*subject{w.still, w.shards[0], w.shards[1]} {
		s.apply(w.define(1))
		s.apply(w.define(w.index))
	}
	return w
}

func (w *wanderer) define(id IndexID) *Command {
	return &Command{Op: OpDefineIndex, Schema: Schema{ID: id, Dim: 2, Metric: ann.DotProduct}}
}

func (w *wanderer) source() *subject { return w.shards[w.home] }
func (w *wanderer) target() *subject { return w.shards[1-w.home] }

// command draws a write of a tenant.
func (w *wanderer) command(tenant byte) *Command {
	rt, c := w.rt, &Command{Key: testKey(tenant, 1)}
	heard := w.source().shard.schemas[w.index] != nil // nobody proposes a write to an index that the home has not heard of
	if tenant == wanders && heard && rapid.IntRange(0, 2).Draw(rt, "index") == 0 {
		c.Key.Index = w.index
	}
	id := func() string { return strconv.Itoa(rapid.IntRange(0, 12).Draw(rt, "id")) }
	values := func() []float32 { return []float32{rapid.Float32Range(-9, 9).Draw(rt, "x"), 1} }
	meta := func() metadata.Map {
		m, err := metadata.Make(metadata.Field{Key: "n", Value: metadata.NumberValue(float64(rapid.IntRange(0, 9).Draw(rt, "n")))})
		require.NoError(rt, err)
		return m
	}
	c.Op = rapid.SampledFrom([]Op{OpUpsert, OpUpsert, OpUpsert, OpUpdate, OpDelete, OpDeleteAll, OpDropPartition, OpCreatePartition, OpCostate}).Draw(rt, "op")
	switch c.Op {
	case OpUpsert:
		for range rapid.IntRange(1, 5).Draw(rt, "records") {
			r := Record{ID: id(), Values: values()}
			switch rapid.IntRange(0, 2).Draw(rt, "kind") {
			case 1:
				r.Metadata = meta()
			case 2:
				r.Sparse = Sparse{Indices: []uint32{3, 9}, Values: []float32{1, r.Values[0]}}
			}
			c.Records = append(c.Records, r)
		}
	case OpUpdate:
		c.Update = Update{Targets: []Target{{ID: id()}, {ID: id()}}, SetMetadata: meta()}
		if rapid.Bool().Draw(rt, "values too") {
			c.Update.Values = values()
		}
	case OpDelete:
		c.Targets = []Target{{ID: id()}, {ID: id()}}
	case OpCostate:
		c.Costate = []CostateEntry{w.costate(tenant)}
		c.Key = Key{}
		return c
	}
	if rapid.Bool().Draw(rt, "once") {
		w.clock += rapid.Int64Range(-1, 5).Draw(rt, "hours") * onceStep
		c.Once = onceOf(rapid.ByteRange(0, 9).Draw(rt, "key"), 1, w.clock)
	}
	return c
}

func (w *wanderer) costate(tenant byte) CostateEntry {
	e := CostateEntry{Tenant: TenantID{tenant}, Name: strconv.Itoa(rapid.IntRange(0, 3).Draw(w.rt, "name"))}
	switch rapid.IntRange(0, 9).Draw(w.rt, "co-state") {
	case 0:
		e.Name = ""
	case 1:
	case 2:
		e = StorageLimitEntry(e.Tenant, StorageLimit{Records: rapid.Uint64Range(1, 20).Draw(w.rt, "limit"), Bytes: 1 << 20})
	default:
		e.Value = []byte(strconv.Itoa(len(w.still.log)))
	}
	return e
}

// write writes where a tenant lives. What took effect does so in the third shard, and has the same outcome there.
func (w *wanderer) write(at int, tenant byte) {
	c := w.command(tenant)
	s := w.shards[at]
	if c.Op == OpCostate {
		w.terms[at] += rapid.Uint64Range(0, 1).Draw(w.rt, "term later")
		c.Term = w.terms[at] - min(w.terms[at], rapid.Uint64Range(0, 1).Draw(w.rt, "term earlier"))
	}
	a := s.apply(c)
	r := s.shard.Residence(TenantID{tenant})
	if r.Standing != Home {
		want := map[Standing]error{Fenced: ErrFenced, Staged: ErrStaged, Left: ErrLeft}[r.Standing]
		require.ErrorIs(w.rt, a.Err, want)
		return
	}
	if c.Op == OpCostate {
		if errs.Is(a.Err, errs.FailedPrecondition) { // a term of that shard
			return
		}
		c.Term = 0
	}
	b := w.still.apply(c)
	require.Equal(w.rt, errs.KindOf(b.Err), errs.KindOf(a.Err), "%+v: %v, %v", c, a.Err, b.Err)
	require.Equal(w.rt, []any{b.Affected, b.Version, b.Repeated}, []any{a.Affected, a.Version, a.Repeated}, "%+v", c)
}

// give gives an order, which may be refused, and keeps it if it was not.
func (w *wanderer) give(at int, c *Command) error {
	c.Key.Tenant, c.Move = wandering, w.move
	err := w.shards[at].apply(c).Err
	if err == nil {
		w.given[at] = append(w.given[at], c)
	}
	return err
}

// mustGive gives an order, at times twice.
func (w *wanderer) mustGive(at int, c *Command) {
	for range rapid.IntRange(1, 2).Draw(w.rt, "given") {
		require.NoError(w.rt, w.give(at, c), "%+v", c)
	}
}

// Steps of a move.
const (
	moveIdle = iota
	moveStaged
	moveCopying
	moveTailing
	moveFenced
	moveReady
	moveSettled
)

// advance takes the move one step further.
func (w *wanderer) advance() {
	target := 1 - w.home
	switch w.stage {
	case moveIdle:
		w.mustGive(target, &Command{Op: OpStageTenant})
	case moveStaged:
		var err error
		w.export, err = w.source().shard.ExportTenant(context.Background(), wandering)
		require.NoError(w.rt, err)
		w.exports = w.home
	case moveCopying:
		if w.export == nil {
			w.again()
			return
		}
		c, err := w.export.Next(rapid.SampledFrom([]int{1, 200, 1 << 20}).Draw(w.rt, "size"))
		require.NoError(w.rt, err)
		w.mustGive(target, c)
		if !c.Batch.Last {
			return
		}
		w.closeExport()
	case moveTailing:
		w.tail(rapid.IntRange(0, 20).Draw(w.rt, "entries"))
		if rapid.IntRange(0, 2).Draw(w.rt, "tail on") > 0 {
			return
		}
		w.mustGive(w.home, &Command{Op: OpFenceTenant})
	case moveFenced:
		if !w.compare() {
			w.again()
			return
		}
	case moveReady: // the home changes here: either may hear of it first
		w.flip()
	case moveSettled:
		w.mustGive(1-w.home, &Command{Op: OpForgetTenant})
		w.begin(Move{ID: w.move.ID + 1, Attempt: 1})
		return
	}
	w.stage++
}

// tail brings up to n entries more of the source's log.
func (w *wanderer) tail(n int) {
	from := w.target().shard.Residence(wandering).Copy.Position
	to := min(from+uint64(n), uint64(len(w.source().log)))
	w.mustGive(1-w.home, tailOf(w.source(), wandering, w.move, from, to))
}

// compare brings the rest of the log, and compares. It fails at most where an index was dropped in the target ahead of the source,
// which answered some more writes to it, and refused others for want of the room that it took.
func (w *wanderer) compare() bool {
	d, err := w.source().shard.TenantDigest(wandering)
	require.NoError(w.rt, err)
	w.tail(len(w.source().log))
	err = w.give(1-w.home, &Command{Op: OpStageReady, Digest: &d})
	if err != nil {
		require.True(w.rt, w.ahead, "%v", err)
	}
	return err == nil
}

func (w *wanderer) dropped(at int) bool {
	_, there := w.shards[at].shard.Schema(w.index)
	return !there
}

func (w *wanderer) flip() {
	settle := func() { w.mustGive(1-w.home, &Command{Op: OpSettleTenant, Epoch: w.move.ID}) }
	leave := func() { w.mustGive(w.home, &Command{Op: OpLeaveTenant, Epoch: w.move.ID}) }
	if rapid.Bool().Draw(w.rt, "settle first") {
		settle()
		leave()
	} else {
		leave()
		settle()
	}
	if w.dropped(w.home) { // behind the comparison: the new home hears of it at last
		w.target().apply(&Command{Op: OpDropIndex, Key: Key{Index: w.index}})
	}
	w.home = 1 - w.home
	w.moved++
	w.followDrop()
}

// again gives the attempt up and begins the next one.
func (w *wanderer) again() {
	orders := []func(){
		func() { w.mustGive(w.home, &Command{Op: OpUnfenceTenant}) },
		func() { w.mustGive(1-w.home, &Command{Op: OpForgetTenant}) },
	}
	first := rapid.IntRange(0, 1).Draw(w.rt, "which end first")
	orders[first]()
	orders[1-first]()
	w.begin(Move{ID: w.move.ID, Attempt: w.move.Attempt + 1})
}

func (w *wanderer) begin(m Move) {
	w.closeExport()
	w.stage, w.move, w.ahead = moveIdle, m, w.dropped(1-w.home) && !w.dropped(w.home)
}

func (w *wanderer) closeExport() {
	if w.export != nil {
		require.NoError(w.rt, w.export.Close())
		w.export = nil
	}
}

// repeat gives an order again that was obeyed once: nothing happens.
func (w *wanderer) repeat() {
	at := rapid.IntRange(0, 1).Draw(w.rt, "shard")
	if len(w.given[at]) == 0 {
		return
	}
	c := rapid.SampledFrom(w.given[at]).Draw(w.rt, "order")
	s := w.shards[at]
	was, before := s.shard.Residence(wandering), w.digest(s)
	s.apply(c)
	require.Equal(w.rt, was, s.shard.Residence(wandering), "%+v", c)
	require.Equal(w.rt, before, w.digest(s), "%+v", c)
}

func (w *wanderer) digest(s *subject) Digest {
	d, err := s.shard.TenantDigest(wandering)
	require.NoError(w.rt, err)
	return d.Sum()
}

// crash stops a shard as kill -9 would, and opens it again. What it was handing out is lost.
func (w *wanderer) crash() {
	at := rapid.IntRange(0, 1).Draw(w.rt, "shard")
	if w.exports == at {
		w.closeExport()
	}
	w.shards[at].restart(rapid.Bool().Draw(w.rt, "crash"))
}

// dropIndex drops an index in one shard, as if the other had not heard of it yet, or makes the next one once both have.
func (w *wanderer) dropIndex() {
	at := rapid.IntRange(0, 1).Draw(w.rt, "shard")
	switch {
	case w.dropped(0) && w.dropped(1):
		w.index++
		for _, s := range []*subject{w.still, w.shards[at]} { // the other hears of it by the move, or late
			s.apply(w.define(w.index))
		}
		if rapid.Bool().Draw(w.rt, "both") || at != w.home {
			w.shards[1-at].apply(w.define(w.index))
		}
	case rapid.IntRange(0, 3).Draw(w.rt, "drop") == 0:
		w.shards[at].apply(&Command{Op: OpDropIndex, Key: Key{Index: w.index}})
		w.followDrop()
		w.ahead = w.ahead || at != w.home
	}
}

// followDrop drops the index in the third shard once the tenant's home has dropped it.
func (w *wanderer) followDrop() {
	if w.dropped(w.home) {
		w.still.apply(&Command{Op: OpDropIndex, Key: Key{Index: w.index}})
	}
}

// hidden checks that the tenant is seen at its home alone.
func (w *wanderer) hidden() {
	for at, s := range w.shards {
		standing := s.shard.Residence(wandering).Standing
		want := map[Standing]error{Staged: ErrStaged, Left: ErrLeft}[standing]
		if at == w.home {
			require.True(w.rt, standing == Home || standing == Fenced, "%s", standing)
		} else if standing == Home {
			continue // it has never been there, or was aborted before
		}
		for what, err := range reads(context.Background(), s.shard, testKey(wanders, 1)) {
			require.True(w.rt, errors.Is(err, want), "%s: %v", what, err)
		}
	}
}

func (w *wanderer) upkeep() {
	s := w.shards[rapid.IntRange(0, 1).Draw(w.rt, "shard")]
	upkeep(s.shard)
	if rapid.Bool().Draw(w.rt, "warm") {
		for _, p := range s.shard.Tenants(TenantID{}, 9) {
			if err := s.shard.Warm(context.Background(), Key{p.Tenant, 1}); err != nil {
				require.True(w.rt, errs.Is(err, errs.NotFound) || w.stage < moveTailing && errs.Is(err, errs.FailedPrecondition), "%v", err)
			}
		}
	}
	if rapid.Bool().Draw(w.rt, "evict") {
		evictAll(s.shard)
	}
}

// end compares all that there is.
func (w *wanderer) end() {
	for at := range w.shards {
		if !w.dropped(at) && w.dropped(1-at) {
			w.shards[at].apply(&Command{Op: OpDropIndex, Key: Key{Index: w.index}})
		}
	}
	w.followDrop()
	for at, s := range w.shards {
		upkeep(s.shard)
		_, _, err := s.shard.Digest(context.Background())
		require.NoError(w.rt, err)
		recount(w.t, s.shard)
		w.same(s, 10+byte(at))
		s.restart(true)
		w.same(s, 10+byte(at))
	}
	w.same(w.source(), wanders)
}

// same compares a tenant with what it is in the third shard.
func (w *wanderer) same(s *subject, tenant byte) {
	want, err := w.still.shard.TenantDigest(TenantID{tenant})
	require.NoError(w.rt, err)
	got, err := s.shard.TenantDigest(TenantID{tenant})
	require.NoError(w.rt, err)
	want.Applied, got.Applied = 0, 0
	require.Equal(w.rt, want, got)
	for _, index := range []IndexID{1, w.index} {
		records, _, err := w.still.shard.Scan(context.Background(), testKey(tenant, index), "", "", nil, 1000)
		require.NoError(w.rt, err)
		moved, _, err := s.shard.Scan(context.Background(), testKey(tenant, index), "", "", nil, 1000)
		require.NoError(w.rt, err)
		require.Equal(w.rt, records, moved)
	}
}

// event is something that happens between two steps of a move.
func (w *wanderer) event() {
	write := func() { w.write(w.home, wanders) }
	other := rapid.IntRange(0, 1).Draw(w.rt, "other")
	rapid.SampledFrom([]func(){
		func() {}, write, write, write, write, w.repeat, w.repeat, w.crash, w.dropIndex, w.upkeep,
		func() { w.write(other, 10+byte(other)) },
		func() { // where the tenant does not live, once that shard knows
			if w.target().shard.Residence(wandering).Standing != Home {
				w.write(1-w.home, wanders)
			}
		},
		func() {
			if w.stage > moveIdle && w.stage < moveSettled && rapid.IntRange(0, 4).Draw(w.rt, "abort") == 0 {
				w.again()
			}
		},
	}).Draw(w.rt, "event")()
	w.hidden()
}

// TestWanderer moves a tenant back and forth, among writes, crashes, aborted attempts, orders that come late, indexes that are
// dropped and neighbours that write: it is in the end what it would be had it never moved.
func TestWanderer(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWanderer(t, rt)
		defer w.closeExport()
		for wanted := rapid.IntRange(1, 4).Draw(rt, "moves"); w.moved < wanted || w.stage != moveIdle; w.advance() {
			for range rapid.IntRange(0, 3).Draw(rt, "events") {
				w.event()
			}
		}
		w.end()
	})
}
