package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/engine/filter"
	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
	"github.com/croftdb/croft/tenancy"
)

// testOptions make a small node that starts fast.
func testOptions(dir string) Options {
	return Options{
		Dir: dir, Shards: 3, DiskReserve: -1, Logger: testLogger(), SegmentSize: 64 << 10, RaftTick: 10 * time.Millisecond,
		Engine: engine.Options{BuildThreads: 1},
	}
}

func openNode(t testing.TB, opts Options) *Node {
	n, err := Open(t.Context(), opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n
}

func createIndex(t testing.TB, n *Node, name string) Index {
	ix, err := n.CreateIndex(t.Context(), Index{Name: name, Dim: 2, Metric: ann.Euclidean})
	require.NoError(t, err)
	return ix
}

// record has x as its id, as its vector and in its metadata.
func record(t testing.TB, x int) engine.Record {
	m, err := metadata.Make(metadata.Field{Key: "x", Value: metadata.NumberValue(float64(x))})
	require.NoError(t, err)
	return engine.Record{ID: fmt.Sprintf("id%04d", x), Values: []float32{float32(x), 0}, Metadata: m}
}

func upsert(t testing.TB, n *Node, ix Index, namespace string, xs ...int) Written {
	recs := make([]engine.Record, len(xs))
	for i, x := range xs {
		recs[i] = record(t, x)
	}
	w, err := n.Upsert(t.Context(), ix, namespace, recs)
	require.NoError(t, err)
	require.Equal(t, len(xs), w.Affected)
	return w
}

func parseFilter(t testing.TB, s string) *filter.Expr {
	f, err := filter.Parse([]byte(s))
	require.NoError(t, err)
	return f
}

func scanIDs(t testing.TB, n *Node, ix Index, namespace string) []string {
	ids, more, err := n.ScanIDs(t.Context(), ix, namespace, "", "", 1000)
	require.NoError(t, err)
	require.False(t, more)
	return ids
}

func TestNodeKeepsDataOverRestart(t *testing.T) {
	opts := testOptions(t.TempDir())
	n, err := Open(t.Context(), opts)
	require.NoError(t, err)
	ix := createIndex(t, n, "dense")
	require.Equal(t, 1, ix.Port)
	require.False(t, ix.CreatedAt.IsZero())
	shards := map[string]int{}
	for _, ns := range []string{DefaultNamespace, "a", "zürich/..", "c"} {
		shards[ns] = upsert(t, n, ix, ns, 1, 2, 3).Shard
	}
	_, key := tenancy.NewKey("test", tenancy.RoleAdmin, time.Unix(1, 0).UTC())
	require.NoError(t, n.AddKey(t.Context(), key))
	require.True(t, errs.Is(n.AddKey(t.Context(), key), errs.AlreadyExists))
	info := n.Info(t.Context())
	require.Empty(t, n.Ready())
	require.NoError(t, n.Close())
	require.NoError(t, n.Close(), "twice is no harm")
	_, err = n.Upsert(t.Context(), ix, "a", []engine.Record{record(t, 1)})
	require.True(t, errs.Is(err, errs.Unavailable), "%v", err)

	opts.Shards = 99 // an existing directory keeps its own number
	n = openNode(t, opts)
	again, ok := n.Index("dense")
	require.True(t, ok)
	require.Equal(t, ix, again)
	byPort, _ := n.IndexByPort(1)
	require.Equal(t, ix, byPort)
	for ns, shard := range shards {
		require.Equal(t, []string{"id0001", "id0002", "id0003"}, scanIDs(t, n, ix, ns))
		var res engine.Result
		asked, err := n.Query(t.Context(), ix, ns, &engine.Query{Vector: []float32{3, 0}, K: 1}, &res)
		require.NoError(t, err)
		require.Equal(t, shard, asked, "a tenant stays on its shard")
		require.Equal(t, "id0003", res.Matches[0].ID)
	}
	got, ok := n.Key(key.ID)
	require.True(t, ok)
	require.Equal(t, key, got)
	require.Equal(t, 1, n.KeyCount())
	require.Equal(t, info.ClusterID, n.Info(t.Context()).ClusterID)
	require.Equal(t, info.NodeID, n.Info(t.Context()).Shards[0].Leader)
	require.Len(t, n.Info(t.Context()).Shards, 3)
	require.Empty(t, n.Ready())
}

func TestDirectoryIsGuarded(t *testing.T) {
	opts := testOptions(t.TempDir())
	n, err := Open(t.Context(), opts)
	require.NoError(t, err)
	_, err = Open(t.Context(), opts)
	require.True(t, errs.Is(err, errs.FailedPrecondition), "%v", err)
	require.ErrorContains(t, err, "locked")
	require.NoError(t, n.Close())

	path := identityPath(opts.Dir)
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	refused := func(contents, want string) {
		t.Helper()
		require.NoError(t, os.WriteFile(path, []byte(contents), 0o600))
		_, err := Open(t.Context(), opts)
		require.ErrorContains(t, err, want)
	}
	refused(strings.Replace(string(good), `"format": 1`, `"format": 2`, 1), "format 2")
	refused("{", "node.json")
	refused(`{"format":1}`, "incomplete")
	var id identity
	require.NoError(t, json.Unmarshal(good, &id))
	refused(strings.Replace(string(good), id.ClusterID, "other", 1), "belongs to")
	require.NoError(t, os.Remove(path))
	_, err = Open(t.Context(), opts)
	require.ErrorContains(t, err, "no node.json")
	require.NoError(t, os.WriteFile(path, good, 0o600))

	one, two := shardDir(opts.Dir, 0, 1), shardDir(opts.Dir, 1, 1)
	swap := func() {
		require.NoError(t, os.Rename(one, opts.Dir+"/x"))
		require.NoError(t, os.Rename(two, one))
		require.NoError(t, os.Rename(opts.Dir+"/x", two))
	}
	swap()
	_, err = Open(t.Context(), opts)
	require.ErrorContains(t, err, "belongs to")
	swap()
	require.NoError(t, os.RemoveAll(raftDir(one)))
	_, err = Open(t.Context(), opts)
	require.ErrorContains(t, err, "is gone", "a lost log is not replaced by an empty one")
}

func TestInterruptedCreation(t *testing.T) {
	opts := testOptions(t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Open(ctx, opts)
	require.True(t, errs.Is(err, errs.Canceled), "%v", err)
	n := openNode(t, opts)
	upsert(t, n, createIndex(t, n, "i"), "ns", 1)
}

// TestHalfBootstrapped finds what a crash leaves between the two writes of a bootstrap.
func TestHalfBootstrapped(t *testing.T) {
	opts := testOptions(t.TempDir())
	require.NoError(t, vfs.OS().MkdirAll(opts.Dir))
	_, err := loadIdentity(vfs.OS(), opts.Dir, opts.Shards, false)
	require.NoError(t, err)
	l := testLog(t, raftDir(shardDir(opts.Dir, 1, 1)))
	require.NoError(t, l.SetUint64([]byte("CurrentTerm"), 1))
	require.NoError(t, l.Close())
	n := openNode(t, opts)
	require.Empty(t, n.Ready())
}

func TestWrites(t *testing.T) {
	n := openNode(t, testOptions(t.TempDir()))
	ctx := t.Context()
	ix := createIndex(t, n, "i")
	upsert(t, n, ix, "ns", 1, 2, 3, 4, 5)

	w, err := n.Update(ctx, ix, "ns", "id0001", []float32{9, 9}, nil, nil)
	require.NoError(t, err)
	require.Equal(t, 1, w.Affected)
	recs, err := n.Fetch(ctx, ix, "ns", []string{"id0001", "nope"})
	require.NoError(t, err)
	require.Len(t, recs, 1)
	require.Equal(t, []float32{9, 9}, recs[0].Values)

	set, err := metadata.Make(metadata.Field{Key: "y", Value: metadata.BoolValue(true)})
	require.NoError(t, err)
	atLeast3 := parseFilter(t, `{"x":{"$gte":3}}`)
	w, err = n.UpdateWhere(ctx, ix, "ns", atLeast3, set, true)
	require.NoError(t, err)
	require.Equal(t, 3, w.Affected)
	recs, _, err = n.Scan(ctx, ix, "ns", "", "", parseFilter(t, `{"y":true}`), 10)
	require.NoError(t, err)
	require.Empty(t, recs, "a dry run changes nothing")
	w, err = n.UpdateWhere(ctx, ix, "ns", atLeast3, set, false)
	require.NoError(t, err)
	require.Equal(t, 3, w.Affected)
	w, err = n.DeleteWhere(ctx, ix, "ns", parseFilter(t, `{"y":true}`))
	require.NoError(t, err)
	require.Equal(t, 3, w.Affected)
	w, err = n.Delete(ctx, ix, "ns", []string{"id0002", "nope"})
	require.NoError(t, err)
	require.Equal(t, 1, w.Affected)
	require.Equal(t, []string{"id0001"}, scanIDs(t, n, ix, "ns"))
	_, err = n.DeleteAll(ctx, ix, "ns")
	require.NoError(t, err)
	require.Empty(t, scanIDs(t, n, ix, "ns"))
}

func TestMissingNamespace(t *testing.T) {
	n := openNode(t, testOptions(t.TempDir()))
	ctx := t.Context()
	ix := createIndex(t, n, "i")
	other := createIndex(t, n, "other")
	upsert(t, n, other, "elsewhere", 1) // a tenant, but not in ix
	for _, ns := range []string{"nobody", "elsewhere"} {
		for name, write := range map[string]func() (Written, error){
			"delete":       func() (Written, error) { return n.Delete(ctx, ix, ns, []string{"a"}) },
			"delete all":   func() (Written, error) { return n.DeleteAll(ctx, ix, ns) },
			"delete where": func() (Written, error) { return n.DeleteWhere(ctx, ix, ns, nil) },
			"update":       func() (Written, error) { return n.Update(ctx, ix, ns, "a", []float32{1, 2}, nil, nil) },
			"update where": func() (Written, error) { return n.UpdateWhere(ctx, ix, ns, nil, nil, false) },
		} {
			_, err := write()
			require.True(t, errs.Is(err, errs.NotFound), "%s: %v", name, err)
		}
		require.True(t, errs.Is(n.DeleteNamespace(ctx, ix, ns), errs.NotFound))
		_, err := n.DescribeNamespace(t.Context(), ix, ns)
		require.True(t, errs.Is(err, errs.NotFound))
		res := engine.Result{Matches: make([]engine.Match, 3), Plan: engine.PlanFlat, Scanned: 4, Version: 5}
		_, err = n.Query(ctx, ix, ns, &engine.Query{Vector: []float32{1, 2}, K: 1}, &res)
		require.NoError(t, err)
		require.Empty(t, res.Matches)
		require.Equal(t, engine.PlanEmpty, res.Plan)
		require.Empty(t, scanIDs(t, n, ix, ns))
		recs, err := n.Fetch(ctx, ix, ns, []string{"a"})
		require.NoError(t, err)
		require.Empty(t, recs)
	}
	_, err := n.Delete(ctx, ix, DefaultNamespace, []string{"a"})
	require.NoError(t, err, "the default namespace always exists")
	d, err := n.DescribeNamespace(t.Context(), ix, DefaultNamespace)
	require.NoError(t, err)
	require.Zero(t, d.Stats.Records)
	require.NoError(t, n.DeleteNamespace(ctx, ix, DefaultNamespace))
}

func TestNamespaces(t *testing.T) {
	n := openNode(t, testOptions(t.TempDir()))
	ctx := t.Context()
	ix := createIndex(t, n, "i")
	for i := range 9 {
		upsert(t, n, ix, fmt.Sprintf("ns%d", i), 1, 2)
	}
	created, err := n.CreateNamespace(ctx, ix, "empty")
	require.NoError(t, err)
	require.Equal(t, "empty", created.Name)
	for _, name := range []string{"empty", "ns1", DefaultNamespace} {
		_, err = n.CreateNamespace(ctx, ix, name)
		require.True(t, errs.Is(err, errs.AlreadyExists), "%s: %v", name, err)
	}
	page, more, total, err := n.Namespaces(t.Context(), ix, "ns", "ns2", 3)
	require.NoError(t, err)
	require.Equal(t, []string{"ns3", "ns4", "ns5"}, names(page))
	require.True(t, more)
	require.Equal(t, 9, total)
	require.Equal(t, uint64(2), page[0].Stats.Records)
	page, more, total, err = n.Namespaces(t.Context(), ix, "", "ns5", 3)
	require.NoError(t, err)
	require.Equal(t, []string{"ns6", "ns7", "ns8"}, names(page))
	require.False(t, more)
	require.Equal(t, 10, total)
	stats, err := n.IndexStats(ctx, ix)
	require.NoError(t, err)
	require.Equal(t, "ns0 ns1 ns2 ns3 ns4 ns5 ns6 ns7 ns8", strings.Join(names(stats), " "))

	require.NoError(t, n.DeleteNamespace(ctx, ix, "ns1"))
	_, err = n.DescribeNamespace(t.Context(), ix, "ns1")
	require.True(t, errs.Is(err, errs.NotFound))
	upsert(t, n, ix, "ns1", 7)
	require.Equal(t, []string{"id0007"}, scanIDs(t, n, ix, "ns1"), "a later upsert makes it anew")
}

func names(page []Namespace) []string {
	var ns []string
	for _, p := range page {
		ns = append(ns, p.Name)
	}
	return ns
}

func TestNamespaceNames(t *testing.T) {
	n := openNode(t, testOptions(t.TempDir()))
	ix := createIndex(t, n, "i")
	before := files(t, n.opts.Dir)
	for _, name := range []string{"..", "/", `a\b`, "CON", "a\nb", "\u202e", "é", "e\u0301", strings.Repeat("x", 512), "%2e%2e"} {
		upsert(t, n, ix, name, 1)
		require.Equal(t, []string{"id0001"}, scanIDs(t, n, ix, name))
	}
	_, _, total, err := n.Namespaces(t.Context(), ix, "", "", 0)
	require.NoError(t, err)
	require.Equal(t, 10, total)
	require.Equal(t, before, files(t, n.opts.Dir), "no name becomes a path")
	for _, name := range []string{"", "a\x00b", "\xff", strings.Repeat("x", 513)} {
		_, err := n.Upsert(t.Context(), ix, name, []engine.Record{record(t, 1)})
		require.True(t, errs.Is(err, errs.Invalid), "%q: %v", name, err)
	}
}

// files lists the directories below dir and counts the files.
func files(t *testing.T, dir string) (dirs []string) {
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	}))
	return dirs
}

