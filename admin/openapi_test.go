package admin_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.uber.org/goleak"
	"go.yaml.in/yaml/v3"

	"mailsyncd/admin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// document is as much of an OpenAPI file as the tests look at.
type document struct {
	Paths map[string]map[string]yaml.Node `yaml:"paths"`
	Raw   map[string]any                  `yaml:"-"`
}

func openAPI(t *testing.T) document {
	t.Helper()
	text, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var doc document
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &doc.Raw); err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestEveryCallIsDescribed(t *testing.T) {
	var described []string
	for path, item := range openAPI(t).Paths {
		for method := range item {
			if method != "parameters" {
				described = append(described, strings.ToUpper(method)+" "+path)
			}
		}
	}
	for _, pattern := range admin.Patterns() {
		if !slices.Contains(described, pattern) {
			t.Errorf("openapi.yaml does not describe %s", pattern)
		}
	}
	for _, call := range described {
		if !slices.Contains(admin.Patterns(), call) {
			t.Errorf("openapi.yaml describes %s, which nobody answers", call)
		}
	}
}

func TestEveryOperationHasItsOwnID(t *testing.T) {
	seen := map[string]string{}
	for path, item := range openAPI(t).Paths {
		for method, node := range item {
			var op struct {
				OperationID string         `yaml:"operationId"`
				Summary     string         `yaml:"summary"`
				Responses   map[string]any `yaml:"responses"`
			}
			if method == "parameters" {
				continue
			}
			if err := node.Decode(&op); err != nil {
				t.Fatal(err)
			}
			if other := seen[op.OperationID]; op.OperationID == "" || other != "" {
				t.Errorf("%s %s: operationId %q, also of %s", method, path, op.OperationID, other)
			}
			if op.Summary == "" || op.Responses["default"] == nil {
				t.Errorf("%s %s lacks a summary or the problem response", method, path)
			}
			seen[op.OperationID] = path
		}
	}
}

// checked compares every answer with what openapi.yaml says of it. A field
// that is not described is an error too.
func checked(t *testing.T, next http.Handler) http.Handler {
	t.Helper()
	doc := openAPI(t)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		if strings.Contains(rec.Header().Get("Content-Type"), "json") {
			checkAnswer(t, doc, r, rec)
		}
		for name, values := range rec.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	})
}

func checkAnswer(t *testing.T, doc document, r *http.Request, rec *httptest.ResponseRecorder) {
	name := "Problem"
	if rec.Code < 400 {
		method, path, _ := strings.Cut(r.Pattern, " ")
		if method == "GET" {
			method = "get"
		}
		node := doc.Paths[path][strings.ToLower(method)]
		var op struct {
			Responses map[string]struct {
				Ref string `yaml:"$ref"`
			} `yaml:"responses"`
		}
		if err := node.Decode(&op); err != nil {
			t.Errorf("%s: %v", r.Pattern, err)
			return
		}
		described, ok := op.Responses[strconv.Itoa(rec.Code)]
		if !ok {
			t.Errorf("%s answered %d, which openapi.yaml does not describe", r.Pattern, rec.Code)
			return
		}
		name = strings.TrimPrefix(described.Ref, "#/components/responses/")
	}
	if err := validate(doc, name, rec.Body.Bytes()); err != nil {
		t.Errorf("%s answered %d with\n%s\nwhich is not a %s: %v", r.Pattern, rec.Code, rec.Body, name, err)
	}
}

// validate checks JSON against a schema of openapi.yaml, in which no other
// fields are allowed than those named: what travels must be described.
func validate(doc document, name string, data []byte) error {
	text, err := json.Marshal(closed(doc.Raw))
	if err != nil {
		return err
	}
	raw, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("openapi.json", raw); err != nil {
		return err
	}
	schema, err := c.Compile("openapi.json#/components/schemas/" + name)
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// closed forbids other properties in every object that names some.
func closed(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v)+1)
		for k, item := range v {
			out[k] = closed(item)
		}
		if v["type"] == "object" && v["properties"] != nil {
			out["additionalProperties"] = false
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = closed(item)
		}
		return out
	}
	return v
}

