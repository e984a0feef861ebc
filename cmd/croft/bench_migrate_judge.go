package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/croftdb/croft/bench"
	"github.com/croftdb/croft/internal/client"
)

// sumUp fills in what the load tells.
func (b *migrateBench) sumUp() {
	r, l := &b.report, b.load
	for phase := range moveNone {
		r.QueryMs[phase], r.WriteMs[phase] = quantilesOf(tookIn(l.reads, phase)), quantilesOf(tookIn(l.writes, phase))
	}
	r.Queries = round3(float64(r.QueryMs[moveDuring].Count) / r.MoveSeconds)
	r.Writes = round3(float64(r.WriteMs[moveDuring].Count) / r.MoveSeconds)
	if p95 := r.QueryMs[moveBefore].P95; p95 > 0 {
		r.QueryP95Ratio = round3(r.QueryMs[moveDuring].P95 / p95)
	}
	r.Failures, r.Said, r.Unknown, r.Written = l.failures, l.said, l.unknown, len(l.writes)
	for n := range maps.Values(l.failures) {
		r.Failed += n
	}
	b.sumUpMoves()
}

func tookIn(samples []sample, phase int32) (ms []float64) {
	for _, s := range samples {
		if s.phase == phase {
			ms = append(ms, s.ms())
		}
	}
	return ms
}

func (s *sample) ms() float64 { return float64(s.took) / float64(time.Millisecond) }

// sumUpMoves fills in what the migrations tell, and what writes noticed of the cut-overs.
func (b *migrateBench) sumUpMoves() {
	r := &b.report
	r.Phases, r.DigestEqual = map[string]float64{}, true
	var pauses, cutOvers, each []float64
	for i := range b.moves {
		m := &b.moves[i]
		r.CopiedBytes += m.last.Copied
		r.Attempts += int(m.last.Attempt)
		r.DigestEqual = r.DigestEqual && m.last.Digest != ""
		each = append(each, m.took.Seconds())
		begins := m.last.Phases
		for j, p := range begins[:max(0, len(begins)-1)] {
			r.Phases[p.Phase] = round3(r.Phases[p.Phase] + begins[j+1].At.Sub(p.At).Seconds())
		}
		from, to, ok := m.cutOver()
		if !ok {
			continue
		}
		cutOvers = append(cutOvers, float64(to.Sub(from))/float64(time.Millisecond))
		pauses = append(pauses, b.load.met(m.number, from, to)...)
	}
	if len(b.moves) == 1 {
		r.Moves = []client.Migration{b.moves[0].last}
	}
	q := quantilesOf(pauses)
	r.WritePause, r.WritePauseMax, r.CutOverWrites = q.P99, q.Max, q.Count
	q = quantilesOf(cutOvers)
	r.CutOvers, r.EachSeconds = []float64{q.P50, q.Max}, quantilesOf(each)
}

// cutOver is the time in which writes had to wait.
func (m *watchedMove) cutOver() (from, to time.Time, ok bool) {
	for _, p := range m.last.Phases {
		switch p.Phase {
		case "fenced":
			from = p.At
		case client.MigrationSettled:
			to = p.At
		}
	}
	return from, to, !from.IsZero() && !to.IsZero()
}

// met are the latencies of a tenant's writes that were under way at some time between two, in milliseconds.
func (l *moveLoad) met(tenant int, from, to time.Time) (ms []float64) {
	for _, s := range l.writes {
		if s.tenant == tenant && s.due.Before(to) && s.due.Add(s.took).After(from) {
			ms = append(ms, s.ms())
		}
	}
	return ms
}

// judge reads what was written, and a part of what was loaded.
func (b *migrateBench) judge(ctx context.Context) error {
	stats, err := b.ix.Stats(ctx)
	if err != nil {
		return err
	}
	type expected struct{ least, most int }
	counts := make([]expected, b.flags.tenants)
	ids := make([][]int, b.flags.tenants)
	for id, e := range b.load.book {
		ids[e.tenant] = append(ids[e.tenant], id)
		c := &counts[e.tenant]
		if !e.sure || e.vector != deleted {
			c.most++
		}
		if e.sure && e.vector != deleted {
			c.least++
		}
	}
	for n, c := range counts {
		have := stats.Namespaces[tenantOf(n)].VectorCount
		missing, tooMany, more, err := b.judgeTenant(ctx, n, ids[n])
		if err != nil {
			return err
		}
		b.report.Lost += max(missing, b.each+c.least+more-have)
		b.report.Doubled += max(tooMany, have-b.each-c.most-more)
	}
	return nil
}

