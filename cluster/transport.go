package cluster

import "github.com/hashicorp/raft"

// transports makes the transport of each group: the seam between a node alone and one with peers.
type transports interface {
	// open returns the transport of a group. raft closes it when the group shuts down.
	open(group string) raft.Transport
}

// loopback is the transport of groups with a single voter: nobody is ever dialled. Address and server id are both
// the node id, so that a later change of address touches no group's configuration.
type loopback struct{ node raft.ServerID }

func (l loopback) open(string) raft.Transport {
	_, t := raft.NewInmemTransport(raft.ServerAddress(l.node))
	return t
}