// TestGraphSettings follows an index's settings of its graphs: defaults are written down, all reach the shards but the
// target recall, which each query brings along and which alone can be changed.
func TestGraphSettings(t *testing.T) {
	dir := t.TempDir()
	n := openNode(t, testOptions(dir))
	ctx := t.Context()
	plain := createIndex(t, n, "plain")
	require.Equal(t, []int{16, 200, 0, 0}, []int{plain.M, plain.EfConstruction, plain.EfSearch, plain.Bits})
	require.Equal(t, float32(engine.DefaultRecall), plain.TargetRecall)
	for _, ix := range []Index{
		{Name: "least", Dim: 2, Metric: ann.Cosine, M: minLinks, EfConstruction: 1, Bits: engine.NoCodes, TargetRecall: MinRecall},
		{Name: "most", Dim: maxDim, Metric: ann.Euclidean, M: maxLinks, EfConstruction: maxEf, EfSearch: maxEf, Bits: 8, TargetRecall: MaxRecall},
		{Name: "sparse", Sparse: true, Metric: ann.DotProduct},
	} {
		made, err := n.CreateIndex(ctx, ix)
		require.NoError(t, err)
		ix.ID, ix.Port, ix.CreatedAt = made.ID, made.Port, made.CreatedAt
		require.Equal(t, ix, made)
		schema, ok := n.replica(0).engine.Schema(made.ID)
		require.True(t, ok, "the shards take what the metadata plane takes")
		require.Equal(t, made.schema(), schema)
	}

	for _, r := range []float32{1, 0.1, -1, float32(math.NaN())} {
		_, err := n.ConfigureIndex(ctx, "plain", IndexPatch{TargetRecall: r})
		require.True(t, errs.Is(err, errs.Invalid), "%v: %v", r, err)
	}
	_, err := n.ConfigureIndex(ctx, "sparse", IndexPatch{TargetRecall: 0.9})
	require.True(t, errs.Is(err, errs.Invalid), "%v", err)
	plain, err = n.ConfigureIndex(ctx, "plain", IndexPatch{TargetRecall: 0.9})
	require.NoError(t, err)
	upsert(t, n, plain, "ns", 1)
	for _, c := range []struct {
		sent, want engine.Query
	}{
		{engine.Query{}, engine.Query{Recall: 0.9}},
		{engine.Query{Recall: 0.95}, engine.Query{Recall: 0.95}},
		{engine.Query{Ef: 40}, engine.Query{Ef: 40}},
	} {
		q, res := c.sent, engine.Result{}
		q.Vector, q.K = []float32{1, 2}, 1
		_, err := n.Query(ctx, plain, "ns", &q, &res)
		require.NoError(t, err)
		require.Equal(t, []any{c.want.Recall, c.want.Ef}, []any{q.Recall, q.Ef})
	}

	all := n.Indexes()
	require.NoError(t, n.Close())
	n = openNode(t, testOptions(dir))
	require.Equal(t, all, n.Indexes())
}

