package gmailtest

import (
	"errors"
	"strings"
)

// mask is a field mask (the standard parameter "fields"): names with what is
// wanted below them; nil means everything.
type mask map[string]mask

var errMask = errors.New("invalid field selection")

// parseMask reads "a,b/c,d(e,f/g)". An empty text is no mask.
func parseMask(text string) (mask, error) {
	if text == "" {
		return nil, nil
	}
	m, rest, err := maskList(text, 0)
	if err == nil && rest != "" {
		err = errMask
	}
	return m, err
}

// maxMaskDepth bounds the nesting.
const maxMaskDepth = 20

func maskList(text string, depth int) (m mask, rest string, err error) {
	m = mask{}
	if depth > maxMaskDepth {
		return nil, "", errMask
	}
	for {
		if text, err = maskItem(m, text, depth); err != nil {
			return nil, "", err
		}
		after, more := strings.CutPrefix(text, ",")
		if !more {
			return m, text, nil
		}
		text = after
	}
}

// maskItem reads one entry into m.
func maskItem(m mask, text string, depth int) (rest string, err error) {
	end := strings.IndexAny(text+",", ",/()")
	name := text[:end]
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ*") != "" || name == "" {
		return "", errMask
	}
	text = text[end:]
	switch {
	case strings.HasPrefix(text, "/"):
		if depth > maxMaskDepth {
			return "", errMask
		}
		below := mask{}
		rest, err = maskItem(below, text[1:], depth+1)
		m.join(name, below)
		return rest, err
	case strings.HasPrefix(text, "("):
		below, rest, err := maskList(text[1:], depth+1)
		if err != nil || !strings.HasPrefix(rest, ")") {
			return "", errMask
		}
		m.join(name, below)
		return rest[1:], nil
	}
	m[name] = nil
	return text, nil
}

// join adds what is wanted below a name.
func (m mask) join(name string, below mask) {
	old, had := m[name]
	if had && old == nil {
		return // everything already
	}
	if old == nil {
		old = mask{}
	}
	for k, v := range below {
		old[k] = v
	}
	m[name] = old
}

// apply keeps of a JSON value what the mask wants.
func (m mask) apply(v any) any {
	if m == nil {
		return v
	}
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = m.apply(v[i])
		}
	case map[string]any:
		for name := range v {
			below, wanted := m[name]
			if !wanted {
				if _, all := m["*"]; !all {
					delete(v, name)
				}
				continue
			}
			v[name] = below.apply(v[name])
		}
	}
	return v
}
