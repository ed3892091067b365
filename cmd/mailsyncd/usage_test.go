package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"mailsyncd/admin"
	"mailsyncd/config"
	"mailsyncd/store/bolt"
)

// Wrong usage ends with code 2, prints nothing on standard output, and says
// what is wrong and where to read on. No daemon is asked.
func TestBadUsage(t *testing.T) {
	c := console{socket: filepath.Join(t.TempDir(), "none")}
	for _, u := range []struct {
		args string
		want string
	}{
		{"", "a command is missing\nSee `mailsyncd --help`."},
		{"stauts", "unknown command \"stauts\"; did you mean status?\nSee `mailsyncd --help`."},
		{"frobnicate", "unknown command \"frobnicate\"\nSee `mailsyncd --help`."},
		{"mailbox", "a command is missing\nSee `mailsyncd mailbox --help`."},
		{"mailbox puase rita", "unknown command \"puase\"; did you mean pause?\nSee `mailsyncd mailbox --help`."},
		{"deliveries", "a command is missing\nSee `mailsyncd deliveries --help`."},
		{"directory frob", "unknown command \"frob\"\nSee `mailsyncd directory --help`."},
		{"webhook stop", "unknown command \"stop\"\nSee `mailsyncd webhook --help`."},
		{"key", "a command is missing\nSee `mailsyncd key --help`."},
		{"serve", "required flag(s) \"config\" not set\nSee `mailsyncd serve --help`."},
		{"check", "required flag(s) \"config\" not set\nSee `mailsyncd check --help`."},
		{"status rita", "too many arguments: want none, got 1\nSee `mailsyncd status --help`."},
		{"status --output xml", "invalid argument \"xml\" for \"--output\" flag: write text or json\nSee `mailsyncd status --help`."},
		{"status --verbose", "unknown flag: --verbose\nSee `mailsyncd status --help`."},
		{"status --mailbox", "flag needs an argument: --mailbox\nSee `mailsyncd status --help`."},
		{"sync a b", "too many arguments: want [MAILBOX], got 2\nSee `mailsyncd sync --help`."},
		{"resync", "CANDIDATE or ADDRESS is missing\nSee `mailsyncd resync --help`."},
		{"resync a b", "too many arguments: want CANDIDATE or ADDRESS, got 2\nSee `mailsyncd resync --help`."},
		{"resync a --all", "name a candidate, or pass --all, not both\nSee `mailsyncd resync --help`."},
		{"resync --all --redeliver", "--all goes with --redeliver and --since; what was missed is found by `mailsyncd reconcile`\nSee `mailsyncd resync --help`."},
		{"resync --all --since 3d", "--all goes with --redeliver and --since; what was missed is found by `mailsyncd reconcile`\nSee `mailsyncd resync --help`."},
		{"resync a --since soon", "\"soon\" is not a time; write 2026-11-20, 2026-11-20T10:00:00Z, or 3d for three days ago\nSee `mailsyncd resync --help`."},
		{"tasks", "a command is missing\nSee `mailsyncd tasks --help`."},
		{"tasks cancel", "ID is missing\nSee `mailsyncd tasks cancel --help`."},
		{"explain", "pass --message-id or --candidate, one of them\nSee `mailsyncd explain --help`."},
		{"explain --message-id a --candidate c", "pass --message-id or --candidate, one of them\nSee `mailsyncd explain --help`."},
		{"explain --candidate c --mailbox rita", "--mailbox goes with --message-id\nSee `mailsyncd explain --help`."},
		{"reconcile rita", "too many arguments: want none, got 1\nSee `mailsyncd reconcile --help`."},
		{"reconcile --since soon", "\"soon\" is not a time; write 2026-11-20, 2026-11-20T10:00:00Z, or 3d for three days ago\nSee `mailsyncd reconcile --help`."},
		{"deliveries list --state lost", "invalid argument \"lost\" for \"--state\" flag: write one of pending, held, dead, delivered\nSee `mailsyncd deliveries list --help`."},
		{"deliveries list --limit -1", "--limit cannot be negative; 0 lists all\nSee `mailsyncd deliveries list --help`."},
		{"deliveries list --limit many", "invalid argument \"many\" for \"--limit\" flag: strconv.ParseInt: parsing \"many\": invalid syntax\nSee `mailsyncd deliveries list --help`."},
		{"deliveries show", "ID is missing\nSee `mailsyncd deliveries show --help`."},
		{"deliveries replay", "choose the events in one way: IDs, --since, --candidate or --dead\nSee `mailsyncd deliveries replay --help`."},
		{"deliveries replay x --dead", "choose the events in one way: IDs, --since, --candidate or --dead\nSee `mailsyncd deliveries replay --help`."},
		{"deliveries replay --since yesterday", "\"yesterday\" is not a time; write 2026-11-20, 2026-11-20T10:00:00Z, or 3d for three days ago\nSee `mailsyncd deliveries replay --help`."},
		{"directory list --kind person", "invalid argument \"person\" for \"--kind\" flag: write one of candidate, job, user\nSee `mailsyncd directory list --help`."},
		{"directory show", "REF is missing\nSee `mailsyncd directory show --help`."},
		{"directory put", "FILE is missing\nSee `mailsyncd directory put --help`."},
		{"directory delete cand_1", "KIND REF is missing\nSee `mailsyncd directory delete --help`."},
		{"directory delete person cand_1", "unknown kind \"person\"; write one of candidate, job, user\nSee `mailsyncd directory delete --help`."},
		{"connect", "MAILBOX is missing\nSee `mailsyncd connect --help`."},
		{"connect sam tim", "too many arguments: want MAILBOX, got 2\nSee `mailsyncd connect --help`."},
		{"mailbox pause", "ID is missing\nSee `mailsyncd mailbox pause --help`."},
		{"mailbox forget rita", "forget cannot be undone; add --yes if that is meant\nSee `mailsyncd mailbox forget --help`."},
		{"webhook pause now", "too many arguments: want none, got 1\nSee `mailsyncd webhook pause --help`."},
		{"reload now", "too many arguments: want none, got 1\nSee `mailsyncd reload --help`."},
		{"key new", "FILE is missing\nSee `mailsyncd key new --help`."},
		{"schema", "TYPE is missing\nSee `mailsyncd schema --help`."},
		{"version now", "too many arguments: want none, got 1\nSee `mailsyncd version --help`."},
	} {
		c.run(t, strings.Fields(u.args)...).want(t, u.args, exitUsage, "", "mailsyncd: "+u.want+"\n")
	}
}

