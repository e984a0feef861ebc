package api

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestIdempotencyKey repeats each kind of write after its effect was changed: the answer is the first one's, and nothing
// is changed again.
func TestIdempotencyKey(t *testing.T) {
	c := newClient(t)
	c.index("demo", `"dimension":2,"metric":"euclidean"`)
	upsert := func(id, tag string) string {
		return fmt.Sprintf(`{"namespace":"n","vectors":[{"id":%q,"values":[1,2],"metadata":{"tag":%q}}]}`, id, tag)
	}
	for i, w := range []struct{ path, body, answer, back string }{
		{"/vectors/upsert", upsert("a", "x"), `{"upsertedCount":1}`, `{"namespace":"n","ids":["a"]}`},
		{"/vectors/update", `{"namespace":"n","id":"b","setMetadata":{"tag":"y"}}`, `{}`, upsert("b", "x")},
		{"/vectors/update", `{"namespace":"n","filter":{"tag":"x"},"setMetadata":{"tag":"y"}}`, `{"matchedRecords":1}`, upsert("b", "x")},
		{"/vectors/delete", `{"namespace":"n","filter":{"tag":"x"}}`, `{}`, upsert("b", "x")},
		{"/vectors/delete", `{"namespace":"n","ids":["b"]}`, `{}`, upsert("b", "x")},
		{"/vectors/delete", `{"namespace":"n","deleteAll":true}`, `{}`, upsert("b", "x")},
	} {
		c.ok("POST", "/vectors/upsert", upsert("b", "x"))
		key := fmt.Sprintf("Idempotency-Key: %d", i)
		first := c.ok("POST", w.path, w.body, key)
		require.Equal(t, w.answer, first.body)
		require.Empty(t, first.header.Get("X-Croft-Repeated"))

		undo := "/vectors/upsert"
		if strings.Contains(w.back, "ids") {
			undo = "/vectors/delete"
		}
		c.ok("POST", undo, w.back)
		before := c.ok("GET", "/vectors/fetch?ids=a&ids=b&namespace=n", "").body
		again := c.ok("POST", w.path, w.body, key)
		require.Equal(t, w.answer, again.body, w.path)
		require.Equal(t, "true", again.header.Get("X-Croft-Repeated"), w.path)
		require.Equal(t, first.header.Get("X-Pinecone-Lsn-Committed"), again.header.Get("X-Pinecone-Lsn-Committed"))
		require.Equal(t, before, c.ok("GET", "/vectors/fetch?ids=a&ids=b&namespace=n", "").body, "%s: %s had an effect again", w.path, w.body)

		other := c.do("POST", "/vectors/upsert", upsert("c", "z"), key)
		require.Equal(t, 409, other.status, other.body)
		require.Contains(t, other.body, "idempotency key")
	}
	c.index("more", `"dimension":2,"metric":"euclidean"`)
	require.Equal(t, 409, c.do("POST", "/i/more/vectors/upsert", upsert("a", "x"), "Idempotency-Key: 0").status, "another index is another request")
	c.ok("POST", "/i/demo/vectors/upsert", `{"namespace":"other","vectors":[{"id":"a","values":[1,2]}]}`, "Idempotency-Key: 0")
}

func TestIdempotencyKeyIsChecked(t *testing.T) {
	c := newClient(t)
	c.index("demo", `"dimension":2,"metric":"euclidean"`)
	body := `{"vectors":[{"id":"a","values":[1,2]}]}`
	for _, key := range []string{"", "caf\u00e9", strings.Repeat("k", maxIdempotencyKey+1)} {
		a := c.do("POST", "/vectors/upsert", body, "Idempotency-Key: "+key)
		require.Equal(t, 400, a.status, a.body)
		require.Contains(t, a.body, "Idempotency-Key")
	}
	c.ok("POST", "/vectors/upsert", body, "Idempotency-Key: "+strings.Repeat("k", maxIdempotencyKey))
}
