// Package layering holds the direction of imports as a test. Every package has
// a row with the packages of ours that it may import; a new package needs a new
// row, and a new arrow a reason good enough to change one.
package layering_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "mailsyncd"

// allowed maps a package to what it may import of ours. Test files may import
// more: suites, fakes, and the rooms they are tried with.
var allowed = map[string][]string{
	"message":         {},
	"config":          {},
	"admin":           {},
	"directory":       {"message"},
	"providers":       {"message"},
	"store":           {"message"},
	"matcher":         {"message", "directory"},
	"providers/imap":  {"providers", "message", "providers/imap/wire"},
	"providers/gmail": {"providers", "message"},
	"store/bolt":      {"store", "message"},
	"webhook":         {"store", "message"},
	"sync/mailbox":    {"providers", "matcher", "directory", "message", "store"},
	"sync/directory":  {"directory", "message", "store"},
	"sync/schedule":   {},
	"cmd/mailsyncd":   {"*"},

	"providers/imap/wire":       {},
	"providers/gmail/gmailtest": {},
	"providers/providertest":    {"providers", "message"},
	"store/storetest":           {"store", "message"},
	"internal/testutil":         {},
	"internal/layering":         {},
	"internal/e2e":              {},
	"internal/proptest":         {},
	"docs/receiver":             {},
}

// pkg is what `go list -json` says of a package, as far as it matters here.
type pkg struct {
	ImportPath string
	Imports    []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

func room(importPath string) string { return strings.TrimPrefix(importPath, module+"/") }

func TestImportsPointOneWay(t *testing.T) {
	for _, p := range list(t) {
		from := room(p.ImportPath)
		may, known := allowed[from]
		if !known {
			t.Errorf("package %s has no row in the table: say what it may import", from)
			continue
		}
		for _, imp := range p.Imports {
			if !strings.HasPrefix(imp, module+"/") || slices.Contains(may, "*") {
				continue
			}
			if !slices.Contains(may, room(imp)) {
				t.Errorf("%s imports %s, which its row does not allow", from, room(imp))
			}
		}
	}
}

func TestEveryRowNamesAPackage(t *testing.T) {
	have := map[string]bool{}
	for _, p := range list(t) {
		have[room(p.ImportPath)] = true
	}
	for name := range allowed {
		if !have[name] {
			t.Errorf("row %s names no package: remove it", name)
		}
	}
}

func TestNobodyImportsTheCommand(t *testing.T) {
	for _, p := range list(t) {
		for _, imp := range p.Imports {
			if room(imp) == "cmd/mailsyncd" {
				t.Errorf("%s imports the command", room(p.ImportPath))
			}
		}
	}
}

// The pure rooms know no clock, no network and no log (time.Time as a value is
// fine; slog is allowed only for hiding values from it).
func TestPureRoomsStayPure(t *testing.T) {
	for _, p := range list(t) {
		switch room(p.ImportPath) {
		case "message", "directory", "matcher":
		default:
			continue
		}
		for _, imp := range p.Imports {
			switch imp {
			case "net", "net/http", "os", "log", "os/exec", "syscall", "database/sql":
				t.Errorf("%s imports %s", room(p.ImportPath), imp)
			}
		}
	}
}
