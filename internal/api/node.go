package api

import (
	"context"
	"time"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/cluster/balance"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/engine/filter"
	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/tenancy"
	"github.com/croftdb/croft/tenancy/audit"
)

// Node is the floor below, as far as handlers need it. *cluster.Node is one; tests have others that fail on demand.
type Node interface {
	indexReader
	indexWriter
	recordReader
	searcher
	recordWriter
	namespaces
	status
	membership
	placement
	balancer
	mover
	gatekeeper
	tenants
	tiers
	keyring
	auditor
	meter
	isolation
}

// isolation counts what is refused for whose it is, and what is found to be somebody else's.
type isolation interface {
	NoteDenied(d *tenancy.Denial)
	NoteAnswer(to *cluster.Standing, now time.Time, strayed bool)
	TenantName(id tenancy.ID) string
}

// gatekeeper knows of refusals.
type gatekeeper interface {
	Quiet() bool
	Shut(t tenancy.ID, told *tenancy.Receipt) (again time.Duration)
	Knock(ctx context.Context, namespace string, request uint64, told *tenancy.Receipt) error
	Told(request uint64, d time.Duration)
}

var _ Node = (*cluster.Node)(nil)

type indexReader interface {
	Index(name string) (cluster.Index, bool)
	Refresh(ctx context.Context) error
	CatchUp(ctx context.Context) error
	IndexByPort(port int) (cluster.Index, bool)
	Indexes() []cluster.Index
	WatchIndexes(f func([]cluster.Index)) (stop func())
}

type indexWriter interface {
	CreateIndex(ctx context.Context, ix cluster.Index) (cluster.Index, error)
	ConfigureIndex(ctx context.Context, name string, p cluster.IndexPatch) (cluster.Index, error)
	DeleteIndex(ctx context.Context, name string) error
}

type recordReader interface {
	Query(ctx context.Context, ix cluster.Index, namespace string, q *engine.Query, res *engine.Result) (int, error)
	Fetch(ctx context.Context, ix cluster.Index, namespace string, ids []string) ([]engine.Record, error)
	Scan(ctx context.Context, ix cluster.Index, namespace, prefix, after string, f *filter.Expr, limit int) ([]engine.Record, bool, error)
	ScanIDs(ctx context.Context, ix cluster.Index, namespace, prefix, after string, limit int) ([]string, bool, error)
}

type searcher interface {
	Search(ctx context.Context, s cluster.Search) (cluster.SearchAnswer, error)
	SearchSettings() tenancy.Settings
}

type recordWriter interface {
	Upsert(ctx context.Context, ix cluster.Index, namespace string, recs []engine.Record) (cluster.Written, error)
	Update(ctx context.Context, ix cluster.Index, namespace, id string, values []float32, sparse *engine.Sparse, set metadata.Map) (cluster.Written, error)
	UpdateWhere(ctx context.Context, ix cluster.Index, namespace string, f *filter.Expr, set metadata.Map, dryRun bool) (cluster.Written, error)
	Delete(ctx context.Context, ix cluster.Index, namespace string, ids []string) (cluster.Written, error)
	DeleteWhere(ctx context.Context, ix cluster.Index, namespace string, f *filter.Expr) (cluster.Written, error)
	DeleteAll(ctx context.Context, ix cluster.Index, namespace string) (cluster.Written, error)
}

type namespaces interface {
	CreateNamespace(ctx context.Context, ix cluster.Index, name string) (cluster.Namespace, error)
	DeleteNamespace(ctx context.Context, ix cluster.Index, name string) error
	DescribeNamespace(ctx context.Context, ix cluster.Index, name string) (cluster.Namespace, error)
	Namespaces(ctx context.Context, ix cluster.Index, prefix, after string, limit int) ([]cluster.Namespace, bool, int, error)
	IndexStats(ctx context.Context, ix cluster.Index) ([]cluster.Namespace, error)
}

type status interface {
	ClusterID() string
	PeerAddress() string
	Info(ctx context.Context) cluster.Info
	Health(ctx context.Context, verify bool) (cluster.Health, error)
	Ready() []cluster.Check
}

