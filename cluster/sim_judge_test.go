package cluster

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/croftdb/croft/internal/lineartest"
)

// judge heals all and looks whether everything is as it was promised. The history is left to the caller, since that takes
// no time of the bubble's.
func (s *simulation) judge() {
	for _, h := range s.members() {
		h.start()
	}
	if !s.until(10*time.Minute, "all has settled", s.settled) {
		return
	}
	if !s.until(5*time.Minute, "all migrations have ended", s.moved) {
		return
	}
	pause(s.stopped, 10*s.tick) // a write that its client has given up is done before it is read for good, or never
	keys := s.clients.records()
	final := s.readAll(keys)
	if s.log.isBroken() {
		return
	}
	s.until(5*time.Minute, "all replicas have applied the same", s.level)
	for _, node := range s.nodesRunning() {
		s.compareGroups(node)
	}
	s.readEverywhere(keys, final)
}

// readAll reads all records through every node, for the history, and returns what they are.
func (s *simulation) readAll(keys []string) map[string]string {
	final := map[string]string{}
	for i, h := range s.members() {
		c := &simClient{simClients: s.clients, id: 1000 + i, host: h, rng: s.source(uint64(1000 + i))}
		for tenant, keys := range byTenant(keys) {
			ends := make([]func(string), len(keys))
			for i, key := range keys {
				ends[i] = s.clients.history.Read(c.id, key)
			}
			var values map[string]string
			s.until(time.Minute, fmt.Sprintf("%v reads %s", h, tenant), func() (ok bool) {
				var err error
				values, err = c.fetchAll(s.stopped, tenant, keys, Strong)
				return err == nil
			})
			for i, key := range keys {
				ends[i](values[key])
				final[key] = values[key]
			}
		}
	}
	return final
}

func byTenant(keys []string) map[string][]string {
	by := map[string][]string{}
	for _, key := range keys {
		by[tenantOf(key)] = append(by[tenantOf(key)], key)
	}
	return by
}

// level reports whether all replicas have applied the same entry.
func (s *simulation) level() bool {
	applied := map[string]uint64{}
	for _, n := range s.nodesRunning() {
		for _, g := range n.groups() {
			at := g.raft().AppliedIndex()
			if first, ok := applied[g.name]; ok && first != at || at != g.raft().LastIndex() {
				return false
			}
			applied[g.name] = at
		}
	}
	return true
}

// compareGroups compares a node's replicas with those of the first that has them: what they hold, and the logs as far as
// both have them.
func (s *simulation) compareGroups(n *Node) {
	nodes := s.nodesRunning()
	for _, sh := range n.replicas().sorted() {
		i := slices.IndexFunc(nodes, func(o *Node) bool { return o.replica(sh.id) != nil })
		first := nodes[i].replica(sh.id)
		if first == sh {
			continue
		}
		a, atA, errA := first.engine.Digest(s.stopped)
		b, atB, errB := sh.engine.Digest(s.stopped)
		if errA != nil || errB != nil || a != b || atA != atB {
			s.log.violate("digest", "shard %d: node %s has %v at %d (%v), node %s has %v at %d (%v)",
				sh.id, nodes[i].id.NodeID, a, atA, errA, n.id.NodeID, b, atB, errB)
		}
		s.compareLogs(first.group, sh.group)
	}
	s.compareLogs(nodes[0].meta.group, n.meta.group)
	if a, b := nodes[0].meta.state(), n.meta.state(); string(appendState(nil, a)) != string(appendState(nil, b)) {
		s.log.violate("digest", "the metadata of %s and %s differ", nodes[0].id.NodeID, n.id.NodeID)
	}
}

func (s *simulation) compareLogs(a, b *group) {
	from, to := uint64(1), a.raft().AppliedIndex()
	for _, g := range []*group{a, b} {
		first, err := g.log.FirstIndex()
		if err != nil {
			s.log.violate("digest", "log of %s: %v", g.name, err)
		}
		from, to = max(from, first), min(to, g.raft().AppliedIndex())
	}
	for i := from; i <= to; i++ {
		var x, y raft.Log
		errA, errB := a.log.GetLog(i, &x), b.log.GetLog(i, &y)
		if errA != nil || errB != nil || x.Term != y.Term || x.Type != y.Type || string(x.Data) != string(y.Data) {
			s.log.violate("digest", "entry %d of %s is %d %v %v here and %d %v %v there", i, a.name, x.Term, x.Type, errA, y.Term, y.Type, errB)
			return
		}
	}
}

// readEverywhere reads all at level any, which is now what everybody has.
func (s *simulation) readEverywhere(keys []string, final map[string]string) {
	for _, h := range s.members() {
		c := &simClient{simClients: s.clients, host: h}
		for tenant, keys := range byTenant(keys) {
			values, err := c.fetchAll(s.stopped, tenant, keys, Any)
			if err != nil {
				s.log.violate("any", "%v does not read %s: %v", h, tenant, err)
			}
			for _, key := range keys {
				if values[key] != final[key] {
					s.log.violate("any", "%v has %q for %s, and it is %q", h, values[key], key, final[key])
					return
				}
			}
		}
	}
}

// proveAlive sees to it that writes to all tenants are taken through all of the hosts, which are a majority without a fault.
func (s *simulation) proveAlive(hosts []*host, limit time.Duration) {
	begin := time.Now()
	for i, h := range hosts {
		c := &simClient{simClients: s.clients, id: 2000 + i, host: h, rng: s.rng}
		for t := range simTenants {
			key := simKey(int(time.Since(s.began)/simEpoch), t)
			if !s.until(limit, fmt.Sprintf("a majority without a fault takes writes to %s through %v", tenantOf(key), h), func() bool {
				ctx, cancel := context.WithTimeout(s.stopped, simPatience)
				defer cancel()
				return c.upsert(ctx, key) == lineartest.Done || h.isLeaving() // then it may be gone by now
			}) {
				return
			}
		}
	}
	s.log.note("writes everywhere after %v", time.Since(begin).Round(time.Millisecond))
}
