package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/api"
	"github.com/croftdb/croft/internal/client"
	"github.com/croftdb/croft/internal/errs"
)

// testApp is an app whose streams are buffers and whose environment is a map.
type testApp struct {
	*app
	out, err bytes.Buffer
}

func newTestApp(stdin string, env map[string]string) *testApp {
	t := &testApp{}
	t.app = newApp(strings.NewReader(stdin), &t.out, &t.err, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	return t
}

func TestExitCodes(t *testing.T) {
	for _, k := range errs.Kinds() {
		require.Contains(t, exitByKind, k, "kind %v has no exit code", k)
	}
	require.Equal(t, exitOK, exitCode(nil))
	require.Equal(t, exitFailure, exitCode(errors.New("no kind")))
	require.Equal(t, exitUsage, exitCode(fmt.Errorf("wrapped: %w", usagef("x"))))
	require.Equal(t, exitInterrupted, exitCode(context.Canceled))
	require.Equal(t, exitUnavailable, exitCode(context.DeadlineExceeded))
	require.Equal(t, exitQuota, exitCode(fmt.Errorf("open: %w", &os.PathError{Op: "write", Err: syscall.ENOSPC})))
	require.Equal(t, exitNotFound, exitCode(&client.Error{Cause: errs.New(errs.NotFound, "no index")}))
}

func TestReportNamesTheNextStepAndTheRequest(t *testing.T) {
	var b bytes.Buffer
	report(&b, &client.Error{RequestID: "r-1", Cause: errs.New(errs.Invalid, "bad").WithHint("do this")})
	require.Equal(t, "croft: bad\n  hint: do this\n  request id: r-1\n", b.String())
	b.Reset()
	report(&b, errs.Wrap(errs.Canceled, context.Canceled, "call http://x"))
	require.Equal(t, "croft: interrupted\n", b.String())
	b.Reset()
	report(&b, fmt.Errorf("write: %w", syscall.ENOSPC))
	require.Contains(t, b.String(), "hint: the disk is full")
}

func TestUsage(t *testing.T) {
	for name, tc := range map[string]struct {
		args string
		want []string
	}{
		"unknown verb":       {"qery", []string{`no command "qery"`, "did you mean `croft query`?"}},
		"unknown noun":       {"index crate x", []string{"did you mean `croft index create`?"}},
		"unknown flag":       {"query docs --nmespace x", []string{"unknown flag: --nmespace", "did you mean --namespace?"}},
		"missing argument":   {"query", []string{"croft query needs INDEX"}},
		"missing second":     {"fetch docs", []string{"needs ID"}},
		"too many":           {"stats a b", []string{`does not take the argument "b"`}},
		"bad format":         {"version -o xml", []string{"-o xml is none of table, json"}},
		"id and vector":      {"query docs --id a --vector [1]", []string{"either --id or a vector"}},
		"bad filter":         {"query docs --id a --filter {", []string{"--filter", "neither JSON nor a file"}},
		"filter no object":   {"query docs --id a --filter [1]", []string{"--filter is not a JSON object"}},
		"nothing to delete":  {"delete docs", []string{"exactly one of --id, --filter and --all"}},
		"no index":           {"import x.jsonl", []string{"needs --index"}},
		"odd format":         {"import x.parquet --index i", []string{"format of x.parquet is not known"}},
		"too many nodes":     {"demo --nodes 10", []string{"--nodes is 10, must be 1 to 9"}},
		"too few nodes":      {"demo --nodes 2 --replicas 3", []string{"--replicas 3 needs as many nodes"}},
		"nodes, any port":    {"demo --nodes 3 --listen 127.0.0.1:0", []string{"only a demo of one node"}},
		"nodes on a network": {"demo --nodes 3 --listen 0.0.0.0:5080", []string{"is not loopback", "croft serve"}},
		"no room for nodes":  {"demo --nodes 3 --listen 127.0.0.1:65000", []string{"no room for the ports of 3 nodes"}},
		"no number":          {"demo kill x", []string{`"x" is not the number of a node`}},
		"no neighbours":      {"bench recall --dataset x -k 0", []string{"--k is 0"}},
		"no address":         {"index list --url ftp://x", []string{"not of the form"}},
		"dense, no size":     {"index create docs", []string{"--dimension"}},
		"nothing to change":  {"index configure docs", []string{"nothing to change", "--target-recall"}},
		"two efforts":        {"query docs --id a --ef 10 --recall 0.9", []string{"--ef and --recall exclude each other"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTestApp("", nil)
			require.Equal(t, exitUsage, a.run(t.Context(), strings.Fields(tc.args)), a.err.String())
			for _, want := range tc.want {
				require.Contains(t, a.err.String(), want)
			}
			require.Empty(t, a.out.String(), "stdout is for data")
		})
	}
}

// TestEveryVerbShowsTwoExamples holds the help to its form: what it does, two lines that run, then the rest.
func TestEveryVerbShowsTwoExamples(t *testing.T) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		require.NotEmpty(t, cmd.Short, cmd.CommandPath())
		lines := strings.Split(cmd.Example, "\n")
		require.Len(t, lines, 2, cmd.CommandPath())
		for _, line := range lines {
			words := strings.Fields(line)
			require.Equal(t, "croft", words[0])
			found, _, err := cmd.Root().Find(words[1:])
			require.NoError(t, err, line)
			require.NotEqual(t, cmd.Root(), found, "%s: no such verb", line)
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newTestApp("", nil).rootCommand())
}

