package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// The YAML library's own decoder stops at what it cannot place and forgets
// where things stood. This walker goes over the parsed nodes itself: it goes on
// after every problem, and it remembers the line of every key, so that what is
// found wrong later, when values are compared with each other, still points at
// its line.

// source is one file: where its keys stand and what is wrong with it.
type source struct {
	file     string
	env      func(string) string
	lines    map[string]int // key path → line
	problems []Problem
	// failed are the keys that are known to be wrong, and those that an unknown
	// key was probably meant to be: nothing more is said about them.
	failed map[string]bool
	// mailboxes is the list of that name. It is kept for later: the defaults
	// that its items start from may stand below it.
	mailboxes *yaml.Node
}

func newSource(file string, env func(string) string) *source {
	return &source{file: file, env: env, lines: map[string]int{"": 1}, failed: map[string]bool{}}
}

func (s *source) fail(line int, key, format string, args ...any) {
	s.failed[key] = true
	s.problems = append(s.problems, Problem{s.file, line, key, fmt.Sprintf(format, args...)})
}

// line is where a key stands, or the nearest section around it.
func (s *source) line(key string) int {
	for {
		if line, ok := s.lines[key]; ok {
			return line
		}
		key = parent(key)
	}
}

// hasFailed tells that the key or a section around it is known to be wrong.
func (s *source) hasFailed(key string) bool {
	for key != "" && !s.failed[key] {
		key = parent(key)
	}
	return s.failed[key]
}

// parse decodes the file's text into the struct that v points to.
func (s *source) parse(data []byte, v any) {
	root, err := s.document(data)
	if err != nil {
		s.syntaxError(err)
		return
	}
	if root != nil {
		s.value("", root, reflect.ValueOf(v).Elem(), "")
	}
}

