package movemodel

// Fault is a change that breaks the protocol, for tests of the model itself.
type Fault string

// Faults.
const (
	None                Fault = ""
	FlipBeforeDrain     Fault = "flip-before-drain"    // the home is flipped once the source is fenced, without the rest of its log
	TombstonesForgotten Fault = "forgotten-tombstones" // deletes do not travel, and no digest tells
	GetOrCreate         Fault = "get-or-create"        // the note of a tenant that left goes with its copy, and a late write makes the tenant anew
	OnceForgotten       Fault = "forgotten-once"       // what was done once is not kept in the tail, and no digest tells
	AbortUnnoted        Fault = "abort-unnoted"        // an abort begins with its orders, not with an entry of the metadata plane
	AttemptUnchecked    Fault = "attempt-unchecked"    // the metadata plane flips for an attempt that was given up
	AttemptLeftOpen     Fault = "attempt-left-open"    // a new attempt does not use up the one before at the source
	UnfenceLeavesOpen   Fault = "unfence-leaves-open"  // an unfence does not use up its attempt
	StageWhereEmpty     Fault = "stage-where-empty"    // a tenant that is at home without a record may be staged
	TailUnreadies       Fault = "tail-unreadies"       // a tail that comes after both sides were compared has them compared anew
	FencedReadsUnasked  Fault = "fenced-reads-unasked" // a fenced source answers without asking the metadata plane
	FenceLiftedAlone    Fault = "fence-lifted-alone"   // a source that hears nothing of the flip lifts the fence, and uses the attempt up, without an entry of the metadata plane
	LeaseOutlived       Fault = "lease-outlived"       // a leader that was cut off reads on, while its group has another
)

// sumsUp is what a digest tells of a content under the fault: nothing of what is forgotten.
func (f Fault) sumsUp(c content) content {
	switch f {
	case TombstonesForgotten:
		c.records = [keys]record{}
	case OnceForgotten:
		c.once = 0
	}
	return c
}
