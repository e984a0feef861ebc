package api

import "slices"

// apiVersions are the versions of Pinecone's API that are spoken, oldest first. All have the classic shape.
var apiVersions = []string{"2024-04", "2024-07", "2024-10", "2025-01", "2025-04", "2025-10", "2026-04"}

// Versions returns the versions of Pinecone's API that are spoken, oldest first.
func Versions() []string { return slices.Clone(apiVersions) }

// defaultVersion serves callers that name none.
const defaultVersion = "2025-10"

// nearestVersion returns the newest version that is not newer than the asked one (the oldest if all are), and a
// warning unless it is the asked one.
func nearestVersion(asked string) (version, warning string) {
	if asked == "" {
		return defaultVersion, ""
	}
	if !looksLikeVersion(asked) {
		return defaultVersion, "X-Pinecone-Api-Version is not of the form YYYY-MM; served as " + defaultVersion
	}
	i, found := slices.BinarySearch(apiVersions, asked)
	if found {
		return asked, ""
	}
	version = apiVersions[max(i-1, 0)]
	return version, "X-Pinecone-Api-Version " + asked + " is not spoken; served as " + version
}

// looksLikeVersion reports YYYY-MM, with an optional suffix as in 2026-01.alpha. It bounds what is echoed in a header.
func looksLikeVersion(s string) bool {
	if len(s) < 7 || len(s) > 16 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case i == 4:
			if c != '-' {
				return false
			}
		case i < 7:
			if !isDigit(c) {
				return false
			}
		case c != '.' && (c < 'a' || c > 'z') && !isDigit(c):
			return false
		}
	}
	return true
}
