// Package movemodel owns the protocol by which a tenant moves between shards, as a model: all states that two shard groups, the
// metadata plane, clients, routers and drivers can come to, explored one by one.
//
// It promises that in none of them an invariant of a move is broken (MI-1 to MI-6, MI-8, MI-9, MI-12), that from each of them the
// move can still end, and that protocols with a known fault are told by a shortest trace. Its tests call it; the mover of
// package cluster follows it. It never runs the code of the product: that is the simulation's to do.
//
// # What stands for what
//
// A shard group is its committed log: an order that reaches it is carried out by all replicas alike or by none, at any time after it
// was given. So a proposal that outlives its leader is an order that comes late. A leader that is cut off holds a lease, during
// which nobody else is elected and nothing is committed; it goes on answering reads until the lease ends. What a leader kept in
// memory, an export, is lost with it.
//
// An order that was ever given may be carried out at any later time, any number of times. That covers stale drivers, late and
// repeated messages, and the crash of whoever drives, at every step: a driver has no state but the metadata. In the same way a
// request of a client may reach each shard that any router ever took for the home of the tenant, again and again. This covers retries
// after lost answers, stale routers, and routers that begin again with old metadata.
//
// Reads are asked one at a time, whenever the tenant is readable; what takes time in them is the question of a fenced source to the
// metadata plane, between which and the answer anything may happen.
package movemodel
