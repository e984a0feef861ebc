package cluster

import (
	"context"
	"slices"
)

// catchUp is how many entries a learner may lack and still get its vote: fewer than arrive while it is promoted.
const catchUp = 64

// change is the next step that brings a group's configuration to the nodes that are wanted.
type change struct {
	op   changeOp
	node string
}

type changeOp uint8

const (
	changeNone     changeOp = iota
	changeWait              // something is on its way
	changeLearner           // add node without a vote
	changeVoter             // give node its vote
	changeRemove            // take node out
	changeTransfer          // hand leadership to node
)

// situation is what a leader knows of its group when it decides on a change: nothing else is looked at.
type situation struct {
	self     string
	wanted   []string               // voters, the preferred leader first
	learners []string               // besides: nodes that only get the log
	own      groupStatus            // of the leader
	others   map[string]groupStatus // replicas that answered
}

// next returns the next step. One step is not begun before all voters that can be reached know of the one before: if
// only the leader and a minority knew, the loss of the leader could leave a group that elects nobody.
func (c *situation) next() change {
	if !c.known() {
		return change{op: changeWait}
	}
	if next := c.forgetful(); next.op != changeNone {
		return next
	}
	members := slices.Concat(c.own.Voters, c.own.Learners)
	for _, node := range slices.Concat(c.wanted, c.learners) {
		if !slices.Contains(members, node) {
			return change{changeLearner, node}
		}
	}
	waiting := false
	for _, node := range c.wanted {
		if !slices.Contains(c.own.Learners, node) {
			continue
		}
		if c.caughtUp(node) {
			return change{changeVoter, node}
		}
		waiting = true
	}
	if waiting {
		return change{op: changeWait}
	}
	if next := c.removal(members); next.op != changeNone {
		return next
	}
	if first := c.wanted[0]; first != c.self && c.caughtUp(first) {
		return change{changeTransfer, first}
	}
	return change{}
}

// forgetful takes the vote from a node that has lost its replica, and with it what it has promised and acknowledged: only
// then may it begin another.
func (c *situation) forgetful() change {
	for _, node := range c.own.Lost {
		switch {
		case !slices.Contains(c.own.Voters, node):
		case c.canLose(node):
			return change{changeRemove, node}
		default:
			return change{op: changeWait}
		}
	}
	return change{}
}

// removal takes out a node that is not wanted, once those that are can decide without it. The leader itself goes last,
// by handing over.
func (c *situation) removal(members []string) change {
	for _, node := range members {
		kept := slices.Contains(c.wanted, node) || slices.Contains(c.learners, node) && !slices.Contains(c.own.Voters, node)
		if kept || node == c.self {
			continue
		}
		if !slices.Contains(c.own.Voters, node) || c.canLose(node) {
			return change{changeRemove, node}
		}
		return change{op: changeWait}
	}
	if slices.Contains(c.wanted, c.self) {
		return change{}
	}
	for _, node := range c.wanted {
		if c.caughtUp(node) {
			return change{changeTransfer, node}
		}
	}
	return change{op: changeWait}
}

// known reports whether all voters that answered have the leader's configuration.
func (c *situation) known() bool {
	for node, o := range c.others {
		votes := slices.Contains(c.own.Voters, node)
		if votes && !slices.Equal(o.Voters, c.own.Voters) || votes && !slices.Equal(o.Learners, c.own.Learners) {
			return false
		}
	}
	return true
}

// caughtUp reports whether a replica lacks few entries, and those are in the leader's log: an empty replica of a short log
// that was trimmed lacks few, and needs a checkpoint all the same.
func (c *situation) caughtUp(node string) bool {
	if node == c.self {
		return true
	}
	o, ok := c.others[node]
	reached := o.Last+1 >= c.own.First && !slices.Contains(c.own.Behind, node)
	return ok && reached && o.Last+catchUp >= c.own.Last && o.Applied+catchUp >= c.own.Commit
}

// canLose reports whether most of the voters that remain without node are there and caught up.
func (c *situation) canLose(node string) bool {
	rest, there := 0, 0
	for _, v := range c.own.Voters {
		if v == node {
			continue
		}
		rest++
		if c.caughtUp(v) {
			there++
		}
	}
	return there > rest/2
}

// carryOut makes a change.
func (g *group) carryOut(ctx context.Context, c change) error {
	switch c.op {
	case changeLearner:
		return g.addLearner(ctx, c.node)
	case changeVoter:
		return g.addVoter(ctx, c.node)
	case changeRemove:
		return g.removeServer(ctx, c.node)
	case changeTransfer:
		return g.transfer(ctx, c.node)
	default:
		return nil
	}
}

func (o changeOp) String() string {
	return [...]string{"none", "wait", "add learner", "add voter", "remove", "hand over"}[o]
}
