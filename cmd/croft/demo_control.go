package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/errs"
)

// demoState is demo.json in a demo's directory: how its verbs reach it from another terminal, and where its nodes
// are, for people. A demo holds its nodes' processes itself, so a kill meets no stranger with a process id used again.
type demoState struct {
	PID     int             `json:"pid"`
	Control string          `json:"control"` // loopback address of the demo's own verbs
	Token   string          `json:"token"`   // that they ask for
	Nodes   []demoNodeState `json:"nodes"`
}

type demoNodeState struct {
	Name string `json:"name"`
	URL  string `json:"url"`
	PID  int    `json:"pid"` // 0: it does not run
	Data string `json:"data"`
	Log  string `json:"log"`
}

const demoStateName = "demo.json"

// demoPatience is how long a demo may take to do what it is told: a node has to be ready again.
const demoPatience = 2 * time.Minute

// saveLocked writes the state file, once there is a control address to tell.
func (c *demoCluster) saveLocked() error {
	if c.control.Control == "" {
		return nil
	}
	state := c.control
	for _, n := range c.nodes {
		shown := demoNodeState{Name: n.name(), URL: "http://" + n.listen, Data: n.data}
		if n.running() {
			shown.PID, shown.Log = n.server.cmd.Process.Pid, n.server.log
		}
		state.Nodes = append(state.Nodes, shown)
	}
	b, err := json.Marshal(state)
	if err != nil {
		return err
	}
	return writeFileAtomically(filepath.Join(c.dir, demoStateName), append(b, '\n'), 0o600)
}

// openControl listens for the demo's verbs, and leaves a note of where: in its directory, and by its address for
// those who do not know the directory.
func (a *app) openControl(c *demoCluster) (shut func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the demo's verbs: %w", err)
	}
	c.mu.Lock()
	c.control = demoState{PID: os.Getpid(), Control: "http://" + l.Addr().String(), Token: rand.Text()}
	err = c.saveLocked()
	c.mu.Unlock()
	if err != nil {
		l.Close()
		return nil, err
	}
	dropNote := a.noteDemo(c.opts.listen, c.dir)
	ctx, cancel := context.WithCancel(context.Background())
	srv := &http.Server{Handler: c.handler(), ReadHeaderTimeout: time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(l) // until it is closed
	}()
	return func() {
		cancel()
		_ = srv.Close()
		<-served
		dropNote()
		_ = os.Remove(filepath.Join(c.dir, demoStateName)) // a kept directory has no demo any more
	}, nil
}

// handler answers POST /kill/N and POST /start/N to those who know the token.
func (c *demoCluster) handler() http.Handler {
	mux := http.NewServeMux()
	verb := func(name string, do func(ctx context.Context, n *demoNode) (string, error)) {
		mux.HandleFunc("POST /"+name+"/{node}", func(w http.ResponseWriter, r *http.Request) {
			if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte(c.control.Token)) != 1 {
				http.Error(w, "not the token of this demo", http.StatusUnauthorized)
				return
			}
			number, _ := strconv.Atoi(r.PathValue("node")) // 0 is no node
			said := ""
			n, err := c.node(number)
			if err == nil {
				said, err = do(r.Context(), n)
			}
			if err != nil {
				http.Error(w, err.Error(), demoStatus(err))
				return
			}
			fmt.Fprintln(w, said)
		})
	}
	verb("kill", func(_ context.Context, n *demoNode) (string, error) {
		return n.name() + " is killed", c.killNode(n)
	})
	verb("start", func(ctx context.Context, n *demoNode) (string, error) {
		serves, err := c.restartNode(ctx, n)
		if !serves {
			return n.name() + " is started, and does not serve yet: it may need other nodes", err
		}
		return n.name() + " serves at http://" + n.listen, err
	})
	return mux
}

// demoStatus is the answer to a verb that failed, and demoKind what it means to who asked.
func demoStatus(err error) int {
	switch errs.KindOf(err) {
	case errs.NotFound:
		return http.StatusNotFound
	case errs.FailedPrecondition:
		return http.StatusConflict
	}
	return http.StatusInternalServerError
}

