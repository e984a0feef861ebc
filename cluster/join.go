package cluster

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/croftdb/croft/internal/errs"
)

// joinRequest is what a new node sends to a member.
type joinRequest struct {
	ClusterID string `json:"cluster_id,omitempty"` // of a node that has been let in before
	ID        string `json:"id"`
	Address   string `json:"address"`
	URL       string `json:"url"`
	Zone      string `json:"zone"`
	Token     string `json:"token"`
	Starts    uint64 `json:"starts,omitempty"`
	Life      uint64 `json:"life,omitempty"`
	// Check asks only whether there is anything against the node.
	Check bool `json:"check,omitempty"`
}

// introduction is what this node says of itself.
func (n *Node) introduction() joinRequest {
	return joinRequest{
		ClusterID: n.id.ClusterID, ID: n.id.NodeID, Address: n.peers.addr(), URL: n.opts.URL, Zone: n.opts.Zone,
		Starts: n.id.Starts, Life: n.life,
	}
}

// member is the node that introduces itself.
func (r *joinRequest) member() member {
	return member{id: r.ID, address: r.Address, url: r.URL, zone: r.Zone, starts: r.Starts, life: r.Life}
}

// joinAnswer tells a new node what it needs to find the cluster.
type joinAnswer struct {
	ClusterID string            `json:"cluster_id"`
	Shards    int               `json:"shards"`
	Addresses map[string]string `json:"addresses"` // by node id
}

const (
	joinRetry   = time.Second
	joinTimeout = 5 * time.Second // of one attempt
)

// hashToken is what the metadata plane keeps of a token.
func hashToken(token string) [32]byte { return sha256.Sum256([]byte(token)) }

// NewJoinToken makes a token that lets nodes in until ttl has passed. Only its hash is stored.
func (n *Node) NewJoinToken(ctx context.Context, ttl time.Duration) (string, error) {
	if ttl <= 0 || ttl > 30*24*time.Hour {
		return "", errs.New(errs.Invalid, "a join token lives %s, must be up to 30 days", ttl)
	}
	var secret [24]byte
	rand.Read(secret[:])
	token := "croft-join-" + hex.EncodeToString(secret[:])
	now := time.Now()
	_, err := n.proposeMeta(ctx, &metaCommand{op: metaAddToken, memberCommand: memberCommand{
		token: hashToken(token), expires: now.Add(ttl), now: now,
	}})
	if err != nil {
		return "", err
	}
	return token, nil
}

// join asks the member at opts.Join to be let in, until it is, is refused, or ctx ends, and notes the cluster's name.
func (n *Node) join(ctx context.Context) error {
	req := n.introduction()
	req.Token = n.opts.JoinToken
	for {
		answer, err := n.askToJoin(ctx, req)
		if err == nil {
			return n.joined(answer)
		}
		if kind := errs.KindOf(err); kind != errs.Unavailable && kind != errs.OutcomeUnknown && kind != errs.DeadlineExceeded || ctx.Err() != nil {
			return errs.Wrap(errs.KindOf(err), err, "join the cluster of %s", n.opts.Join)
		}
		n.logger.Warn("joining the cluster failed, trying again", "member", n.opts.Join, "err", err)
		select {
		case <-time.After(joinRetry):
		case <-ctx.Done():
		}
	}
}

func (n *Node) askToJoin(ctx context.Context, req joinRequest) (joinAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	b, err := json.Marshal(req)
	if err != nil {
		return joinAnswer{}, err
	}
	b, err = n.peers.callAddr(ctx, n.opts.Join, methodJoin, b, nil)
	if err != nil {
		return joinAnswer{}, err
	}
	var answer joinAnswer
	if err := json.Unmarshal(b, &answer); err != nil || answer.ClusterID == "" || answer.Shards < 1 || answer.Shards > maxShards {
		return joinAnswer{}, errs.New(errs.Corrupt, "the member's answer makes no sense: %v", err)
	}
	return answer, nil
}

// joined makes the node a member in its own books, before it holds anything of the cluster.
func (n *Node) joined(a joinAnswer) error {
	if err := n.book.note(a.Addresses); err != nil {
		return err
	}
	name := a.ClusterID
	n.cluster.Store(&name)
	n.id.ClusterID, n.id.Shards, n.id.Joining = a.ClusterID, a.Shards, false
	n.id.Replicas = map[uint16]incarnation{}
	return n.id.save(n.opts.disk, n.opts.Dir)
}

// checkJoined is for a node that is told to join and has data: it must be of that cluster. A cluster that cannot be reached
// does not keep a member from starting.
func (n *Node) checkJoined(ctx context.Context) error {
	_, err := n.askToJoin(ctx, n.introduction())
	if kind := errs.KindOf(err); err != nil && (kind == errs.FailedPrecondition || kind == errs.PermissionDenied) {
		return errs.Wrap(kind, err, "join the cluster of %s", n.opts.Join)
	}
	return nil
}

