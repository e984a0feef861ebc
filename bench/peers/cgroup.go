package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/croftdb/croft/internal/errs"
)

// cgroupRoot is where control groups are mounted.
const cgroupRoot = "/sys/fs/cgroup"

// cgroup is a control group that limits memory, page cache included, of version 1 or 2.
type cgroup struct {
	dir   string
	limit int64
	names cgroupNames
}

// cgroupNames are the files of a version.
type cgroupNames struct {
	root, limit, swap, peak, events string
}

var (
	cgroup1 = cgroupNames{cgroupRoot + "/memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control"}
	cgroup2 = cgroupNames{cgroupRoot, "memory.max", "memory.swap.max", "memory.peak", "memory.events"}
)

// cgroups counts those that this process has made.
var cgroups atomic.Int64

// newCgroup makes a group for a child process.
func newCgroup(limit int64) (*cgroup, error) {
	names, err := cgroupVersion()
	if err != nil {
		return nil, err
	}
	g := &cgroup{limit: limit, names: names}
	g.dir = filepath.Join(names.root, fmt.Sprintf("croft-peers-%d-%d", os.Getpid(), cgroups.Add(1)))
	if err := g.make(); err != nil {
		return nil, errs.Wrap(errs.FailedPrecondition, err, "limit memory by a control group (run it as root, where %s may be written to)", names.root)
	}
	return g, nil
}

// cgroupVersion finds the memory controller: version 1 where that is mounted, else version 2.
func cgroupVersion() (cgroupNames, error) {
	if _, err := os.Stat(filepath.Join(cgroup1.root, cgroup1.limit)); err == nil {
		return cgroup1, nil
	}
	b, err := os.ReadFile(filepath.Join(cgroup2.root, "cgroup.controllers"))
	if err == nil && strings.Contains(string(b), "memory") {
		return cgroup2, nil
	}
	return cgroupNames{}, errs.New(errs.FailedPrecondition, "no memory controller below %s, of neither version of control groups", cgroupRoot)
}

func (g *cgroup) make() error {
	if g.names == cgroup2 {
		if err := os.WriteFile(filepath.Join(cgroup2.root, "cgroup.subtree_control"), []byte("+memory"), 0); err != nil {
			return err
		}
	}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return err
	}
	if err := g.write(g.names.limit, g.limit); err != nil {
		return err
	}
	// No escape into swap. The kernel may be without swap accounting, and then has no such file.
	swap := map[cgroupNames]int64{cgroup1: g.limit, cgroup2: 0}[g.names]
	if err := g.write(g.names.swap, swap); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

func (g *cgroup) write(file string, value int64) error {
	return os.WriteFile(filepath.Join(g.dir, file), []byte(strconv.FormatInt(value, 10)), 0)
}

// command wraps a command so that it joins the group before it begins: pages that it had taken before would not count.
func (g *cgroup) command(command []string) []string {
	return append([]string{"sh", "-c", `echo $$ >"$0" && exec "$@"`, filepath.Join(g.dir, "cgroup.procs")}, command...)
}

// environment tells Go's collector about the limit, as one would in production.
func (g *cgroup) environment() []string {
	return []string{fmt.Sprintf("GOMEMLIMIT=%d", g.limit*3/4)}
}

// peak returns the largest number of bytes that the group has had; 0 if the kernel does not tell.
func (g *cgroup) peak() int64 {
	b, err := os.ReadFile(filepath.Join(g.dir, g.names.peak))
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// killed reports whether a process of the group was killed for want of memory.
func (g *cgroup) killed() bool {
	b, err := os.ReadFile(filepath.Join(g.dir, g.names.events))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), " "); name == "oom_kill" {
			return value != "0"
		}
	}
	return false
}

// remove takes the group away, if there is one; its processes must have ended.
func (g *cgroup) remove() error {
	if g == nil {
		return nil
	}
	return os.Remove(g.dir)
}
