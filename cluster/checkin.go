package cluster

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"sync"
	"time"

	"github.com/croftdb/croft/internal/errs"
)

// drawLife is what tells two starts apart that have the same number, because one is of a copy of the directory.
func drawLife() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:]) | 1 // never 0, which is of nodes that do not tell
}

// checkInPatience is how long a node that starts waits for those who may have something against it.
const checkInPatience = time.Second

// checkIn asks all nodes that this one knows, before it opens a replica, whether it may take part. FailedPrecondition: it was
// removed, given up as lost, or its directory is an old copy. Such a node must neither vote nor lead: it has forgotten
// promises, or would make a majority with others that were given up. Who does not answer in time has nothing to say, or
// a cluster that starts as a whole would never.
func (n *Node) checkIn(ctx context.Context) error {
	req := n.introduction()
	req.Check = true
	b, err := json.Marshal(req)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, checkInPatience)
	defer cancel()
	var wg sync.WaitGroup
	nodes := n.book.nodes()
	refusals := make([]error, len(nodes))
	for i, node := range nodes {
		if node == n.id.NodeID {
			continue
		}
		wg.Go(func() {
			if _, err := n.peers.call(ctx, node, methodJoin, b, nil); errs.Is(err, errs.FailedPrecondition) {
				refusals[i] = errs.Wrap(errs.FailedPrecondition, err, "node %s refuses this one", node)
			}
		})
	}
	wg.Wait()
	for _, refusal := range refusals {
		if refusal != nil {
			return refusal
		}
	}
	return nil
}

// recount lets a node that has no other count its starts from where its metadata is: with node.json from a backup it would be
// taken for an old copy of itself, and there is nobody whom it could have promised anything.
func (n *Node) recount() error {
	s := n.meta.state()
	known, _ := s.member(n.id.NodeID)
	intro := n.introduction()
	if me := intro.member(); !s.alone() || !me.older(known) {
		return nil
	}
	n.id.Starts = known.starts + 1
	return n.id.save(n.opts.disk, n.opts.Dir)
}
