package cluster

import "context"

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
)

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
	// hint and advice when to retry. Unavailable: the node was not reached and has not seen the request. OutcomeUnknown: the
	// link broke, or ctx ended, after it may have.
	call(ctx context.Context, to string, m method, request, dst []byte) ([]byte, error)
	// addr is where other nodes reach this one.
	addr() string
	close() error
}