func TestIndexes(t *testing.T) {
	n := openNode(t, testOptions(t.TempDir()))
	ctx := t.Context()
	for name, ix := range map[string]Index{
		"alphanumeric character": {Name: "-a", Dim: 1, Metric: ann.Cosine},
		"lower case":             {Name: "A", Dim: 1, Metric: ann.Cosine},
		"1 to 45":                {Name: strings.Repeat("a", 46), Dim: 1, Metric: ann.Cosine},
		"1 to 20000":             {Name: "a", Dim: 20001, Metric: ann.Cosine},
		"is none of":             {Name: "a", Dim: 1},
		"sparse index":           {Name: "a", Sparse: true, Metric: ann.Cosine},
		"m is":                   {Name: "a", Dim: 1, Metric: ann.Cosine, M: maxLinks + 1},
		"quantization is 3":      {Name: "a", Dim: 1, Metric: ann.Cosine, Bits: 3},
		"target_recall is 1":     {Name: "a", Dim: 1, Metric: ann.Cosine, TargetRecall: 1},
		"has no graph":           {Name: "a", Sparse: true, Metric: ann.DotProduct, Bits: 8},
		"ef_construction":        {Name: "a", Dim: 1, Metric: ann.Cosine, EfSearch: 1 << 20},
	} {
		_, err := n.CreateIndex(ctx, ix)
		require.True(t, errs.Is(err, errs.Invalid), "%v", err)
		require.ErrorContains(t, err, name)
	}

	seen := make(chan []string, 100)
	stop := n.WatchIndexes(func(all []Index) {
		var names []string
		for _, ix := range all {
			names = append(names, ix.Name)
		}
		seen <- names
	})
	require.Empty(t, <-seen)
	a := createIndex(t, n, "a")
	require.Equal(t, []string{"a"}, <-seen)
	_, err := n.CreateIndex(ctx, Index{Name: "a", Dim: 1, Metric: ann.Cosine})
	require.True(t, errs.Is(err, errs.AlreadyExists))
	b := createIndex(t, n, "b")
	require.Equal(t, []string{"a", "b"}, <-seen)
	stop()
	require.Equal(t, []int{1, 2}, []int{a.Port, b.Port})
	upsert(t, n, a, "ns", 1, 2)

	protect := true
	a, err = n.ConfigureIndex(ctx, "a", IndexPatch{DeletionProtection: &protect, Tags: map[string]string{"k": "v"}})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"k": "v"}, a.Tags)
	err = n.DeleteIndex(ctx, "a")
	require.True(t, errs.Is(err, errs.PermissionDenied))
	require.ErrorContains(t, err, "Deletion protection is enabled for this index")
	protect = false
	_, err = n.ConfigureIndex(ctx, "a", IndexPatch{DeletionProtection: &protect})
	require.NoError(t, err)
	require.NoError(t, n.DeleteIndex(ctx, "a"))
	_, ok := n.Index("a")
	require.False(t, ok)
	_, err = n.Upsert(ctx, a, "ns", []engine.Record{record(t, 1)})
	require.True(t, errs.Is(err, errs.NotFound), "a late write is refused: %v", err)
	require.True(t, errs.Is(n.DeleteIndex(ctx, "a"), errs.NotFound))
	_, err = n.ConfigureIndex(ctx, "a", IndexPatch{})
	require.True(t, errs.Is(err, errs.NotFound))

	again := createIndex(t, n, "a")
	require.Equal(t, 1, again.Port, "the port is free again")
	require.NotEqual(t, a.ID, again.ID)
	require.Empty(t, scanIDs(t, n, again, "ns"))
	require.Len(t, n.Indexes(), 2)
}