// document returns the root of the only document; nil for an empty file.
func (s *source) document(data []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	switch err := dec.Decode(&second); {
	case err == nil:
		s.fail(second.Line, "", "a second YAML document; remove the --- line")
	case !errors.Is(err, io.EOF):
		return nil, err
	}
	if len(doc.Content) != 1 || isNull(doc.Content[0]) {
		return nil, nil
	}
	return doc.Content[0], nil
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// syntaxError reports what the YAML library said, under the line it named.
func (s *source) syntaxError(err error) {
	text := err.Error()
	m := yamlLine.FindStringSubmatch(text)
	line := 1
	if m != nil {
		text = text[len(m[0]):]
		if n, err := strconv.Atoi(m[1]); err == nil && n > 0 {
			line = n
		}
	}
	s.fail(line, "", "not valid YAML here or just above: %s; mind the indentation, and quote text that holds a colon", text)
}

var (
	durationType  = reflect.TypeFor[time.Duration]()
	prefixType    = reflect.TypeFor[netip.Prefix]()
	mailboxesType = reflect.TypeFor[[]Mailbox]()
)

// value places one node into v. as is the struct tag of that name.
func (s *source) value(key string, n *yaml.Node, v reflect.Value, as string) {
	switch {
	case n.Kind == yaml.AliasNode:
		s.fail(n.Line, key, "YAML aliases are not supported; put what mailboxes share under defaults")
	case isNull(n):
		s.fail(n.Line, key, "has no value; give it one or remove the line")
	case v.Type() == durationType:
		s.duration(key, n, v)
	case v.Type() == prefixType:
		s.prefix(key, n, v)
	case v.Type() == mailboxesType:
		if s.want(key, n, yaml.SequenceNode, "!!seq", "a list of mailboxes") {
			s.mailboxes = n
		}
	case v.Kind() == reflect.Struct:
		s.mapping(key, n, v)
	case v.Kind() == reflect.Slice:
		s.list(key, n, v, as)
	case v.Kind() == reflect.Int:
		s.integer(key, n, v)
	default:
		s.text(key, n, v, as)
	}
}

// mapping places the keys of a mapping into the fields of a struct.
func (s *source) mapping(key string, n *yaml.Node, v reflect.Value) {
	if !s.want(key, n, yaml.MappingNode, "!!map", "a mapping (key: value)") {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, item := n.Content[i], n.Content[i+1]
		path := join(key, keyName(name.Value))
		field, ok := fieldByKey(v.Type(), name.Value)
		switch first, seen := s.lines[path]; {
		case name.ShortTag() == "!!merge":
			s.fail(name.Line, key, "YAML merge keys are not supported; put what mailboxes share under defaults")
		case !ok:
			meant, mend := suggest(v.Type(), name.Value)
			s.fail(name.Line, path, "unknown key; %s", mend)
			s.failed[join(key, meant)] = meant != ""
		case seen:
			s.fail(name.Line, path, "stands here again, first on line %d; keep one", first)
		default:
			s.lines[path] = name.Line
			s.value(path, item, v.FieldByIndex(field.Index), field.Tag.Get("as"))
		}
	}
}

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// keyName is a key as problems show it: quoted when it is something odd.
func keyName(name string) string {
	if plainKey.MatchString(name) {
		return name
	}
	return quote(name)
}

// list places the items of a list. A list that is there replaces the default
// one, even when it is empty.
func (s *source) list(key string, n *yaml.Node, v reflect.Value, as string) {
	if !s.want(key, n, yaml.SequenceNode, "!!seq", "a list ([one, two])") {
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		path := fmt.Sprintf("%s[%d]", key, i)
		s.lines[path] = item.Line
		s.value(path, item, v.Index(i), as)
	}
}

func (s *source) duration(key string, n *yaml.Node, v reflect.Value) {
	d, err := ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil {
		s.fail(n.Line, key, "%s is not a duration; write a number and a unit, such as 90s, 15m, 12h or 7d", describe(n))
		return
	}
	v.SetInt(int64(d))
}

func (s *source) prefix(key string, n *yaml.Node, v reflect.Value) {
	p, err := netip.ParsePrefix(n.Value)
	switch addr, addrErr := netip.ParseAddr(n.Value); {
	case n.Kind == yaml.ScalarNode && addrErr == nil:
		s.fail(n.Line, key, "%s is one address; write it as a network, %s/%d", quote(n.Value), addr, addr.BitLen())
	case n.Kind != yaml.ScalarNode || err != nil:
		s.fail(n.Line, key, "%s is not a network; write it as address/bits, such as 10.20.0.0/16", describe(n))
	case p.Masked() != p:
		s.fail(n.Line, key, "%s has bits set behind its length; write %s", quote(n.Value), p.Masked())
	default:
		v.Set(reflect.ValueOf(p))
	}
}

func (s *source) integer(key string, n *yaml.Node, v reflect.Value) {
	if !s.want(key, n, yaml.ScalarNode, "!!int", "a whole number") {
		return
	}
	i, err := strconv.ParseInt(strings.ReplaceAll(n.Value, "_", ""), 10, 64)
	if err != nil {
		s.fail(n.Line, key, "%s is not a whole number that fits; write it in decimal", quote(n.Value))
		return
	}
	v.SetInt(i)
}

// text places a string. A path becomes absolute, against the folder of the
// file that says it, before it is merged with what other files say.
func (s *source) text(key string, n *yaml.Node, v reflect.Value, as string) {
	if !s.want(key, n, yaml.ScalarNode, "!!str", "text") {
		return
	}
	value := n.Value
	if strings.ContainsFunc(value, isControl) {
		s.fail(n.Line, key, "holds a control character; remove it")
		return
	}
	if as == "path" && value != "" {
		var ok bool
		if value, ok = s.path(key, n.Line, value); !ok {
			return
		}
	}
	v.SetString(value)
}

// path expands ${CREDENTIALS_DIRECTORY} and makes the path absolute.
func (s *source) path(key string, line int, value string) (string, bool) {
	const variable, name = "${CREDENTIALS_DIRECTORY}", "CREDENTIALS_DIRECTORY"
	if dir := s.env(name); dir != "" {
		value = strings.ReplaceAll(value, variable, dir)
	}
	switch {
	case strings.Contains(value, variable):
		s.fail(line, key, "%s is not set here; systemd sets it for a unit with LoadCredential=, elsewhere write the folder's path", name)
	case strings.Contains(value, "${"):
		s.fail(line, key, "names a variable other than %s; write the path itself", variable)
	default:
		if !filepath.IsAbs(value) {
			value = filepath.Join(filepath.Dir(s.file), value)
		}
		return value, true
	}
	return "", false
}

// want reports a node of the wrong type.
func (s *source) want(key string, n *yaml.Node, kind yaml.Kind, tag, what string) bool {
	if n.Kind == kind && n.ShortTag() == tag {
		return true
	}
	mend := ""
	switch {
	case tag == "!!str" && n.Kind == yaml.ScalarNode:
		mend = "; put it in quotes"
	case tag == "!!seq" && n.Kind == yaml.ScalarNode:
		mend = "; put it in brackets"
	}
	s.fail(n.Line, key, "wants %s, not %s%s", what, kindOf(n), mend)
	return false
}

// describe names a node in an error: its text when it is a scalar.
func describe(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode {
		return quote(n.Value)
	}
	return kindOf(n)
}

// kindOf names the type of a node without its content: it may be a password
// that somebody wrote into the wrong place.
func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!str":
		return "text"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!timestamp":
		return "a date"
	default:
		return "a value of the type " + quote(n.ShortTag())
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

// parent is the path of the section that holds a key: "a" for "a.b" and "a[1]".
func parent(key string) string { return key[:max(0, strings.LastIndexAny(key, ".["))] }

// fieldByKey finds the field of a struct that a YAML key names.
func fieldByKey(t reflect.Type, key string) (reflect.StructField, bool) {
	for f := range fields(t) {
		if f.Tag.Get("yaml") == key {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// fields yields the fields of a struct that the configuration file can set.
func fields(t reflect.Type) func(yield func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range t.NumField() {
			f := t.Field(i)
			if key := f.Tag.Get("yaml"); key != "" && key != "-" && !yield(f) {
				return
			}
		}
	}
}
