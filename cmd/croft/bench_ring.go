package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/cluster"
)

func (a *app) benchRingCommand() *cobra.Command {
	var (
		shards  = []int{5, 16, 64, 256, 1000}
		tenants = []int{1000, 10_000, 100_000, 1_000_000}
		seed    uint64
	)
	cmd := &cobra.Command{
		Use:   "ring",
		Short: "Measure how the ring spreads tenants over shards, and how many move when one is added",
		Long: `Lays out rings, puts tenants with random ids on them and adds a shard. Beside each figure stands what theory says: given the
slots of each shard, tenants are a random sample; a shard added to N takes 1/(N+1) of all tenants, and from all others nothing.
WITHIN says whether everything is within 3 standard deviations and no shard has more slots than the bound. No server is needed.`,
		Example: `  croft bench ring
  croft bench ring --shards 5,1000 --tenants 100000 --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			rows, err := cluster.MeasureRing(shards, tenants, seed)
			if err != nil {
				return &usageError{err: err}
			}
			return a.printRing(rows, seed)
		},
	}
	f := cmd.Flags()
	f.IntSliceVar(&shards, "shards", shards, "numbers of shards, 2 to 8192")
	f.IntSliceVar(&tenants, "tenants", tenants, "numbers of tenants")
	f.Uint64Var(&seed, "seed", 1, "seed of the tenants' ids")
	return cmd
}

func (a *app) printRing(rows []cluster.RingSpread, seed uint64) error {
	type report struct {
		Slots int                  `json:"slots"`
		Seed  uint64               `json:"seed"`
		Rows  []cluster.RingSpread `json:"rows"`
	}
	l := listing{
		value: report{cluster.Slots, seed, rows}, items: itemsOf(rows),
		header: []string{"SHARDS", "TENANTS", "MEAN", "MIN", "MAX", "STDDEV", "THEORY", "SIGMAS", "SLOTS", "BOUND", "AT BOUND", "MOVED", "THEORY", "SIGMAS", "WITHIN"},
	}
	outside := 0
	for _, r := range rows {
		within := "yes"
		if !r.Within {
			within = "NO"
			outside++
		}
		l.rows = append(l.rows, []string{
			strconv.Itoa(r.Shards), thousands(r.Tenants), fmt.Sprintf("%.1f", r.Mean), thousands(r.Min), thousands(r.Max),
			fmt.Sprintf("%.1f", r.Stddev), fmt.Sprintf("%.1f", r.StddevExpected), fmt.Sprintf("%+.1f", r.SpreadSigmas),
			fmt.Sprintf("%d-%d", r.SlotsMin, r.SlotsMax), strconv.Itoa(r.SlotsBound), strconv.Itoa(r.SlotsAtBound),
			percent(r.Moved), percent(r.MovedExpected), fmt.Sprintf("%+.1f", r.MovedSigmas), within,
		})
	}
	if err := a.print(l); err != nil {
		return err
	}
	a.note("%s slots, seed %d: %d of %s within 3 sigma", thousands(cluster.Slots), seed, len(rows)-outside, counted(len(rows), "row"))
	return nil
}

func percent(share float64) string { return fmt.Sprintf("%.3f %%", 100*share) }
