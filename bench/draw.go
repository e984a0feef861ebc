package bench

// Drawer draws the vectors of a recipe without files, the same for the same seed as Generate writes.
type Drawer struct {
	mixture *mixture
	seed    uint64
}

// NewDrawer prepares to draw from a recipe.
func NewDrawer(r Recipe, seed uint64) *Drawer { return &Drawer{newMixture(r, seed), seed} }

// DrawnBlock is how many vectors a block has.
const DrawnBlock = rowsPerStream

// Base returns the n-th block of base vectors.
func (d *Drawer) Base(n int) [][]float32 { return d.block(baseStream, n) }

// Queries returns the n-th block of queries.
func (d *Drawer) Queries(n int) [][]float32 { return d.block(queryStream, n) }

func (d *Drawer) block(kind, n int) [][]float32 {
	dim := d.mixture.recipe.Dim
	rng, room := stream(d.seed, kind, n), make([]float64, dim)
	values, rows := make([]float32, DrawnBlock*dim), make([][]float32, DrawnBlock)
	for i := range rows {
		rows[i] = values[i*dim : (i+1)*dim]
		d.mixture.draw(rng, room, rows[i])
	}
	return rows
}
