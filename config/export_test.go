package config

import (
	"io/fs"
	"path"
)

// LoadFrom loads c.yaml from files in memory, so that fuzzing cannot glob
// through the machine.
func LoadFrom(files map[string]string) (*Config, error) {
	l := &loader{
		env: func(string) string { return "" },
		read: func(name string) ([]byte, error) {
			text, ok := files[path.Base(name)]
			if !ok {
				return nil, fs.ErrNotExist
			}
			return []byte(text), nil
		},
		glob: func(pattern string) ([]string, error) {
			var names []string
			for name := range files {
				if ok, err := path.Match(path.Base(pattern), name); err != nil {
					return nil, err
				} else if ok && name != "c.yaml" {
					names = append(names, name)
				}
			}
			return names, nil
		},
	}
	return l.load("/c.yaml")
}
