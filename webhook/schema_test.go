package webhook_test

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"mailsyncd/store"
	"mailsyncd/webhook"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func TestEveryEventSatisfiesItsSchema(t *testing.T) {
	schemas := compileSchemas(t)
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) { schemas.validate(t, render(t, s.event)) })
	}
	t.Run("the test event", func(t *testing.T) {
		body, err := webhook.RenderTest(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		schemas.validate(t, body)
	})
}

func TestEveryTypeOfTheContractHasASchema(t *testing.T) {
	want := []store.EventType{
		store.CandidatePurged, store.DirectoryConflict, store.DirectorySweepHeld, store.MailboxStateEvent,
		store.MessageObserved, store.ThreadMatched, store.ThreadMerged, webhook.TestEvent,
	}
	var got []store.EventType
	for _, typ := range webhook.Types() {
		got = append(got, store.EventType(typ))
	}
	if !slices.Equal(got, want) {
		t.Errorf("types with a schema are %q, want %q", got, want)
	}
	for _, unknown := range []string{"", "thread", "../schema/thread.matched", "thread.matched.json"} {
		if _, ok := webhook.Schema(unknown); ok {
			t.Errorf("there is a schema for %q", unknown)
		}
	}
}

func TestSchemasRefuseWhatAReceiverCouldNotUse(t *testing.T) {
	schemas := compileSchemas(t)
	good := string(render(t, contractEvent()))
	for _, tt := range []struct{ name, old, new string }{
		{"a null array", `"cc":[]`, `"cc":null`},
		{"a missing ref", `"ref":"cand_123",`, ``},
		{"no candidate at all", `"candidates":[{"ref":"cand_123","address":"nora@example.net","fields":["from"]}]`, `"candidates":[]`},
		{"an unknown direction", `"inbound"`, `"sideways"`},
		{"a date of another zone", `09:59:40Z`, `09:59:40+01:00`},
		{"a timestamp without milliseconds", `03.120Z`, `03Z`},
		{"another schema number", `"schema":1`, `"schema":2`},
		{"another type", `"type":"thread.matched"`, `"type":"thread.merged"`},
	} {
		body := strings.Replace(good, tt.old, tt.new, 1)
		if body == good {
			t.Fatalf("%s: the row changes nothing", tt.name)
		}
		if schemas.check(t, store.ThreadMatched, []byte(body), false) == nil {
			t.Errorf("the schema accepts %s", tt.name)
		}
	}
}

func TestAFieldWithoutASchemaIsFoundHereAndAllowedOutside(t *testing.T) {
	schemas := compileSchemas(t)
	body := bytes.Replace(render(t, contractEvent()), []byte(`"cc":[]`), []byte(`"cc":[],"bcc":[]`), 1)
	if err := schemas.check(t, store.ThreadMatched, body, false); err != nil {
		t.Errorf("the published schema refuses an unknown field, which receivers must ignore: %v", err)
	}
	if schemas.check(t, store.ThreadMatched, body, true) == nil {
		t.Error("the strict variant lets an undescribed field pass")
	}
}

func TestTheExamplesOfTheManualSatisfyTheirSchemas(t *testing.T) {
	manual, err := os.ReadFile("../docs/WEBHOOK.md")
	if err != nil {
		t.Fatal(err)
	}
	schemas := compileSchemas(t)
	seen := make(map[string]bool)
	for i, block := range strings.Split(string(manual), "```json\n") {
		if i == 0 {
			continue
		}
		body, _, _ := strings.Cut(block, "```")
		var head struct{ Type string }
		if err := json.Unmarshal([]byte(body), &head); err != nil {
			t.Fatalf("example %d is not JSON: %v", i, err)
		}
		seen[head.Type] = true
		if err := schemas.check(t, store.EventType(head.Type), []byte(body), true); err != nil {
			t.Errorf("example %d (%s): %v", i, head.Type, err)
		}
	}
	for _, typ := range webhook.Types() {
		if !seen[typ] {
			t.Errorf("the manual has no example of %s", typ)
		}
	}
}

// schemaSet holds each schema as published, and a strict variant of it.
type schemaSet struct {
	open, strict map[store.EventType]*jsonschema.Schema
}

func compileSchemas(t testing.TB) schemaSet {
	t.Helper()
	set := schemaSet{open: map[store.EventType]*jsonschema.Schema{}, strict: map[store.EventType]*jsonschema.Schema{}}
	for _, typ := range webhook.Types() {
		raw, ok := webhook.Schema(typ)
		if !ok {
			t.Fatalf("%s is listed but has no schema", typ)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		if err != nil {
			t.Fatalf("schema of %s: %v", typ, err)
		}
		set.open[store.EventType(typ)] = compile(t, typ, doc)
		forbidUnknown(doc)
		set.strict[store.EventType(typ)] = compile(t, typ, doc)
	}
	return set
}

func compile(t testing.TB, name string, doc any) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(name, doc); err != nil {
		t.Fatalf("schema of %s: %v", name, err)
	}
	s, err := c.Compile(name)
	if err != nil {
		t.Fatalf("schema of %s: %v", name, err)
	}
	return s
}

// forbidUnknown closes every object of a schema.
func forbidUnknown(v any) {
	switch v := v.(type) {
	case map[string]any:
		if _, ok := v["properties"].(map[string]any); ok {
			v["additionalProperties"] = false
		}
		for _, inner := range v {
			forbidUnknown(inner)
		}
	case []any:
		for _, inner := range v {
			forbidUnknown(inner)
		}
	}
}

// validate holds a body to the strict schema of the type it names.
func (s schemaSet) validate(t testing.TB, body []byte) {
	t.Helper()
	var head struct{ Type store.EventType }
	if err := json.Unmarshal(body, &head); err != nil {
		t.Fatalf("body is not JSON: %v", err)
	}
	if err := s.check(t, head.Type, body, true); err != nil {
		t.Errorf("%s does not satisfy its schema: %v\n%s", head.Type, err, body)
	}
}

func (s schemaSet) check(t testing.TB, typ store.EventType, body []byte, strict bool) error {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		t.Fatalf("body is not JSON: %v", err)
	}
	schema := s.open[typ]
	if strict {
		schema = s.strict[typ]
	}
	if schema == nil {
		t.Fatalf("there is no schema for %q", typ)
	}
	return schema.Validate(doc)
}
