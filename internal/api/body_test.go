package api

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func gz(parts ...string) []byte {
	var b bytes.Buffer
	for _, p := range parts {
		z := gzip.NewWriter(&b)
		io.WriteString(z, p)
		z.Close()
	}
	return b.Bytes()
}

func TestCompressedBodies(t *testing.T) {
	c := newClient(t)
	c.index("demo", `"dimension":2`)
	good := `{"vectors":[{"id":"a","values":[1,2]}]}`
	spaces := strings.Repeat(" ", 1<<20)
	whole := gz(good)
	for name, w := range map[string]struct {
		encoding string
		body     []byte
		status   int
		part     string
	}{
		"plain":              {"identity", []byte(good), 200, ""},
		"gzip":               {"gzip", whole, 200, ""},
		"gzip, in capitals":  {"GZIP", whole, 200, ""},
		"gzip, two members":  {"gzip", gz(good[:10], good[10:]), 200, ""},
		"gzip of nothing":    {"gzip", gz(""), 400, "the body is empty"},
		"bomb":               {"gzip", gz(strings.Repeat(spaces, 64)), 413, "longer than"},
		"bomb below 2 MB":    {"gzip", gz(spaces), 413, "longer than"},
		"bomb in members":    {"gzip", gz(spaces, spaces, spaces, good), 413, "longer than"},
		"nested":             {"gzip, gzip", gz(string(whole)), 415, "gzip, gzip"},
		"zstd":               {"zstd", []byte(good), 415, "\"zstd\" is not spoken"},
		"br":                 {"br", []byte(good), 415, "\"br\" is not spoken"},
		"not gzip":           {"gzip", []byte(good), 400, "no valid gzip"},
		"torn":               {"gzip", whole[:len(whole)-9], 400, "ends before"},
		"wrong checksum":     {"gzip", append(append([]byte{}, whole[:len(whole)-8]...), 1, 2, 3, 4, 5, 6, 7, 8), 400, "no valid gzip"},
		"rubbish inside":     {"gzip", append(append([]byte{}, whole[:10]...), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), 400, "no valid gzip"},
		"something after it": {"gzip", append(append([]byte{}, whole...), "tail"...), 400, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/vectors/upsert", bytes.NewReader(w.body))
			r.Header.Set("Api-Key", testKey)
			r.Header.Set("Content-Encoding", w.encoding)
			a := c.send(r)
			require.Equal(t, w.status, a.status, a.body)
			if w.status != 200 {
				requireError(t, a, w.status, w.part)
			}
		})
	}
}

func TestBodyLimit(t *testing.T) {
	c := newClient(t, func(o *Options) { o.Limits.BodyBytes = 100 })
	c.index("demo", `"dimension":1`)
	body := func(n int) string {
		s := `{"vectors":[{"id":"a","values":[1]}]}`
		return s + strings.Repeat(" ", n-len(s))
	}
	require.Equal(t, 200, c.do("POST", "/vectors/upsert", body(100)).status)
	requireError(t, c.do("POST", "/vectors/upsert", body(101)), 413, "longer than 100 bytes")
	chunked := httptest.NewRequest("POST", "/vectors/upsert", io.MultiReader(strings.NewReader(body(101))))
	chunked.Header.Set("Api-Key", testKey)
	require.Equal(t, int64(-1), chunked.ContentLength)
	requireError(t, c.send(chunked), 413, "longer than 100 bytes")
}

func TestRefusedBodyEndsOnlyItsOwnConnection(t *testing.T) {
	n := openNode(t)
	(&client{t, newHandler(t, n)}).index("demo", `"dimension":1`)
	c := &client{t, newHandler(t, n, func(o *Options) { o.Limits.BodyBytes = 10 })}
	for major, want := range map[int]string{1: "close", 2: ""} {
		r := httptest.NewRequest("POST", "/vectors/upsert", strings.NewReader(strings.Repeat(" ", 100)))
		r.ProtoMajor = major
		r.Header.Set("Api-Key", testKey)
		a := c.send(r)
		require.Equal(t, 413, a.status)
		require.Equal(t, want, a.header.Get("Connection"))
	}
}

