package cluster

import (
	"cmp"
	"slices"
	"time"

	"github.com/croftdb/croft/internal/errs"
)

// memberState is where a node is in its life. Numbers are on disk: append only.
type memberState uint8

const (
	memberJoining  memberState = iota + 1 // let in, not caught up with the metadata plane yet
	memberActive                          // may carry replicas
	memberDraining                        // its replicas are moved elsewhere
	memberRemoved                         // for ever: its identity is refused
)

var memberStates = [...]string{"unknown", "joining", "active", "draining", "removed"}

func (m memberState) String() string {
	if int(m) < len(memberStates) {
		return memberStates[m]
	}
	return memberStates[0]
}

// member is a node as the metadata plane knows it.
type member struct {
	id      string
	address string // host:port of its peer listener, empty for a node alone
	url     string // where clients reach it
	zone    string // of failure; nodes without one count as zones of their own
	starts  uint64 // how often the node was started
	life    uint64 // drawn at each start
	state   memberState
}

// older reports whether m comes from a data directory that is older than the one known, or from a copy of it: what the node
// has promised and written since is missing there.
func (m member) older(known member) bool {
	return m.starts < known.starts || m.starts == known.starts && known.life != 0 && m.life != known.life
}

func errOldCopy(m, known member) error {
	return errs.New(errs.FailedPrecondition, "node %s was started %d times before, and its data directory knows of %d: it is an old copy, or another process has it too",
		m.id, known.starts, m.starts).WithHint("start it with an empty directory to join as a new node, and remove the old one with `croft nodes remove`")
}

// placement says which nodes are to carry a shard. What they do carry follows, see reconciler.
type placement struct {
	shard    uint16
	replicas []string // node ids, the preferred leader first
}

// joinToken lets nodes in until it expires. Only its hash is stored.
type joinToken struct {
	hash    [32]byte
	expires time.Time
}

// tokenLeeway is how far the clocks of nodes may differ.
const tokenLeeway = 30 * time.Second

const (
	maxMembers  = 1024 // removed ones included, which stay for ever
	maxReplicas = 5
	maxTokens   = 64
)

// member finds a node by its id.
func (s *state) member(id string) (member, bool) {
	i, ok := slices.BinarySearchFunc(s.members, id, func(m member, id string) int { return cmp.Compare(m.id, id) })
	if !ok {
		return member{}, false
	}
	return s.members[i], true
}

// present lists the nodes that are not removed, in order.
func (s *state) present() (nodes []string) {
	for i := range s.members {
		if s.members[i].state != memberRemoved {
			nodes = append(nodes, s.members[i].id)
		}
	}
	return nodes
}

// alone reports whether there is at most one node that is not removed.
func (s *state) alone() bool {
	n := 0
	for i := range s.members {
		if s.members[i].state != memberRemoved {
			n++
		}
	}
	return n <= 1
}

// replicas returns the nodes that are to carry a shard, the preferred leader first; nil for an unknown shard. The caller
// must not change it.
func (s *state) replicas(shard uint16) []string {
	i, ok := slices.BinarySearchFunc(s.placed, shard, func(p placement, id uint16) int { return cmp.Compare(p.shard, id) })
	if !ok {
		return nil
	}
	return s.placed[i].replicas
}

// The methods below execute commands on a copy that is not yet published.

func (s *state) putMember(m member) {
	i, ok := slices.BinarySearchFunc(s.members, m.id, func(o member, id string) int { return cmp.Compare(o.id, id) })
	s.members = slices.Clone(s.members)
	if ok {
		s.members[i] = m
	} else {
		s.members = slices.Insert(s.members, i, m)
	}
	s.reviewBounds()
}

// place says where a shard is wanted from now on.
func (s *state) place(shard uint16, replicas []string) {
	s.epoch++
	i, ok := slices.BinarySearchFunc(s.placed, shard, func(p placement, id uint16) int { return cmp.Compare(p.shard, id) })
	s.placed = slices.Clone(s.placed)
	if ok {
		s.placed[i].replicas = replicas
	} else {
		s.placed = slices.Insert(s.placed, i, placement{shard, replicas})
	}
}

// register notes where a node is reached. The first one ever carries all shards; any other must have joined.
func (s *state) register(m member) error {
	if s.clusterID == "" {
		return errs.New(errs.FailedPrecondition, "the cluster has no shards yet")
	}
	known, ok := s.member(m.id)
	switch {
	case ok && known.state == memberRemoved:
		return errRemoved(m.id)
	case ok && m.older(known):
		return errOldCopy(m, known)
	case ok:
		m.state = known.state
	case len(s.members) > 0:
		return errs.New(errs.FailedPrecondition, "node %s is no member of cluster %s", m.id, s.clusterID).
			WithHint("start it with an empty directory, --join and a token")
	case m.id == "":
		return errs.New(errs.Invalid, "a node needs an id")
	default:
		m.state = memberActive
		for _, shard := range s.shards {
			s.place(shard, []string{m.id})
		}
	}
	s.putMember(m)
	return nil
}

