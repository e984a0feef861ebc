package engine

import (
	"cmp"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/croftdb/croft/engine/internal/store"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// Move names one attempt to bring a tenant to another shard. Ids and attempts only grow, so that an order of an attempt that
// was given up is told from those of a later one, whenever it comes.
type Move struct{ ID, Attempt uint64 }

// Compare returns less than, equal to or greater than 0.
func (m Move) Compare(o Move) int {
	return cmp.Or(cmp.Compare(m.ID, o.ID), cmp.Compare(m.Attempt, o.Attempt))
}

// Standing says what a tenant is in a shard. Numbers are on disk: append only.
type Standing uint8

const (
	// Home is a tenant that lives here, or has never been here.
	Home Standing = iota
	// Staged is a tenant of which a copy is being made here. It cannot be seen: reads and writes get ErrStaged.
	Staged
	// Fenced is a tenant that lives here and is about to leave: it is read as ever, writes get ErrFenced.
	Fenced
	// Left is a tenant that lives elsewhere, whether its old copy is still here or not: reads and writes get ErrLeft. It stays
	// so until the tenant is staged again, or a write that comes late would make it anew.
	Left

	standingCount
)

func (s Standing) String() string {
	return [standingCount]string{"home", "staged", "fenced", "left"}[s]
}

// Refusals of reads and writes because of where a tenant lives. Nothing was done, and whoever asks at the tenant's home gets
// an answer. They are in the chain of what is returned.
var (
	ErrFenced = errs.New(errs.Unavailable, "the tenant is about to leave this shard, writes wait")
	ErrLeft   = errs.New(errs.Unavailable, "the tenant has left this shard")
	ErrStaged = errs.New(errs.Unavailable, "the tenant has not arrived in this shard")
)

// Residence is what a shard knows of where a tenant lives. It is replicated state: the orders that change it (OpStageTenant
// and those that follow it) are in the log. That of a tenant that has never moved is zero.
type Residence struct {
	Standing Standing
	Move     Move   // the latest attempt that had to do with the tenant here
	Closed   bool   // the attempt has ended here: what comes late of it is refused
	Epoch    uint64 // of the tenant's home, as of the last time that it arrived or left
	Copy     Copy
}

// Copy is how far the copy of a staged tenant has come.
type Copy struct {
	Position uint64 // entry of the source's log that the copy stands for
	Batches  uint64 // batches of the export that are here, 0: none yet
	Copied   bool   // all of them are: what is missing comes by OpStageTail
	Ready    bool   // the copy equals the source behind its fence
	Digest   Digest // TenantDigest.Sum of the source that Ready has compared with

	origin origin
	index  IndexID // the last record that was staged, by index and id
	id     string
}

// origin is what the outcome of commands at the source depends on, beside the tenant's data, as of Copy.Position.
type origin struct {
	fenced bool
	move   Move
	closed bool
	term   uint64 // the latest that has written co-state there
}

// visible tells whether reads of the tenant are answered.
func (r *Residence) visible() bool { return r.Standing == Home || r.Standing == Fenced }

// admits refuses an order of an attempt that is not the latest, or has ended.
func (r *Residence) admits(m Move) error {
	switch c := m.Compare(r.Move); {
	case c < 0:
		return errs.New(errs.FailedPrecondition, "move %d, attempt %d comes late: move %d, attempt %d has begun", m.ID, m.Attempt, r.Move.ID, r.Move.Attempt)
	case c == 0 && r.Closed:
		return errs.New(errs.FailedPrecondition, "move %d, attempt %d has ended here", m.ID, m.Attempt)
	}
	return nil
}

// is refuses an order unless the tenant stands as it wants, by the attempt that it names.
func (r *Residence) is(st Standing, m Move) error {
	if err := r.admits(m); err != nil {
		return err
	}
	if r.Standing != st || r.Move != m {
		return r.misplaced(m)
	}
	return nil
}

func (r *Residence) misplaced(m Move) error {
	return errs.New(errs.FailedPrecondition, "the tenant is %s since move %d, attempt %d: the order is of move %d, attempt %d",
		r.Standing, r.Move.ID, r.Move.Attempt, m.ID, m.Attempt)
}

// fence stops writes. It takes over from an earlier attempt.
func (r Residence) fence(m Move) (Residence, error) {
	if err := r.admits(m); err != nil {
		return r, err
	}
	if !r.visible() {
		return r, r.misplaced(m)
	}
	r.Standing, r.Move, r.Closed = Fenced, m, false
	return r, nil
}

// unfence lets writes through again, and ends the attempt, also where it has not fenced yet.
func (r Residence) unfence(m Move) (Residence, error) {
	if m.Compare(r.Move) < 0 {
		return r, r.admits(m)
	}
	if !r.visible() {
		return r, r.misplaced(m)
	}
	r.Standing, r.Move, r.Closed = Home, m, true
	return r, nil
}

// leave gives the tenant up, for good.
func (r Residence) leave(m Move, epoch uint64) (Residence, error) {
	if r.Standing == Left && r.Move == m && r.Epoch == epoch {
		return r, nil
	}
	if err := r.is(Fenced, m); err != nil {
		return r, err
	}
	r.Standing, r.Epoch = Left, epoch
	return r, nil
}

// settle makes the copy the tenant itself.
func (r Residence) settle(m Move, epoch uint64) (Residence, error) {
	if r.Move == m && r.visible() && r.Closed && r.Epoch == epoch {
		return r, nil
	}
	if err := r.is(Staged, m); err != nil {
		return r, err
	}
	if !r.Copy.Ready {
		return r, errs.New(errs.FailedPrecondition, "the copy was not compared with its source")
	}
	return Residence{Standing: Home, Move: m, Closed: true, Epoch: epoch}, nil
}

// forget ends the attempt and gives the copy up.
func (r Residence) forget(m Move) (Residence, error) {
	if m.Compare(r.Move) < 0 {
		return r, r.admits(m)
	}
	if r.Standing == Fenced || r.Standing == Home && r.Move != (Move{}) {
		return r, r.misplaced(m)
	}
	return Residence{Standing: Left, Move: m, Closed: true, Epoch: r.Epoch}, nil
}

// residents holds the residence of each tenant that is not zero. Readers take no lock; changes are made under Shard.mu.
type residents struct {
	table atomic.Pointer[map[TenantID]*atomic.Pointer[Residence]] // nil: empty
}

// find returns a tenant's residence, nil if it is zero.
func (rs *residents) find(t TenantID) *Residence {
	m := rs.table.Load()
	if m == nil {
		return nil
	}
	if at := (*m)[t]; at != nil {
		return at.Load()
	}
	return nil
}

// put sets a tenant's residence; nil: it is zero. A new tenant costs a copy of the table, which happens once in a move.
func (rs *residents) put(t TenantID, r *Residence) {
	old := rs.table.Load()
	if old != nil && (*old)[t] != nil && r != nil {
		(*old)[t].Store(r)
		return
	}
	next := map[TenantID]*atomic.Pointer[Residence]{}
	if old != nil {
		maps.Copy(next, *old)
	}
	delete(next, t)
	if r != nil {
		next[t] = &atomic.Pointer[Residence]{}
		next[t].Store(r)
	}
	if len(next) == 0 {
		rs.table.Store(nil)
		return
	}
	rs.table.Store(&next)
}

// Residence returns where a tenant lives, as far as this shard knows. It takes no lock and costs next to nothing.
func (s *Shard) Residence(t TenantID) Residence {
	if r := s.residents.find(t); r != nil {
		return *r
	}
	return Residence{}
}

// away returns why reads of a tenant are refused: ErrStaged or ErrLeft, or nil.
func (s *Shard) away(t TenantID) error {
	r := s.residents.find(t)
	if r == nil || r.visible() {
		return nil
	}
	return r.refusal(t)
}

// barred returns why writes of a tenant are refused: ErrFenced, ErrStaged or ErrLeft, or nil.
func (s *Shard) barred(t TenantID) error {
	r := s.residents.find(t)
	if r == nil || r.Standing == Home {
		return nil
	}
	return r.refusal(t)
}

func (r *Residence) refusal(t TenantID) error {
	why := [standingCount]error{Staged: ErrStaged, Fenced: ErrFenced, Left: ErrLeft}[r.Standing]
	return errs.New(errs.Unavailable, "tenant %s: %w", t, why)
}

// setResidence changes a tenant's residence. The caller holds mu.
func (s *Shard) setResidence(t TenantID, r *Residence) {
	s.residents.put(t, r)
	if _, ok := s.active.residents[t]; !ok {
		s.active.bytes += residenceBytes
	}
	s.active.residents[t] = r
}

// residenceBytes is about what a residence costs in memory.
const residenceBytes = 240

// partitionsOf returns a tenant's partitions, by index. The caller holds mu.
func (s *Shard) partitionsOf(t TenantID) (parts []*partition) {
	for id := range s.schemas { // any order: sorted below
		if p := s.registry.find(Key{t, id}); p != nil {
			parts = append(parts, p)
		}
	}
	slices.SortFunc(parts, func(a, b *partition) int { return cmp.Compare(a.key.Index, b.key.Index) })
	return parts
}

const (
	residenceClosed = 1 << iota
	residenceCopied
	residenceReady
	residenceOriginFenced
	residenceOriginClosed
)

func (r *Residence) encode() []byte {
	st := &r.Copy
	flags := byte(0)
	for i, set := range []bool{r.Closed, st.Copied, st.Ready, st.origin.fenced, st.origin.closed} {
		if set {
			flags |= 1 << i
		}
	}
	b := codec.AppendUvarint(appendMove([]byte{byte(r.Standing), flags}, r.Move), r.Epoch)
	if r.Standing != Staged {
		return b
	}
	b = codec.AppendUvarint(codec.AppendUvarint(b, st.Position), st.Batches)
	b = codec.AppendUvarint(appendMove(b, st.origin.move), st.origin.term)
	b = codec.AppendString(codec.AppendUvarint(b, uint64(st.index)), st.id)
	return codec.AppendUint64(codec.AppendUint64(b, st.Digest[0]), st.Digest[1])
}

func decodeResidence(p []byte) (*Residence, error) {
	rd := codec.NewReader(p)
	r := &Residence{Standing: Standing(rd.Byte())}
	if r.Standing >= standingCount {
		return nil, errs.New(errs.Corrupt, "a tenant has standing %d", r.Standing)
	}
	flags := rd.Byte()
	r.Closed = flags&residenceClosed != 0
	r.Move, r.Epoch = readMove(rd), rd.Uvarint()
	if r.Standing == Staged {
		st := &r.Copy
		st.Copied, st.Ready = flags&residenceCopied != 0, flags&residenceReady != 0
		st.Position, st.Batches = rd.Uvarint(), rd.Uvarint()
		st.origin = origin{fenced: flags&residenceOriginFenced != 0, closed: flags&residenceOriginClosed != 0, move: readMove(rd), term: rd.Uvarint()}
		st.index, st.id = IndexID(rd.Uvarint()), rd.String()
		st.Digest = Digest{rd.Uint64(), rd.Uint64()}
	}
	return r, rd.Done()
}

func readMove(r *codec.Reader) Move { return Move{r.Uvarint(), r.Uvarint()} }

func appendMove(b []byte, m Move) []byte {
	return codec.AppendUvarint(codec.AppendUvarint(b, m.ID), m.Attempt)
}

// commitResidents writes the residences of a memtable.
func (f *flushing) commitResidents(tx store.RW) error {
	for _, t := range slices.SortedFunc(maps.Keys(f.mem.residents), compareTenants) {
		r := f.mem.residents[t]
		if err := putOrDelete(tx, bucketResidents, t[:], r != nil, func() []byte { return r.encode() }); err != nil {
			return err
		}
	}
	return nil
}

func (s *Shard) recoverResidents(tx store.Tx) error {
	table := map[TenantID]*atomic.Pointer[Residence]{}
	err := tx.Ascend(bucketResidents, nil, func(k, v []byte) (bool, error) {
		if len(k) != len(TenantID{}) {
			return false, errs.New(errs.Corrupt, "records.db: the residence of a tenant has a key of %d bytes", len(k))
		}
		r, err := decodeResidence(v)
		if err != nil {
			return false, err
		}
		at := &atomic.Pointer[Residence]{}
		at.Store(r)
		table[TenantID(k)] = at
		return true, nil
	})
	if err == nil && len(table) > 0 {
		s.residents.table.Store(&table)
	}
	return err
}

// addResidents adds where tenants live.
func (d *Digest) addResidents(tx store.Tx) error {
	return tx.Ascend(bucketResidents, nil, func(k, v []byte) (bool, error) {
		d.addHash(append(codec.AppendBytes([]byte("resident"), k), v...))
		return true, nil
	})
}
