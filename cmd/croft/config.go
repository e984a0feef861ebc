package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/tenancy"
)

// config holds the settings of `croft serve`. Each is a flag, an environment variable (CROFT_ and the flag's name in
// capitals) and a key of the configuration file (the flag's name, with - or _), looked up in this order.
type config struct {
	data          string
	listen        string
	peers         peerConfig
	advertise     string
	shards        int
	shardsGiven   bool   // by flag, environment or file
	placement     string // "": ring
	memoryBudget  sizeValue
	cacheBudget   sizeValue
	usageEvery    time.Duration
	throttleHot   bool
	diskReserve   sizeValue
	admission     switchValue
	drainTimeout  time.Duration
	logLevel      string
	logFormat     string
	debugListen   string
	otlpEndpoint  string
	traceBaggage  []string
	saveKey       bool
	stopWithStdin bool
	tokens        tokenConfig
	auditSize     sizeValue
	auditKeep     time.Duration
	adminKey      string // never a flag: command lines are public
}

func defaultConfig() config {
	return config{
		listen:       "127.0.0.1:5080",
		shards:       16,
		memoryBudget: 1 << 30,
		cacheBudget:  256 << 20,
		usageEvery:   5 * time.Second,
		diskReserve:  256 << 20,
		admission:    true,
		peers:        peerConfig{rate: 64 << 20},
		auditSize:    256 << 20,
		auditKeep:    400 * 24 * time.Hour,
		drainTimeout: 10 * time.Second,
		logLevel:     "info",
		logFormat:    "auto",
	}
}

func (c *config) addFlags(f *pflag.FlagSet) {
	f.StringVar(&c.data, "data", c.data, "directory of the data, made if missing (required)")
	f.StringVar(&c.listen, "listen", c.listen, "address of the API; indexes get ports of their own, from the next one up")
	c.peers.addFlags(f)
	c.tokens.addFlags(f)
	f.StringVar(&c.advertise, "advertise", c.advertise, "how clients reach an index, e.g. https://{index}.vectors.example.com")
	f.IntVar(&c.shards, "shards", c.shards, "shards of a new data directory, 1 to 256")
	f.StringVar(&c.placement, "placement", c.placement, "how a new cluster places tenants: ring (default) or least-loaded; `croft shards policy` changes it later")
	f.Var(&c.memoryBudget, "memory-budget", "memory for search structures")
	f.Var(&c.cacheBudget, "cache-budget", "memory for results of searches, of all tenants together; off: none are kept")
	f.DurationVar(&c.usageEvery, "usage-every", c.usageEvery, "how often what tenants have used is written down: as much is lost when a node is killed")
	f.BoolVar(&c.throttleHot, "throttle-hot", c.throttleHot, "let a tenant that computes over a fifth of its shard run one request of a kind at a time")
	f.Var(&c.diskReserve, "disk-reserve", "free disk below which writes are refused; off: none")
	f.Var(&c.admission, "admission", "on, or off: requests of all tenants run at once, whatever their limits, to compare")
	f.Var(&c.auditSize, "audit-size", "disk for the audit log, a quarter of it for refusals; the oldest goes")
	f.DurationVar(&c.auditKeep, "audit-keep", c.auditKeep, "age at which events leave the audit log")
	f.DurationVar(&c.drainTimeout, "drain-timeout", c.drainTimeout, "how long a stop waits for requests under way")
	f.StringVar(&c.logLevel, "log-level", c.logLevel, "debug, info, warn or error")
	f.StringVar(&c.logFormat, "log-format", c.logFormat, "text, json, or auto: text on a terminal")
	f.StringVar(&c.debugListen, "debug-listen", c.debugListen, "loopback address of pprof (default: none)")
	f.StringVar(&c.otlpEndpoint, "otlp-endpoint", c.otlpEndpoint, "OpenTelemetry collector that spans are sent to, e.g. http://127.0.0.1:4318 (default: OTEL_EXPORTER_OTLP_ENDPOINT, else none)")
	f.StringSliceVar(&c.traceBaggage, "trace-baggage", c.traceBaggage, "members of the clients' W3C baggage that spans take over")
	f.BoolVar(&c.saveKey, "save-key", c.saveKey, "keep a generated admin key in the user's config directory, for croft's verbs")
	f.BoolVar(&c.stopWithStdin, "stop-with-stdin", c.stopWithStdin, "stop when stdin is closed")
	_ = f.MarkHidden("stop-with-stdin") // exists: added above
}