// join lets a node in that shows a token, or knows that it was let in before.
func (s *state) join(m member, token [32]byte, now time.Time) error {
	if known, ok := s.member(m.id); ok {
		if known.state == memberRemoved {
			return errRemoved(m.id)
		}
		if m.older(known) {
			return errOldCopy(m, known)
		}
		m.state = known.state
		s.putMember(m)
		return nil
	}
	valid := slices.ContainsFunc(s.tokens, func(t joinToken) bool {
		return t.hash == token && now.Before(t.expires.Add(tokenLeeway))
	})
	switch {
	case !valid:
		return errs.New(errs.PermissionDenied, "the join token is wrong or has expired").
			WithHint("make another one with `croft nodes add`")
	case m.id == "" || m.address == "":
		return errs.New(errs.Invalid, "a node needs an id and an address to join")
	case len(s.members) >= maxMembers:
		return errs.New(errs.QuotaExceeded, "the cluster has seen %d nodes, which is the limit", maxMembers)
	}
	m.state = memberJoining
	s.putMember(m)
	return nil
}

func errRemoved(id string) error {
	return errs.New(errs.FailedPrecondition, "node %s was removed from the cluster", id).
		WithHint("start it with an empty directory to join as a new node")
}

// setMember moves a node on in its life. force removes one that shards are still placed on; their other replicas stay.
func (s *state) setMember(id string, to memberState, force bool) error {
	m, ok := s.member(id)
	if !ok {
		return errs.New(errs.NotFound, "there is no node %s", id)
	}
	if m.state == to {
		return nil
	}
	switch {
	case m.state == memberRemoved:
		return errRemoved(id)
	case to <= memberJoining || to > memberRemoved:
		return errs.New(errs.Invalid, "node %s cannot become %s", id, to)
	case to == memberRemoved:
		if err := s.displace(id, force); err != nil {
			return err
		}
	}
	m.state = to
	s.putMember(m)
	return nil
}

// displace takes a node that is removed out of all replica sets.
func (s *state) displace(id string, force bool) error {
	for _, p := range s.placed {
		if !slices.Contains(p.replicas, id) {
			continue
		}
		rest := slices.DeleteFunc(slices.Clone(p.replicas), func(r string) bool { return r == id })
		if len(rest) == 0 {
			return errs.New(errs.FailedPrecondition, "node %s has the only replica of shard %d", id, p.shard).
				WithHint("drain it first, so that its shards are moved to other nodes")
		}
		if !force {
			return errs.New(errs.FailedPrecondition, "node %s is to carry shard %d", id, p.shard).
				WithHint("drain it first, or force it when it is lost for ever")
		}
		s.place(p.shard, rest)
	}
	return nil
}

// placeShard changes a replica set, if it has been decided on with the present epoch in view.
func (s *state) placeShard(shard uint16, replicas []string, epoch uint64) error {
	if epoch != s.epoch {
		return errs.New(errs.FailedPrecondition, "placement was decided at epoch %d, it is %d now", epoch, s.epoch)
	}
	if !s.hasShard(shard) {
		return errs.New(errs.NotFound, "there is no shard %d", shard)
	}
	if err := cmp.Or(checkReplicas(s, replicas), s.checkInside(shard, replicas)); err != nil {
		return err
	}
	s.place(shard, replicas)
	return nil
}

// checkReplicas reports a set that is empty or too large, or names a node twice or one that is not there.
func checkReplicas(s *state, replicas []string) error {
	if len(replicas) < 1 || len(replicas) > maxReplicas {
		return errs.New(errs.Invalid, "%d replicas, must be 1 to %d", len(replicas), maxReplicas)
	}
	for i, id := range replicas {
		m, ok := s.member(id)
		if !ok || m.state == memberRemoved {
			return errs.New(errs.Invalid, "replica on node %s, which is not there", id)
		}
		if slices.Contains(replicas[:i], id) {
			return errs.New(errs.Invalid, "two replicas on node %s", id)
		}
	}
	return nil
}

// addToken stores a token and forgets those that have expired by now.
func (s *state) addToken(t joinToken, now time.Time) error {
	tokens := slices.DeleteFunc(slices.Clone(s.tokens), func(o joinToken) bool {
		return o.hash == t.hash || !now.Before(o.expires.Add(tokenLeeway))
	})
	if len(tokens) >= maxTokens {
		return errs.New(errs.QuotaExceeded, "there are %d join tokens, which is the limit", maxTokens)
	}
	s.tokens = append(tokens, t)
	return nil
}

func (s *state) setReplication(wanted int) error {
	if wanted != 0 && wanted != 1 && wanted != 3 && wanted != 5 {
		return errs.New(errs.Invalid, "%d replicas are wanted, must be 1, 3, 5, or 0 to follow the number of nodes", wanted)
	}
	s.wanted = wanted
	return nil
}