func demoKind(status int) errs.Kind {
	switch status {
	case http.StatusNotFound:
		return errs.NotFound
	case http.StatusConflict:
		return errs.FailedPrecondition
	}
	return errs.Internal
}

// notePath is $XDG_STATE_HOME/croft/demo/<host>_<port>: it holds the path of the directory of the demo at an address.
func (a *app) notePath(listen string) (string, error) {
	dir, err := a.stateHome()
	return filepath.Join(dir, "croft", "demo", strings.ReplaceAll(listen, ":", "_")), err
}

// noteDemo tells other terminals where the demo at an address is, until drop is called.
func (a *app) noteDemo(listen, dir string) (drop func()) {
	path, err := a.notePath(listen)
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = writeFileAtomically(path, []byte(dir), 0o600)
	}
	if err != nil {
		a.note("  `demo kill` and `demo start` need --dir %s: %v", dir, err)
		return func() {}
	}
	return func() {
		if b, err := os.ReadFile(path); err == nil && string(b) == dir {
			_ = os.Remove(path) // one that stays points to a demo that does not answer
		}
	}
}

// demoVerbCommand is `demo kill` or `demo start`.
func (a *app) demoVerbCommand(verb, short string) *cobra.Command {
	listen, dir := defaultDemo().listen, ""
	cmd := &cobra.Command{
		Use:     verb + " N",
		Short:   short,
		Example: fmt.Sprintf("  croft demo %s 2\n  croft demo %s 2 --listen 127.0.0.1:7080", verb, verb),
		Args:    exactly("N"),
		RunE: func(cmd *cobra.Command, args []string) error {
			number, err := strconv.Atoi(strings.TrimPrefix(args[0], "node-"))
			if err != nil {
				return usagef("%q is not the number of a node", args[0])
			}
			said, err := a.callDemo(cmd.Context(), listen, dir, fmt.Sprintf("/%s/%d", verb, number))
			if err != nil {
				return err
			}
			return a.print(listing{value: map[string]string{"said": said}, rows: [][]string{{said}}})
		},
	}
	cmd.Flags().StringVar(&listen, "listen", listen, "the demo's address, as it was started with")
	cmd.Flags().StringVar(&dir, "dir", "", "the demo's directory (default: found by its address)")
	return cmd
}

// callDemo asks the demo that runs at an address, or in a directory, to do something, and returns what it says.
func (a *app) callDemo(ctx context.Context, listen, dir, path string) (string, error) {
	state, err := a.findDemo(listen, dir)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, state.Control+path, nil)
	if err != nil {
		return "", errs.Wrap(errs.Corrupt, err, "read %s", demoStateName)
	}
	req.Header.Set("Authorization", state.Token)
	resp, err := (&http.Client{Timeout: demoPatience}).Do(req)
	if err != nil && ctx.Err() == nil {
		return "", errs.New(errs.Unavailable, "the demo with process id %d does not answer: %w", state.PID, err).WithHint("start a new one with `croft demo`")
	}
	if err != nil {
		return "", ctx.Err()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", err
	}
	said := strings.TrimSpace(string(b))
	if resp.StatusCode != http.StatusOK {
		return "", errs.New(demoKind(resp.StatusCode), "%s", said)
	}
	return said, nil
}

// findDemo reads the state file of a demo.
func (a *app) findDemo(listen, dir string) (state demoState, err error) {
	none := errs.New(errs.Unavailable, "no demo runs at %s", listen).
		WithHint("start one with `croft demo`, or give the --listen of another one")
	if dir == "" {
		path, err := a.notePath(listen)
		if err != nil {
			return state, usagef("%w", err).withHint("give --dir, the directory that the demo has printed")
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return state, none
		}
		dir = string(b)
	}
	b, err := os.ReadFile(filepath.Join(dir, demoStateName))
	if errors.Is(err, fs.ErrNotExist) {
		return state, none
	}
	if err != nil {
		return state, err
	}
	if err := json.Unmarshal(b, &state); err != nil {
		return state, errs.Wrap(errs.Corrupt, err, "read %s", filepath.Join(dir, demoStateName))
	}
	return state, nil
}
