package cluster

import (
	"cmp"
	"context"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/tenancy/audit"
)

// auditTimeout is how long a node may take to look through its audit log before it counts as silent.
const auditTimeout = 5 * time.Second

// openAudit opens this node's audit log.
func (n *Node) openAudit() (err error) {
	n.trail, err = audit.Open(n.opts.disk, filepath.Join(n.opts.Dir, "audit"), n.id.NodeID, n.opts.Audit, n.logger)
	return err
}

// Begin writes down that an act is about to be done, see audit.Trail.
func (n *Node) Begin(e audit.Event) (number uint64, err error) { return n.trail.Begin(e) }

// Record writes down what came of an act, see audit.Trail. It is on this node's disk when it returns nil.
func (n *Node) Record(e audit.Event, begun uint64, void bool) error {
	return n.trail.Record(e, begun, void)
}

// Refuse notes a refusal, which is written down soon.
func (n *Node) Refuse(e audit.Event) { n.trail.Refuse(e) }

// auditRequest is what is asked of another node's audit log: events, or with verify a report.
type auditRequest struct {
	verify bool
	query  audit.Query
}

// auditAnswer is what a node finds.
type auditAnswer struct {
	events  []audit.Event
	reports []audit.Report
}

// AuditEvents returns the events of all nodes that are looked for, in the order of audit.Place, and which nodes did not answer. more
// tells that there may be others behind them.
func (n *Node) AuditEvents(ctx context.Context, q audit.Query) (events []audit.Event, more bool, silent []string, err error) {
	answers, silent, err := n.auditAll(ctx, auditRequest{query: q})
	for _, a := range answers {
		events = append(events, a.events...)
		more = more || len(a.events) >= q.Limit
	}
	more = more || len(events) > q.Limit
	return audit.Merge(q.Limit, events), more, silent, err
}

// VerifyAudit checks the audit logs of all nodes, and tells which did not answer.
func (n *Node) VerifyAudit(ctx context.Context) (reports []audit.Report, silent []string, err error) {
	answers, silent, err := n.auditAll(ctx, auditRequest{verify: true})
	for _, a := range answers {
		reports = append(reports, a.reports...)
	}
	slices.SortFunc(reports, func(a, b audit.Report) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Chain, b.Chain))
	})
	return reports, silent, err
}

// auditAll asks every node at once. Only what is wrong here is an error: others may be down.
func (n *Node) auditAll(ctx context.Context, req auditRequest) (answers []auditAnswer, silent []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	nodes := n.meta.state().present()
	found, faults := make([]auditAnswer, len(nodes)), make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, node := range nodes {
		wg.Go(func() { found[i], faults[i] = n.auditOf(ctx, node, &req) })
	}
	wg.Wait()
	for i, fault := range faults {
		switch {
		case fault == nil:
			answers = append(answers, found[i])
		case nodes[i] == n.id.NodeID:
			return nil, nil, fault
		default:
			silent = append(silent, nodes[i])
		}
	}
	return answers, silent, nil
}

func (n *Node) auditOf(ctx context.Context, node string, req *auditRequest) (auditAnswer, error) {
	if node == n.id.NodeID {
		return n.auditHere(req)
	}
	answer, err := n.peers.call(ctx, node, methodAudit, req.append(nil), nil)
	if err != nil {
		return auditAnswer{}, err
	}
	return readAuditAnswer(answer, node)
}

func (n *Node) auditHere(req *auditRequest) (a auditAnswer, err error) {
	if req.verify {
		a.reports, err = n.trail.Verify()
	} else {
		a.events, err = n.trail.Find(&req.query)
	}
	return a, err
}

// answerAudit looks through this node's audit log for another.
func (n *Node) answerAudit(_ context.Context, _ string, request, dst []byte) ([]byte, error) {
	r := codec.NewReader(request)
	req := auditRequest{verify: r.Byte() == 1, query: audit.ReadQuery(r)}
	if err := r.Done(); err != nil {
		return dst, err
	}
	a, err := n.auditHere(&req)
	if err != nil {
		return dst, err
	}
	return a.append(dst)
}

func (q *auditRequest) append(b []byte) []byte {
	return audit.AppendQuery(append(b, boolByte(q.verify)), &q.query)
}

func (a *auditAnswer) append(b []byte) ([]byte, error) {
	b = codec.AppendUvarint(b, uint64(len(a.events)))
	for i := range a.events {
		b = audit.AppendEvent(b, &a.events[i])
	}
	reports, err := json.Marshal(a.reports)
	return codec.AppendBytes(b, reports), err
}

func readAuditAnswer(b []byte, node string) (a auditAnswer, err error) {
	r := codec.NewReader(b)
	for range r.Count(1) {
		e := audit.ReadEvent(r)
		e.Node = node
		a.events = append(a.events, e)
	}
	reports := r.Bytes()
	if err := r.Done(); err != nil {
		return auditAnswer{}, err
	}
	return a, json.Unmarshal(reports, &a.reports)
}