func TestHelpBeginsWithExamples(t *testing.T) {
	a := newTestApp("", nil)
	require.Equal(t, exitOK, a.run(t.Context(), []string{"query", "--help"}))
	help := a.out.String()
	require.Less(t, strings.Index(help, "croft query acme-docs"), strings.Index(help, "Usage:"))
}

func TestVersion(t *testing.T) {
	a := newTestApp("", nil)
	require.Equal(t, exitOK, a.run(t.Context(), []string{"version", "--json"}))
	var got build
	require.NoError(t, json.Unmarshal(a.out.Bytes(), &got))
	require.Equal(t, api.Versions(), got.APIVersions, "what the server speaks")
}

func TestDataWithoutHeader(t *testing.T) {
	for format, want := range map[string][2]string{
		"csv": {"", "a,b\n"}, "table": {"", "a    b\n"}, "json": {"{}\n", "{}\n"}, "jsonl": {"{}\n", "{}\n"}, "yaml": {"{}\n", "{}\n"},
	} {
		for i, l := range []listing{done(), {value: struct{}{}, rows: [][]string{{"a", "b"}}}} {
			a := newTestApp("", nil)
			a.format = format
			require.NoError(t, a.print(l))
			require.Equal(t, want[i], a.out.String(), format)
		}
	}
}

func TestFormats(t *testing.T) {
	type item struct {
		Name string `json:"name"`
		N    int    `json:"n"`
	}
	items := []item{{"a", 1}, {"b\x1b[31m", 2}}
	l := listing{value: map[string]any{"items": items}, items: itemsOf(items), header: []string{"NAME", "N"}, rows: [][]string{{"a", "1"}, {"b\x1b[31m", "2"}}}
	for format, want := range map[string]string{
		"table": "NAME      N\na         1\nb\uFFFD[31m    2\n",
		"json":  "{\n  \"items\": [\n    {\n      \"name\": \"a\",\n      \"n\": 1\n    },\n    {\n      \"name\": \"b\\u001b[31m\",\n      \"n\": 2\n    }\n  ]\n}\n",
		"jsonl": "{\"name\":\"a\",\"n\":1}\n{\"name\":\"b\\u001b[31m\",\"n\":2}\n",
		"csv":   "NAME,N\na,1\nb\x1b[31m,2\n",
		"yaml":  "items:\n  - name: a\n    n: 1\n  - name: \"b\\e[31m\"\n    n: 2\n",
	} {
		t.Run(format, func(t *testing.T) {
			a := newTestApp("", nil)
			a.format = format
			require.NoError(t, a.print(l))
			require.Equal(t, want, a.out.String())
		})
	}
}

