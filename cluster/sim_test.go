package cluster

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// timeFlowsPastLocks is set where the simulation can run, see sim_time_test.go.
var timeFlowsPastLocks bool

// simTags build the tests with it.
var simTags = []string{"-tags=simtime", "-ldflags=-checklinkname=0"}

// TestSimulation runs simulated clusters, as many hours of their time as CROFT_SIM_HOURS says, each for CROFT_SIM_LENGTH,
// in turn with the numbers of nodes in CROFT_SIM_NODES, from the seed CROFT_SEED on.
func TestSimulation(t *testing.T) {
	if !timeFlowsPastLocks {
		runSimulationTests(t, "^TestSimulation$")
		return
	}
	hours, err := strconv.ParseFloat(cmp.Or(os.Getenv("CROFT_SIM_HOURS"), "0.1"), 64)
	require.NoError(t, err, "CROFT_SIM_HOURS")
	length, err := time.ParseDuration(cmp.Or(os.Getenv("CROFT_SIM_LENGTH"), fmt.Sprint(min(time.Hour, time.Duration(hours/2*float64(time.Hour))))))
	require.NoError(t, err, "CROFT_SIM_LENGTH")
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("CROFT_SEED"), fmt.Sprint(time.Now().UnixNano()%1e9)), 10, 64)
	require.NoError(t, err, "CROFT_SEED")
	t.Logf("CROFT_SEED=%d", seed)
	sizes := strings.Split(cmp.Or(os.Getenv("CROFT_SIM_NODES"), "3,5"), ",")
	t.Run("alone", func(t *testing.T) { // what a process does once must be done: who waits for another bubble's goroutine seems to wait for nobody
		simulate(t, simSettings{
			seed: seed, nodes: 1, tick: time.Second, replicas: 1, shards: 2, logRetain: 1 << 20, replaceAfter: time.Minute, clients: 1,
			think: time.Second, script: func(s *simulation) { pause(s.stopped, 10*time.Second) },
		})
	})
	var sum sums
	t.Run("histories", func(t *testing.T) {
		for i := range max(1, int(hours*float64(time.Hour)/float64(length)+0.5)) {
			nodes, err := strconv.Atoi(sizes[i%len(sizes)])
			require.NoError(t, err, "CROFT_SIM_NODES")
			o := drawSettings(seed+uint64(i), nodes, length, cmp.Or(os.Getenv("CROFT_SIM_MIX"), "all"))
			t.Run(fmt.Sprintf("seed=%d,nodes=%d", o.seed, nodes), func(t *testing.T) {
				t.Parallel()
				sum.add(simulate(t, o))
			})
		}
	})
	t.Logf("done:%v", sum.counts)
	if mix := cmp.Or(os.Getenv("CROFT_SIM_MIX"), "all"); mix == "all" || mix == "move" {
		t.Run("moves", func(t *testing.T) { moveMatrix(t, seed) })
	}
}

// sums adds up what simulations count.
type sums struct {
	mu     sync.Mutex
	counts simCounts
}

func (s *sums) add(o map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts == nil {
		s.counts = simCounts{}
	}
	s.counts.add(o)
}

// drawSettings are the settings of a seed. A tenth of the simulations has the raft tick of real nodes, which costs most: an
// idle cluster is all heartbeats.
func drawSettings(seed uint64, nodes int, length time.Duration, mix string) simSettings {
	o := simSettings{
		seed: seed, nodes: nodes, length: length, mix: mix, tick: 2 * time.Second, replicas: 3, shards: 2, logRetain: 64 << 10,
		replaceAfter: 10 * time.Minute, think: 2 * time.Second, clients: 6, swallow: seed%2 == 0,
	}
	if nodes >= 5 && seed/2%2 == 0 {
		o.replicas = 5
	}
	if seed%10 == 3 {
		o.tick = 600 * time.Millisecond
	}
	if seed%4 == 1 {
		o.replaceAfter = 30 * time.Second
	}
	if seed%3 == 0 {
		o.logRetain = 1 << 20
	}
	switch mix {
	case "all":
		o.moves = 20 * time.Second
	case "checkpoint": // as many writes as fill the logs that a new node then does not get
		o.think, o.logRetain = 300*time.Millisecond, 64<<10
	case "move":
		o.moves, o.think = 3*time.Second, 300*time.Millisecond
	case "transfer": // what can go wrong there lasts for a second
		o.think = 100 * time.Millisecond
	}
	return o
}

// simulate runs one simulation and judges it.
func simulate(t *testing.T, o simSettings) map[string]int {
	log := newSimLog()
	var s *simulation
	begin := time.Now()
	inBubble(t, func(*testing.T) {
		s = newSimulation(o, log)
		s.run()
	})
	ran := time.Since(begin)
	if !log.isBroken() {
		if err := s.clients.history.Check(5*time.Minute, ""); err != nil {
			log.violate("history", "%v", err)
		}
	}
	t.Logf("%v: %v and %v to judge %d operations", o, ran.Round(time.Millisecond), (time.Since(begin) - ran).Round(time.Millisecond), s.clients.history.Len())
	if log.isBroken() {
		t.Errorf("%s\n%v\nrepeat with CROFT_SIM_HOURS=1 %v\n%s", log.violations[0], len(log.violations), o, log)
	} else if os.Getenv("CROFT_SIM_TRACE") != "" {
		t.Log("\n" + log.String())
	}
	return log.counts
}

// runSimulationTests runs tests of this package in a process that is built for it.
func runSimulationTests(t *testing.T, run string, args ...string) {
	out, err := simulationProcess(t, run, args...).CombinedOutput()
	t.Logf("%s", out)
	require.NoError(t, err)
}

func simulationProcess(t *testing.T, run string, args ...string) *exec.Cmd {
	timeout := "10m"
	if d, ok := t.Deadline(); ok {
		timeout = max(time.Until(d)-time.Second, time.Second).String()
	}
	args = append(append([]string{"test", "-count=1", "-v", "-timeout", timeout, "-run", run}, simTags...), append(args, ".")...)
	return exec.CommandContext(t.Context(), "go", args...)
}