// TestInterruptedIndexIsFinished commits to the metadata plane alone, as a process does that is killed right after,
// and finds the shards told at the next start, or by the next write.
func TestInterruptedIndexIsFinished(t *testing.T) {
	opts := testOptions(t.TempDir())
	n, err := Open(t.Context(), opts)
	require.NoError(t, err)
	gone := createIndex(t, n, "gone")
	propose := func(c *metaCommand) Index {
		res, err := n.meta.propose(t.Context(), c)
		require.NoError(t, err)
		return res.index
	}
	propose(&metaCommand{op: metaDeleteIndex, indexID: gone.ID})
	half := propose(&metaCommand{op: metaCreateIndex, index: Index{Name: "half", Dim: 2, Metric: ann.Cosine, CreatedAt: time.Unix(1, 0)}})
	written := upsert(t, n, half, "ns", 1).Shard
	for id, sh := range n.replicas() {
		_, ok := sh.engine.Schema(half.ID)
		require.Equal(t, int(id) == written, ok, "shard %d", id)
	}
	require.NoError(t, n.Close())

	n = openNode(t, opts)
	for _, sh := range n.replicas() {
		_, ok := sh.engine.Schema(half.ID)
		require.True(t, ok)
		_, dropped := sh.engine.Schemas()
		require.Contains(t, dropped, gone.ID)
	}
}