func TestBodyIsNotReadForStrangers(t *testing.T) {
	c := newClient(t)
	c.index("demo", `"dimension":1`)
	r := httptest.NewRequest("POST", "/vectors/upsert", unreadable{t})
	r.Header.Set("Api-Key", "wrong")
	requireError(t, c.send(r), 401)
}

type unreadable struct{ t *testing.T }

func (u unreadable) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

// serve starts a Server and returns its address.
func serve(t *testing.T, h *Handler, opts ServerOptions) *Server {
	t.Helper()
	opts.Listen = "127.0.0.1:0"
	s, err := Listen(h, opts)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		require.NoError(t, <-done)
	})
	return s
}

// dial opens a connection that fails the test rather than hang.
func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(30*time.Second)))
	return c
}

func TestSlowSendersAreCutOff(t *testing.T) {
	n := openNode(t)
	h := newHandler(t, n, func(o *Options) { o.Limits.BodyGrace = 50 * time.Millisecond })
	(&client{t, h}).index("demo", `"dimension":1`)
	s := serve(t, h, ServerOptions{IndexPorts: -1, HeaderTimeout: 50 * time.Millisecond})
	head := "POST %s HTTP/1.1\r\nHost: x\r\nApi-Key: " + testKey + "\r\nContent-Length: 1000\r\n\r\n"
	for name, sent := range map[string]string{
		"header":             "POST /vectors/upsert HTTP/1.1\r\nHost: x\r\nX-Slow: ",
		"nothing":            "",
		"body":               fmt.Sprintf(head, "/vectors/upsert") + `{"vectors"`,
		"body for no route":  fmt.Sprintf(head, "/nowhere") + "x",
		"body for no reader": fmt.Sprintf(head, "/indexes/demo") + "x",
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, s.Addr().String())
			_, err := io.WriteString(c, sent)
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, c) // ends only when the server closes
			if err != nil {
				require.ErrorContains(t, err, "reset")
			}
		})
	}
}

func TestSlowSenderIsTold(t *testing.T) {
	n := openNode(t)
	h := newHandler(t, n, func(o *Options) { o.Limits.BodyGrace = 50 * time.Millisecond })
	(&client{t, h}).index("demo", `"dimension":1`)
	s := serve(t, h, ServerOptions{IndexPorts: -1})
	c := dial(t, s.Addr().String())
	fmt.Fprintf(c, "POST /vectors/upsert HTTP/1.1\r\nHost: x\r\nApi-Key: %s\r\nContent-Length: 1000\r\n\r\n{", testKey)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	require.Equal(t, 400, resp.StatusCode)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Contains(t, string(body), "arrives too slowly")
	require.True(t, resp.Close)
}

func TestConnectionOutlivesManyBodies(t *testing.T) {
	n := openNode(t)
	h := newHandler(t, n, func(o *Options) { o.Limits.BodyGrace = 20 * time.Millisecond })
	(&client{t, h}).index("demo", `"dimension":1`)
	s := serve(t, h, ServerOptions{IndexPorts: -1})
	c := dial(t, s.Addr().String())
	r := bufio.NewReader(c)
	start := time.Now()
	body := `{"vectors":[{"id":"a","values":[1]}]}`
	for time.Since(start) < 100*time.Millisecond { // past several graces: deadlines do not leak into the next request
		fmt.Fprintf(c, "POST /vectors/upsert HTTP/1.1\r\nHost: x\r\nApi-Key: %s\r\nContent-Length: %d\r\n\r\n%s", testKey, len(body), body)
		resp, err := http.ReadResponse(r, nil)
		require.NoError(t, err)
		io.Copy(io.Discard, resp.Body)
		require.Equal(t, 200, resp.StatusCode)
	}
}
