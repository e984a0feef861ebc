package house_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/house"
)

const root = "../.."

// TestHouse holds the tree to the rules.
func TestHouse(t *testing.T) {
	tree, err := house.Load(os.DirFS(root), files(t))
	require.NoError(t, err)
	require.Greater(t, len(tree.Files), 50, "the tree was not found")
	for _, rule := range house.Rules() {
		t.Run(rule.Name, func(t *testing.T) {
			for _, v := range rule.Check(tree) {
				t.Errorf("%s", v)
			}
			if t.Failed() {
				t.Logf("The rule: %s", rule.Why)
			}
		})
	}
}

// files lists what git would keep: tracked files and new ones that are not ignored. Outside of a checkout it is all files.
func files(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		return walk(t)
	}
	var paths []string
	for p := range bytes.SplitSeq(bytes.TrimRight(out, "\x00"), []byte{0}) {
		info, err := os.Lstat(filepath.Join(root, string(p)))
		if err == nil && info.Mode().IsRegular() { // else it is deleted, though not yet in git
			paths = append(paths, string(p))
		}
	}
	return paths
}

func walk(t *testing.T) []string {
	t.Helper()
	var paths []string
	require.NoError(t, fs.WalkDir(os.DirFS(root), ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			paths = append(paths, p)
		}
		return err
	}))
	return paths
}

const goodComment = "// Package %s owns things, promises to keep them, is called by the tests of the house and by nobody else, and never does anything at all.\n"

// pkg is a file of package name with a proper introduction.
func pkg(name, body string) string {
	return strings.Replace(goodComment, "%s", name, 1) + "package " + name + "\n" + body
}

