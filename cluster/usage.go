package cluster

import (
	"context"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/longlock"
	"github.com/croftdb/croft/tenancy"
)

const (
	// usagePatience is how long writing down may take: of a node that closes, and of another that is told.
	usagePatience = 2 * time.Second
	// finishPause lies between the attempts of a node that closes.
	finishPause = 50 * time.Millisecond
	// usageKept is for how long it can be asked for.
	usageKept = 30 * 24 * time.Hour
	// usageMark begins the names of usage in co-state; the hour follows, as 4 bytes big-endian.
	usageMark = 'u'
)

// usageLedger counts what tenants use on this node, by shard, and has it written down by the shards' leaders: here, or
// where they are. What was counted is written once or lost, never twice: see DESIGN.md, "Usage".
type usageLedger struct {
	node   *Node
	every  time.Duration
	shards [maxShardIDs]atomic.Pointer[shardUsage]
	kept   [len(tenancy.Usage{}.Counts)]atomic.Uint64 // written down here, by figure
	lost   atomic.Uint64                              // tenants' hours of which some was counted and may not have been written down

	ctx    context.Context // of what is being written down; ended when there is no more time for it
	cancel context.CancelFunc
	stop   chan struct{}
	done   sync.WaitGroup

	receiving sync.RWMutex // held while other nodes' figures are taken in, which they are not any more once stop is closed
}

// shardUsage is what was counted for a shard.
type shardUsage struct {
	tenancy.Meter
	writing longlock.Mutex // held while a commit is waited for
	pruned  tenancy.Hour   // under writing: when it was last looked for what is too old
	heat    tenancy.Heat
}

