package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

const repository = "../.."

func manual(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "docs", "OPERATING.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The manual lists every event that the code can log, and no other.
func TestManualListsEveryEvent(t *testing.T) {
	row := regexp.MustCompile("(?m)^\\| ((?:`[a-z_]+`(?:, )?)+) \\| (?:info|warn|error)")
	var listed []string
	for _, m := range row.FindAllStringSubmatch(manual(t), -1) {
		for code := range strings.SplitSeq(m[1], ", ") {
			listed = append(listed, strings.Trim(code, "`"))
		}
	}
	logged := loggedEvents(t)
	if len(logged) < 20 {
		t.Fatalf("found only %d events in the code; the search is broken", len(logged))
	}
	for _, event := range logged {
		if !slices.Contains(listed, event) {
			t.Errorf("docs/OPERATING.md does not say what to do about the event %s", event)
		}
	}
	for _, event := range listed {
		if !slices.Contains(logged, event) {
			t.Errorf("docs/OPERATING.md lists the event %s, which nothing logs", event)
		}
	}
}

// loggedEvents reads the codes off the source: an argument behind "event", or
// the first one of the helpers that log under a code they are given.
func loggedEvents(t *testing.T) []string {
	t.Helper()
	code := regexp.MustCompile(`(?:"event", |notices\.Tell\(|\.logRound\()"([a-z_]+)"`)
	var events []string
	err := filepath.WalkDir(repository, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range code.FindAllSubmatch(text, -1) {
			events = append(events, string(m[1]))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(events)
	return slices.Compact(events)
}

// The manual names every command that there is.
func TestManualListsEveryCommand(t *testing.T) {
	text := manual(t)
	env := &environment{getenv: func(string) string { return "" }}
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
		if !cmd.HasSubCommands() && !strings.Contains(text, "| `"+cmd.CommandPath()) {
			t.Errorf("docs/OPERATING.md does not list `%s`", cmd.CommandPath())
		}
	}
	visit(newRootCommand(env))
}

// The manual names every alert.
func TestManualListsEveryAlert(t *testing.T) {
	rules, err := os.ReadFile(filepath.Join(repository, "deploy", "prometheus-rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	alerts := regexp.MustCompile(`alert: (\w+)`).FindAllSubmatch(rules, -1)
	if len(alerts) == 0 {
		t.Fatal("found no alert; the search is broken")
	}
	text := manual(t)
	for _, m := range alerts {
		if !strings.Contains(text, "| "+string(m[1])+" |") {
			t.Errorf("docs/OPERATING.md does not say what to do about %s", m[1])
		}
	}
}

// A missing password of one mailbox, which `check` refuses, must not keep the
// daemon from starting.
func TestUnitStartsTheDaemonWithoutCheckingEverything(t *testing.T) {
	unit, err := os.ReadFile(filepath.Join(repository, "deploy", "mailsyncd.service"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(unit), "ExecStartPre") || !strings.Contains(string(unit), "ExecStart=/usr/local/bin/mailsyncd serve") {
		t.Error("the unit does more than to serve")
	}
}

// docs/PRIVACY.md names tests for its claims; each must be there, in its room.
func TestPrivacyNamesRealTests(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(repository, "docs", "PRIVACY.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("((?:`Test\\w+`(?:, )?)+) \\(([a-z0-9/]+)").FindAllStringSubmatch(string(page), -1)
	if len(named) < 20 {
		t.Fatalf("found only %d names of tests; the search is broken", len(named))
	}
	for _, m := range named {
		tests := testsIn(t, m[2])
		for name := range strings.SplitSeq(m[1], ", ") {
			if !strings.Contains(tests, "\nfunc "+strings.Trim(name, "`")+"(") {
				t.Errorf("there is no test %s in %s", name, m[2])
			}
		}
	}
}

// testsIn is the text of all test files of a room.
func testsIn(t *testing.T, room string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(repository, filepath.FromSlash(room), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}
