package tenancy

import (
	"math"
	"strings"

	"github.com/croftdb/croft/internal/errs"
)

// Price names one price of a cost model. Numbers are on disk: append only.
type Price uint8

// Prices, by what they are for.
const (
	PerMillionQueries   Price = iota
	PerMillionReads           // fetches and lists
	PerMillionWritten         // records stored, changed and removed
	PerMillionReadUnits       // Pinecone's measure
	PerGiBMonth               // stored, of 730 hours
	PerGiBWritten
	PerTiBScanned
	PerComputeHour
	PerShardMonth // of capacity, whatever is used of it
	PerNodeMonth  // as well

	PriceCount
)

var priceNames = [PriceCount]string{
	PerMillionQueries: "million_queries", PerMillionReads: "million_reads", PerMillionWritten: "million_records_written",
	PerMillionReadUnits: "million_read_units", PerGiBMonth: "gib_month", PerGiBWritten: "gib_written", PerTiBScanned: "tib_scanned",
	PerComputeHour: "compute_hour", PerShardMonth: "shard_month", PerNodeMonth: "node_month",
}

func (p Price) String() string { return priceNames[p] }

// AllPrices returns the names of all prices.
func AllPrices() []Price {
	all := make([]Price, PriceCount)
	for p := range all {
		all[p] = Price(p)
	}
	return all
}

// Prices are a cost model: what an operator reckons with for each unit of use. The zero Prices cost nothing.
type Prices struct {
	Currency string // for people, at most maxCurrency bytes
	Of       [PriceCount]float64
}

const (
	maxCurrency = 16
	maxPrice    = 1e9
)

// Check reports prices that cannot be.
func (p *Prices) Check() error {
	if len(p.Currency) > maxCurrency || strings.ContainsFunc(p.Currency, func(r rune) bool { return r < ' ' || r == 0xfffd }) {
		return errs.New(errs.Invalid, "currency %q is no text of up to %d bytes", p.Currency, maxCurrency)
	}
	for i, v := range p.Of {
		if !(v >= 0 && v <= maxPrice) {
			return errs.New(errs.Invalid, "price %s is %v, must be 0 to %v", Price(i), v, maxPrice)
		}
	}
	return nil
}

// Cost is what usage costs, without what is paid for capacity, byteHours being the bytes stored, summed over hours.
func (p *Prices) Cost(u *Usage, byteHours float64) float64 {
	const million, gib, monthHours = 1e6, 1 << 30, 730
	n := func(f Figure) float64 { return float64(u.Counts[f]) }
	amounts := [PriceCount]float64{
		PerMillionQueries: n(Queries) / million, PerMillionReads: n(Reads) / million, PerMillionWritten: (n(Upserted) + n(Deleted)) / million,
		PerMillionReadUnits: n(ReadUnits) / million, PerGiBMonth: byteHours / gib / monthHours, PerGiBWritten: n(WrittenBytes) / gib,
		PerTiBScanned: n(ScannedBytes) / gib / 1024, PerComputeHour: n(ComputeNanos) / 3600e9,
	}
	sum := 0.0
	for i, amount := range amounts {
		sum += amount * p.Of[i]
	}
	return math.Round(sum*1e6) / 1e6
}
