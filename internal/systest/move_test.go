package systest

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// migration is what a node tells of a move.
type migration struct {
	ID       uint64
	Tenant   string
	From, To int
	Phase    string
	Running  bool
	Attempt  int
	Error    string
}

// Roles that a node can play in a move.
var moveRoles = []string{"source", "target", "metadata"}

// TestMovesOverKills moves tenants between shards while they are written and read, kills the node that leads the source, the target or the
// metadata at a random moment of it, and looks each time whether every move ends, and whether all that was acknowledged is there, on
// every node's own replica, and nothing that was deleted.
func TestMovesOverKills(t *testing.T) {
	rng := seeded(t)
	kills := setting(t, "CROFT_MOVE_KILLS", 1)
	c := startNodes(t, 3)
	c.awaitSettled(t, 0, 3)
	c.awaitSpread(t)
	createIndexes(t, dial(c.servers[0]))
	fleet := newFleet(rng, 2, 0)
	for range 5 {
		fleet.step(t, dial(c.servers[0]))
	}
	load := startPulses(t, c, setting(t, "CROFT_CLUSTER_WRITES", 200))
	outcomes := map[string]int{}
	first := rng.IntN(len(moveRoles))
	for kill := range kills {
		role := moveRoles[(first+kill)%len(moveRoles)]
		moves := c.moveSome(t, rng, append([]string{fmt.Sprintf("pulse-%d", rng.IntN(pulsing))}, fleet.tenants()...))
		at := c.playing(t, role, moves[0])
		c.endWhileWriting(t, rng, fleet, at, c.server(at).kill)
		for _, m := range moves {
			m = c.awaitMove(t, (at+1)%len(c.servers), m.ID)
			outcomes[m.Phase]++
			t.Logf("kill %d, of the %s's leader: %s from %d to %d is %s after %d attempts %s", kill+1, role, m.Tenant, m.From, m.To, m.Phase, m.Attempt, m.Error)
		}
		c.restart(t, at)
		c.awaitNear(t, at, 3, 100)
		for i, s := range c.servers {
			to := dial(s).reading("any")
			eventually(t, fmt.Sprintf("kill %d: all is on node %d", kill+1, i+1), func() error { return fleet.settle(t.Context(), to) })
		}
		load.lap()
	}
	load.stop(t)
	c.awaitSettled(t, 0, 3)
	for i, s := range c.servers {
		require.NoError(t, load.check(t.Context(), dial(s).reading("any")), "replicas of node %d", i+1)
	}
	load.report(t)
	t.Logf("moves by outcome: %v", outcomes)
	require.NotZero(t, outcomes["settled"], "no move went through")
	c.equalDigests(t)
}

// tenants are the namespaces of a fleet.
func (f fleet) tenants() (names []string) {
	for _, w := range f {
		names = append(names, w.ns)
	}
	return names
}

// moveSome begins to move each tenant to another shard, by way of any node.
func (c *nodes) moveSome(t *testing.T, rng *rand.Rand, tenants []string) (moves []migration) {
	t.Helper()
	for _, name := range tenants {
		through := dial(c.servers[rng.IntN(len(c.servers))])
		var lives struct{ Shard int }
		eventually(t, name+" is there", func() error { return through.call(t.Context(), http.MethodGet, "/v1/tenants/"+name, nil, &lives) })
		var m migration
		to := (lives.Shard + 1 + rng.IntN(2)) % 3
		require.NoError(t, through.call(t.Context(), http.MethodPost, "/v1/migrations", map[string]any{"tenant": name, "to": to}, &m))
		moves = append(moves, m)
	}
	return moves
}

// playing is the node that plays a role in a move at the moment.
func (c *nodes) playing(t *testing.T, role string, m migration) int {
	t.Helper()
	info, err := dial(c.servers[0]).cluster(t.Context())
	require.NoError(t, err)
	leader := ""
	for _, n := range info.Nodes {
		if role == "metadata" && n.Meta {
			leader = n.ID
		}
	}
	for _, sh := range info.Shards {
		if role == "source" && sh.ID == m.From || role == "target" && sh.ID == m.To {
			leader = sh.Leader
		}
	}
	return c.number(t, leader)
}

// awaitMove waits until a move has come to something, by the word of a node that lives.
func (c *nodes) awaitMove(t *testing.T, by int, id uint64) (m migration) {
	t.Helper()
	eventually(t, fmt.Sprintf("move %d ends", id), func() error {
		err := dial(c.server(by)).call(t.Context(), http.MethodGet, fmt.Sprintf("/v1/migrations/%d", id), nil, &m)
		if err == nil && (m.Running || m.Phase == "aborting") {
			err = fmt.Errorf("it is %s, attempt %d, %s", m.Phase, m.Attempt, m.Error)
		}
		return err
	})
	return m
}