// TestLogIsTrimmed writes many times what a log may keep.
func TestLogIsTrimmed(t *testing.T) {
	opts := testOptions(t.TempDir())
	opts.Shards, opts.LogRetain = 1, 128<<10
	n, err := Open(t.Context(), opts)
	require.NoError(t, err)
	ix, err := n.CreateIndex(t.Context(), Index{Name: "i", Dim: 1000, Metric: ann.Euclidean})
	require.NoError(t, err)
	const rounds = 400
	for i := range rounds {
		rec := engine.Record{ID: fmt.Sprint("id", i%10), Values: make([]float32, 1000)}
		rec.Values[0] = float32(i)
		_, err := n.Upsert(t.Context(), ix, "ns", []engine.Record{rec})
		require.NoError(t, err)
	}
	g := n.replica(0).group
	require.Eventually(t, func() bool { return g.log.BytesAfter(g.marked.Load()) <= n.trimmer.retain }, 10*time.Second, time.Millisecond)
	require.Less(t, g.log.Bytes(), uint64(4*opts.LogRetain), "%d bytes were written", rounds*4000)
	first, err := g.log.FirstIndex()
	require.NoError(t, err)
	require.Greater(t, first, uint64(rounds/2))
	require.NoError(t, n.Close())

	n = openNode(t, opts)
	recs, err := n.Fetch(t.Context(), ix, "ns", []string{"id9", "id0"})
	require.NoError(t, err)
	require.Equal(t, float32(rounds-1), recs[0].Values[0])
	require.Equal(t, float32(rounds-10), recs[1].Values[0])
}

