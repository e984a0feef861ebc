package api

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/croftdb/croft/tenancy"
)

// bird is a tenant whose records are marked: whoever else sees a mark has seen its data.
type bird struct {
	name  string
	mark  string // in ids and metadata
	value string // as a number in vectors, and as such in answers
	keys  []string
}

func newBirds(w *town, n int) []bird {
	birds := make([]bird, n)
	for i := range birds {
		b := &birds[i]
		b.name, b.mark, b.value = fmt.Sprintf("tenant%d", i), fmt.Sprintf("canary%dx%dx", i, 7919*(i+1)), fmt.Sprintf("%d.5", 70001+101*i)
		for j := range 30 {
			w.ok("POST", "/vectors/upsert", b.upsert(j))
		}
		for _, role := range []tenancy.Role{tenancy.RoleReader, tenancy.RoleWriter, tenancy.RoleTenantAdmin} {
			b.keys = append(b.keys, w.key(role, b.name))
		}
	}
	return birds
}

// upsert stores records under ids that others have too, and under one of its own.
func (b *bird) upsert(j int) string {
	return fmt.Sprintf(`{"namespace":%q,"vectors":[{"id":"r%d","values":[%s,%d],"metadata":{"mark":%q,"n":%d}},{"id":"%s-%d","values":[1,%s]}]}`,
		b.name, j, b.value, j, b.mark, j, b.mark, j, b.value)
}

// seesOther names the mark of another that a text holds, "" for none.
func seesOther(birds []bird, own int, text string) string {
	for i := range birds {
		if i != own && (strings.Contains(text, birds[i].mark) || strings.Contains(text, birds[i].value)) {
			return birds[i].name
		}
	}
	return ""
}

// thief makes random requests of one tenant's, with whatever it may have picked up.
type thief struct {
	rng   *rand.Rand
	birds []bird
	loot  *loot
	turn  int             // in everyRoute
	beat  chan<- struct{} // gets a value now and then, for the operator to go on

	refused, unknown uint64 // answers 403 and 401
}

// everyRoute are the routes of this server, by their rows in the access matrix, which has one for each.
var everyRoute = slices.Sorted(maps.Keys(accessRows))

// row makes a request of the next route, about another tenant, who is as good as any where the route is about none.
func (h *thief) row(own int) (method, path, body string) {
	method, _, _ = strings.Cut(everyRoute[h.turn%len(everyRoute)], " ")
	row := accessRows[everyRoute[h.turn%len(everyRoute)]]
	h.turn++
	foreign := h.birds[(own+1+h.rng.IntN(len(h.birds)-1))%len(h.birds)].name
	return method, strings.ReplaceAll(row.path, "%s", foreign), strings.ReplaceAll(row.body, "%s", foreign)
}

// loot are tokens of pages that anybody was given.
type loot struct {
	mu     sync.Mutex
	tokens []string
}

func (l *loot) add(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.tokens) < 1000 {
		l.tokens = append(l.tokens, token)
		return
	}
	l.tokens[len(token)*7919%len(l.tokens)] = token
}

func (l *loot) any(rng *rand.Rand) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.tokens) == 0 || rng.IntN(2) == 0 {
		return ""
	}
	return l.tokens[rng.IntN(len(l.tokens))]
}

func pick[T any](rng *rand.Rand, items ...T) T { return items[rng.IntN(len(items))] }

// namespace is mostly the own one, else another's, or one of those names that might be taken for it.
func (h *thief) namespace(own int) string {
	name := h.birds[own].name
	if h.rng.IntN(3) > 0 {
		return name
	}
	foreign := h.birds[h.rng.IntN(len(h.birds))].name
	return pick(h.rng, foreign, foreign, foreign, "", "__default__", "*", "%", name+"\x00", "../"+foreign, foreign+"/", strings.ToUpper(foreign), " "+foreign, "tenant")
}

