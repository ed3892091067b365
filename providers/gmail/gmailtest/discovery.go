package gmailtest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
)

// Discovery is Google's own description of the Gmail API, as it lies beside
// the generated client (gmail/v1/gmail-api.json).
type Discovery struct {
	Schemas    map[string]*schema    `json:"schemas"`
	Parameters map[string]*schema    `json:"parameters"` // of every method
	Resources  map[string]*resources `json:"resources"`
}

type resources struct {
	Methods   map[string]*method    `json:"methods"`
	Resources map[string]*resources `json:"resources"`
}

type method struct {
	Parameters map[string]*schema `json:"parameters"`
	Response   schema             `json:"response"`
}

type schema struct {
	Type       string             `json:"type"`
	Format     string             `json:"format"`
	Ref        string             `json:"$ref"`
	Enum       []string           `json:"enum"`
	Items      *schema            `json:"items"`
	Properties map[string]*schema `json:"properties"`
	Repeated   bool               `json:"repeated"`
	Location   string             `json:"location"`
}

// LoadDiscovery reads the description.
func LoadDiscovery(file string) (*Discovery, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var d Discovery
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, fmt.Errorf("reading the discovery document: %w", err)
	}
	return &d, nil
}

// Check holds a request and its answer to the description.
func (d *Discovery) Check(r Request, answer []byte) error {
	m, err := d.method(r.Call)
	if err != nil {
		return err
	}
	if err := d.checkQuery(m, r.Query); err != nil {
		return fmt.Errorf("the request %s: %w", r.Call, err)
	}
	var v any
	if err := json.Unmarshal(answer, &v); err != nil {
		return fmt.Errorf("the answer of %s: %w", r.Call, err)
	}
	if err := d.check(&m.Response, v, r.Call); err != nil {
		return fmt.Errorf("the answer of %w", err)
	}
	return nil
}

func (d *Discovery) method(call string) (*method, error) {
	users := d.Resources["users"]
	path := map[string][2]string{
		"labels": {"labels", "list"}, "history": {"history", "list"},
		"list": {"messages", "list"}, "get": {"messages", "get"},
	}[call]
	var m *method
	switch {
	case users == nil:
	case call == "profile":
		m = users.Methods["getProfile"]
	case users.Resources[path[0]] != nil:
		m = users.Resources[path[0]].Methods[path[1]]
	}
	if m == nil {
		return nil, fmt.Errorf("the description knows no call %q", call)
	}
	return m, nil
}

func (d *Discovery) checkQuery(m *method, q url.Values) error {
	for name, values := range q {
		p := m.Parameters[name]
		if p == nil || p.Location != "query" {
			p = d.Parameters[name]
		}
		if p == nil {
			return fmt.Errorf("there is no parameter %s", name)
		}
		if len(values) > 1 && !p.Repeated {
			return fmt.Errorf("the parameter %s comes more than once", name)
		}
		for _, v := range values {
			if err := checkText(p, v, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkText holds a value that is written as a string to its format.
func checkText(s *schema, v, where string) error {
	var err error
	switch s.Format {
	case "uint64":
		_, err = strconv.ParseUint(v, 10, 64)
	case "int64":
		_, err = strconv.ParseInt(v, 10, 64)
	case "uint32":
		_, err = strconv.ParseUint(v, 10, 32)
	}
	if s.Type == "boolean" {
		_, err = strconv.ParseBool(v)
	}
	if err != nil {
		return fmt.Errorf("%s is no %s %s", where, s.Type, s.Format)
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
		return fmt.Errorf("%s is not one of its values", where)
	}
	return nil
}

// check holds a JSON value to a schema. A field that the schema does not know
// is an error: Google would not send it.
func (d *Discovery) check(s *schema, v any, where string) error {
	if s.Ref != "" {
		if s = d.Schemas[s.Ref]; s == nil {
			return fmt.Errorf("%s refers to a schema that is missing", where)
		}
	}
	switch v := v.(type) {
	case map[string]any:
		return d.checkObject(s, v, where)
	case []any:
		if s.Type != "array" {
			return fmt.Errorf("%s is a list, not %s", where, s.Type)
		}
		for _, item := range v {
			if err := d.check(s.Items, item, where+"[]"); err != nil {
				return err
			}
		}
		return nil
	case string:
		if s.Type != "string" {
			return fmt.Errorf("%s is a string, not %s", where, s.Type)
		}
		return checkText(s, v, where)
	case float64:
		if s.Type != "integer" && s.Type != "number" {
			return fmt.Errorf("%s is a number, not %s", where, s.Type)
		}
		return nil
	case bool:
		if s.Type != "boolean" {
			return fmt.Errorf("%s is a boolean, not %s", where, s.Type)
		}
		return nil
	}
	return fmt.Errorf("%s is null", where)
}

func (d *Discovery) checkObject(s *schema, v map[string]any, where string) error {
	if s.Type != "object" {
		return fmt.Errorf("%s is an object, not %s", where, s.Type)
	}
	for name, value := range v {
		field := s.Properties[name]
		if field == nil {
			return fmt.Errorf("%s has no field %s", where, name)
		}
		if err := d.check(field, value, where+"."+name); err != nil {
			return err
		}
	}
	return nil
}
