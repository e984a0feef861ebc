package cluster

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

const (
	// moveDisk is how much room on the disk a tenant needs where it is going, in multiples of what it stores: in the log, in a
	// segment, and for graphs and what is rewritten.
	moveDisk = 3
	// moveMemory is about what a record needs in memory to be searched: its id, its links and its part of the postings, in bytes.
	moveMemory = 300
)

// residentVerb asks a shard's leader how much a tenant stores there.
type residentVerb struct {
	tenant         engine.TenantID
	records, bytes uint64
}

func (v *residentVerb) method() method                 { return methodResident }
func (v *residentVerb) weight() (tenancy.Class, int64) { return tenancy.Read, 0 }

func (v *residentVerb) run(_ context.Context, _ *Node, sh *shard, _ engine.Key) error {
	v.records, v.bytes = sh.engine.Stored(v.tenant)
	return nil
}

func (v *residentVerb) appendRequest(b []byte) []byte { return append(b, v.tenant[:]...) }

func (v *residentVerb) readRequest(r *codec.Reader) { copy(v.tenant[:], r.Raw(len(v.tenant))) }

func (v *residentVerb) appendAnswer(b []byte) []byte {
	return codec.AppendUvarint(codec.AppendUvarint(b, v.records), v.bytes)
}

func (v *residentVerb) readAnswer(r *codec.Reader) { v.records, v.bytes = r.Uvarint(), r.Uvarint() }

// sizeUp fills in how much there is to copy, and looks whether the target has room for it.
func (n *Node) sizeUp(ctx context.Context, shown *Migration, t *tenant, to uint16) error {
	v := residentVerb{tenant: t.id}
	if err := n.ask(ctx, &route{shard: uint16(shown.From)}, &v); err != nil {
		return err
	}
	shown.Total = v.bytes
	if rate := n.opts.MoveRate; rate > 0 {
		shown.Rate = float64(rate)
		shown.ETA = time.Duration(float64(v.bytes) / float64(rate) * float64(time.Second))
	}
	_, err := n.checkRoom(ctx, to, v.records, v.bytes)
	return err
}

// checkRoom looks whether the nodes that carry a shard have room for records of so many bytes, and names those that did not answer: a node
// that is down for long keeps nobody from moving, as it keeps nobody from writing. StorageFull: one that answered has not. Unavailable: most
// do not answer, so nothing could be copied to the shard either.
func (n *Node) checkRoom(ctx context.Context, to uint16, records, bytes uint64) (silent []string, err error) {
	nodes := n.meta.state().replicas(to)
	answers := make([]error, len(nodes))
	var asking sync.WaitGroup
	for i, node := range nodes {
		asking.Go(func() { answers[i] = n.checkRoomOf(ctx, node, records, bytes) })
	}
	asking.Wait()
	var unasked error
	for i, answer := range answers {
		switch {
		case errs.Is(answer, errs.StorageFull):
			return nil, answer
		case answer != nil:
			silent, unasked = append(silent, nodes[i]), answer
		}
	}
	if 2*len(silent) >= len(nodes) {
		return silent, errs.Wrap(errs.Unavailable, unasked, "%d of the %d nodes of shard %d do not tell whether they have room", len(silent), len(nodes), to)
	}
	return silent, nil
}

// checkRoomOf looks whether a node has room. Any error but StorageFull: it does not answer.
func (n *Node) checkRoomOf(ctx context.Context, node string, records, bytes uint64) error {
	free, memory, err := n.roomOf(ctx, node)
	switch {
	case err != nil:
		return errs.Wrap(errs.Unavailable, err, "ask node %s", node)
	case free < moveDisk*bytes:
		return errs.New(errs.StorageFull, "node %s has %d bytes of disk free beyond its reserve, %d are needed there", node, free, moveDisk*bytes).
			WithHint("free space, make the disk larger, or choose another shard")
	case memory < moveMemory*records:
		return errs.New(errs.StorageFull, "node %s keeps at most %d bytes of graphs and ids in memory, the tenant needs %d", node, memory, moveMemory*records).
			WithHint("raise the node's memory budget, or choose another shard")
	}
	return nil
}

// silentText says in a migration's record who was not asked for room.
func silentText(nodes []string) string {
	if len(nodes) == 0 {
		return ""
	}
	return cutText(fmt.Sprintf("begun without the word of node %s on its room, which did not answer", strings.Join(nodes, ", ")))
}

// roomOf asks a node how many bytes of disk it has beyond its reserve, and how many of search structures it keeps in memory at most.
func (n *Node) roomOf(ctx context.Context, node string) (disk, memory uint64, err error) {
	if node == n.id.NodeID {
		return n.room()
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	b, err := n.peers.call(ctx, node, methodRoom, nil, nil)
	if err != nil {
		return 0, 0, err
	}
	r := codec.NewReader(b)
	disk, memory = r.Uvarint(), r.Uvarint()
	return disk, memory, r.Done()
}

func (n *Node) room() (disk, memory uint64, err error) {
	memory = uint64(n.engine.MemoryBudget())
	if n.opts.DiskReserve < 0 {
		return math.MaxUint64, memory, nil
	}
	free, err := n.disk.free()
	return free - min(free, uint64(n.opts.DiskReserve)), memory, err
}

// answerRoom serves methodRoom.
func (n *Node) answerRoom(_ context.Context, from string, _, dst []byte) ([]byte, error) {
	if err := n.checkCaller(from); err != nil {
		return dst, err
	}
	disk, memory, err := n.room()
	return codec.AppendUvarint(codec.AppendUvarint(dst, disk), memory), err
}
