package cluster

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/tenancy"
)

func TestSharesTravel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		amount := rapid.Int64Range(0, tenancy.Unlimited)
		batch := rapid.SliceOf(rapid.Custom(func(t *rapid.T) tenancy.Borrowing {
			return tenancy.Borrowing{
				Tenant: tenancy.ID(drawKey(t).Tenant), Shard: rapid.Uint16().Draw(t, "shard"), Have: amount.Draw(t, "have"), Hourly: rapid.Bool().Draw(t, "hourly"),
			}
		})).Draw(t, "asked")
		read, err := readBorrowings(codec.NewReader(appendBorrowings(nil, batch)))
		require.NoError(t, err)
		require.ElementsMatch(t, batch, read)

		loans := make([]*tenancy.Loan, len(batch))
		for i := range loans {
			if rapid.Bool().Draw(t, "lent") {
				loans[i] = &tenancy.Loan{
					Requests: amount.Draw(t, "requests"), Lease: amount.Draw(t, "lease"), For: time.Duration(amount.Draw(t, "for")),
					Spent: time.Duration(amount.Draw(t, "spent")), Told: drawReceipt(t),
				}
			}
		}
		back, err := readLoans(codec.NewReader(appendLoans(nil, loans)), len(loans))
		require.NoError(t, err)
		require.Equal(t, loans, back)
	})
}

// FuzzShares: what comes from another node is read or refused.
func FuzzShares(f *testing.F) {
	f.Add(appendBorrowings(nil, []tenancy.Borrowing{{Shard: 3, Have: 7, Hourly: true}}))
	f.Add(appendLoans(nil, []*tenancy.Loan{nil, {Requests: 5, Lease: 7, For: time.Second}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if batch, err := readBorrowings(codec.NewReader(b)); err == nil {
			require.LessOrEqual(t, len(batch), len(b))
			again, err := readBorrowings(codec.NewReader(appendBorrowings(nil, batch)))
			require.NoError(t, err)
			require.Equal(t, batch, again)
		}
		if loans, err := readLoans(codec.NewReader(b), 2); err == nil {
			again, err := readLoans(codec.NewReader(appendLoans(nil, loans)), 2)
			require.NoError(t, err)
			require.Equal(t, loans, again)
		}
	})
}
