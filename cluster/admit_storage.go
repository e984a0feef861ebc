package cluster

import (
	"context"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// Apply decides whether a write fits into its tenant's storage quota, by the limit that was sent through the shard's log
// last: replicas must agree, and none may look at its copy of the metadata for that. The leader sends the limit when a write
// finds another one in force than the metadata tell, and refuses in advance what would be refused anyway, so that it costs no
// entry of the log. Writes that come at the same time may each fit and not all of them: then apply refuses the last.

// checkStorage puts the tenant's limit in force, and reports QuotaExceeded for a command that does not fit.
func (n *Node) checkStorage(ctx context.Context, sh *shard, key engine.Key, command func() (*engine.Command, error)) error {
	s := n.meta.state()
	t, ok := s.tenantByID(key.Tenant)
	if !ok {
		return nil // this node is behind: what was sent before counts
	}
	limit := storageLimit(s.settings(t))
	known, err := sh.engine.StorageLimit(key.Tenant)
	if err != nil {
		return err
	}
	if known != limit {
		if err := sendStorageLimit(ctx, sh, key.Tenant, limit); err != nil {
			return err
		}
	}
	if limit == engine.NoStorageLimit {
		return nil
	}
	c, err := command()
	if err != nil {
		return err
	}
	if err := sh.engine.Fits(c); err != nil {
		return errs.New(errs.KindOf(err), "tenant %q: %w", t.name, err).WithHint("delete records, or ask the operator for a larger quota")
	}
	return nil
}

func storageLimit(s *tenancy.Settings) engine.StorageLimit {
	limit := engine.NoStorageLimit
	if v := s.Get(tenancy.Vectors); v != tenancy.Unlimited {
		limit.Records = uint64(v)
	}
	if v := s.Get(tenancy.StoredBytes); v != tenancy.Unlimited {
		limit.Bytes = uint64(v)
	}
	return limit
}

func sendStorageLimit(ctx context.Context, sh *shard, t engine.TenantID, l engine.StorageLimit) error {
	term, err := sh.settle(ctx)
	if err == nil {
		err = sh.keep(ctx, term, []engine.CostateEntry{engine.StorageLimitEntry(t, l)})
	}
	if errs.Is(err, errs.FailedPrecondition) || errs.Is(err, errs.OutcomeUnknown) { // the write itself has not begun
		return errs.Wrap(errs.Unavailable, err, "put the storage quota in force")
	}
	return err
}
