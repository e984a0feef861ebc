package cluster

import (
	"maps"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

type cowPair struct{ key, value int }

// collide maps many keys to few buckets.
func collide(key int) uint64 { return uint64(key % 5 * 257) }

func cowGet(m cowMap[cowPair], key int) (int, bool) {
	p, ok := m.get(collide(key), func(p cowPair) bool { return p.key == key })
	return p.value, ok
}

// TestCowMap holds every version against a plain map: changes must not be seen by older ones.
func TestCowMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		versions := []cowMap[cowPair]{{}}
		models := []map[int]int{{}}
		for i := range rapid.IntRange(1, 60).Draw(t, "changes") {
			from := rapid.IntRange(0, len(versions)-1).Draw(t, "version")
			key := rapid.IntRange(0, 30).Draw(t, "key")
			same := func(p cowPair) bool { return p.key == key }
			model := maps.Clone(models[from])
			changed := versions[from].remove(collide(key), same)
			if delete(model, key); rapid.Bool().Draw(t, "put") {
				model[key] = i
				changed = versions[from].put(collide(key), cowPair{key, i}, same)
			}
			versions, models = append(versions, changed), append(models, model)
		}
		for i, m := range versions {
			require.Equal(t, len(models[i]), m.n)
			got := map[int]int{}
			for p := range m.all() {
				got[p.key] = p.value
			}
			require.Equal(t, models[i], got)
			for key := range 31 {
				v, ok := cowGet(m, key)
				want, there := models[i][key]
				require.Equal(t, there, ok)
				require.Equal(t, want, v)
			}
		}
	})
}

func TestCowMapStops(t *testing.T) {
	var m cowMap[cowPair]
	for key := range 10 {
		m = m.put(collide(key), cowPair{key: key}, func(p cowPair) bool { return p.key == key })
	}
	seen := 0
	for range m.all() {
		if seen++; seen == 3 {
			break
		}
	}
	require.Equal(t, 3, seen)
}
