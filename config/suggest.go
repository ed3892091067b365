package config

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
)

// suggest tells what the operator may have meant by a key that t does not
// have: a key spelled nearly so, the file that holds what must not stand here,
// or the section where the key is at home. meant is the key of t that it
// probably is, "" when there is none.
func suggest(t reflect.Type, key string) (meant, mend string) {
	if _, ok := fieldByKey(t, key+"_file"); ok {
		return key + "_file", "secrets stand in files of their own; use " + key + "_file"
	}
	legal := keysOf(t)
	if near := nearest(key, legal); near != "" {
		return near, "did you mean " + near + "?"
	}
	if t == reflect.TypeFor[includeFile]() {
		return "", "an included file holds only mailboxes; settings belong to the main file"
	}
	if homes := homesOf(reflect.TypeFor[Config](), "", key); len(homes) > 0 {
		return "", "it belongs at " + strings.Join(homes, " or ")
	}
	return "", "legal here: " + strings.Join(legal, ", ")
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for f := range fields(t) {
		keys = append(keys, f.Tag.Get("yaml"))
	}
	return keys
}

// homesOf lists the paths in the configuration at which a key of this name is
// legal.
func homesOf(t reflect.Type, path, key string) []string {
	var homes []string
	for f := range fields(t) {
		name := f.Tag.Get("yaml")
		here := join(path, name)
		if name == key {
			homes = append(homes, here)
		}
		sub := f.Type
		if sub.Kind() == reflect.Slice && sub.Elem().Kind() == reflect.Struct {
			sub, here = sub.Elem(), here+"[]"
		}
		if sub.Kind() == reflect.Struct && sub != reflect.TypeFor[netip.Prefix]() {
			homes = append(homes, homesOf(sub, here, key)...)
		}
	}
	return homes
}

// nearest returns the word that takes the fewest edits to become, as long as
// these are at most a third of it; "" otherwise.
func nearest(word string, words []string) string {
	if len(word) > 64 || len(words) == 0 {
		return ""
	}
	word = strings.ToLower(strings.ReplaceAll(word, "-", "_"))
	best := slices.MinFunc(words, func(a, b string) int { return edits(word, a) - edits(word, b) })
	if edits(word, best) > max(1, len(best)/3) {
		return ""
	}
	return best
}

// edits is how many letters must be changed, added, dropped, or swapped with
// their neighbour to make a into b.
func edits(a, b string) int {
	d := make([][]int, len(a)+1) // d[i][j]: from a[:i] to b[:j]
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			d[i][j] = min(d[i-1][j-1]+change, d[i-1][j]+1, d[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
