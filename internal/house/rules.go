package house

// Rules returns all rules.
func Rules() []Rule {
	return []Rule{
		{"floors", "Arrows go down only (DESIGN.md section 2): what is below can be understood, tested and replaced without what is above.", checkFloors},
		{"doors", "Each library has one door, so that it can be replaced, and its traps guarded against, in one place.", eachFile(checkDoors)},
		{"replicated", "Replicas must come to the same state from the same entries: no clock, no chance, no map order.", checkReplicated},
		{"files", "Files are reached through internal/vfs, so that tests can fail the Nth operation and cut the power.", eachFile(checkFileAccess)},
		{"packages", "A package introduces itself once: what it owns, what it promises, who calls it, what it never does.", checkPackageComments},
		{"exported", "An exported type or function says what it promises; a rule once dropped does not return.", eachFile(checkExported)},
		{"generated", "Tools and readers know generated files by the one official mark.", checkGenerated},
		{"machines", "Code and texts work on any machine: no path of the one they were written on.", checkMachinePaths},
		{"unfinished", "What is in the tree is done; what is not done yet is not in the tree.", eachFile(checkUnfinished)},
	}
}

// place is a part of the tree with a floor. A file may import its own place, and places on lower floors but those in
// not; on the same floor those in also.
type place struct {
	dir   string // the place is this directory and all below it
	floor int
	not   []string
	also  []string
	why   string // of not and also
}

// places are the floors of DESIGN.md section 2. A package outside of all of them has no business here.
var places = []place{
	{dir: "internal/errs", floor: 0},
	{dir: "internal/invariants", floor: 0},
	{dir: "internal/codec", floor: 1},
	{dir: "internal/certs", floor: 1},
	{dir: "internal/hugemem", floor: 1},
	{dir: "internal/longlock", floor: 1},
	{dir: "internal/vfs", floor: 1},
	{dir: "internal/tracing", floor: 2},
	{dir: "ann", floor: 10, not: []string{"internal/vfs"}, why: "pure computing does no I/O"},
	{dir: "engine", floor: 20},
	{dir: "tenancy", floor: 20},
	{dir: "cluster", floor: 30},
	{dir: "internal/client", floor: 40, not: []string{"ann", "engine", "tenancy", "cluster"}, why: "a client knows the protocol, not the server"},
	{dir: "internal/api", floor: 40},
	{dir: "internal/console", floor: 40},
	{dir: "bench", floor: 40, also: []string{"internal/client"}, not: []string{"cluster"}, why: "it speaks HTTP, or calls ann and engine directly"},
	{dir: "cmd", floor: 50},
	{dir: "internal/systest", floor: 60},  // whole systems under test: nobody imports it
	{dir: "internal/faultdisk", floor: 2}, // for tests; isKit keeps it out of the product
	{dir: "internal/house", floor: 2},
	{dir: "internal/lineartest", floor: 2},
}

// door says where a library may be imported. Tests and test kits may use any library but where alsoTests is set.
type door struct {
	lib       string // import path; what is below it counts too
	where     []string
	alsoTests bool
	why       string
}

