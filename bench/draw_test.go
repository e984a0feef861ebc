package bench

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDrawerDrawsWhatIsGenerated compares blocks in memory with the files of a data set.
func TestDrawerDrawsWhatIsGenerated(t *testing.T) {
	const count = DrawnBlock + 100
	out := filepath.Join(t.TempDir(), "data")
	_, err := Generate(t.Context(), DataOptions{Name: "clustered-128", Out: out, Seed: 7, Count: count, Queries: 10})
	require.NoError(t, err)
	d, err := OpenDataset(out, 1)
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	recipe, _ := recipeOf("clustered-128")
	drawer := NewDrawer(recipe, 7)
	rows := append(drawer.Base(0), drawer.Base(1)[:100]...)
	want := make([]float32, recipe.Dim)
	for i, row := range rows {
		require.NoError(t, d.Base.At(i, want))
		require.Equal(t, want, row)
	}
	for i, q := range d.Queries {
		require.Equal(t, q, drawer.Queries(0)[i])
	}
}
