package webhook

import (
	"embed"
	"path"
	"slices"
	"strings"
)

//go:embed schema/*.json
var schemas embed.FS

// Schema returns the JSON Schema (2020-12) of an event type's body, and whether
// there is such a type. The schemas allow properties they do not name, because
// receivers must.
func Schema(eventType string) ([]byte, bool) {
	if !slices.Contains(Types(), eventType) {
		return nil, false
	}
	b, err := schemas.ReadFile(path.Join("schema", eventType+".json"))
	return b, err == nil
}

// Types lists the event types that have a schema, sorted.
func Types() []string {
	// The folder is compiled in, so reading it cannot fail.
	entries, _ := schemas.ReadDir("schema")
	types := make([]string, len(entries))
	for i, e := range entries {
		types[i] = strings.TrimSuffix(e.Name(), ".json")
	}
	return types
}