// judgeTenant counts records that are not as they must be: missing or old, and there though they were deleted. Those as a refused write
// would have them are counted apart, with how many more records there are by them: whoever was told that nothing was done will repeat it.
func (b *migrateBench) judgeTenant(ctx context.Context, n int, written []int) (missing, tooMany, more int, err error) {
	want := map[string][]float32{}
	for _, id := range written {
		switch e := &b.load.book[id]; {
		case !e.sure:
		case e.vector == deleted:
			want[recordOf(id)] = nil
		default:
			want[recordOf(id)] = b.load.rows[e.vector]
		}
	}
	b.sample(want)
	b.report.Checked += len(want)
	for names := range slices.Chunk(slices.Sorted(maps.Keys(want)), 100) {
		found, err := b.ix.Fetch(ctx, tenantOf(n), names)
		if err != nil {
			return missing, tooMany, more, err
		}
		for _, name := range names {
			v, there := found.Vectors[name]
			switch row := want[name]; {
			case row == nil && !there, row != nil && there && slices.Equal(v.Values, row):
			case b.doneThoughRefused(name, v, there):
				b.report.RefusedDone++
				more += count(there) - count(row != nil)
				b.blame(name, "is as a refused write would have it")
			case row == nil && there:
				tooMany++
				b.blame(name, "is there")
			case row != nil && !there:
				missing++
				b.blame(name, "is gone")
			default:
				missing++
				b.blame(name, "is another one")
			}
		}
	}
	return missing, tooMany, more, nil
}

func count(one bool) int {
	if one {
		return 1
	}
	return 0
}

// entryOf finds a record of the load; nil for one that was loaded before.
func (b *migrateBench) entryOf(name string) *entry {
	id, err := strconv.Atoi(strings.TrimPrefix(name, "w"))
	if err != nil || id >= len(b.load.book) {
		return nil
	}
	return &b.load.book[id]
}

// doneThoughRefused says whether a record is as its last write, which was refused, would have it.
func (b *migrateBench) doneThoughRefused(name string, v client.Vector, there bool) bool {
	e := b.entryOf(name)
	if e == nil || !refusedBy(e.last.status) {
		return false
	}
	if e.last.vector == deleted {
		return !there
	}
	return there && slices.Equal(v.Values, b.load.rows[e.last.vector])
}

// blame keeps the first faults for people to look into.
func (b *migrateBench) blame(name, what string) {
	const most = 20
	if len(b.report.Faults) == most {
		return
	}
	if e := b.entryOf(name); e != nil {
		what += fmt.Sprintf("; it should be vector %d; vector %d was last written to it at %s, answered with %d after %v", e.vector, e.last.vector,
			e.last.due.Format(time.RFC3339Nano), e.last.status, e.last.took)
	}
	b.report.Faults = append(b.report.Faults, name+" "+what)
}

// sample adds records that were loaded: whole blocks, evenly out of all.
func (b *migrateBench) sample(want map[string][]float32) {
	blocks := (b.each + bench.DrawnBlock - 1) / bench.DrawnBlock
	share := max(1, b.flags.check/b.flags.tenants)
	some := min(blocks, (share+bench.DrawnBlock-1)/bench.DrawnBlock)
	for i := range some {
		block := i * blocks / some
		first := block * bench.DrawnBlock
		rows := b.drawer.Base(block)
		for j, row := range rows[:min(len(rows), b.each-first, share)] {
			want["v"+strconv.Itoa(first+j)] = row
		}
	}
}

// recallCheck knows the exact answers to some queries of one tenant.
type recallCheck struct {
	queries [][]float32
	nearest [][]float32 // squared distances, by query, in order
}

const (
	recallQueries = 200
	recallAt      = 10
)

// newRecallCheck scans the first n vectors of a drawer.
func newRecallCheck(d *bench.Drawer, n int) *recallCheck {
	r := &recallCheck{queries: d.Queries(0)[:recallQueries], nearest: make([][]float32, recallQueries)}
	for first := 0; first < n; first += bench.DrawnBlock {
		rows := d.Base(first / bench.DrawnBlock)
		r.offer(r.nearest, rows[:min(len(rows), n-first)])
	}
	return r
}

// offer keeps the least distances.
func (r *recallCheck) offer(nearest [][]float32, rows [][]float32) {
	for i, q := range r.queries {
		for _, row := range rows {
			var d float32
			for j, x := range row {
				d += (x - q[j]) * (x - q[j])
			}
			if best := nearest[i]; len(best) < recallAt || d < best[len(best)-1] {
				at, _ := slices.BinarySearch(best, d)
				nearest[i] = slices.Insert(best, at, d)[:min(len(best)+1, recallAt)]
			}
		}
	}
}

// measure asks for the nearest among what was loaded and more. A match is a hit if it is as near as the last that belongs to the answer: many
// records are alike.
func (r *recallCheck) measure(ctx context.Context, ix *client.Index, more [][]float32, recall *float64) error {
	nearest := make([][]float32, len(r.nearest))
	for i := range nearest {
		nearest[i] = slices.Clone(r.nearest[i])
	}
	r.offer(nearest, more)
	hits := 0
	for i, q := range r.queries {
		res, err := ix.Query(ctx, client.QueryRequest{Namespace: tenantOf(0), Vector: q, TopK: recallAt})
		if err != nil {
			return err
		}
		limit := nearest[i][len(nearest[i])-1] * (1 + 1e-4) // the two add up in another order
		for _, m := range res.Matches {
			if m.Score <= limit {
				hits++
			}
		}
	}
	*recall = float64(hits) / float64(recallAt*len(r.queries))
	return nil
}