var doors = []door{
	{"github.com/viterin/vek", []string{"ann/internal/kernel/..."}, true, "it panics on CPUs without AVX2: only the kernel package asks the CPU first"},
	{"go.etcd.io/bbolt", []string{"engine/internal/store/...", "internal/faultdisk/..."}, true, "the record store is behind a small interface with a twin in memory"},
	{"github.com/hashicorp/raft", []string{"cluster/...", "internal/faultdisk/..."}, true, "its known defects are guarded against in cluster"},
	{"github.com/hashicorp/raft-wal", []string{"cluster/internal/raftlog/...", "internal/faultdisk/..."}, true, "its known defects are mended in raftlog"},
	{"github.com/hashicorp/go-hclog", []string{"cluster/..."}, true, "raft's logger; ours is slog"},
	{"github.com/RoaringBitmap/roaring", []string{"engine/..."}, false, "sets of slots mean nothing above the engine"},
	{"github.com/tidwall/btree", []string{"engine/...", "cluster/..."}, false, "ordered maps belong to stores"},
	{"github.com/prometheus", []string{"*/metrics.go", "*/*/metrics.go", "*/*/*/metrics.go", "*/options.go", "*/*/options.go", "internal/api/handler.go", "cmd/..."}, false, "metrics of a part stand together in its metrics.go, made from the Registerer among its options"},
	{"go.opentelemetry.io", []string{"internal/tracing/..."}, false, "what travels with requests is bounded in one place, and costs nothing while it is off"},
	{"github.com/cespare/xxhash", []string{"internal/codec/...", "cluster/ring*.go"}, false, "hashes that are stored or agreed on are codec's"},
	{"github.com/edsrzf/mmap-go", []string{"internal/vfs/..."}, false, "files are reached through vfs"},
	{"golang.org/x/sys/unix", []string{"internal/vfs/...", "internal/hugemem/...", "internal/faultdisk/...", "cmd/..."}, false, "the operating system is reached through vfs"},
	{"github.com/hanwen/go-fuse", []string{"internal/faultdisk/..."}, true, "it is for tests"},
	{"github.com/spf13/cobra", []string{"cmd/..."}, true, "flags are the command's"},
	{"github.com/schollz/progressbar", []string{"cmd/...", "internal/client/..."}, true, "the terminal is the command's"},
	{"golang.org/x/term", []string{"cmd/..."}, true, "the terminal is the command's"},
	{"go.yaml.in/yaml", []string{"cmd/..."}, true, "the configuration file is the command's"},
	{"github.com/anishathalye/porcupine", nil, false, "it is for tests"},
	{"github.com/stretchr/testify", nil, false, "it is for tests"},
	{"github.com/google/go-cmp", nil, false, "it is for tests, and panics on what it does not know"},
	{"pgregory.net/rapid", nil, false, "it is for tests"},
	{"go.uber.org/goleak", nil, false, "it is for tests"},
	{"testing", nil, false, "it is for tests"},
	{"log", nil, true, "logs are structured: log/slog, and a logger that was passed in"},
	{"io/ioutil", nil, true, "os and io have it all"},
	{"math/rand", nil, true, "math/rand/v2, with a seed that is printed"},
}

// exact are libraries of which what lies below them is another matter.
var exact = map[string]bool{"testing": true, "log": true, "math/rand": true}

// replicatedFiles run on each replica, with the same entries, and must do the same.
var replicatedFiles = []string{"engine/apply*.go", "engine/command*.go", "cluster/fsm*.go", "cluster/state*.go"}

// notReplicated are what such a file must not import or call; "*" means the whole package.
var notReplicated = map[string][]string{
	"math/rand":    {"*"},
	"math/rand/v2": {"*"},
	"crypto/rand":  {"*"},
	"hash/maphash": {"*"}, // a seed per process
	"time":         {"Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Sleep"},
	"os":           {"*"},
	"runtime":      {"*"},
}

// anyOrder in a comment on a loop over a map, or on the line above it, says why the order does not matter there.
const anyOrder = "any order:"

// fileAccess is what only vfs and the outermost packages may call.
var fileAccess = map[string][]string{
	"os": {
		"Open", "OpenFile", "OpenRoot", "OpenInRoot", "Create", "CreateTemp", "ReadFile", "WriteFile", "Rename", "Remove", "RemoveAll",
		"Mkdir", "MkdirAll", "MkdirTemp", "ReadDir", "Stat", "Lstat", "Truncate", "Chmod", "Link", "Symlink", "DirFS", "CopyFS",
	},
	"path/filepath": {"Walk", "WalkDir", "Glob", "EvalSymlinks"},
	"syscall":       {"*"},
}

// fileAccessAllowed are vfs itself, packages outside of the server's data, and the door of bbolt, which opens
// files itself, so that its failures are tested below it (internal/faultdisk), and the files around its own with them.
var fileAccessAllowed = []string{
	"internal/vfs/...", "internal/certs/...", "cmd/...", "bench/...", "internal/client/...", "engine/internal/store/bolt.go",
}

// sysErrnos may be named anywhere: they are how errors are told apart.
var sysErrnos = map[string]bool{
	"ENOSPC": true, "EDQUOT": true, "EIO": true, "EROFS": true, "ENOENT": true, "EINTR": true, "ECONNREFUSED": true, "ECONNRESET": true, "EPIPE": true, "EADDRINUSE": true, "Errno": true,
}
