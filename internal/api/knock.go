package api

import (
	"bytes"
	"hash/maphash"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/errs"
)

// A tenant that asks for more than it may have should cost little more than its bytes. What was refused a moment ago is
// refused again before it is decoded, and a request that was told to come later and comes at once waits, see
// tenancy.Refusals. While nobody is refused, nothing of this is done.

var hashSeed = maphash.MakeSeed()

// hash tells a request from others of this process's life.
func (c *call) hash() uint64 {
	if c.hashed {
		return c.sum
	}
	var h maphash.Hash
	h.SetSeed(hashSeed)
	h.WriteString(c.r.URL.Path)
	h.WriteString(c.r.URL.RawQuery)
	h.Write(c.body)
	c.sum, c.hashed = h.Sum64(), true
	return c.sum
}

// knock asks the node whether a request is worth a closer look.
func (c *call) knock() error {
	if c.route.scope != oneNamespace || c.h.node.Quiet() {
		return nil
	}
	name, ok := c.whose()
	if !ok {
		return nil
	}
	if st := c.h.node.Standing(name); st.Known {
		c.again = c.h.node.Shut(st.ID, &c.reading.Receipt)
	}
	err := c.h.away.err
	if c.again == 0 {
		err = c.h.node.Knock(c.r.Context(), name, c.hash(), &c.reading.Receipt)
	}
	if err != nil {
		c.namespace = name // for the log
		c.serveUnder(name) // for the headers: whose found nothing out of the principal's reach
	}
	return err
}

// whose finds the namespace that a request is about, as far as that is cheap.
func (c *call) whose() (string, bool) {
	name, sure := c.principal.Tenant, c.principal.Tenant != ""
	if !sure && len(c.args) > 0 {
		return c.args[0], true
	}
	if !sure && c.route.body {
		name, sure = peekText(c.body, "namespace")
	} else if !sure {
		name, sure = c.params.text("namespace"), true
	}
	if sure && name == "" {
		name = cluster.DefaultNamespace
	}
	return name, sure
}

// noteRefusal remembers a refused request, and one that took too long: it should not be back before it is told to. It is called
// while the body is still there.
func (c *call) noteRefusal(err error) {
	if err == nil || c.again > 0 || c.route.scope != oneNamespace {
		return
	}
	kind := errs.KindOf(err)
	if kind == errs.RateLimited || kind == errs.DeadlineExceeded || kind == errs.Unavailable && c.reading.Receipt.Closed > 0 {
		c.h.node.Told(c.hash(), problemOf(err, c.id).retry)
	}
}

// peekText finds a text among the members of a JSON object, without a look at the others' insides; empty if there is none.
// sure is false where that takes a real decoder, which also judges whether all is well.
func peekText(body []byte, name string) (value string, sure bool) {
	rest := bytes.TrimLeft(body, " \t\r\n")
	if len(rest) == 0 || rest[0] != '{' {
		return "", false
	}
	rest = rest[1:]
	for {
		rest = bytes.TrimLeft(rest, " \t\r\n,")
		if len(rest) > 0 && rest[0] == '}' {
			return "", true
		}
		key, after, ok := plainText(rest)
		if !ok {
			return "", false
		}
		if rest, ok = bytes.CutPrefix(bytes.TrimLeft(after, " \t\r\n"), []byte{':'}); !ok {
			return "", false
		}
		rest = bytes.TrimLeft(rest, " \t\r\n")
		if string(key) == name {
			text, _, ok := plainText(rest)
			return string(text), ok
		}
		if rest, ok = skipValue(rest); !ok {
			return "", false
		}
	}
}

// plainText reads a JSON text without escapes.
func plainText(b []byte) (text, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '"' {
		return nil, nil, false
	}
	end := bytes.IndexByte(b[1:], '"')
	if end < 0 || bytes.IndexByte(b[1:1+end], '\\') >= 0 {
		return nil, nil, false
	}
	return b[1 : 1+end], b[2+end:], true
}

// skipValue returns what follows a JSON value. Of a list of numbers, which is long, it looks at the end alone.
func skipValue(b []byte) (rest []byte, ok bool) {
	if len(b) > 1 && b[0] == '[' {
		if end := bytes.IndexByte(b, ']'); end > 0 && bytes.IndexByte(b[1:end], '[') < 0 && bytes.IndexByte(b[1:end], '"') < 0 && bytes.IndexByte(b[1:end], '{') < 0 {
			return b[end+1:], true
		}
	}
	for depth := 0; len(b) > 0; {
		switch b[0] {
		case '"':
			if _, b, ok = plainText(b); !ok {
				return nil, false
			}
			if depth == 0 {
				return b, true
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return b[1:], true
			}
			if depth < 0 {
				return b, true // the end of a number, and of the object around it
			}
		case ',':
			if depth == 0 {
				return b, true
			}
		}
		b = b[1:]
	}
	return nil, false
}
