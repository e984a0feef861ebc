package cluster

import (
	"context"
	"strconv"
	"time"

	"github.com/croftdb/croft/internal/errs"
)

// method is what a node asks of another. Numbers are on the wire: append only.
type method uint8

const (
	methodJoin       method = iota + 1 // a new node asks to be let in
	methodMeta                         // proposes a command to the metadata plane's leader
	methodStatus                       // what a node tells of its replicas
	methodApply                        // proposes a command to a shard's leader
	methodUpdate                       // changes records, by id or by filter
	methodDelete                       // removes records by filter
	methodQuery                        // searches a partition
	methodFetch                        // reads records by id
	methodScan                         // reads records or ids in order
	methodPartitions                   // lists the partitions of an index in a shard
	methodCreate                       // makes a partition that must not exist
	methodCheckpoint                   // a shard's files, for a replica that lacks them
	methodRefresh                      // tells how new the metadata of the plane's leader is
	methodConfirm                      // whether a node still follows a leader
	methodRejoin                       // whether a node whose replica is lost may begin another
	methodLast                         // the last entry that a replica has
	methodUsage                        // what was counted elsewhere of a shard's tenants
	methodAudit                        // looks through a node's audit log
	methodUsed                         // what tenants of a shard have used
	methodCache                        // what a node keeps of a tenant's results
	methodLoads                        // which tenants take most of the shards that a node leads
	methodResident                     // how much a tenant stores in a shard
	methodRoom                         // how much room a node has
	methodHoldings                     // what tenants have in a shard
	methodRouting                      // where tenants are against routing, by the metadata plane's leader
	methodSearch                       // searches the partitions of many tenants
	methodSearchTurn                   // whether a search over many tenants may begin
	methodLeave                        // asks a shard for a tenant that leaves it
	methodArrive                       // has a shard take in a part of a tenant that comes there
	methodWarm                         // has a node make a replica fit to serve a tenant that comes
	methodMoves                        // how far the migrations are that a node carries out
	methodKeyUses                      // when API keys were last used through a node
	methodShares                       // shares of tenants' quotas, from the homes that count them
	methodClose                        // draws up the last bill of a tenant whose data was dropped
	methodBills                        // whose last bills a shard keeps
	methodCarry                        // takes last bills from one shard to another
)

// methodNames are for people: in traces and logs.
var methodNames = map[method]string{
	methodJoin: "join", methodMeta: "meta", methodStatus: "status", methodApply: "apply", methodUpdate: "update", methodDelete: "delete",
	methodQuery: "query", methodFetch: "fetch", methodScan: "scan", methodPartitions: "partitions", methodCreate: "create",
	methodCheckpoint: "checkpoint", methodRefresh: "refresh", methodConfirm: "confirm", methodRejoin: "rejoin", methodLast: "last",
	methodUsage: "usage", methodAudit: "audit", methodUsed: "used", methodCache: "cache", methodLoads: "loads", methodResident: "resident",
	methodRoom: "room", methodHoldings: "holdings", methodRouting: "routing", methodSearch: "search", methodSearchTurn: "search turn",
	methodLeave: "leave", methodArrive: "arrive", methodWarm: "warm", methodMoves: "moves", methodKeyUses: "key uses",
	methodShares: "shares",
	methodClose:  "close", methodBills: "bills", methodCarry: "carry",
}

// String names a method; one without a name by its number.
func (m method) String() string {
	if name, ok := methodNames[m]; ok {
		return name
	}
	return "method " + strconv.Itoa(int(m))
}

// handler answers the calls of a method: it appends its answer to dst. request is the handler's until it returns, and from
// is the id of the calling node, empty while it has none.
type handler func(ctx context.Context, from string, request, dst []byte) ([]byte, error)

// peers are the links between this node and the others.
type peers interface {
	transports
	// handle says who answers a method. It is called before start.
	handle(m method, h handler)
	// start opens the links: until then nobody is answered.
	start() error
	// call sends a request to a node and appends its answer to dst. The other side's errors come back with their kind,
	// hint and advice when to retry, a notLeaderError as such. Unavailable: the node was not reached and has not seen the
	// request. OutcomeUnknown: the link broke, or ctx ended, after it may have. request is free again when call returns.
	call(ctx context.Context, to string, m method, request, dst []byte) ([]byte, error)
	// callAddr is call for who knows an address and not yet the node behind it, nor perhaps the cluster: it joins.
	callAddr(ctx context.Context, addr string, m method, request, dst []byte) ([]byte, error)
	// addr is where other nodes reach this one, empty if they cannot.
	addr() string
	// close ends the links and waits for the handlers, whose ctx ends. It closes the transports that are still open.
	close() error
}

// notLeaderError is the answer of a node that does not lead the group it was asked for: nothing was done. Links carry it.
type notLeaderError struct {
	leader string // node id of who does lead, as far as is known; else empty
	err    *errs.Error
}

func newNotLeaderError(group, leader string) *notLeaderError {
	err := errs.New(errs.Unavailable, "%s has no leader here", group).WithRetryAfter(retryLeader)
	return &notLeaderError{leader, err}
}

func (e *notLeaderError) Error() string { return e.err.Error() }

func (e *notLeaderError) Unwrap() error { return e.err }

// unreached is the answer of a call whose request went nowhere.
func unreached(node string, err error) error {
	return errs.New(errs.Unavailable, "node %s was not reached: %w", node, err).WithRetryAfter(time.Second)
}

// unanswered is the answer of a call whose request may have arrived.
func unanswered(node string, err error) error {
	return errs.New(errs.OutcomeUnknown, "no answer from node %s: %w", node, err).
		WithHint("what was asked may or may not have been done: read before repeating it")
}

// errNoMethod is the answer to a method that this version does not have.
func errNoMethod(m method) error {
	return errs.New(errs.FailedPrecondition, "this node does not know method %d", m).
		WithHint("let all nodes run the same version of croft")
}