// TestMetadataIsSnapshotted restores the metadata plane from a snapshot and the tail of its log.
func TestMetadataIsSnapshotted(t *testing.T) {
	opts := testOptions(t.TempDir())
	n, err := Open(t.Context(), opts)
	require.NoError(t, err)
	ix := createIndex(t, n, "i")
	upsert(t, n, ix, "before", 1)
	require.NoError(t, n.meta.group.trim(1))
	require.NotZero(t, n.meta.group.marked.Load())
	upsert(t, n, ix, "after", 2)
	want := n.meta.state()
	require.NoError(t, n.Close())

	n = openNode(t, opts)
	got := *n.meta.state()
	got.index = want.index // a start is registered
	got.members = slices.Clone(got.members)
	require.EqualValues(t, 2, got.members[0].starts)
	got.members[0].starts, got.members[0].life = want.members[0].starts, want.members[0].life
	require.Equal(t, appendState(nil, want), appendState(nil, &got))
	require.Equal(t, []string{"id0002"}, scanIDs(t, n, ix, "after"))
}

func TestEngineBehindMarkerIsRefused(t *testing.T) {
	opts := testOptions(t.TempDir())
	opts.Shards = 1
	n, err := Open(t.Context(), opts)
	require.NoError(t, err)
	ix := createIndex(t, n, "i")
	require.NoError(t, n.Close())
	old := t.TempDir()
	require.NoError(t, os.CopyFS(old, os.DirFS(shardDir(opts.Dir, 0, 1))))

	n, err = Open(t.Context(), opts)
	require.NoError(t, err)
	upsert(t, n, ix, "ns", 1)
	require.NoError(t, n.replica(0).group.trim(1))
	require.NoError(t, n.Close())
	dir := shardDir(opts.Dir, 0, 1)
	require.NoError(t, os.Rename(raftDir(dir), opts.Dir+"/raft"))
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, os.CopyFS(dir, os.DirFS(old)))
	require.NoError(t, os.RemoveAll(raftDir(dir)))
	require.NoError(t, os.Rename(opts.Dir+"/raft", raftDir(dir)))
	_, err = Open(t.Context(), opts)
	require.True(t, errs.Is(err, errs.Corrupt), "%v", err)
	require.ErrorContains(t, err, "the log was trimmed after")
}

