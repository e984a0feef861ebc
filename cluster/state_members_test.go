package cluster

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/internal/errs"
)

// memberModel is nodes, replica sets and tokens as plain maps.
type memberModel struct {
	metaModel
	states map[string]memberState
	placed map[uint16][]string
	starts map[string]uint64
	tokens map[byte]time.Time // by first byte of the hash
	now    time.Time
}

func newMemberModel() *memberModel {
	m := &memberModel{
		metaModel: *newMetaModel(2), states: map[string]memberState{}, placed: map[uint16][]string{}, tokens: map[byte]time.Time{},
		starts: map[string]uint64{}, now: time.Unix(1e9, 0).UTC(),
	}
	m.do(metaRegister, memberCommand{member: member{id: "n0"}})
	m.states["n0"] = memberActive
	m.placed[0], m.placed[1] = []string{"n0"}, []string{"n0"}
	return m
}

func (m *memberModel) do(op metaOp, c memberCommand) error {
	return m.apply(&metaCommand{op: op, memberCommand: c}).err
}

func (m *memberModel) drawNode(t *rapid.T) string {
	return fmt.Sprint("n", rapid.IntRange(0, 4).Draw(t, "node"))
}

func (m *memberModel) token(t *rapid.T) {
	b := rapid.Byte().Draw(t, "token") % 3
	expires := m.now.Add(time.Duration(rapid.IntRange(1, 100).Draw(t, "minutes")) * time.Minute)
	require.NoError(t, m.do(metaAddToken, memberCommand{token: [32]byte{b}, expires: expires, now: m.now}))
	m.tokens[b] = expires
}

func (m *memberModel) join(t *rapid.T) {
	id, b := m.drawNode(t), rapid.Byte().Draw(t, "token")%4
	starts := m.drawStarts(t)
	err := m.do(metaJoin, memberCommand{member: member{id: id, address: "a", starts: starts, life: starts}, token: [32]byte{b}, now: m.now})
	state, known := m.states[id]
	expires, ok := m.tokens[b]
	switch {
	case state == memberRemoved:
		require.Equal(t, errs.FailedPrecondition, errs.KindOf(err))
	case known && starts < m.starts[id]:
		require.Equal(t, errs.FailedPrecondition, errs.KindOf(err))
	case known:
		require.NoError(t, err)
		m.starts[id] = starts
	case !ok || m.now.After(expires.Add(tokenLeeway)):
		require.Equal(t, errs.PermissionDenied, errs.KindOf(err))
	default:
		require.NoError(t, err)
		m.states[id], m.starts[id] = memberJoining, starts
	}
}

func (m *memberModel) register(t *rapid.T) {
	id, starts := m.drawNode(t), m.drawStarts(t)
	err := m.do(metaRegister, memberCommand{member: member{id: id, address: "b", starts: starts, life: starts}})
	if state, known := m.states[id]; !known || state == memberRemoved || starts < m.starts[id] {
		require.Equal(t, errs.FailedPrecondition, errs.KindOf(err))
		return
	}
	require.NoError(t, err)
	m.starts[id] = starts
}

func (m *memberModel) drawStarts(t *rapid.T) uint64 { return rapid.Uint64Range(0, 3).Draw(t, "starts") }

// recover gives up a node and says where one shard is from then on.
func (m *memberModel) recover(t *rapid.T) {
	lost := m.drawNode(t)
	p := placement{uint16(rapid.IntRange(0, 2).Draw(t, "shard")), []string{m.drawNode(t)}}
	before := len(m.state.recoveries)
	err := m.do(metaRecover, memberCommand{recovery: recovery{id: fmt.Sprint(m.index), lost: []string{lost}}, places: []placement{p}})
	states, placed := maps.Clone(m.states), maps.Clone(m.placed)
	if _, known := states[lost]; known {
		states[lost] = memberRemoved
	}
	placed[p.shard] = p.replicas
	good := p.shard < 2
	for _, replicas := range placed {
		for _, id := range replicas {
			good = good && states[id] != 0 && states[id] != memberRemoved
		}
	}
	require.Equal(t, good, err == nil, "%v", err)
	if good {
		m.states, m.placed = states, placed
		before++
	}
	require.Len(t, m.state.recoveries, min(before, maxRecoveries))
}

