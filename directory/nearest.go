package directory

import (
	"fmt"
	"strings"
	"unicode"
)

// maxShown is how much of a foreign word an error shows, in bytes.
const maxShown = 40

// unknown says that what (a key, a kind) is not legal and names the nearest
// legal one. A word that could be an address is not shown.
func unknown(what, got string, legal []string) error {
	shown := fmt.Sprintf("%q", got)
	if len(got) > maxShown || strings.ContainsFunc(got, notWord) {
		shown = "(not shown)"
	}
	if near, ok := nearest(got, legal); ok {
		return fmt.Errorf("unknown %s %s; did you mean %q?", what, shown, near)
	}
	return fmt.Errorf("unknown %s %s; legal are %s", what, shown, strings.Join(legal, ", "))
}

// notWord tells characters that no key has.
func notWord(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) && c != '_' && c != '-' }

// nearest returns the legal word that got most likely stands for: one that
// begins the same or is at most two typing errors away.
func nearest(got string, legal []string) (string, bool) {
	got = strings.ToLower(got)
	if len(got) > maxShown {
		return "", false
	}
	best, least := "", 3
	for _, word := range legal {
		d := distance(got, word)
		if len(got) > 2 && (strings.HasPrefix(word, got) || strings.HasPrefix(got, word)) {
			d = min(d, 1)
		}
		if d < least {
			best, least = word, d
		}
	}
	return best, best != ""
}

// distance counts the typing errors between two words (Levenshtein).
func distance(a, b string) int {
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
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