// announce tells a member where this node is now. The metadata plane's leader finds a node only where it was last said to
// be, and who is not found does not hear who leads. FailedPrecondition: the node was removed.
func (n *Node) announce(ctx context.Context) error {
	b, err := json.Marshal(n.introduction())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	err = errs.New(errs.Unavailable, "no other node is known")
	for _, node := range n.book.nodes() {
		if node == n.id.NodeID {
			continue
		}
		if _, err = n.peers.call(ctx, node, methodJoin, b, nil); err == nil || errs.Is(err, errs.FailedPrecondition) {
			return err
		}
	}
	return err
}

// answerJoin lets a node in, or asks the metadata plane's leader to.
func (n *Node) answerJoin(ctx context.Context, _ string, request, dst []byte) ([]byte, error) {
	var req joinRequest
	if err := json.Unmarshal(request, &req); err != nil {
		return dst, errs.Wrap(errs.Invalid, err, "read a request to join")
	}
	if req.ClusterID != "" && req.ClusterID != n.id.ClusterID {
		return dst, errs.New(errs.FailedPrecondition, "the node has data of cluster %s, this is cluster %s", req.ClusterID, n.id.ClusterID).
			WithHint("start it with an empty directory to join")
	}
	m := req.member()
	known, _ := n.meta.state().member(m.id)
	switch {
	case known.state == memberRemoved || slices.Contains(n.id.Refused, m.id):
		return dst, errRemoved(m.id)
	case m.older(known):
		return dst, errOldCopy(m, known)
	case req.Check:
		return dst, nil
	}
	m.state = known.state
	if known != m || known.id == "" {
		_, err := n.proposeMeta(ctx, &metaCommand{op: metaJoin, memberCommand: memberCommand{
			member: m, token: hashToken(req.Token), now: time.Now(),
		}})
		if err != nil && strings.Contains(err.Error(), errRemoved(n.id.NodeID).Error()) { // it is not who asks that was removed
			return dst, errs.New(errs.Unavailable, "ask another member: %w", err)
		}
		if err != nil {
			return dst, err
		}
	}
	s := n.meta.state()
	answer := joinAnswer{ClusterID: n.id.ClusterID, Shards: n.id.Shards, Addresses: s.addresses()}
	b, err := json.Marshal(answer)
	return append(dst, b...), err
}

// DrainNode asks for all replicas of a node to be moved elsewhere. NotFound if there is no such node.
func (n *Node) DrainNode(ctx context.Context, id string) error {
	return n.setMember(ctx, id, memberDraining, false)
}

// RemoveNode takes a node out for ever; its identity is refused from then on. FailedPrecondition while shards are placed on
// it or their groups, or the metadata plane, count on its vote, unless force is set: then its replicas are given up, but
// never the last one of a shard.
func (n *Node) RemoveNode(ctx context.Context, id string, force bool) error {
	if id == n.meta.group.leader() && !force && n.meta.group.sole.Load() {
		return errs.New(errs.FailedPrecondition, "node %s has the only vote in the metadata plane", id).
			WithHint("wait until another node has joined")
	}
	if !force {
		if err := n.spare(ctx, id); err != nil {
			return err
		}
	}
	return n.setMember(ctx, id, memberRemoved, force)
}

// spare returns an error while a group has a node among its members, or its leader does not tell. What is placed where is not
// enough to know: the groups follow later, and until then the node may be one that their majority needs.
func (n *Node) spare(ctx context.Context, id string) error {
	s := n.meta.state()
	var nodes []string
	for _, m := range s.members {
		if m.state != memberRemoved {
			nodes = append(nodes, m.id)
		}
	}
	all := n.statuses(ctx, nodes, statusRequest{All: true})
	for _, p := range s.placed {
		g := leaderAmong(p.shard, all)
		if g == nil {
			return errs.New(errs.Unavailable, "whether node %s has a replica of shard %d is not known: its leader does not answer", id, p.shard).
				WithRetryAfter(retryLeader)
		}
		if slices.Contains(g.Voters, id) || slices.Contains(g.Learners, id) {
			return errs.New(errs.FailedPrecondition, "node %s still has a replica of shard %d", id, p.shard).
				WithHint("drain the node and wait until its replicas have moved")
		}
	}
	for _, st := range all {
		if st.Meta.leads() && slices.Contains(st.Meta.Voters, id) {
			return errs.New(errs.FailedPrecondition, "node %s still votes in the metadata plane", id).
				WithHint("drain the node and wait until another has its vote")
		}
	}
	return nil
}

func (n *Node) setMember(ctx context.Context, id string, to memberState, force bool) error {
	_, err := n.proposeMeta(ctx, &metaCommand{op: metaSetMember, memberCommand: memberCommand{
		member: member{id: id, state: to}, force: force,
	}})
	return err
}

// setReplication notes how many replicas the node was told to keep of each shard. Only a node that has the metadata plane
// to itself does: later it is the cluster's business.
func (n *Node) setReplication(ctx context.Context) error {
	if n.opts.Replicas == 0 || n.opts.Replicas == n.meta.state().wanted {
		return nil
	}
	return n.SetReplicas(ctx, n.opts.Replicas)
}

// SetReplicas says how many replicas each shard is to have: 1, 3 or 5, or 0 for 3 when there are three nodes and 1 before.
func (n *Node) SetReplicas(ctx context.Context, wanted int) error {
	_, err := n.proposeMeta(ctx, &metaCommand{op: metaReplication, memberCommand: memberCommand{wanted: wanted}})
	return err
}