// TestRulesFire proves on a bad example of each kind that its rule sees it, and on a good one that it does not cry wolf.
func TestRulesFire(t *testing.T) {
	cases := []struct {
		rule, name string
		files      map[string]string
		want       string // part of the one violation; "" for none
	}{
		{"floors", "up", map[string]string{"ann/a.go": imports("ann", "github.com/croftdb/croft/engine")}, "ann (floor 10) must not import engine (floor 20)"},
		{"floors", "up in a test", map[string]string{"ann/a_test.go": imports("ann_test", "github.com/croftdb/croft/cluster")}, "must not import cluster"},
		{"floors", "sibling", map[string]string{"engine/a.go": imports("engine", "github.com/croftdb/croft/tenancy")}, "must not import tenancy"},
		{"floors", "down", map[string]string{"engine/a.go": imports("engine", "github.com/croftdb/croft/ann/hnsw")}, ""},
		{"floors", "own", map[string]string{"engine/a.go": imports("engine", "github.com/croftdb/croft/engine/filter")}, ""},
		{"floors", "down but barred", map[string]string{"ann/hnsw/a.go": imports("hnsw", "github.com/croftdb/croft/internal/vfs")}, "no I/O"},
		{"floors", "beside but welcome", map[string]string{"bench/a.go": imports("bench", "github.com/croftdb/croft/internal/client")}, ""},
		{"floors", "homeless", map[string]string{"util/a.go": pkg("util", "")}, "on no floor"},
		{"floors", "into nowhere", map[string]string{"cmd/croft/a.go": imports("main", "github.com/croftdb/croft/util")}, "on no floor"},
		{"floors", "kit in the product", map[string]string{"engine/a.go": imports("engine", "github.com/croftdb/croft/internal/faultdisk")}, "for tests"},
		{"floors", "kit in a test", map[string]string{"engine/a_test.go": imports("engine", "github.com/croftdb/croft/internal/vfs/vfstest")}, ""},

		{"doors", "vek", map[string]string{"ann/flat/a.go": imports("flat", "github.com/viterin/vek/vek32")}, "AVX2"},
		{"doors", "vek at its door", map[string]string{"ann/internal/kernel/a.go": imports("kernel", "github.com/viterin/vek/vek32")}, ""},
		{"doors", "bbolt", map[string]string{"engine/a.go": imports("engine", "go.etcd.io/bbolt")}, "twin in memory"},
		{"doors", "bbolt in a test", map[string]string{"engine/a_test.go": imports("engine", "go.etcd.io/bbolt")}, "twin in memory"},
		{"doors", "raft", map[string]string{"internal/api/a.go": imports("api", "github.com/hashicorp/raft")}, "guarded"},
		{"doors", "raft-wal is not below raft", map[string]string{"engine/a.go": imports("engine", "github.com/hashicorp/raft-wal")}, "raftlog"},
		{"doors", "roaring", map[string]string{"cluster/a.go": imports("cluster", "github.com/RoaringBitmap/roaring/v2")}, "above the engine"},
		{"doors", "prometheus", map[string]string{"engine/flush.go": imports("engine", "github.com/prometheus/client_golang/prometheus")}, "metrics.go"},
		{"doors", "prometheus at its door", map[string]string{"engine/metrics.go": imports("engine", "github.com/prometheus/client_golang/prometheus")}, ""},
		{"doors", "testify in the product", map[string]string{"engine/a.go": imports("engine", "github.com/stretchr/testify/require")}, "for tests"},
		{"doors", "testify in a kit", map[string]string{"ann/anntest/a.go": imports("anntest", "github.com/stretchr/testify/require")}, ""},
		{"doors", "log", map[string]string{"engine/a.go": imports("engine", "log")}, "slog"},
		{"doors", "slog", map[string]string{"engine/a.go": imports("engine", "log/slog")}, ""},
		{"doors", "old rand", map[string]string{"engine/a_test.go": imports("engine", "math/rand")}, "math/rand/v2"},
		{"doors", "new rand", map[string]string{"engine/a.go": imports("engine", "math/rand/v2")}, ""},

		{"replicated", "clock", map[string]string{"engine/apply_upsert.go": "package engine\nimport \"time\"\nvar t = time.Now()"}, "time.Now"},
		{"replicated", "clock by another name", map[string]string{"cluster/fsm_shard.go": "package cluster\nimport clock \"time\"\nvar t = clock.Now()"}, "time.Now"},
		{"replicated", "durations are fine", map[string]string{"cluster/state.go": "package cluster\nimport \"time\"\nvar d = time.Second"}, ""},
		{"replicated", "clock elsewhere", map[string]string{"cluster/node.go": "package cluster\nimport \"time\"\nvar t = time.Now()"}, ""},
		{"replicated", "chance", map[string]string{"cluster/fsm.go": "package cluster\nimport \"math/rand/v2\"\nvar n = rand.Int()"}, "math/rand/v2.Int"},
		{"replicated", "map order", map[string]string{"cluster/state_meta.go": "package cluster\nfunc f(m map[int]int) { for range m {} }"}, "map order"},
		{"replicated", "map of a field of another file", map[string]string{
			"cluster/state.go": "package cluster\nfunc f(s S) { for k := range s.byName { _ = k } }",
			"cluster/types.go": "package cluster\nimport \"example.com/x\"\ntype S struct { byName map[string]x.T }",
		}, "map order"},
		{"replicated", "map type of another package", map[string]string{
			"cluster/state.go":     "package cluster\nimport \"github.com/croftdb/croft/engine/metadata\"\nfunc f(m metadata.Map) { for k := range m { _ = k } }",
			"engine/metadata/m.go": "package metadata\ntype Map map[string]int",
		}, "map order"},
		{"replicated", "map iterator", map[string]string{"engine/apply.go": "package engine\nimport \"maps\"\nfunc f(m map[int]int) { for range maps.Keys(m) {} }"}, "map order"},
		{"replicated", "sorted", map[string]string{"engine/apply.go": "package engine\nimport (\"maps\"; \"slices\")\nfunc f(m map[int]int) { for range slices.Sorted(maps.Keys(m)) {} }"}, ""},
		{"replicated", "excused", map[string]string{"engine/apply.go": "package engine\nfunc f(m map[int]int) (n int) {\n// any order: a sum\nfor _, v := range m { n += v }\nreturn n }"}, ""},
		{"replicated", "slices", map[string]string{"engine/apply.go": "package engine\nfunc f(s []int) { for range s {} }"}, ""},

		{"files", "os", map[string]string{"engine/a.go": "package engine\nimport \"os\"\nvar _, _ = os.Open(\"x\")"}, "os.Open"},
		{"files", "syscall", map[string]string{"cluster/a.go": "package cluster\nimport \"syscall\"\nvar _ = syscall.Unlink(\"x\")"}, "syscall.Unlink"},
		{"files", "errno", map[string]string{"cluster/a.go": "package cluster\nimport \"syscall\"\nvar _ = syscall.ENOSPC"}, ""},
		{"files", "environment", map[string]string{"engine/a.go": "package engine\nimport \"os\"\nvar _ = os.Getenv(\"x\")"}, ""},
		{"files", "test", map[string]string{"engine/a_test.go": "package engine\nimport \"os\"\nvar _, _ = os.Open(\"x\")"}, ""},
		{"files", "command", map[string]string{"cmd/croft/a.go": "package main\nimport \"os\"\nvar _, _ = os.Open(\"x\")"}, ""},

		{"packages", "none", map[string]string{"ann/a.go": "package ann"}, "has 0 package comments"},
		{"packages", "two", map[string]string{"ann/a.go": pkg("ann", ""), "ann/b.go": pkg("ann", "")}, "has 2 package comments"},
		{"packages", "licence taken for one", map[string]string{"ann/a.go": "// Copyright somebody\npackage ann"}, "must begin \"Package ann \""},
		{"packages", "curt", map[string]string{"ann/a.go": "// Package ann is for vectors.\npackage ann"}, "too few"},
		{"packages", "command", map[string]string{"cmd/croft/a.go": "// Package main is it.\npackage main"}, "must begin \"Command croft \""},
		{"packages", "one", map[string]string{"ann/a.go": pkg("ann", ""), "ann/b.go": "package ann", "ann/a_test.go": "package ann_test"}, ""},

		{"exported", "function", map[string]string{"ann/a.go": pkg("ann", "func F() {}")}, "F has no comment"},
		{"exported", "type in a group", map[string]string{"ann/a.go": pkg("ann", "type (\n T int\n)")}, "T has no comment"},
		{"exported", "commented", map[string]string{"ann/a.go": pkg("ann", "// F is it.\nfunc F() {}\n\nfunc (t) M() {}\n\ntype t int")}, ""},

		{"generated", "assembly by hand", map[string]string{"ann/internal/kernel/k.s": "#include \"textflag.h\"\n"}, "DO NOT EDIT"},
		{"generated", "free-form mark", map[string]string{"ann/a.go": "// generated, do not edit\npackage ann"}, "DO NOT EDIT"},
		{"generated", "marked", map[string]string{"ann/k.s": "// Code generated by command: go run asm.go. DO NOT EDIT.\n"}, ""},

		{"machines", "home", map[string]string{"README.md": "put it into " + "/ro" + "ot/data please"}, "README.md:1"},
		{"machines", "build", map[string]string{"docs/a.txt": "\n\nin `" + "/wo" + "rk/main`"}, "docs/a.txt:3"},
		{"machines", "relative", map[string]string{"docs/a.txt": "files in engine/work/x and https://example.com/root/y"}, ""},

		{"unfinished", "comment", map[string]string{"ann/a.go": "package ann\n// TO" + "DO: more\nvar x int"}, "ann/a.go:2"},
		{"unfinished", "stub", map[string]string{"ann/a.go": "package ann\nfunc f() { panic(\"not yet\") }"}, "a stub"},
		{"unfinished", "panic", map[string]string{"ann/a.go": "package ann\nfunc f() { panic(\"length\") }"}, ""},
	}
	rules := map[string]house.Rule{}
	for _, r := range house.Rules() {
		require.NotEmpty(t, r.Why, r.Name)
		rules[r.Name] = r
	}
	fired := map[string]bool{}
	for _, c := range cases {
		t.Run(c.rule+"/"+c.name, func(t *testing.T) {
			rule, ok := rules[c.rule]
			require.True(t, ok)
			vs := rule.Check(load(t, c.files))
			if c.want == "" {
				require.Empty(t, vs)
				return
			}
			fired[c.rule] = true
			require.Len(t, vs, 1)
			require.Contains(t, vs[0].String(), c.want)
		})
	}
	for name := range rules {
		require.True(t, fired[name], "no bad example of rule %s", name)
	}
}

func imports(name, path string) string {
	return "package " + name + "\nimport x \"" + path + "\"\nvar _ = x.X"
}

func load(t *testing.T, files map[string]string) *house.Tree {
	t.Helper()
	fsys := fstest.MapFS{}
	var paths []string
	for p, text := range files {
		fsys[p] = &fstest.MapFile{Data: []byte(text)}
		paths = append(paths, p)
	}
	tree, err := house.Load(fsys, paths)
	require.NoError(t, err)
	return tree
}