func TestConfirm(t *testing.T) {
	for name, tc := range map[string]struct {
		consent consent
		ok      bool
		code    int
		said    string
	}{
		"yes":          {consent{yes: true}, true, exitOK, "deleting index docs"},
		"dry run":      {consent{dryRun: true, yes: true}, false, exitOK, "would delete index docs"},
		"not a person": {consent{}, false, exitUsage, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTestApp("y\n", nil)
			ok, err := a.confirm(tc.consent, "index docs")
			require.Equal(t, tc.ok, ok)
			require.Equal(t, tc.code, exitCode(err))
			require.Contains(t, a.err.String(), tc.said)
		})
	}
}

func TestArguments(t *testing.T) {
	path := t.TempDir() + "/v.json"
	require.NoError(t, os.WriteFile(path, []byte(" [1, 2.5] \n"), 0o600))
	for _, arg := range []string{"[1, 2.5]", path, "@" + path, "-"} {
		a := newTestApp("[1, 2.5]", nil)
		v, err := a.vectorArgument("--vector", arg)
		require.NoError(t, err, arg)
		require.Equal(t, []float32{1, 2.5}, v)
	}
	for _, bad := range []string{"[1,", "nosuchfile", `["a"]`, "[1e39]", "@nosuchfile", "{}"} {
		_, err := newTestApp("", nil).vectorArgument("--vector", bad)
		require.Equal(t, exitUsage, exitCode(err), bad)
	}
}

func TestRecordArguments(t *testing.T) {
	const a, b = `{"id":"a"}`, `{"id":"b"}`
	for _, form := range []string{a + "\n" + b, "[" + a + "," + b + "]", `{"vectors":[` + a + "," + b + "]}"} {
		records, err := newTestApp(form, nil).recordsArgument("-")
		require.NoError(t, err, form)
		require.Len(t, records, 2)
		require.Equal(t, a, string(records[0]))
		require.Equal(t, b, string(records[1]))
	}
	for _, bad := range []string{"", "[]", "7", `{"id":`, `{"namespace":"acme","vectors":[` + a + `]}`} {
		_, err := newTestApp(bad, nil).recordsArgument("-")
		require.Equal(t, exitUsage, exitCode(err), bad)
	}
}

func TestSavedKeys(t *testing.T) {
	const address = "http://127.0.0.1:5080"
	a := newTestApp("", map[string]string{"XDG_CONFIG_HOME": t.TempDir()})
	require.Empty(t, a.savedKey(address))
	require.NoError(t, a.saveKey(address, "k1"))
	path, err := a.keyFile(address)
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	require.Equal(t, "k1", a.savedKey(address+"/"))
	require.Empty(t, a.savedKey("https://127.0.0.1:5080"), "the scheme belongs to the address")
	require.NoError(t, a.saveKey(address, "k2"))
	a.forgetKey(address, "k1")
	require.Equal(t, "k2", a.savedKey(address), "another's key stays")
	a.forgetKey(address, "k2")
	require.Empty(t, a.savedKey(address))
}

func TestNearest(t *testing.T) {
	names := []string{"listen", "shards", "data"}
	require.Equal(t, "listen", nearest("lissten", names))
	require.Equal(t, "data", nearest("date", names))
	require.Equal(t, "dimension", nearest("dim", []string{"m", "dimension"}))
	require.Empty(t, nearest("replication", names))
	require.Equal(t, 3, editDistance("kitten", "sitting"))
}

func TestNumbersForPeople(t *testing.T) {
	require.Equal(t, "12,044", thousands(12044))
	require.Equal(t, "-1,000", thousands(-1000))
	require.Equal(t, "999", thousands(999))
	require.Equal(t, "1 record", counted(1, "record"))
	require.Equal(t, "1.5 KiB", bytesText(1536))
}
