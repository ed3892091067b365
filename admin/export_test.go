package admin

// Patterns are the calls that New answers.
func Patterns() []string {
	var patterns []string
	for _, r := range (&server{}).routes() {
		patterns = append(patterns, r.pattern)
	}
	return patterns
}