// Every command explains itself, and --help is no failure.
func TestEveryCommandHasHelp(t *testing.T) {
	c := console{}
	env := &environment{getenv: func(string) string { return "" }}
	n := 0
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		n++
		args := append(strings.Fields(cmd.CommandPath())[1:], "--help")
		got := c.run(t, args...)
		if got.code != exitDone || !strings.Contains(got.stdout, "Usage:") || got.stderr != "" || cmd.Short == "" {
			t.Errorf("%v: exit code %d, %q, %q", args, got.code, got.stdout, got.stderr)
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(newRootCommand(env))
	if n < 30 {
		t.Errorf("visited only %d commands", n)
	}
}

func TestKeyNew(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	console{}.run(t, "key", "new", file).want(t, "a new key", exitDone, file+" written; name it as secrets.key_file and keep a copy elsewhere\n", "")
	before, err := config.ReadSecret(file)
	if err != nil {
		t.Fatalf("the key file is not a secret file: %v", err)
	}
	if got := (console{}).run(t, "key", "new", file); got.code != exitFailed || got.stdout != "" {
		t.Errorf("a second key in the same file: exit code %d, %s", got.code, got.stdout)
	}
	if after, err := config.ReadSecret(file); err != nil || !after.Equal(before) {
		t.Error("the key was overwritten")
	}
}

func TestSchema(t *testing.T) {
	got := console{}.run(t, "schema", "thread.matched")
	var schema struct {
		Dialect string `json:"$schema"`
	}
	if err := json.Unmarshal([]byte(got.stdout), &schema); err != nil || got.code != exitDone || !strings.Contains(schema.Dialect, "2020-12") {
		t.Errorf("exit code %d, %v, %s", got.code, err, got.stdout)
	}
	got = console{}.run(t, "schema", "thread.lost")
	if got.code != exitUsage || !strings.HasPrefix(got.stderr, `mailsyncd: unknown event type "thread.lost"; write one of `) || !strings.Contains(got.stderr, "thread.matched") {
		t.Errorf("an unknown type: %d %s", got.code, got.stderr)
	}
}

func TestVersion(t *testing.T) {
	got := console{}.run(t, "version")
	if got.code != exitDone || !strings.HasPrefix(got.stdout, "mailsyncd ") || !strings.Contains(got.stdout, "go1.") {
		t.Errorf("%+v", got)
	}
	var v admin.Version
	got = console{}.run(t, "version", "--output", "json")
	if err := json.Unmarshal([]byte(got.stdout), &v); err != nil || v.Version == "" || v.Platform == "" {
		t.Errorf("%v: %s", err, got.stdout)
	}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		what string
		err  error
		want int
	}{
		{"no error", nil, 0},
		{"any error", errors.New("x"), 1},
		{"a refusal of the daemon", admin.NotFound("x"), 1},
		{"wrong usage", fmt.Errorf("y: %w", usagef("x")), 2},
		{"an invalid configuration", fmt.Errorf("y: %w", &config.Error{Problems: []config.Problem{{Text: "x"}}}), 2},
		{"no daemon", fmt.Errorf("y: %w", &admin.UnreachableError{Socket: "s", Err: os.ErrNotExist}), 3},
		{"an unusable store", fmt.Errorf("y: %w", &bolt.UnusableError{Reason: bolt.Corrupt}), 4},
		{"an error with a code of its own", fmt.Errorf("y: %w", withCode(exitUsage, errors.New("x"))), 2},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%s: %d, want %d", c.what, got, c.want)
		}
	}
	if withCode(exitStore, nil) != nil {
		t.Error("a code made an error of none")
	}
}

func TestRunReturnsTheExitCode(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run(context.Background(), []string{"frobnicate"}, &out, &errs); code != exitUsage || errs.Len() == 0 {
		t.Errorf("exit code %d, %q", code, errs.String())
	}
}

func TestCleanMakesForeignTextSafe(t *testing.T) {
	for in, want := range map[string]string{
		"plain ü":                      "plain ü",
		"a\x1b[2Jb\r\nc\x00":           "a?[2Jb??c?",
		"right-to-left \u202e":         "right-to-left ?",
		"bad \xff utf-8":               "bad ? utf-8",
		strings.Repeat("ä", 150):       strings.Repeat("ä", 100) + "…",
		"x" + strings.Repeat("ä", 150): "x" + strings.Repeat("ä", 99) + "…",
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}