func newUsageLedger(n *Node, every time.Duration) *usageLedger {
	l := &usageLedger{node: n, every: every, stop: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// shard returns where to count for a shard.
func (l *usageLedger) shard(id uint16) *shardUsage {
	at := &l.shards[id]
	if at.Load() == nil {
		at.CompareAndSwap(nil, new(shardUsage))
	}
	return at.Load()
}

func (l *usageLedger) start() { l.done.Go(l.run) }

// run writes down what was counted, time after time. A shard that takes long holds up no other.
func (l *usageLedger) run() {
	tick := time.NewTicker(l.every)
	defer tick.Stop()
	var hot map[tenancy.ID]bool
	for {
		select {
		case <-tick.C:
			l.node.tidy()
			hot = l.node.watchHeat(hot, l.every)
			for id := range l.shards {
				if su := l.shards[id].Load(); su != nil && su.writing.TryLock() {
					l.done.Go(func() {
						defer su.writing.Unlock()
						l.write(l.ctx, uint16(id), su)
					})
				}
			}
		case <-l.stop:
			return
		}
	}
}

// close writes down what is left, if that is soon done.
func (l *usageLedger) close() {
	l.receiving.Lock()
	close(l.stop)
	l.receiving.Unlock()
	patience := usagePatience
	if l.node.fail.Cause() != nil {
		patience = 0
	}
	late := time.AfterFunc(patience, l.cancel)
	defer late.Stop()
	l.done.Wait()
	l.finish()
	l.cancel()
}

// finish settles all shards until nothing is left, or there is no more time for it: a shard may just be changing its leader,
// and what was counted of a tenant that has moved is left to its new home.
func (l *usageLedger) finish() {
	for {
		var round sync.WaitGroup
		for id := range l.shards {
			if su := l.shards[id].Load(); su != nil {
				round.Go(func() { l.settle(uint16(id), su) })
			}
		}
		round.Wait()
		left := 0
		for id := range l.shards {
			if su := l.shards[id].Load(); su != nil {
				left += su.Pending()
			}
		}
		if left == 0 {
			return
		}
		if err := sleep(l.ctx, finishPause); err != nil {
			l.lost.Add(uint64(left))
			l.node.logger.Warn("some seconds of usage are lost: no shard's leader took them in time", "tenants", left, "within", usagePatience)
			return
		}
	}
}

// settle writes down what was counted before the call. It is nobody's request: what is given up half way may be lost.
func (l *usageLedger) settle(id uint16, su *shardUsage) {
	su.writing.Lock()
	defer su.writing.Unlock()
	l.write(l.ctx, id, su)
}

// write takes what was counted to where the shard is led. The caller holds su.writing.
func (l *usageLedger) write(ctx context.Context, id uint16, su *shardUsage) {
	sh := l.node.replica(id)
	leads := sh != nil && sh.group.leads()
	if leads {
		l.prune(ctx, sh, su)
	}
	taken := su.Take()
	if len(taken) == 0 {
		return
	}
	if leads {
		l.keep(ctx, sh, taken)
	} else {
		l.send(ctx, id, taken)
	}
	su.Add(taken)
}

// keep commits what was taken on top of what is there, and leaves in taken what is certainly not committed.
func (l *usageLedger) keep(ctx context.Context, sh *shard, taken map[tenancy.Slot]*tenancy.Usage) {
	term, err := sh.settle(ctx)
	if err != nil {
		return
	}
	l.redirect(sh, taken)
	slots, entries := make([]tenancy.Slot, 0, len(taken)), make([]engine.CostateEntry, 0, len(taken))
	for slot, u := range taken {
		if sh.engine.Residence(engine.TenantID(slot.Tenant)).Standing != engine.Home {
			continue // later: it is about to leave, and would have the whole entry refused
		}
		sum, err := sh.usageOf(slot, u)
		if err != nil {
			l.node.logger.Error("usage could not be read", "shard", sh.id, "tenant", engine.TenantID(slot.Tenant).String(), "err", err)
			return
		}
		slots = append(slots, slot)
		entries = append(entries, usageEntry(slot, sum))
	}
	for len(entries) > 0 {
		n := costateLen(entries)
		err := sh.keepBatch(ctx, term, entries[:n])
		if err != nil && !errs.Is(err, errs.OutcomeUnknown) {
			return
		}
		for _, slot := range slots[:n] {
			l.note(sh.id, slot, taken[slot])
			delete(taken, slot)
		}
		if err != nil {
			l.lose(uint64(n), sh.id, err)
			return
		}
		slots, entries = slots[n:], entries[n:]
	}
}

// redirect has what was counted of tenants that have left the shard written down at their homes.
func (l *usageLedger) redirect(sh *shard, taken map[tenancy.Slot]*tenancy.Usage) {
	s := l.node.meta.state()
	for slot, u := range taken {
		id := engine.TenantID(slot.Tenant)
		if sh.engine.Residence(id).Standing != engine.Left {
			continue
		}
		t, known := s.tenantByID(id)
		if known && s.home(t) == sh.id { // the metadata here are behind
			continue
		}
		if known {
			l.shard(s.home(t)).Add(map[tenancy.Slot]*tenancy.Usage{slot: u})
		}
		delete(taken, slot)
	}
}

// note adds what was written down to the figures of this node.
func (l *usageLedger) note(shard uint16, slot tenancy.Slot, u *tenancy.Usage) {
	if slot.Tenant != (tenancy.ID{}) {
		l.shard(shard).heat.Note(slot.Tenant, u, time.Now())
	}
	for f, n := range u.Counts {
		l.kept[f].Add(n)
	}
}

// lose counts what may not have been written down.
func (l *usageLedger) lose(n uint64, shard uint16, err error) {
	l.lost.Add(n)
	l.node.logger.Warn("some seconds of usage may be lost", "shard", shard, "tenants", n, "err", err)
}

// usageOf returns what a slot comes to with what was counted since, and with what its tenant stores now.
func (s *shard) usageOf(slot tenancy.Slot, counted *tenancy.Usage) (*tenancy.Usage, error) {
	u, err := s.storedUsage(slot)
	if err != nil {
		return nil, err
	}
	u.Count(counted)
	u.Keep(counted.Peak)
	records, bytes := s.engine.Stored(engine.TenantID(slot.Tenant))
	u.Keep(tenancy.Stored{Vectors: records, Bytes: bytes})
	return u, nil
}

// storedUsage returns what was written down of a slot. A new hour begins with what the last one has ended with.
func (s *shard) storedUsage(slot tenancy.Slot) (*tenancy.Usage, error) {
	v, err := s.engine.Costate(engine.TenantID(slot.Tenant), usageName(slot.Hour))
	if err != nil || v != nil {
		return decodeUsage(v, err)
	}
	last, err := s.usageBefore(slot)
	if err != nil {
		return nil, err
	}
	return &tenancy.Usage{Peak: last.End, End: last.End}, nil
}

// usageBefore returns the last that was written down before a slot, mostly that of the hour before.
func (s *shard) usageBefore(slot tenancy.Slot) (*tenancy.Usage, error) {
	t := engine.TenantID(slot.Tenant)
	v, err := s.engine.Costate(t, usageName(slot.Hour-1))
	if err != nil || v != nil {
		return decodeUsage(v, err)
	}
	before, err := s.engine.ScanCostate(t, usageName(0), usageName(slot.Hour))
	if err != nil || len(before) == 0 {
		return new(tenancy.Usage), err
	}
	return decodeUsage(before[len(before)-1].Value, nil)
}

func decodeUsage(v []byte, err error) (*tenancy.Usage, error) {
	if err != nil {
		return nil, err
	}
	r := codec.NewReader(v)
	u := tenancy.ReadUsage(r)
	return &u, r.Done()
}

func usageName(h tenancy.Hour) string {
	return string(binary.BigEndian.AppendUint32([]byte{usageMark}, uint32(h)))
}

// hourOf is the hour that a name stands for.
func hourOf(name string) tenancy.Hour {
	if len(name) != 5 || name[0] != usageMark {
		return 0
	}
	return tenancy.Hour(binary.BigEndian.Uint32([]byte(name[1:])))
}

func usageEntry(slot tenancy.Slot, u *tenancy.Usage) engine.CostateEntry {
	return engine.CostateEntry{Tenant: engine.TenantID(slot.Tenant), Name: usageName(slot.Hour), Value: tenancy.AppendUsage(nil, u)}
}

// send tells the shard's leader what was counted here, and leaves in taken what it certainly does not know.
func (l *usageLedger) send(ctx context.Context, id uint16, taken map[tenancy.Slot]*tenancy.Usage) {
	ctx, cancel := context.WithTimeout(ctx, usagePatience)
	defer cancel()
	leader := l.node.leaderOf(id)
	if leader == "" || leader == l.node.id.NodeID {
		return
	}
	for len(taken) > 0 {
		b := codec.AppendUvarint(nil, uint64(id))
		var slots []tenancy.Slot
		for slot, u := range taken {
			b = appendSlot(b, slot, u)
			if slots = append(slots, slot); len(b) > costateBatch {
				break
			}
		}
		_, err := l.node.peers.call(ctx, leader, methodUsage, b, nil)
		if err != nil && !errs.Is(err, errs.OutcomeUnknown) && !isSilence(err) {
			return
		}
		for _, slot := range slots {
			delete(taken, slot)
		}
		if err != nil {
			l.lose(uint64(len(slots)), id, err)
			return
		}
	}
}

func appendSlot(b []byte, slot tenancy.Slot, u *tenancy.Usage) []byte {
	b = append(b, slot.Tenant[:]...)
	return tenancy.AppendUsage(codec.AppendUvarint(b, uint64(slot.Hour)), u)
}

func readSlot(r *codec.Reader) (slot tenancy.Slot, u *tenancy.Usage) {
	copy(slot.Tenant[:], r.Raw(len(slot.Tenant)))
	slot.Hour = tenancy.Hour(r.Uvarint())
	read := tenancy.ReadUsage(r)
	return slot, &read
}

// answerUsage takes in what another node has counted for a shard that is led here.
func (n *Node) answerUsage(_ context.Context, from string, request, dst []byte) ([]byte, error) {
	if err := n.checkCaller(from); err != nil {
		return dst, err
	}
	r := codec.NewReader(request)
	id := uint16(r.Uvarint())
	counted := map[tenancy.Slot]*tenancy.Usage{}
	for r.Err() == nil && r.Len() > 0 {
		slot, u := readSlot(r)
		counted[slot] = u
	}
	if err := r.Done(); err != nil {
		return dst, err
	}
	if sh := n.replica(id); sh == nil || !sh.group.leads() {
		return dst, newNotLeaderError(shardName(id), n.leaderOf(id))
	}
	return dst, n.usage.receive(id, counted)
}

// receive takes in what was counted elsewhere, unless nobody would write it down any more.
func (l *usageLedger) receive(id uint16, counted map[tenancy.Slot]*tenancy.Usage) error {
	l.receiving.RLock()
	defer l.receiving.RUnlock()
	select {
	case <-l.stop:
		return errs.New(errs.Unavailable, "node %s is stopping", l.node.id.NodeID).WithRetryAfter(retryLeader)
	default:
		l.shard(id).Add(counted)
		return nil
	}
}

// prune removes, once an hour, what is older than is kept. The newest of each tenant stays: it tells what is stored since.
func (l *usageLedger) prune(ctx context.Context, sh *shard, su *shardUsage) {
	now := tenancy.HourOf(time.Now())
	if su.pruned == now {
		return
	}
	term, err := sh.settle(ctx)
	if err != nil {
		return
	}
	oldest := now - tenancy.Hour(usageKept/time.Hour)
	if err := l.pruneAll(ctx, sh, term, oldest); err != nil {
		l.node.logger.Warn("usage that is too old could not be removed", "shard", sh.id, "err", err)
		return
	}
	su.pruned = now
}

// pruneAll removes hours before the oldest: what is no tenant's, of each tenant, and of last bills.
func (l *usageLedger) pruneAll(ctx context.Context, s *shard, term uint64, oldest tenancy.Hour) error {
	for tenants := make([]engine.TenantID, 1); len(tenants) > 0; {
		err := l.pruneUsage(ctx, s, term, tenants, oldest)
		if err == nil {
			tenants, err = s.engine.CostateTenants(tenants[len(tenants)-1], 1000)
		}
		if err != nil {
			return err
		}
	}
	return l.pruneBills(ctx, s, term, oldest)
}

// pruneUsage removes hours before the oldest. All that was kept of a tenant that was purged goes with the last of them.
func (l *usageLedger) pruneUsage(ctx context.Context, s *shard, term uint64, tenants []engine.TenantID, oldest tenancy.Hour) error {
	known := l.node.meta.state()
	var old []engine.CostateEntry
	for _, t := range tenants {
		if s.engine.Residence(t).Standing != engine.Home {
			continue // its next home sees to it
		}
		found, err := s.engine.ScanCostate(t, usageName(0), usageName(oldest))
		if err != nil {
			return err
		}
		if len(found) == 0 {
			continue
		}
		last := len(found) - 1
		if t == (engine.TenantID{}) { // it stores nothing
			last++
		} else if newer, err := s.engine.ScanCostate(t, usageName(oldest), usageName(1<<32-1)); err != nil {
			return err
		} else if len(newer) > 0 {
			last++
		} else if _, ok := known.tenantByID(t); !ok && l.node.refreshed.Load() {
			old = append(old, engine.CostateEntry{Tenant: t})
			continue
		}
		for _, e := range found[:last] {
			e.Value = nil
			old = append(old, e)
		}
	}
	return s.keep(ctx, term, old)
}
