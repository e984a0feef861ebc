package main

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// loadConfig resolves settings as `croft serve` does.
func loadConfig(t require.TestingT, args []string, env map[string]string, file string) (config, error) {
	cfg := defaultConfig()
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	cfg.addFlags(flags)
	require.NoError(t, flags.Parse(args))
	files := fstest.MapFS{"croft.yaml": {Data: []byte(file)}, "secret": {Data: []byte("from a file\n")}}
	s := settings{
		sets:      []*pflag.FlagSet{flags, cfg.secretFlags()},
		lookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		readFile:  files.ReadFile,
	}
	err := s.load("croft.yaml")
	return cfg, err
}

func TestConfigPrecedence(t *testing.T) {
	env := map[string]string{"CROFT_LISTEN": "env:2", "CROFT_SHARDS": "2", "CROFT_ADMIN_KEY_FILE": "secret"}
	file := "listen: file:3\nshards: 3\ndrain_timeout: 3s\nmemory-budget: 512MiB\n"
	cfg, err := loadConfig(t, []string{"--listen", "flag:1"}, env, file)
	require.NoError(t, err)
	require.Equal(t, "flag:1", cfg.listen, "a flag wins")
	require.Equal(t, 2, cfg.shards, "then the environment")
	require.Equal(t, 3*time.Second, cfg.drainTimeout, "then the file")
	require.EqualValues(t, 512<<20, cfg.memoryBudget)
	require.EqualValues(t, 256<<20, cfg.diskReserve, "then the default")
	require.Equal(t, "from a file", cfg.adminKey)
}

func TestConfigEnvironmentWinsOverItsFileForm(t *testing.T) {
	cfg, err := loadConfig(t, nil, map[string]string{"CROFT_ADMIN_KEY": "direct", "CROFT_ADMIN_KEY_FILE": "secret"}, "")
	require.NoError(t, err)
	require.Equal(t, "direct", cfg.adminKey)
}

func TestConfigFaults(t *testing.T) {
	for name, tc := range map[string]struct {
		env  map[string]string
		file string
		want string
	}{
		"unknown key":         {nil, "data: x\nlissten: y\n", `croft.yaml line 2: there is no setting "lissten"; did you mean "listen"?`},
		"repeated key":        {nil, "shards: 1\nshards: 2\n", "already"},
		"repeated, respelled": {nil, "log-level: info\nlog_level: warn\n", "croft.yaml line 2: log_level was set on line 1 already"},
		"bad value":           {nil, "shards: many\n", `croft.yaml line 1: "many" is not a value of shards`},
		"list":                {nil, "listen: [a]\n", "line 1: listen takes one value"},
		"no mapping":          {nil, "- a\n", "want settings"},
		"no YAML":             {nil, "a: [\n", "croft.yaml"},
		"bad environment":     {map[string]string{"CROFT_SHARDS": "x"}, "", "environment variable CROFT_SHARDS"},
		"missing secret file": {map[string]string{"CROFT_ADMIN_KEY_FILE": "none"}, "", "CROFT_ADMIN_KEY_FILE"},
		"config in config":    {nil, "config: other\n", "there is no setting"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := loadConfig(t, nil, tc.env, tc.file)
			require.ErrorContains(t, err, tc.want)
			require.Equal(t, exitUsage, exitCode(err))
		})
	}
}

func TestConfigValidateTellsAllFaults(t *testing.T) {
	cfg := defaultConfig()
	cfg.shards, cfg.listen, cfg.peers.listen, cfg.advertise, cfg.logLevel, cfg.logFormat = 0, "5080", "0.0.0.0:1", "example.com", "loud", "xml"
	cfg.debugListen = ":6060"
	err := cfg.validate()
	for _, flag := range []string{"--data", "--shards", "--listen", "--peer-listen", "--advertise", "--log-level", "--log-format", "--debug-listen"} {
		require.ErrorContains(t, err, flag)
	}
	cfg = defaultConfig()
	cfg.data, cfg.advertise = "d", "https://{index}.vectors.example.com"
	require.NoError(t, cfg.validate())
}