type membership interface {
	NewJoinToken(ctx context.Context, ttl time.Duration) (string, error)
	DrainNode(ctx context.Context, id string) error
	RemoveNode(ctx context.Context, id string, force bool) error
}

type placement interface {
	Rules() cluster.Rules
	SetRules(ctx context.Context, r cluster.Rules) error
	AddShard(ctx context.Context, name string, zones ...string) (int, error)
	BindShard(ctx context.Context, shard int, zones []string) error
	AddSharedShard(ctx context.Context, by string) (int, error)
	DrainShard(ctx context.Context, id int, by string) error
	KeepShard(ctx context.Context, id int) error
	RemoveShard(ctx context.Context, id int) error
}

type mover interface {
	MoveTenant(ctx context.Context, tenant string, to int, o cluster.MoveOptions) (cluster.Migration, error)
	Migrations(ctx context.Context, f cluster.MigrationFilter) ([]cluster.Migration, error)
	Migration(ctx context.Context, id uint64) (cluster.Migration, error)
	CancelMigration(ctx context.Context, id uint64) (cluster.Migration, error)
	RollbackMigration(ctx context.Context, id uint64) (cluster.Migration, error)
}

type balancer interface {
	PlanRebalance(ctx context.Context) (*cluster.RebalancePlan, error)
	Rebalance(ctx context.Context, by string, windowed bool) (cluster.Run, error)
	AbortRebalance(ctx context.Context) (cluster.Run, error)
	Rebalancing(ctx context.Context) ([]cluster.Run, error)
	BalanceRules() cluster.BalanceRules
	SetBalanceRules(ctx context.Context, r cluster.BalanceRules) error
	Capacity(ctx context.Context, tenants int, vectors uint64) (*balance.Report, error)
}

type tenants interface {
	Standing(namespace string) cluster.Standing
	CreateTenant(ctx context.Context, name string, shard int, plan cluster.Plan) (cluster.Tenant, error)
	DescribeTenant(ctx context.Context, name string) (cluster.Tenant, error)
	Tenants(prefix, after string, limit int) (page []cluster.Tenant, more bool, total int)
	DeletedTenants() []cluster.Tenant
	SetTenant(ctx context.Context, name string, c cluster.TenantChange) (cluster.Tenant, error)
	OverrideTenant(ctx context.Context, name string, o tenancy.Override) (cluster.Tenant, error)
	DeleteTenant(ctx context.Context, name string) (cluster.Tenant, error)
	UndeleteTenant(ctx context.Context, name, id, as string) (cluster.Tenant, error)
}

type meter interface {
	Usage(ctx context.Context, q cluster.UsageReport) (all []cluster.UsedBy, more bool, err error)
	Prices() tenancy.Prices
	SetPrices(ctx context.Context, p tenancy.Prices) error
	TenantLoads(ctx context.Context, limit int) (all []cluster.TenantLoad, silent []string, err error)
	TenantCache(ctx context.Context, name string, invalidate bool) (nodes map[string]tenancy.CacheStats, silent []string, err error)
}

type tiers interface {
	Tiers() []cluster.Tier
	DescribeTier(ctx context.Context, name string) (cluster.Tier, error)
	SetTier(ctx context.Context, name string, create bool, limits tenancy.Change) (cluster.Tier, error)
	DeleteTier(ctx context.Context, name string) error
	CreatesOnWrite() bool
	SetCreatesOnWrite(ctx context.Context, on bool) error
}

type keyring interface {
	Key(id string) (tenancy.Key, bool)
	Keys(q cluster.KeyQuery) (page []tenancy.Key, more bool, total int)
	KeysUsed(ctx context.Context, ids []string) map[string]time.Time
	AddKey(ctx context.Context, k tenancy.Key) error
	RevokeKey(ctx context.Context, id string) error
}

type auditor interface {
	Begin(e audit.Event) (number uint64, err error)
	Record(e audit.Event, begun uint64, void bool) error
	Refuse(e audit.Event)
	AuditEvents(ctx context.Context, q audit.Query) (events []audit.Event, more bool, silent []string, err error)
	VerifyAudit(ctx context.Context) (reports []audit.Report, silent []string, err error)
}