func (m *memberModel) advance(t *rapid.T) {
	id := m.drawNode(t)
	to := memberState(rapid.IntRange(0, 5).Draw(t, "state"))
	force := rapid.Bool().Draw(t, "force")
	err := m.do(metaSetMember, memberCommand{member: member{id: id, state: to}, force: force})
	state, known := m.states[id]
	switch {
	case !known:
		require.Equal(t, errs.NotFound, errs.KindOf(err))
	case state == to:
		require.NoError(t, err)
	case state == memberRemoved:
		require.Equal(t, errs.FailedPrecondition, errs.KindOf(err))
	case to == memberJoining || to > memberRemoved || to == 0:
		require.Equal(t, errs.Invalid, errs.KindOf(err))
	case to == memberRemoved && !m.mayGo(id, force):
		require.Equal(t, errs.FailedPrecondition, errs.KindOf(err))
	default:
		require.NoError(t, err)
		m.states[id] = to
		if to == memberRemoved {
			for shard := range m.placed {
				m.placed[shard] = without(m.placed[shard], id)
			}
		}
	}
}

// mayGo reports whether a node can be removed.
func (m *memberModel) mayGo(id string, force bool) bool {
	for _, replicas := range m.placed {
		if slices.Contains(replicas, id) && (!force || len(replicas) == 1) {
			return false
		}
	}
	return true
}

func (m *memberModel) place(t *rapid.T) {
	replicas := rapid.SliceOfN(rapid.SampledFrom([]string{"n0", "n1", "n2", "n3"}), 0, 3).Draw(t, "replicas")
	shard := uint16(rapid.IntRange(0, 2).Draw(t, "shard"))
	epoch := m.state.epoch - uint64(rapid.IntRange(0, 1).Draw(t, "late"))
	err := m.do(metaPlace, memberCommand{place: placement{shard, replicas}, epoch: epoch})
	good := shard < 2 && len(replicas) > 0 && epoch == m.state.epoch-boolInt(err == nil)
	for i, id := range replicas {
		state, known := m.states[id]
		good = good && known && state != memberRemoved && !slices.Contains(replicas[:i], id)
	}
	require.Equal(t, good, err == nil, "%v", err)
	if good {
		m.placed[shard] = replicas
	}
}

func boolInt(b bool) uint64 { return uint64(boolByte(b)) }

func (m *memberModel) wait(t *rapid.T) {
	m.now = m.now.Add(time.Duration(rapid.IntRange(1, 50).Draw(t, "wait")) * time.Minute)
}

func (m *memberModel) checkMembers(t *rapid.T) {
	require.Len(t, m.state.members, len(m.states))
	for id, state := range m.states {
		got, ok := m.state.member(id)
		require.True(t, ok)
		require.Equal(t, state, got.state)
	}
	for shard, replicas := range m.placed {
		require.Equal(t, replicas, m.state.replicas(shard))
	}
}

// TestMemberModel runs random commands about nodes against plain maps.
func TestMemberModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMemberModel()
		t.Repeat(map[string]func(*rapid.T){
			"": m.checkMembers, "token": m.token, "join": m.join, "register": m.register, "advance": m.advance,
			"place": m.place, "recover": m.recover, "wait": m.wait, "snapshot": m.snapshot,
		})
	})
}

func TestJoinTokensAreBounded(t *testing.T) {
	m := newMemberModel()
	add := func(i int) error {
		return m.do(metaAddToken, memberCommand{token: [32]byte{byte(i), 1}, expires: m.now.Add(time.Minute), now: m.now})
	}
	for i := range maxTokens {
		require.NoError(t, add(i))
	}
	require.Equal(t, errs.QuotaExceeded, errs.KindOf(add(maxTokens)))
	m.now = m.now.Add(time.Hour)
	require.NoError(t, add(maxTokens), "expired ones make room")
	require.Len(t, m.state.tokens, 1)
}

// TestOldCopiesAreRefused: a directory that is older than what the cluster has heard of the node, or a second process with the
// same one.
func TestOldCopiesAreRefused(t *testing.T) {
	known := member{id: "n", starts: 5, life: 7}
	for _, c := range []struct {
		starts, life uint64
		older        bool
	}{{5, 7, false}, {6, 1, false}, {4, 7, true}, {5, 8, true}, {0, 0, true}} {
		require.Equal(t, c.older, member{id: "n", starts: c.starts, life: c.life}.older(known), "%+v", c)
	}
	require.False(t, member{id: "n", starts: 1, life: 3}.older(member{id: "n"}), "known from before there was a count")
}
