package cluster

import (
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// RecoveryPlan says how the cluster goes on after nodes were lost for ever. It is made once, from what all survivors have, and
// is the same for all of them.
type RecoveryPlan struct {
	Format    int             `json:"format"`
	ID        string          `json:"id"`
	ClusterID string          `json:"cluster_id"`
	At        time.Time       `json:"at"`
	Survivors []string        `json:"survivors"`
	Lost      []InspectedNode `json:"lost"`
	Groups    []GroupPlan     `json:"groups"`
}

// GroupPlan is what becomes of one group.
type GroupPlan struct {
	Shard int    `json:"shard"` // or MetadataGroup
	Fate  string `json:"fate"`
	Keep  string `json:"keep,omitempty"` // the node whose replica the group goes on with
	Voter bool   `json:"voter"`          // whether that replica had a vote
	Term  uint64 `json:"term,omitempty"` // in which it goes on

	Last     uint64    `json:"last"`
	LastTerm uint64    `json:"last_term"`
	LastAt   time.Time `json:"last_at,omitzero"`
	Marker   uint64    `json:"marker"`
	Voters   []string  `json:"voters,omitempty"`   // before
	Replicas []string  `json:"replicas,omitempty"` // where the shard is wanted from now on, if the metadata plane is kept
}

// Name is how people call the group.
func (g *GroupPlan) Name() string { return groupTitle(g.Shard) }

// Fates of a group.
const (
	FateStands  = "stands"  // the survivors have a majority: nothing is to be done
	FateKept    = "kept"    // it goes on with one replica
	FateLost    = "lost"    // no survivor has a replica, and nothing is done
	FateEmptied = "emptied" // no survivor has a replica, and it begins anew without data
)

// PlanOptions say what a plan may do.
type PlanOptions struct {
	// GiveUpShards lets shards of which no survivor has a replica begin anew, without data.
	GiveUpShards bool
}

// PlanRecovery decides how the cluster goes on with the nodes that were inspected: all others count as lost for ever.
// FailedPrecondition: there is nothing to do, or shards would be lost and may not.
func PlanRecovery(survivors []*Inspection, opts PlanOptions) (*RecoveryPlan, error) {
	if err := checkInspections(survivors); err != nil {
		return nil, err
	}
	p := &RecoveryPlan{Format: recoverFormat, ID: newName(8), ClusterID: survivors[0].ClusterID, At: time.Now().UTC()}
	for _, in := range survivors {
		p.Survivors = append(p.Survivors, in.NodeID)
	}
	slices.Sort(p.Survivors)
	meta := p.group(survivors, MetadataGroup)
	if meta.Fate == FateLost {
		return nil, errs.New(errs.FailedPrecondition, "no survivor has the metadata plane").WithHint("restore the cluster from a backup")
	}
	p.Groups = append(p.Groups, meta)
	newest := newestMetadata(survivors)
	for _, m := range newest.Members {
		if !slices.Contains(p.Survivors, m.ID) {
			p.Lost = append(p.Lost, m)
		}
	}
	for _, shard := range newest.Shards {
		p.Groups = append(p.Groups, p.group(survivors, shard))
	}
	if meta.Fate == FateKept {
		p.placeShards(newest, opts)
	}
	return p, p.check(opts)
}

func checkInspections(survivors []*Inspection) error {
	if len(survivors) == 0 {
		return errs.New(errs.Invalid, "there are no survivors to make a plan of")
	}
	first := survivors[0]
	seen := map[string]bool{}
	for _, in := range survivors {
		switch {
		case in.Format != recoverFormat:
			return errs.New(errs.FailedPrecondition, "the inspection of node %s has format %d, this version reads %d", in.NodeID, in.Format, recoverFormat)
		case in.ClusterID != first.ClusterID:
			return errs.New(errs.Invalid, "nodes %s and %s are of different clusters", first.NodeID, in.NodeID)
		case seen[in.NodeID]:
			return errs.New(errs.Invalid, "node %s is there twice", in.NodeID)
		}
		seen[in.NodeID] = true
	}
	return nil
}

// group decides about one group.
func (p *RecoveryPlan) group(survivors []*Inspection, shard int) GroupPlan {
	g := GroupPlan{Shard: shard, Fate: FateLost}
	var best *Replica
	var term uint64
	var whole []string
	for _, in := range survivors {
		r := in.replica(shard)
		if r.State != ReplicaWhole {
			continue
		}
		whole = append(whole, in.NodeID)
		term = max(term, r.Term, r.LastTerm)
		if best == nil || r.newer(in.NodeID, best, g.Keep) {
			best, g.Keep = r, in.NodeID
		}
	}
	if best == nil {
		return g
	}
	g.Last, g.LastTerm, g.LastAt, g.Marker, g.Voters = best.Last, best.LastTerm, best.LastAt, best.Marker, best.Voters
	there := 0
	for _, v := range g.Voters {
		there += int(boolByte(slices.Contains(whole, v)))
	}
	if there > len(g.Voters)/2 {
		g.Fate, g.Keep = FateStands, ""
		return g
	}
	g.Fate, g.Voter = FateKept, slices.Contains(g.Voters, g.Keep)
	g.Term = termOfRecovery(term, p.chance(g.Shard))
	return g
}

// chance is of the plan and the group.
func (p *RecoveryPlan) chance(shard int) uint32 {
	return codec.CRC(binary.LittleEndian.AppendUint64([]byte(p.ID), uint64(int64(shard))))
}

// newestMetadata is the inspection of the survivor whose metadata is newest; there is one.
func newestMetadata(survivors []*Inspection) (newest *Inspection) {
	for _, in := range survivors {
		r := in.replica(MetadataGroup)
		if r.State == ReplicaWhole && (newest == nil || r.newer(in.NodeID, newest.replica(MetadataGroup), newest.NodeID)) {
			newest = in
		}
	}
	return newest
}

// placeShards says where the shards are wanted from now on: where they were, without the lost nodes, the kept replica first.
func (p *RecoveryPlan) placeShards(kept *Inspection, opts PlanOptions) {
	for i := 1; i < len(p.Groups); i++ {
		g := &p.Groups[i]
		if g.Fate == FateLost {
			if opts.GiveUpShards {
				g.Fate, g.Keep = FateEmptied, p.Groups[0].Keep
				g.Replicas = []string{g.Keep}
			}
			continue
		}
		placed := kept.replica(g.Shard).Placed
		if g.Fate == FateStands {
			placed = slices.Concat(placed, g.Voters)
		} else {
			placed = slices.Concat([]string{g.Keep}, placed)
		}
		for _, id := range placed {
			if slices.Contains(p.Survivors, id) && !slices.Contains(g.Replicas, id) && len(g.Replicas) < maxReplicas {
				g.Replicas = append(g.Replicas, id)
			}
		}
	}
}

// check refuses plans that do nothing, or too much.
func (p *RecoveryPlan) check(opts PlanOptions) error {
	var gone []string
	idle := true
	for i := range p.Groups {
		switch g := &p.Groups[i]; g.Fate {
		case FateLost:
			gone = append(gone, g.Name())
		case FateKept, FateEmptied:
			idle = false
		}
	}
	switch {
	case len(gone) > 0 && p.Groups[0].Fate == FateKept:
		return errs.New(errs.FailedPrecondition, "no survivor has a replica of %s: what is in there would be lost", strings.Join(gone, ", ")).
			WithHint("if another node's data directory can still be read, inspect it too and plan with all of them; else --give-up-shards lets these shards begin anew, empty")
	case len(gone) > 0 && opts.GiveUpShards:
		return errs.New(errs.FailedPrecondition, "no survivor has a replica of %s, and the metadata plane has a majority", strings.Join(gone, ", ")).
			WithHint("restore a node that has one")
	case idle && len(p.Lost) == 0:
		return errs.New(errs.FailedPrecondition, "no node is lost: %s are all there are", strings.Join(p.Survivors, ", ")).
			WithHint("start them")
	case idle:
		return errs.New(errs.FailedPrecondition, "nothing is to be recovered: every group has a majority among the survivors").
			WithHint("start them, then remove the lost nodes with `croft nodes remove --force NODE`")
	}
	return nil
}

// lostIDs are the ids of the nodes given up.
func (p *RecoveryPlan) lostIDs() []string {
	ids := make([]string, len(p.Lost))
	for i, n := range p.Lost {
		ids[i] = n.ID
	}
	return ids
}

// Removes reports whether the lost nodes are removed from the cluster by the recovery itself; else it is for
// `croft nodes remove` to do, once the cluster runs.
func (p *RecoveryPlan) Removes() bool { return len(p.Groups) > 0 && p.Groups[0].Fate == FateKept }
