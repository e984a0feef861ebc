package hnsw_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/anntest"
	"github.com/croftdb/croft/ann/hnsw"
)

// index adapts a graph to the kit.
type index struct{ *hnsw.Graph }

// spread stands for the keyed hash of an id.
func spread(slot uint32) uint64 {
	h := (uint64(slot) + 1) * 0x9E3779B97F4A7C15
	h ^= h >> 29
	h *= 0xBF58476D1CE4E5B9
	return h ^ h>>32
}

func (x index) Insert(slot uint32) error {
	return x.Graph.Insert(context.Background(), slot, hnsw.LevelFor(spread(slot), x.Config().M))
}

func (x index) Delete(slot uint32) { x.Graph.Delete(slot) }

// Reclaim repairs in small steps, so that every pass is interrupted.
func (x index) Reclaim() (all []uint32, err error) {
	for more := true; more && err == nil; {
		var freed []uint32
		freed, more, err = x.Repair(context.Background(), 50)
		all = append(all, freed...)
	}
	return all, err
}

// TestConformance takes vectors of 24 values, for which codes of one bit say little: those are to stay useful.
func TestConformance(t *testing.T) {
	for bits, recall := range map[int]float64{hnsw.NoCodes: 0.97, 1: 0.88, 4: 0.97} {
		if testing.Short() && bits != 4 {
			continue // the race detector learns nothing from other widths
		}
		t.Run(fmt.Sprintf("bits=%d", bits), func(t *testing.T) {
			anntest.Run(t, anntest.Options{
				Recall: recall,
				New: func(_ *testing.T, metric ann.Metric, dim int, src ann.Source) anntest.Index {
					return index{hnsw.New(hnsw.Config{Metric: metric, Dim: dim, M: 8, EfConstruction: 60, Bits: bits, Seed: 3}, src)}
				},
			})
		})
	}
}

// oneGoroutine leaves a test out where only the race detector looks, which takes ten times as long.
func oneGoroutine(t *testing.T) {
	if testing.Short() {
		t.Skip("nothing runs side by side here")
	}
}

// scanned adapts a graph's scan to the kit: each search scans every slot there may be.
type scanned struct{ index }

// all hands out the slots below end that are in a set; nil stands for all.
type all struct {
	next, end uint32
	among     ann.Set
}

func (a *all) NextMany(dst []uint32) (n int) {
	for ; a.next < a.end && n < len(dst); a.next++ {
		if a.among == nil || a.among.Has(a.next) {
			dst[n] = a.next
			n++
		}
	}
	return n
}

func (x scanned) Search(ctx context.Context, req *ann.Request, dst []ann.Candidate) ([]ann.Candidate, error) {
	return x.Scan(ctx, req, &all{end: 10_000, among: req.Among}, dst)
}

// TestScanConformance holds a scan to what an exact index is held to, but for one answer in two hundred.
func TestScanConformance(t *testing.T) {
	oneGoroutine(t)
	for _, bits := range []int{1, 4} {
		t.Run(fmt.Sprintf("bits=%d", bits), func(t *testing.T) {
			anntest.Run(t, anntest.Options{
				Recall: 0.995,
				New: func(_ *testing.T, metric ann.Metric, dim int, src ann.Source) anntest.Index {
					return scanned{index{hnsw.New(hnsw.Config{Metric: metric, Dim: dim, M: 4, EfConstruction: 10, Bits: bits, Seed: 3}, src)}}
				},
			})
		})
	}
}
