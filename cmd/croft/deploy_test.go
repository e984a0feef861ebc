package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// deployed reads a file of deploy/.
func deployed(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "deploy", filepath.FromSlash(name)))
	require.NoError(t, err)
	return string(b)
}

// requireServes resolves a server's settings as `croft serve` does, and demands that it takes them. Files that settings
// name hold a secret.
func requireServes(t *testing.T, args []string, env map[string]string) config {
	t.Helper()
	cfg := defaultConfig()
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	cfg.addFlags(flags)
	secrets := cfg.secretFlags()
	require.NoError(t, flags.Parse(args))
	for name := range env {
		known := false
		for _, set := range []*pflag.FlagSet{flags, secrets} {
			set.VisitAll(func(f *pflag.Flag) { known = known || variableOf(f.Name) == strings.TrimSuffix(name, "_FILE") })
		}
		require.True(t, known, "%s is no setting", name)
	}
	s := settings{
		sets:      []*pflag.FlagSet{flags, secrets},
		lookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		readFile:  func(string) ([]byte, error) { return []byte("secret"), nil },
	}
	require.NoError(t, s.load(""))
	cfg.peers.settle(cfg.listen)
	require.NoError(t, cfg.validate())
	return cfg
}

// requireVerb demands that a command line is one that croft has, with all its flags.
func requireVerb(t *testing.T, args []string) {
	t.Helper()
	root := newTestApp("", nil).rootCommand()
	cmd, rest, err := root.Find(args)
	require.NoError(t, err, args)
	require.True(t, cmd.Runnable() && !cmd.HasSubCommands(), "croft %v is no verb", args)
	require.NoError(t, cmd.ParseFlags(rest), args)
}

func TestCompose(t *testing.T) {
	type service struct {
		Command     []string
		Entrypoint  []string
		Environment map[string]string
		Volumes     []string
		Ports       []string
		Networks    map[string]struct{ Aliases []string }
	}
	var file struct {
		Services map[string]service
		Volumes  map[string]any
	}
	require.NoError(t, yaml.Unmarshal([]byte(deployed(t, "docker/compose.yaml")), &file))
	required := regexp.MustCompile(`^\$\{(\w+):\?.*\}$`)
	data, ports := map[string]bool{}, map[string]bool{}
	for name, s := range file.Services {
		for _, v := range s.Volumes {
			volume, _, _ := strings.Cut(v, ":")
			require.Contains(t, file.Volumes, volume, name)
		}
		if len(s.Command) == 0 {
			continue // of the profile setup: the user gives the rest of the command
		}
		requireVerb(t, s.Command)
		if s.Command[0] != "serve" {
			continue
		}
		env := map[string]string{}
		for k, v := range s.Environment {
			if required.MatchString(v) {
				v = "a key of sixteen bytes or more"
			}
			env[k] = v
		}
		cfg := requireServes(t, s.Command[1:], env)
		require.Equal(t, name != "node-1", cfg.peers.join != "", name)
		require.Contains(t, s.Networks["default"].Aliases, strings.TrimSuffix(cfg.peers.advertise, ":5180"), name)
		require.Equal(t, "http://"+name+".croft.internal:5080", cfg.clientURL())
		data[s.Volumes[0]], ports[s.Ports[0]] = true, true
	}
	require.Len(t, data, 3, "each node has a disk of its own")
	require.Len(t, ports, 3)
}

func TestDockerfile(t *testing.T) {
	lines := regexp.MustCompile(`(?m)^(ENTRYPOINT|CMD|HEALTHCHECK .*CMD) (\[.*\])$`).FindAllStringSubmatch(deployed(t, "docker/Dockerfile"), -1)
	require.Len(t, lines, 3)
	for _, l := range lines {
		var args []string
		require.NoError(t, json.Unmarshal([]byte(l[2]), &args))
		if args[0] == "/croft" {
			args = args[1:]
		}
		if len(args) > 0 {
			requireVerb(t, args)
		}
	}
}

func TestSystemdUnit(t *testing.T) {
	unit := deployed(t, "systemd/croft.service")
	start := regexp.MustCompile(`(?m)^ExecStart=\S*/croft (.*)$`).FindStringSubmatch(unit)
	require.NotNil(t, start)
	requireVerb(t, strings.Fields(start[1]))
	require.Contains(t, unit, "\nType=notify\n")
	require.Contains(t, unit, "\nEnvironmentFile=/etc/croft/croft.env\n")

	first := environmentOf(t, deployed(t, "systemd/croft.env"))
	require.Empty(t, requireServes(t, strings.Fields(start[1])[1:], first).peers.join)
	// The lines that are there to be filled in.
	all := regexp.MustCompile(`(?m)^#(CROFT_\w+)=(.*)$`).ReplaceAllStringFunc(deployed(t, "systemd/croft.env"), func(l string) string {
		if strings.HasSuffix(l, "=") {
			l += "filled in by the operator"
		}
		return l[1:]
	})
	cfg := requireServes(t, nil, environmentOf(t, all))
	require.Equal(t, "node-1.example.com:5180", cfg.peers.join)
	require.Equal(t, "eu-1a", cfg.peers.zone)
}

// TestDeployReadme takes the command lines of the instructions at their word.
func TestDeployReadme(t *testing.T) {
	lines := regexp.MustCompile(`(?m)^[$#] (?:.* )?(?:croft|run --rm (certs)) ([a-z].*?)(?: +#.*)?$`).FindAllStringSubmatch(deployed(t, "README.md"), -1)
	require.GreaterOrEqual(t, len(lines), 5)
	for _, l := range lines {
		requireVerb(t, append(strings.Fields(l[1]), strings.Fields(l[2])...))
	}
}

// environmentOf reads NAME=value lines as systemd does.
func environmentOf(t *testing.T, text string) map[string]string {
	t.Helper()
	env := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		require.True(t, ok, line)
		env[name] = value
	}
	return env
}
