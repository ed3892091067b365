package main

import (
	"strings"
	"testing"
)

// The demo is the first thing that people see. It must tell the whole story and
// write nothing to standard error.
func TestDemo(t *testing.T) {
	got := console{}.run(t, "demo")
	if got.code != exitDone || got.stderr != "" {
		t.Fatalf("exit code %d: %s", got.code, got.stderr)
	}
	at := 0
	for _, part := range []string{
		"47 mails in three mailboxes",
		"From before the window", "horizon: ",
		"15 threads with 20 messages were delivered in ", "every signature verified",
		"cand_kofi is added now", "Re: Are you hiring?  for cand_kofi  origin lookback",
		"`mailsyncd explain --message-id choir-1@mail.example.net`", "rita, Privat: refused", "cand_nora in from: ignored_folder (", "to change it: ",
		"cand_juan is deleted", "candidate.purged  cand_juan  2 messages in 2 threads  receipt rcpt_",
		"Nothing of the other 23 mails left the mailboxes.\n",
	} {
		i := strings.Index(got.stdout[at:], part)
		if i < 0 {
			t.Fatalf("the demo does not say %q after\n%s\nbut\n%s", part, got.stdout[:at], got.stdout[at:])
		}
		at += i
	}
}