// secretFlags are settings that come from the environment or a file, never from the command line.
func (c *config) secretFlags() *pflag.FlagSet {
	f := pflag.NewFlagSet("secrets", pflag.ContinueOnError)
	f.StringVar(&c.adminKey, "admin-key", "", "")
	f.StringVar(&c.tokens.secret, "jwt-secret", "", "")
	return f
}

// settings resolves flags that were not given from the environment and the configuration file.
type settings struct {
	sets      []*pflag.FlagSet
	lookupEnv func(string) (string, bool)
	readFile  func(string) ([]byte, error)
}

// load fills every flag that the command line left alone: from CROFT_<NAME>, from the file that CROFT_<NAME>_FILE
// names, or from the configuration file at path ("": none).
func (s settings) load(path string) error {
	if err := s.loadEnvironment(); err != nil {
		return err
	}
	if path == "" {
		return nil
	}
	return s.loadFile(path)
}

// settable visits the flags that are settings.
func (s settings) settable(visit func(*pflag.Flag) error) error {
	var faults []error
	for _, set := range s.sets {
		set.VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && f.Name != "config" {
				faults = append(faults, visit(f))
			}
		})
	}
	return errors.Join(faults...)
}

func (s settings) loadEnvironment() error {
	return s.settable(func(f *pflag.Flag) error {
		name := variableOf(f.Name)
		value, ok := s.lookupEnv(name)
		if path, fileOK := s.lookupEnv(name + "_FILE"); !ok && fileOK {
			b, err := s.readFile(path)
			if err != nil {
				return usagef("%s_FILE: %w", name, err)
			}
			value, ok, name = strings.TrimSpace(string(b)), true, name+"_FILE"
		}
		if !ok || f.Changed {
			return nil
		}
		return set(f, value, "environment variable "+name)
	})
}

// variableOf is the environment variable of a flag.
func variableOf(flag string) string {
	return "CROFT_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func set(f *pflag.Flag, value, origin string) error {
	if err := f.Value.Set(value); err != nil {
		return usagef("%s: %q is not a value of %s: %w", origin, value, f.Name, err)
	}
	f.Changed = true
	return nil
}