// What the types can send is what the schemas name, field by field.
func TestSchemasNameEveryField(t *testing.T) {
	doc := openAPI(t)
	for name, value := range map[string]any{
		"Status": admin.Status{}, "MailboxSummary": admin.MailboxSummary{}, "OutboxStatus": admin.OutboxStatus{},
		"WebhookStatus": admin.WebhookStatus{}, "DirectoryStatus": admin.DirectoryStatus{}, "HeldSweep": admin.HeldSweep{},
		"ErasureStatus": admin.ErasureStatus{}, "StoreStatus": admin.StoreStatus{}, "Mailbox": admin.Mailbox{},
		"Walk": admin.Walk{}, "Progress": admin.Progress{}, "Connection": admin.Connection{},
		"OAuthClient": admin.OAuthClient{}, "Token": admin.Token{}, "MailboxList": admin.MailboxList{}, "SyncResult": admin.SyncResult{},
		"SyncAllResult": admin.SyncAllResult{}, "Delivery": admin.Delivery{}, "DeliveryList": admin.DeliveryList{},
		"Replay": admin.Replay{}, "ReplayResult": admin.ReplayResult{}, "Record": admin.Record{},
		"RecordList": admin.RecordList{}, "PutResult": admin.PutResult{}, "ApproveResult": admin.ApproveResult{},
		"ReloadResult": admin.ReloadResult{}, "RotateResult": admin.RotateResult{}, "Version": admin.Version{},
		"Problem": admin.Problem{},
		"Task":    admin.Task{}, "WaitingMailbox": admin.WaitingMailbox{}, "TaskList": admin.TaskList{}, "Resync": admin.Resync{},
		"Reconcile": admin.Reconcile{}, "Reconciliation": admin.Reconciliation{}, "ReconciledMailbox": admin.ReconciledMailbox{},
		"ReconcileCounts": admin.ReconcileCounts{}, "FailedMailbox": admin.FailedMailbox{}, "ExplainQuery": admin.ExplainQuery{},
		"Explanation": admin.Explanation{}, "ExplainedMail": admin.ExplainedMail{}, "ExplainedCopy": admin.ExplainedCopy{},
		"Match": admin.Match{}, "Job": admin.Job{}, "Refusal": admin.Refusal{}, "KeptPair": admin.KeptPair{},
		"ExplainedCandidate": admin.ExplainedCandidate{}, "ExplainedAddress": admin.ExplainedAddress{},
		"MailCounts": admin.MailCounts{}, "CandidateMessage": admin.CandidateMessage{}, "MessageHolder": admin.MessageHolder{},
		"CandidateMessageList": admin.CandidateMessageList{},
	} {
		got := jsonFields(value)
		want := schemaFields(t, doc, name)
		if !slices.Equal(got, want) {
			t.Errorf("%s: the type has %v, openapi.yaml %v", name, got, want)
		}
	}
}

// jsonFields are the names of a struct's fields in JSON, sorted; a trailing
// "?" marks one that may be left out.
func jsonFields(value any) []string {
	var names []string
	typ := reflect.TypeOf(value)
	for i := range typ.NumField() {
		name, options, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		if options != "" {
			name += "?"
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// schemaFields are the properties of a schema, in the same form.
func schemaFields(t *testing.T, doc document, name string) []string {
	t.Helper()
	schemas := doc.Raw["components"].(map[string]any)["schemas"].(map[string]any)
	schema, ok := schemas[name].(map[string]any)
	if !ok {
		t.Errorf("openapi.yaml has no schema %s", name)
		return nil
	}
	required, _ := schema["required"].([]any)
	var names []string
	for property := range schema["properties"].(map[string]any) {
		if !slices.Contains(required, any(property)) {
			property += "?"
		}
		names = append(names, property)
	}
	slices.Sort(names)
	return names
}