// request makes one.
func (h *thief) request(own int) *http.Request {
	rng, ns := h.rng, h.namespace(own)
	id := fmt.Sprint("r", rng.IntN(32))
	token := h.loot.any(rng)
	q := url.QueryEscape
	all := []func() (method, path, body string){
		func() (string, string, string) {
			return "POST", "/query", fmt.Sprintf(`{"namespace":%q,"topK":%d,"vector":[%d,1],"includeValues":true,"includeMetadata":true}`, ns, 1+rng.IntN(50), rng.IntN(80000))
		},
		func() (string, string, string) {
			return "POST", "/query", fmt.Sprintf(`{"namespace":%q,"topK":10,"id":%q,"includeValues":true,"includeMetadata":true}`, ns, id)
		},
		func() (string, string, string) {
			return "POST", "/query", fmt.Sprintf(`{"namespace":%q,"topK":10,"vector":[1,1],"includeMetadata":true,"filter":{"n":{"$gte":%d}}}`, ns, rng.IntN(30))
		},
		func() (string, string, string) {
			return "GET", "/vectors/fetch?ids=" + id + "&ids=r1&namespace=" + q(ns), ""
		},
		func() (string, string, string) {
			return "POST", "/vectors/fetch_by_metadata", fmt.Sprintf(`{"namespace":%q,"limit":%d,"filter":{"mark":{"$exists":true}},"paginationToken":%q}`, ns, 1+rng.IntN(5), token)
		},
		func() (string, string, string) {
			return "GET", fmt.Sprintf("/vectors/list?limit=%d&namespace=%s&paginationToken=%s", 1+rng.IntN(5), q(ns), q(token)), ""
		},
		func() (string, string, string) {
			return "GET", "/vectors/list?prefix=canary&namespace=" + q(ns), ""
		},
		func() (string, string, string) {
			return pick(rng, "GET", "POST"), "/describe_index_stats", ""
		},
		func() (string, string, string) {
			return "GET", "/namespaces?limit=1&paginationToken=" + q(token), ""
		},
		func() (string, string, string) {
			return pick(rng, "GET", "HEAD"), "/namespaces/" + url.PathEscape(ns), ""
		},
		func() (string, string, string) { return "GET", "/i/demo/namespaces", "" },
		func() (string, string, string) { return "GET", pick(rng, "/indexes", "/indexes/demo"), "" },
		func() (string, string, string) {
			return "GET", pick(rng, "/v1/tenants", "/v1/keys", "/v1/audit?limit=5", "/v1/cluster", "/v1/shards", "/v1/settings", "/metrics", "/readyz?verbose"), ""
		},
		func() (string, string, string) {
			return "GET", "/v1/tenants/" + url.PathEscape(ns) + pick(rng, "", "/settings", "/usage", "/cache"), ""
		},
		func() (string, string, string) {
			return "POST", "/query", pick(rng, `{"namespace":`, `{"topK":1}`, fmt.Sprintf(`{"namespace":%q,"topK":0,"vector":[1]}`, ns), fmt.Sprintf(`{"namespace":%q,"topK":1,"vector":[1]}`, ns))
		},
	}
	if rng.IntN(50) == 0 { // writes wait for the disk
		all = []func() (string, string, string){
			func() (string, string, string) { return "POST", "/vectors/upsert", h.birds[own].upsert(rng.IntN(30)) },
			func() (string, string, string) {
				return "POST", "/vectors/update", fmt.Sprintf(`{"namespace":%q,"id":%q,"setMetadata":{"seen":%d}}`, ns, id, own)
			},
			func() (string, string, string) {
				return "POST", "/vectors/update", fmt.Sprintf(`{"namespace":%q,"filter":{"n":{"$lt":3}},"setMetadata":{"seen":%d},"dryRun":true}`, ns, own)
			},
			func() (string, string, string) {
				return "POST", "/vectors/delete", fmt.Sprintf(`{"namespace":%q,"ids":[%q]}`, ns, id)
			},
		}
	}
	method, path, body := pick(rng, all...)()
	if rng.IntN(4) == 0 {
		method, path, body = h.row(own)
	}
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = pick(rng, "127.0.0.1:5080", "demo.example.com", "localhost")
	key := h.birds[own].keys[rng.IntN(3)]
	if rng.IntN(2) == 0 {
		r.Header.Set("Api-Key", key)
	} else {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	if rng.IntN(10) == 0 {
		r.Header.Set("Idempotency-Key", pick(rng, "1", "2", "3")) // all tenants use the same
		r.Header.Set("X-Croft-Consistency", pick(rng, "any", "strong", "leader"))
	}
	return r
}

// keep makes a request of an operator's at each beat, who moves tenants about meanwhile. What he is told of the cluster has nobody's marks, and a search over one
// tenant only that one's.
func (h *thief) keep(w *town, beats <-chan struct{}) error {
	for range beats {
		own, about, to := -1, h.rng.IntN(len(h.birds)), h.rng.IntN(2)
		what := h.rng.IntN(8)
		if h.turn++; h.turn <= 2 { // to the one or the other of two shards it can go
			what, about, to = 0, 0, h.turn-1
		}
		name := h.birds[about].name
		method, path, body := "GET", pick(h.rng, "/v1/cluster/health", "/v1/shards", "/v1/shards/0", "/v1/capacity", "/v1/rebalance", "/v1/rebalance/plan",
			"/v1/migrations", "/v1/migrations/1", "/v1/tenants/"+name, "/v1/tenants?sort=load", "/v1/usage?tenant="+name, "/v1/audit?limit=20"), ""
		switch what {
		case 0:
			method, path, body = "POST", "/v1/migrations", fmt.Sprintf(`{"tenant":%q,"to":%d}`, name, to)
		case 1:
			method, path = "POST", pick(h.rng, "/v1/migrations/1/rollback", "/v1/migrations/2/cancel", "/v1/cluster/health/verify")
		case 2, 3, 4:
			own = about
			method, path = "POST", "/v1/search"
			body = fmt.Sprintf(`{"topK":%d,"vector":[1,1],"includeValues":true,"includeMetadata":true,"tenants":[%q],"fresh":%t}`, 1+h.rng.IntN(30), name, h.rng.IntN(2) == 0)
		}
		a := w.do(method, path, body)
		if a.status == http.StatusInternalServerError {
			return fmt.Errorf("%s %s: %s", method, path, a.body)
		}
		if seen := seesOther(h.birds, own, a.body+fmt.Sprint(a.header)); seen != "" {
			return fmt.Errorf("data of %s in %s %s %s: %.500s", seen, method, path, body, a.body)
		}
	}
	return nil
}

// beatEvery is after how many requests of a thief the operator makes one.
const beatEvery = 10

// steal makes n requests and looks at what comes back.
func (h *thief) steal(w *town, n int) error {
	for i := range n {
		if i%beatEvery == 0 {
			select {
			case h.beat <- struct{}{}:
			default: // the operator is busy
			}
		}
		own := h.rng.IntN(len(h.birds))
		r := h.request(own)
		what := r.Method + " " + r.URL.String()
		rec := httptest.NewRecorder()
		w.h.ServeHTTP(rec, r)
		body := rec.Body.String()
		switch rec.Code {
		case http.StatusForbidden:
			h.refused++
		case http.StatusUnauthorized:
			h.unknown++
		}
		if rec.Code == http.StatusInternalServerError {
			return fmt.Errorf("%s: %s", what, body)
		}
		if seen := seesOther(h.birds, own, body+fmt.Sprint(rec.Header())); seen != "" {
			return fmt.Errorf("%s has seen data of %s by %s: %.500s", h.birds[own].name, seen, what, body)
		}
		if _, rest, ok := strings.Cut(body, `"next":"`); ok {
			token, _, _ := strings.Cut(rest, `"`)
			h.loot.add(token)
		}
	}
	return nil
}

// TestCanaries: over many random requests of many tenants, none ever sees another's mark, and no mark is in logs or metrics.
// CROFT_CANARY_REQUESTS says how many.
func TestCanaries(t *testing.T) {
	requests := 1500
	if s := os.Getenv("CROFT_CANARY_REQUESTS"); s != "" {
		var err error
		requests, err = strconv.Atoi(s)
		require.NoError(t, err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d, %d requests", seed, requests)
	w := newTown(t)
	w.ok("DELETE", "/indexes/demo", "")
	w.index("demo", `"dimension":2,"metric":"euclidean"`)
	birds := newBirds(w, 6)
	require.Empty(t, seesOther(birds, 2, `{"id":"`+birds[2].mark+`"}`))
	require.Equal(t, birds[3].name, seesOther(birds, 2, `{"values":[`+birds[3].value+`]}`), "what is looked for would be found")

	const workers = 4
	found := &loot{}
	var thieves []*thief
	beats := make(chan struct{}, workers)
	var group errgroup.Group
	before := isolationOf(w.client)
	for i := range uint64(workers) {
		h := &thief{rng: rand.New(rand.NewPCG(seed, i)), birds: birds, loot: found, turn: int(i) * len(everyRoute) / workers, beat: beats}
		thieves = append(thieves, h)
		group.Go(func() error { return h.steal(w, requests/workers) })
	}
	keeper := &thief{rng: rand.New(rand.NewPCG(seed, workers)), birds: birds}
	kept := make(chan error, 1)
	go func() { kept <- keeper.keep(w, beats) }()
	stolen := group.Wait()
	close(beats)
	require.NoError(t, stolen)
	require.NoError(t, <-kept)
	require.Contains(t, w.ok("GET", "/v1/migrations", "").body, birds[0].name, "a tenant has moved meanwhile")
	for i, h := range thieves {
		require.GreaterOrEqual(t, h.turn, (i+1)*len(everyRoute)/workers, "together they have asked each route")
	}
	require.NotEmpty(t, found.tokens)
	requireCounted(w.client, thieves, before)
	require.Empty(t, seesOther(birds, -1, w.logs.String()), "a mark is in the log")
	require.Empty(t, seesOther(birds, -1, w.ok("GET", "/metrics", "").body), "a mark is in the metrics")
	for _, key := range []string{"", birds[0].keys[2]} {
		page := w.ok("GET", "/metrics", "", "Api-Key: "+key).body
		for _, b := range birds {
			require.NotContains(t, page, b.name)
		}
	}
	// Everybody still finds what is his: the silence above is not that of an empty store.
	for i, b := range birds {
		a := w.ok("POST", "/query", fmt.Sprintf(`{"namespace":%q,"topK":50,"vector":[1,1],"includeMetadata":true}`, b.name), "Api-Key: "+b.keys[0])
		require.Contains(t, a.body, b.mark, "tenant %d", i)
	}
}

// requireCounted: every refusal is in the report of isolation, and no answer was another's. What was counted for the home that a tenant has
// left is written down at the next one some seconds later.
func requireCounted(c *client, thieves []*thief, before map[string]isolationShown) {
	var refused, unknown uint64
	for _, h := range thieves {
		refused, unknown = refused+h.refused, unknown+h.unknown
	}
	require.Positive(c.t, refused)
	require.EventuallyWithT(c.t, func(t *assert.CollectT) {
		var denied, distrusted uint64
		for name, s := range isolationOf(c) {
			denied += s.Foreign + s.System + s.Role - before[name].Foreign - before[name].System - before[name].Role
			distrusted += s.ExpiredKey + s.UnknownKey - before[name].ExpiredKey - before[name].UnknownKey
			require.Zero(t, s.Strayed, name)
		}
		require.Equal(t, []uint64{refused, unknown}, []uint64{denied, distrusted}, "refused, unknown")
	}, time.Minute, 100*time.Millisecond)
}
