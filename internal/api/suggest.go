package api

import (
	"fmt"
	"strings"
)

// suggest names the known word nearest to an unknown one, or all of them if none is near.
func suggest(word string, known []string) string {
	if len(known) == 0 {
		return "none is known here"
	}
	best, bestDistance := "", len(word)/3+2
	for _, k := range known {
		if strings.EqualFold(strings.ReplaceAll(word, "_", ""), strings.ReplaceAll(k, "_", "")) {
			return fmt.Sprintf("did you mean %q?", k)
		}
		if d := editDistance(clip(word), k); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "known are " + strings.Join(known, ", ")
}

// editDistance counts the bytes to insert, delete or replace to make b of a.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
