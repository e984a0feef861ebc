package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/croftdb/croft/internal/errs"
)

// wire is a connection that sends requests which are bytes already. It shares the machine with the servers that it
// measures, and costs a small part of what net/http would.
type wire struct {
	addr string
	conn net.Conn // nil: to be dialled
	r    *bufio.Reader
	buf  []byte
	said string // the beginning of the last answer that was no success
}

// shot is a request in bytes, with room for a number that makes each one different: an answer from a cache measures nothing.
type shot struct {
	bytes []byte
	at    int // of the digits
}

const shotDigits = 9

// maxSaid is how much is kept of an answer that is no success, in bytes.
const maxSaid = 300

// newShot is a query of a namespace.
func newShot(host, key, path, namespace string, vector []float32, k int) shot {
	var body strings.Builder
	fmt.Fprintf(&body, `{"namespace":%q,"topK":%d,"vector":[0.%0*d`, namespace, k, shotDigits, 0)
	at := body.Len() - shotDigits
	for _, x := range vector[1:] {
		body.WriteByte(',')
		body.WriteString(strconv.FormatFloat(float64(x), 'g', 4, 32))
	}
	body.WriteString("]}")
	head := requestHead(host, key, path, body.Len())
	return shot{[]byte(head + body.String()), len(head) + at}
}

// requestHead is what comes before a JSON body of so many bytes.
func requestHead(host, key, path string, length int) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nApi-Key: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", path, host, key, length)
}

// fire sends a shot with a number of its own, and reads the answer.
func (w *wire) fire(ctx context.Context, s *shot, n uint64, patience time.Duration) (status int, err error) {
	w.buf = append(w.buf[:0], s.bytes...)
	for i := s.at + shotDigits - 1; i >= s.at; i-- {
		w.buf[i] = byte('0' + n%10)
		n /= 10
	}
	return w.post(ctx, patience)
}

// postBody sends a body as it is.
func (w *wire) postBody(ctx context.Context, key, path, body string, patience time.Duration) (status int, err error) {
	w.buf = append(append(w.buf[:0], requestHead(w.addr, key, path, len(body))...), body...)
	return w.post(ctx, patience)
}

// post sends what is in buf.
func (w *wire) post(ctx context.Context, patience time.Duration) (status int, err error) {
	if w.conn == nil {
		if w.conn, err = (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", w.addr); err != nil {
			return 0, err
		}
		w.r = bufio.NewReaderSize(w.conn, 4<<10)
	}
	if status, err = w.exchange(time.Now().Add(patience)); err != nil {
		w.close()
	}
	return status, err
}

func (w *wire) exchange(until time.Time) (status int, err error) {
	if err := w.conn.SetDeadline(until); err != nil {
		return 0, err
	}
	if _, err := w.conn.Write(w.buf); err != nil {
		return 0, err
	}
	line, err := w.r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < len("HTTP/1.1 200") {
		return 0, errs.New(errs.Internal, "%q is no status line", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, err
	}
	length, last := 0, false
	for {
		if line, err = w.r.ReadSlice('\n'); err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(v)); err != nil {
				return 0, err
			}
		}
		last = last || string(line) == "Connection: close"
	}
	if status != http.StatusOK {
		begin, err := w.r.Peek(min(length, maxSaid))
		if err != nil {
			return 0, err
		}
		w.said = string(begin)
	}
	if _, err := w.r.Discard(length); err != nil {
		return 0, err
	}
	if last {
		w.close()
	}
	return status, nil
}

// wirePool has connections to each of some nodes, as many as are needed at a time.
type wirePool struct {
	addrs []string
	free  []chan *wire
}

func newWirePool(addrs []string) *wirePool {
	p := &wirePool{addrs: addrs, free: make([]chan *wire, len(addrs))}
	for i := range p.free {
		p.free[i] = make(chan *wire, 1024)
	}
	return p
}

// use lends a connection to a node.
func (p *wirePool) use(node int, do func(*wire)) {
	var w *wire
	select {
	case w = <-p.free[node]:
	default:
		w = &wire{addr: p.addrs[node]}
	}
	do(w)
	select {
	case p.free[node] <- w:
	default:
		w.close()
	}
}

func (w *wire) close() {
	if w.conn != nil {
		_ = w.conn.Close() // it has nothing left to lose
		w.conn = nil
	}
}

// send sends a JSON body to a server's own API.
func send(ctx context.Context, method, url, key string, body any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Api-Key", key)
	resp, err := (&http.Client{Timeout: time.Minute}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if said, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode/100 != 2 {
		return errs.New(errs.FailedPrecondition, "%s answered %s: %.200s", url, resp.Status, said)
	}
	return nil
}