// TestCommittedEntryDamaged flips a byte of an entry that must be replayed.
func TestCommittedEntryDamaged(t *testing.T) {
	opts := testOptions(t.TempDir())
	opts.Shards = 1
	n, err := Open(t.Context(), opts)
	require.NoError(t, err)
	ix := createIndex(t, n, "i")
	for i := range 100 {
		upsert(t, n, ix, "ns", i, i+1, i+2, i+3, i+4, i+5, i+6, i+7, i+8, i+9)
	}
	require.NoError(t, n.Close())
	paths, err := filepath.Glob(filepath.Join(raftDir(shardDir(opts.Dir, 0, 1)), "*.wal"))
	require.NoError(t, err)
	b := []byte(read(t, paths[0]))
	b[8000] ^= 0x40
	require.NoError(t, os.WriteFile(paths[0], b, 0o600))
	_, err = Open(t.Context(), opts)
	require.True(t, errs.Is(err, errs.Corrupt), "%v", err)
	require.ErrorContains(t, err, "shard 0")
}

func TestPoisonedStoreFailsTheNode(t *testing.T) {
	opts := testOptions(t.TempDir())
	n := openNode(t, opts)
	ix := createIndex(t, n, "i")
	w := upsert(t, n, ix, "ns", 1)
	n.replica(uint16(w.Shard)).group.fail.Poison(fmt.Errorf("sync failed"))
	<-n.Failed()
	require.ErrorContains(t, n.Failure(), "sync failed")
	_, err := n.Upsert(t.Context(), ix, "ns", []engine.Record{record(t, 2)})
	require.True(t, errs.Is(err, errs.Unavailable), "%v", err)
	require.NotEmpty(t, n.Ready())

	// raft meets the poisoned store itself: it steps down, cannot save the term of its next election, and must end
	// neither in a panic nor in a hang of Close.
	g := n.replica(uint16(w.Shard)).group
	require.Error(t, g.raft().Apply(nil, 0).Error())
	require.Eventually(t, func() bool { return g.raft().State() == raft.Candidate }, 5*time.Second, time.Millisecond)
	require.NoError(t, n.Close())
}

func TestDiskReserve(t *testing.T) {
	n := openNode(t, testOptions(t.TempDir()))
	ix := createIndex(t, n, "i")
	upsert(t, n, ix, "ns", 1, 2)
	n.disk = newDiskGuard(1000, func() (uint64, error) { return 999, nil })
	_, err := n.Upsert(t.Context(), ix, "ns", []engine.Record{record(t, 3)})
	require.True(t, errs.Is(err, errs.StorageFull), "%v", err)
	require.ErrorContains(t, err, "999 bytes free, 1000 are kept")
	_, err = n.Update(t.Context(), ix, "ns", "id0001", []float32{0, 0}, nil, nil)
	require.True(t, errs.Is(err, errs.StorageFull), "%v", err)
	w, err := n.Delete(t.Context(), ix, "ns", []string{"id0001"})
	require.NoError(t, err)
	require.Equal(t, 1, w.Affected)
	require.Equal(t, []string{"id0002"}, scanIDs(t, n, ix, "ns"))
	require.Empty(t, n.Ready())
	_, err = n.Upsert(t.Context(), ix, "new", []engine.Record{record(t, 3)})
	require.True(t, errs.Is(err, errs.StorageFull), "%v", err)
	require.Equal(t, 1, n.meta.state().byName.n, "no tenant is made for a write that is refused")
}

func TestDiskIsSampled(t *testing.T) {
	calls := 0
	fault := errors.New("no such disk")
	d := newDiskGuard(10, func() (uint64, error) { calls++; return 10, fault })
	d.due.Store(0)
	require.ErrorIs(t, d.check(), fault)
	fault = nil
	d.due.Store(0)
	require.NoError(t, d.check())
	require.NoError(t, d.check())
	require.Equal(t, 3, calls, "at the start and once a second")
	require.NoError(t, newDiskGuard(-1, nil).check())
}

