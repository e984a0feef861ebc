package main

import (
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestDemoTenantSizes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tenants := rapid.IntRange(1, 100).Draw(t, "tenants")
		records := rapid.IntRange(tenants*10, 100_000).Draw(t, "records")
		sizes := demoTenantSizes(tenants, records)
		sum := 0
		for i, n := range sizes {
			require.Positive(t, n)
			require.True(t, i == 0 || n <= sizes[i-1], "sizes fall")
			sum += n
		}
		require.Equal(t, records, sum)
	})
}

// TestDemoDocumentsLieByTitle checks what the demo shows: the nearest documents are about the same thing.
func TestDemoDocumentsLieByTitle(t *testing.T) {
	type doc struct {
		values []float32
		title  string
	}
	corpus := newDemoCorpus(demoSeed)
	var docs []doc
	for n := range 500 {
		v, err := corpus.document(n)
		require.NoError(t, err)
		var m struct{ Title, Lang string }
		require.NoError(t, json.Unmarshal(v.Metadata, &m, json.MatchCaseInsensitiveNames(true)))
		require.NotEmpty(t, m.Title)
		docs = append(docs, doc{v.Values, m.Title})
	}
	same := 0
	for i, d := range docs {
		best, bestScore := -1, float32(-1)
		for j, e := range docs {
			score := float32(0)
			for k := range e.values {
				score += d.values[k] * e.values[k]
			}
			if j != i && score > bestScore {
				best, bestScore = j, score
			}
		}
		if docs[best].title == d.title {
			same++
		}
	}
	require.Greater(t, same, 400, "of 500 documents, those whose nearest neighbour has the same title")
}

func TestDemoDataAreTheSameEveryTime(t *testing.T) {
	a, err := newDemoCorpus(demoSeed).document(1)
	require.NoError(t, err)
	b, err := newDemoCorpus(demoSeed).document(1)
	require.NoError(t, err)
	require.Equal(t, a, b)
}
