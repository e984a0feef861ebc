package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/client"
)

// defaultURL is where `croft serve` and `croft demo` listen unless told otherwise.
const defaultURL = "http://127.0.0.1:5080"

// connection holds the flags of a verb that speaks to a server.
type connection struct {
	url    string
	apiKey string
}

func (k *connection) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&k.url, "url", "", "the server (CROFT_URL; default "+defaultURL+")")
	cmd.Flags().StringVar(&k.apiKey, "api-key", "", "its key (CROFT_API_KEY, else the key that a demo on this machine left, else PINECONE_API_KEY)")
}

// connect makes a client by flags, then environment, then the key saved for the address.
func (a *app) connect(k connection, retries int) (*client.Client, error) {
	address := firstNonEmpty(k.url, a.getenv("CROFT_URL"), defaultURL)
	key := a.key(k.apiKey, address)
	c, err := client.New(client.Options{URL: address, APIKey: key, UserAgent: "croft/" + buildInfo().Version, Retries: retries})
	if err != nil {
		return nil, &usageError{err: err}
	}
	return c, nil
}

// getVerb asks for the thing that the argument names, and shows it.
func getVerb[T any](a *app, conn *connection, get func(*client.Client, context.Context, string) (T, error), show func(T) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := a.connect(*conn, 0)
		if err != nil {
			return err
		}
		thing, err := get(c, cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return show(thing)
	}
}

// key is the first key there is, by flag, environment or file. One that was kept for this very address comes before
// PINECONE_API_KEY, which many have set to a key of another service. keyOrigin remembers which it was.
func (a *app) key(flag, address string) string {
	path, _ := a.keyFile(address) // without it, nothing was kept
	for _, k := range []struct{ text, origin string }{
		{flag, "--api-key"}, {a.getenv("CROFT_API_KEY"), "CROFT_API_KEY"},
		{a.savedKey(address), path}, {a.getenv("PINECONE_API_KEY"), "PINECONE_API_KEY"},
	} {
		if k.text != "" {
			a.keyOrigin = k.origin
			return k.text
		}
	}
	return ""
}

// connectIndex is connect, and the data plane of one index.
func (a *app) connectIndex(ctx context.Context, k connection, name string) (*client.Index, error) {
	c, err := a.connect(k, 0)
	if err != nil {
		return nil, err
	}
	return c.Index(ctx, name)
}

func firstNonEmpty(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// savedKey is a key that this user may use at an address. One file per address: demos at several ports do not meet.
type savedKey struct {
	URL    string `json:"url"`
	APIKey string `json:"api_key"`
}

// keyFile is $XDG_CONFIG_HOME/croft/keys/<host>_<port>.json.
func (a *app) keyFile(address string) (string, error) {
	u, err := url.Parse(strings.TrimRight(address, "/"))
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("no key is kept for %q: not an address", address)
	}
	dir := a.getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home := a.getenv("HOME")
		if home == "" {
			return "", fmt.Errorf("no key is kept: neither XDG_CONFIG_HOME nor HOME is set")
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "croft", "keys", strings.ReplaceAll(u.Host, ":", "_")+".json"), nil
}

// savedKey returns the key kept for an address, "" if there is none.
func (a *app) savedKey(address string) string {
	path, err := a.keyFile(address)
	if err != nil {
		return ""
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	var k savedKey
	if json.Unmarshal(b, &k) != nil || k.URL != strings.TrimRight(address, "/") {
		return ""
	}
	return k.APIKey
}

// saveKey keeps a key for an address, readable by this user alone.
func (a *app) saveKey(address, key string) error {
	path, err := a.keyFile(address)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("save key: %w", err)
	}
	b, err := json.Marshal(savedKey{URL: strings.TrimRight(address, "/"), APIKey: key})
	if err != nil {
		return fmt.Errorf("save key: %w", err)
	}
	return writeFileAtomically(path, b, 0o600)
}

// forgetKey drops the key kept for an address, unless another one took its place.
func (a *app) forgetKey(address, key string) {
	if path, err := a.keyFile(address); err == nil && a.savedKey(address) == key {
		_ = os.Remove(path) // a stale key does no harm
	}
}

// writeFileAtomically replaces a file by a new one, so that readers see the old or the new contents.
func writeFileAtomically(path string, b []byte, mode os.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone already when all went well
	_, err = tmp.Write(b)
	if err == nil {
		err = tmp.Chmod(mode)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	return err
}