// TestConcurrentNamespaces creates one namespace from many goroutines: one of them is told that it made it.
func TestConcurrentNamespaces(t *testing.T) {
	n := openNode(t, testOptions(t.TempDir()))
	ix := createIndex(t, n, "i")
	var wg sync.WaitGroup
	var made atomic.Int32
	for range 20 {
		wg.Go(func() {
			if _, err := n.CreateNamespace(t.Context(), ix, "ns"); err == nil {
				made.Add(1)
			} else if !errs.Is(err, errs.AlreadyExists) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, int32(1), made.Load())
}

// TestConcurrentTenants creates tenants from many goroutines, several of each name.
func TestConcurrentTenants(t *testing.T) {
	n := openNode(t, testOptions(t.TempDir()))
	ix := createIndex(t, n, "i")
	before := n.meta.state().index
	var wg sync.WaitGroup
	for i := range 120 {
		wg.Go(func() {
			_, err := n.Upsert(t.Context(), ix, fmt.Sprint("ns", i%40), []engine.Record{record(t, i)})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s := n.meta.state()
	require.Equal(t, 40, s.byName.n)
	require.Less(t, s.index-before, uint64(40), "creations share entries")
	stats, err := n.IndexStats(t.Context(), ix)
	require.NoError(t, err)
	for _, ns := range stats {
		require.Equal(t, uint64(3), ns.Stats.Records, ns.Name)
	}
}

func TestContextEndsWhileWaiting(t *testing.T) {
	n := openNode(t, testOptions(t.TempDir()))
	g := n.meta.group
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := g.propose(ctx, nil)
	require.True(t, errs.Is(err, errs.Canceled), "nothing was done: %v", err)

	ctx, cancel = context.WithCancel(t.Context())
	release := make(chan struct{})
	_, err = g.await(ctx, func() (any, error) { cancel(); <-release; return nil, nil })
	require.ErrorIs(t, err, context.Canceled, "a caller need not wait for raft")
	close(release)
	for err, want := range map[error]errs.Kind{
		context.Canceled: errs.OutcomeUnknown, raft.ErrLeadershipLost: errs.OutcomeUnknown, raft.ErrRaftShutdown: errs.OutcomeUnknown,
		raft.ErrNotLeader: errs.Unavailable, raft.ErrEnqueueTimeout: errs.Unavailable, raft.ErrLeadershipTransferInProgress: errs.Unavailable,
		errs.New(errs.StorageFull, "full"): errs.StorageFull, fmt.Errorf("sync failed"): errs.OutcomeUnknown,
	} {
		require.Equal(t, want, errs.KindOf(g.proposalError(err)), "%v", err)
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	opts := testOptions(t.TempDir())
	opts.Registerer = reg
	n, err := Open(t.Context(), opts)
	require.NoError(t, err)
	upsert(t, n, createIndex(t, n, "i"), "secret-tenant", 1)
	families, err := reg.Gather()
	require.NoError(t, err)
	got := map[string]bool{}
	for _, f := range families {
		got[f.GetName()] = true
		require.NotContains(t, f.String(), "secret-tenant")
	}
	for _, name := range []string{"croft_cluster_log_append_seconds", "croft_cluster_raft_leader", "croft_cluster_log_bytes", "croft_cluster_tenants"} {
		require.True(t, got[name], name)
	}
	require.NoError(t, n.Close())
	families, err = reg.Gather()
	require.NoError(t, err)
	require.Empty(t, families, "Close unregisters")
	require.True(t, errs.Is(n.Failure(), errs.Internal) || n.Failure() == nil)
}

func TestBadOptions(t *testing.T) {
	_, err := Open(t.Context(), Options{Shards: 1000, SegmentSize: 1, RaftTick: 1, LogRetain: -1})
	require.True(t, errs.Is(err, errs.Invalid))
	for _, fault := range []string{"data directory", "1000 shards", "segments of 1", "retained", "tick"} {
		require.ErrorContains(t, err, fault)
	}
}

func TestBatchesAreBounded(t *testing.T) {
	targets := make([]engine.Target, 9)
	for i := range targets {
		targets[i].ID = strings.Repeat("x", maxTargets/4)
	}
	var sizes []int
	write := func(batch []engine.Target, before int, last bool) (Written, error) {
		require.Equal(t, [...]int{0, 3, 6}[len(sizes)], before)
		require.Equal(t, len(sizes) == 2, last)
		sizes = append(sizes, len(batch))
		return Written{Affected: len(batch), LSN: uint64(len(sizes))}, nil
	}
	sh := &shard{id: 2}
	w, err := inBatches(sh, targets, write)
	require.NoError(t, err)
	require.Equal(t, []int{3, 3, 3}, sizes)
	require.Equal(t, Written{Affected: 9, LSN: 3}, w)
	w, err = inBatches(sh, nil, write)
	require.NoError(t, err)
	require.Equal(t, Written{Shard: 2}, w)

	sizes = nil
	_, err = inBatches(sh, targets, func(batch []engine.Target, _ int, _ bool) (Written, error) {
		if len(sizes) == 1 {
			return Written{}, errs.New(errs.Unavailable, "gone")
		}
		return write(batch, 0, false)
	})
	require.True(t, errs.Is(err, errs.OutcomeUnknown))
	require.ErrorContains(t, err, "after 3 of 9")
}
