package cluster

import (
	"math"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/tenancy"
)

// appendPrices appends what use costs: the currency, and a count and that many prices.
func appendPrices(b []byte, p *tenancy.Prices) []byte {
	b = codec.AppendString(b, p.Currency)
	b = codec.AppendUvarint(b, uint64(len(p.Of)))
	for _, v := range p.Of {
		b = codec.AppendFloat64(b, v)
	}
	return b
}

// readPrices passes over prices that this version does not know.
func readPrices(r *codec.Reader) (p tenancy.Prices) {
	p.Currency = r.String()
	for i := range r.Count(8) {
		if v := math.Float64frombits(r.Uint64()); i < len(p.Of) {
			p.Of[i] = v
		}
	}
	return p
}

func (s *state) setPrices(p tenancy.Prices) error {
	if err := p.Check(); err != nil {
		return err
	}
	s.prices = p
	return nil
}