// TestPeerSettings has settings of a node among others, and what is said to those that cannot work.
func TestPeerSettings(t *testing.T) {
	const tls = "--peer-cert c --peer-key k --peer-ca a "
	for args, want := range map[string]string{
		"":                             "",
		"--peer-listen 127.0.0.1:5180": "",
		"--peer-listen [::1]:5180":     "",
		"--peer-listen 10.0.0.1:5180":  "`croft certs` makes all three",
		"--peer-listen 10.0.0.1:5180 --peer-cert c --peer-key k":                         "give --peer-ca",
		tls + "--peer-listen 10.0.0.1:5180":                                              "",
		tls + "--peer-listen :5180":                                                      "give --peer-advertise HOST:PORT",
		tls + "--peer-listen 0.0.0.0:5180 --peer-advertise node-1.internal:5180":         "",
		"--peer-listen 127.0.0.1:5180 --peer-advertise 0.0.0.0:5180":                     "no address that others can dial",
		"--peer-listen 127.0.0.1:5180 --peer-advertise node-1":                           "--peer-advertise",
		"--peer-advertise node-1:5180":                                                   "needs --peer-listen",
		"--peer-cert c":                                                                  "needs --peer-key and --peer-ca too",
		"--join 127.0.0.1:5180 --join-token t --listen 127.0.0.1:5280 --replicas 3":      "",
		"--join node-1 --join-token t":                                                   "--join node-1 is not HOST:PORT",
		"--join-token t":                                                                 "--join-token needs --join",
		"--jwt-issuer i --jwt-audience a --jwt-keys k":                                   "",
		"--jwt-issuer i --jwt-audience a":                                                "need keys",
		"--jwt-jwks-url https://i/jwks --jwt-issuer i":                                   "need --jwt-issuer and --jwt-audience",
		"--jwt-issuer i --jwt-audience a --jwt-keys k --jwt-jwks-url https://i/jwks":     "both given",
		"--placement best":                                                               `--placement: placement policy "best" is none of ring, least-loaded`,
		"--placement least-loaded --checkpoint-rate off":                                 "",
		"--checkpoint-rate 0":                                                            "--checkpoint-rate is 0",
		"--replicas 2":                                                                   "--replicas is 2, must be 1, 3 or 5",
		"--zone " + strings.Repeat("z", 64):                                              "--zone has 64 bytes",
		"--join 10.0.0.1:5180 --join-token t --listen 10.0.0.2:5080":                     "--peer-listen 10.0.0.2:5180 is not loopback",
		"--join 10.0.0.1:5180 --join-token t --listen 10.0.0.2:5080 --zone eu-1a " + tls: "",
	} {
		cfg, err := loadConfig(t, append(strings.Fields(args), "--data", "d"), nil, "")
		require.NoError(t, err, args)
		cfg.peers.settle(cfg.listen)
		err = cfg.validate()
		if want == "" {
			require.NoError(t, err, args)
			continue
		}
		require.ErrorContains(t, err, want, args)
		require.Equal(t, exitUsage, exitCode(err), args)
	}
	cfg, err := loadConfig(t, []string{"--join", "x:1", "--listen", "127.0.0.1:5280"}, map[string]string{"CROFT_JOIN_TOKEN": "secret"}, "")
	require.NoError(t, err)
	cfg.peers.settle(cfg.listen)
	require.Equal(t, "127.0.0.1:5380", cfg.peers.listen, "the peer port is 100 above the client port")
	require.Equal(t, "secret", cfg.peers.joinToken)
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "1024": 1024, "512MiB": 512 << 20, "1g": 1 << 30, "2 TiB": 2 << 40, "7b": 7, "off": -1} {
		var s sizeValue
		require.NoError(t, s.Set(text), text)
		require.EqualValues(t, want, s, text)
	}
	for _, bad := range []string{"", "MiB", "-1", "1x", "1.5g", "9999999999t", "1 gig"} {
		var s sizeValue
		require.Error(t, s.Set(bad), bad)
	}
	rapid.Check(t, func(t *rapid.T) {
		want := sizeValue(rapid.Int64Range(-1, 1<<50).Draw(t, "bytes"))
		var got sizeValue
		require.NoError(t, got.Set(want.String()), fmt.Sprint(int64(want)))
		require.Equal(t, want, got)
	})
}