// loadFile reads a YAML mapping of names to scalars. Unknown and repeated keys are errors: a setting that is ignored
// in silence is worse than none.
func (s settings) loadFile(path string) error {
	b, err := s.readFile(path)
	if err != nil {
		return usagef("read configuration: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return usagef("%s: %w", path, err)
	}
	if len(doc.Content) == 0 {
		return nil
	}
	m := doc.Content[0]
	if m.Kind != yaml.MappingNode {
		return usagef("%s line %d: want settings, one `name: value` a line", path, m.Line)
	}
	given := s.given()
	seen := map[string]int{}
	var faults []error
	for i := 0; i+1 < len(m.Content); i += 2 {
		faults = append(faults, s.loadKey(path, m.Content[i], m.Content[i+1], given, seen))
	}
	return errors.Join(faults...)
}

// given are the flags that the command line or the environment has set.
func (s settings) given() map[string]bool {
	out := map[string]bool{}
	_ = s.settable(func(f *pflag.Flag) error { out[f.Name] = f.Changed; return nil })
	return out
}

func (s settings) loadKey(path string, key, value *yaml.Node, given map[string]bool, seen map[string]int) error {
	origin := fmt.Sprintf("%s line %d", path, key.Line)
	name := strings.ReplaceAll(key.Value, "_", "-")
	f := s.lookup(name)
	switch {
	case f == nil:
		return s.unknownKey(origin, key.Value, name)
	case seen[name] > 0:
		return usagef("%s: %s was set on line %d already", origin, key.Value, seen[name])
	case value.Kind != yaml.ScalarNode:
		return usagef("%s: %s takes one value", origin, key.Value)
	}
	seen[name] = key.Line
	if given[name] {
		return nil
	}
	return set(f, value.Value, origin)
}

func (s settings) unknownKey(origin, key, name string) error {
	var names []string
	_ = s.settable(func(f *pflag.Flag) error { names = append(names, f.Name); return nil })
	err := usagef("%s: there is no setting %q", origin, key)
	if near := nearest(name, names); near != "" {
		return usagef("%w; did you mean %q?", err, near)
	}
	return err
}

func (s settings) lookup(name string) *pflag.Flag {
	for _, set := range s.sets {
		if f := set.Lookup(name); f != nil && name != "help" && name != "config" {
			return f
		}
	}
	return nil
}

// validate joins all faults of the settings in one error.
func (c *config) validate() error {
	var faults []error
	add := func(format string, args ...any) { faults = append(faults, usagef(format, args...)) }
	if c.data == "" {
		add("--data names no directory, as --data ./data would")
	}
	if c.adminKey != "" {
		if _, err := tenancy.AdminHash(c.adminKey); err != nil {
			faults = append(faults, &usageError{err: err})
		}
	}
	if c.shards < 1 || c.shards > 256 {
		add("--shards is %d, must be 1 to 256", c.shards)
	}
	if c.placement != "" {
		if _, err := cluster.ParsePolicy(c.placement); err != nil {
			add("--placement: %w", err)
		}
	}
	c.peers.validate(add)
	c.tokens.validate(add)
	if c.auditSize < 1<<20 || c.auditKeep < time.Hour {
		add("--audit-size is %s and --audit-keep %s, at least 1MiB and 1h are needed", c.auditSize.String(), c.auditKeep)
	}
	if c.otlpEndpoint != "" && !isAdvertisable(c.otlpEndpoint) {
		add("--otlp-endpoint %s is not of the form http://127.0.0.1:4318", c.otlpEndpoint)
	}
	if c.debugListen != "" && !isLoopback(c.debugListen) {
		add("--debug-listen %s is not loopback", c.debugListen)
	}
	if _, _, err := splitAddress(c.listen); err != nil {
		add("--listen: %w", err)
	}
	if c.advertise != "" && !isAdvertisable(c.advertise) {
		add("--advertise %s is not of the form http://croft.internal:5080 or https://{index}.example.com", c.advertise)
	}
	if _, ok := logLevels[c.logLevel]; !ok {
		add("--log-level %s is none of debug, info, warn, error", c.logLevel)
	}
	if c.logFormat != "auto" && c.logFormat != "text" && c.logFormat != "json" {
		add("--log-format %s is none of auto, text, json", c.logFormat)
	}
	return errors.Join(faults...)
}

// clientURL is where clients reach this node, as far as settings tell: "" when they leave the port or the host open.
func (c *config) clientURL() string {
	if c.advertise != "" && !strings.Contains(c.advertise, "{index}") {
		return c.advertise
	}
	host, port, err := splitAddress(c.listen)
	if err != nil || port == 0 {
		return ""
	}
	if isUnspecified(host) {
		host, _, _ = net.SplitHostPort(c.peers.advertise) // the machine's name, if it was told
	}
	if host == "" {
		return ""
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(port))
}

// isAdvertisable demands a scheme: without one, Pinecone's clients assume https.
func isAdvertisable(s string) bool {
	u, err := url.Parse(strings.ReplaceAll(s, "{index}", "index"))
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

func splitAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("%q is not a port", text)
	}
	return host, port, nil
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// sizeValue is a number of bytes, written as 512MiB, 1g or 1073741824; "off" is -1.
type sizeValue int64

func (s *sizeValue) Type() string { return "size" }

func (s *sizeValue) String() string {
	if *s < 0 {
		return "off"
	}
	for shift, unit := range map[int]string{40: "TiB", 30: "GiB", 20: "MiB", 10: "KiB"} {
		if n := int64(*s); n >= 1<<shift && n < 1<<(shift+10) && n%(1<<shift) == 0 {
			return strconv.FormatInt(n>>shift, 10) + unit
		}
	}
	return strconv.FormatInt(int64(*s), 10)
}

func (s *sizeValue) Set(text string) error {
	if text == "off" {
		*s = -1
		return nil
	}
	digits := strings.TrimRight(strings.ToLower(text), "bikmgt ")
	unit := strings.TrimSpace(strings.ToLower(text[len(digits):]))
	shift, ok := map[string]int{"": 0, "b": 0, "k": 10, "kib": 10, "m": 20, "mib": 20, "g": 30, "gib": 30, "t": 40, "tib": 40}[unit]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || !ok || n < 0 || n > 1<<62>>shift {
		return fmt.Errorf("want a size such as 512MiB, 2GiB or off")
	}
	*s = sizeValue(n << shift)
	return nil
}

// configPath is --config, CROFT_CONFIG, or the system's file when there is one.
func (a *app) configPath(flag string) string {
	if path := firstNonEmpty(flag, a.getenv("CROFT_CONFIG")); path != "" {
		return path
	}
	const system = "/etc/croft/croft.yaml"
	if _, err := os.Stat(system); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return system
}
