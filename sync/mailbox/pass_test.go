package mailbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailsyncd/providers"
	"mailsyncd/providers/providertest"
	"mailsyncd/store"
	"mailsyncd/store/storetest"
	"mailsyncd/sync/mailbox"
)

func TestFirstPassWalksTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.MemoryOptions{})
		w.candidate("nora", "nora@example.net")
		inWindow := w.mailAs("INBOX", "nora@example.net", "in@window", time.Now().Add(-backfill+time.Hour))
		w.mailAs("INBOX", "nora@example.net", "before@window", time.Now().Add(-backfill-time.Hour))
		w.mail("INBOX", "mum@family.example")
		w.mail("Junk", "nora@example.net")

		w.pass()
		w.wants(inWindow + " nora")
		if got := w.events()[0].Data.Thread.Origin; got != store.OriginBackfill {
			t.Errorf("origin of the first walk is %q", got)
		}

		fresh := w.mail("Projects", "nora@example.net")
		w.pass()
		w.wants(inWindow+" nora", fresh+" nora")
		if got := w.events()[1].Data.Thread.Origin; got != store.OriginPoll {
			t.Errorf("origin of a later poll is %q", got)
		}
	})
}

func TestHorizonIsFixedAtTheFirstSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.MemoryOptions{})
		w.candidate("nora", "nora@example.net")
		w.pass()
		horizon := time.Now().Add(-backfill)
		time.Sleep(30 * 24 * time.Hour)
		// Filed into a watched folder only now, a month after the first sync.
		old := w.mailAs("Archive", "nora@example.net", "after@horizon", horizon.Add(time.Hour))
		w.mailAs("Archive", "nora@example.net", "before@horizon", horizon.Add(-time.Hour))
		w.server.Renumber("Archive")
		w.pass()
		row, err := w.box().Row(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !row.Horizon.Equal(horizon.UTC().Truncate(time.Millisecond)) {
			t.Errorf("horizon moved to %v, want %v", row.Horizon, horizon)
		}
		for _, pair := range w.delivered() {
			if pair != old+" nora" {
				t.Errorf("delivered %q from before the horizon", pair)
			}
		}
	})
}

// A poll that finds nothing costs no write at all.
func TestUnchangedPollWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var writes []string
		w := newWorld(t, storetest.MemoryOptions{Fault: func(op string) storetest.FaultKind {
			switch op {
			case "Advance", "SetMailbox", "Change":
				writes = append(writes, op)
			}
			return storetest.NoFault
		}})
		w.candidate("nora", "nora@example.net")
		w.mail("INBOX", "nora@example.net")
		w.pass()
		writes = nil
		for range 10 {
			time.Sleep(time.Hour)
			w.pass()
		}
		if len(writes) > 0 {
			t.Errorf("ten polls without news wrote %v", writes)
		}
		time.Sleep(24 * time.Hour)
		w.pass()
		if len(writes) == 0 {
			t.Error("a day later the last success was not written down")
		}
	})
}

// Promise 3: candidate first or mail first, the delivered set is the same.
func TestOrderOfArrivalDoesNotMatter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.MemoryOptions{})
		w.candidate("ben", "ben@example.net")
		var want []string
		for range 7 {
			want = append(want, w.mail("INBOX", "nora@example.net")+" nora")
			want = append(want, w.mail("Sent", "ben@example.net")+" ben")
		}
		w.pass()
		time.Sleep(3 * 24 * time.Hour)
		w.candidate("nora", "nora@example.net")
		w.pass()
		w.wants(want...)
		origins := map[store.Origin]bool{}
		for _, e := range w.events() {
			origins[e.Data.Thread.Origin] = true
		}
		if !origins[store.OriginLookback] {
			t.Error("late candidate's mail does not say that it comes from a look-back")
		}
		searches := w.server.Calls(providertest.OpSearch)
		w.pass()
		if got := w.server.Calls(providertest.OpSearch); got != searches {
			t.Errorf("a look-back that is done was walked again: %d searches", got-searches)
		}
	})
}

func TestLateSecondCandidateOfADeliveredMail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.MemoryOptions{})
		w.candidate("nora", "nora@example.net")
		w.mailAs("INBOX", "nora@example.net, ben@example.net", "both@test", time.Now())
		w.pass()
		w.wants("both@test nora")
		w.candidate("ben", "ben@example.net")
		w.pass()
		// The second event carries the full list again.
		w.wants("both@test nora", "both@test nora", "both@test ben")
		es := w.events()
		first, second := es[0].Data.Thread.Messages[0], es[1].Data.Thread.Messages[0]
		if first.ID != second.ID {
			t.Errorf("the same mail has ids %s and %s", first.ID, second.ID)
		}
	})
}

func TestLookBackWalksForAllWhenTheLogIsTooShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.MemoryOptions{ActivationLog: 2})
		w.candidate("ben", "ben@example.net")
		id := w.mail("INBOX", "nora@example.net")
		w.pass()
		w.candidate("nora", "nora@example.net")
		for i := range 5 {
			w.candidate(fmt.Sprintf("c%d", i), fmt.Sprintf("c%d@example.net", i))
		}
		w.pass()
		w.wants(id + " nora")
	})
}

// The drain notes its success before the look-back runs, so the time of the last
// poll says nothing of how old a forgotten activation is.
func TestLookBackForAllReachesTheOldestActivation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.MemoryOptions{ActivationLog: 2})
		w.candidate("ben", "ben@example.net")
		id := w.mail("INBOX", "nora@example.net")
		w.pass()
		w.candidate("nora", "nora@example.net")
		time.Sleep(16 * 24 * time.Hour) // away for longer than the backfill
		for i := range 5 {
			w.candidate(fmt.Sprintf("c%d", i), fmt.Sprintf("c%d@example.net", i))
		}
		w.pass()
		w.wants(id + " nora")
	})
}

// A budget of nothing still makes a page of progress per pass, and the work
// ends complete.
func TestBudgetSplitsTheWorkOverPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.MemoryOptions{})
		w.candidate("nora", "nora@example.net")
		var want []string
		for range 10 {
			want = append(want, w.mail("INBOX", "nora@example.net")+" nora")
		}
		slow := &slowOpener{Opener: w.server, each: time.Minute}
		w.opener, w.budget = slow, 90*time.Second
		passes := 0
		for more := true; more; passes++ {
			if passes > 20 {
				t.Fatal("no progress")
			}
			more = w.pass().More
		}
		if passes < 2 {
			t.Errorf("%d passes, want the budget to split them", passes)
		}
		w.wants(want...)
	})
}

// Promise 1, provider faults: fail the n-th call, for every n until a pass
// meets no fault; what is delivered in the end is always the same.
func TestEveryProviderFaultIsHarmless(t *testing.T) {
	for _, op := range providertest.Ops {
		t.Run(string(op), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for n := 1; ; n++ {
					w, want := scripted(t, storetest.MemoryOptions{})
					left, met := n, false
					w.server.SetFault(func(got providertest.Op) error {
						if got != op {
							return nil
						}
						if left--; left != 0 {
							return nil
						}
						met = true
						return providertest.ErrCut
					})
					runToEnd(t, w)
					w.wants(want...)
					if !met {
						return
					}
				}
			})
		})
	}
}

// Promise 1, store faults: both flavours, at every operation.
func TestEveryStoreFaultIsHarmless(t *testing.T) {
	for name, kind := range map[string]storetest.FaultKind{
		"failed": storetest.Failed, "failed but persisted": storetest.FailedButPersisted,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for n := 1; ; n++ {
					count, armed := 0, false
					w, want := scripted(t, storetest.MemoryOptions{Fault: func(op string) storetest.FaultKind {
						if !armed {
							return storetest.NoFault
						}
						switch op {
						case "Events", "Event", "Change", "Revision":
							return storetest.NoFault
						}
						if count++; count == n {
							return kind
						}
						return storetest.NoFault
					}})
					armed = true
					runToEnd(t, w)
					armed = false
					w.wants(want...)
					if count < n {
						return
					}
				}
			})
		})
	}
}

// scripted is a mailbox that needs a first walk of several pages and a
// look-back of several pages.
func scripted(t *testing.T, o storetest.MemoryOptions) (*world, []string) {
	w := newWorld(t, o)
	w.candidate("ben", "ben@example.net")
	var want []string
	for range 4 {
		want = append(want, w.mail("INBOX", "ben@example.net")+" ben", w.mail("Sent", "nora@example.net")+" nora")
		w.mail("INBOX", "mum@family.example")
	}
	return w, want
}

// runToEnd passes until two passes in a row succeed, with a candidate who
// arrives in between, as a scheduler would.
func runToEnd(t *testing.T, w *world) {
	t.Helper()
	succeed := func() {
		for range 10 {
			if _, err := w.box().Pass(t.Context()); err == nil {
				return
			}
			time.Sleep(time.Minute)
		}
		t.Fatal("ten passes in a row failed")
	}
	succeed()
	w.candidate("nora", "nora@example.net")
	succeed()
	succeed()
	if n := w.server.Sessions(); n != 0 {
		t.Errorf("%d sessions are still open", n)
	}
}

func TestForgottenPositions(t *testing.T) {
	for name, forget := range map[string]func(*world){
		"folder renumbered":        func(w *world) { w.server.Renumber("INBOX") },
		"cursor expired":           func(w *world) { w.server.Expire() },
		"folder renamed":           func(w *world) { w.server.Rename("INBOX", "Old") },
		"outage beyond the window": func(w *world) { time.Sleep(40 * 24 * time.Hour); w.server.Renumber("INBOX") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, storetest.MemoryOptions{})
				w.candidate("nora", "nora@example.net")
				var want []string
				for range 5 {
					want = append(want, w.mail("INBOX", "nora@example.net")+" nora")
				}
				w.pass()
				// Mail that arrives while we are away and before the position is lost.
				want = append(want, w.mail("INBOX", "nora@example.net")+" nora")
				forget(w)
				want = append(want, w.mail("INBOX", "nora@example.net")+" nora")
				w.pass()
				w.pass()
				w.wants(want...)
			})
		})
	}
}

func TestAuditFindsWhatPollsMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.MemoryOptions{})
		w.candidate("nora", "nora@example.net")
		w.pass()
		hides := &hidingOpener{Opener: w.server, hide: true}
		w.opener = hides
		missed := w.mail("INBOX", "nora@example.net")
		w.pass() // the server shows the number, and not the mail
		w.wants()
		hides.hide = false
		time.Sleep(25 * time.Hour)
		w.pass()
		w.wants(missed + " nora")
		if !strings.Contains(w.log.String(), "event=audit_found") {
			t.Error("the find was not logged")
		}
		searches := w.server.Calls(providertest.OpSearch)
		time.Sleep(time.Hour)
		w.pass()
		if got := w.server.Calls(providertest.OpSearch); got != searches {
			t.Error("the audit ran twice in a day")
		}
	})
}

func TestNothingIsPolledWithoutDirectoryOrRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.MemoryOptions{})
		w.dir = nil
		if _, err := w.box().Pass(t.Context()); !errors.Is(err, mailbox.ErrNotReady) {
			t.Errorf("without a directory: %v", err)
		}
		full := newWorld(t, storetest.MemoryOptions{DiskLow: func() bool { return true }})
		if _, err := full.box().Pass(t.Context()); !errors.Is(err, store.ErrFull) {
			t.Errorf("with the disk low: %v", err)
		}
		for _, w := range []*world{w, full} {
			if n := w.server.Calls(providertest.OpOpen); n != 0 {
				t.Errorf("%d sessions were opened", n)
			}
		}
	})
}

// Promise 2: no log line, event or metric carries anything of an unmatched mail.
func TestUnmatchedMailLeavesNoTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.MemoryOptions{})
		w.candidate("nora", "nora@example.net")
		w.mailAs("INBOX", `"nora@example.net" <mum@family.example>`, "secret@family.example", time.Now())
		w.mailAs("INBOX", "rita@example.com", "self@family.example", time.Now())
		w.server.Renumber("INBOX")
		w.pass()
		w.wants()
		families, err := w.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		everything := w.log.String() + fmt.Sprint(w.events()) + fmt.Sprint(families)
		for _, private := range []string{"family.example", "subject of", "mum"} {
			if strings.Contains(everything, private) {
				t.Errorf("%q of an unmatched mail shows up", private)
			}
		}
	})
}

func TestPrivacyLeavesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.MemoryOptions{})
		w.candidate("nora", "nora@example.net")
		w.mailAs("INBOX", "nora@example.net, Friend <friend@elsewhere.example>", "x@test", time.Now())
		w.privacy = mailbox.Privacy{OmitSubject: true, OmitOthers: true}
		w.link = "https://webmail.example.com/?mid={message_id}"
		w.pass()
		m := w.events()[0].Data.Thread.Messages[0]
		if m.Subject != "" {
			t.Errorf("subject is %q", m.Subject)
		}
		if len(m.From) != 1 || m.From[0].Address != "nora@example.net" {
			t.Errorf("from is %v, want the candidate alone", m.From)
		}
		if len(m.To) != 1 || m.To[0].Address != "rita@example.com" {
			t.Errorf("to is %v, want the company's address to stay", m.To)
		}
		if got, want := m.Mailboxes[0].Link, "https://webmail.example.com/?mid=x%40test"; got != want {
			t.Errorf("link is %q, want %q", got, want)
		}
	})
}

func TestStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.MemoryOptions{})
		w.candidate("nora", "nora@example.net")
		ctx := t.Context()
		var fault error
		w.server.SetFault(func(op providertest.Op) error {
			if op == providertest.OpOpen {
				return fault
			}
			return nil
		})
		pass := func(err error) store.MailboxState {
			t.Helper()
			fault = err
			_, got := w.box().Pass(ctx)
			if !errors.Is(got, err) {
				t.Fatalf("pass returned %v, want %v", got, err)
			}
			row, err := w.box().Row(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return row.State
		}
		do := func(f func(context.Context) error) store.MailboxState {
			t.Helper()
			if err := f(ctx); err != nil {
				t.Fatal(err)
			}
			row, err := w.box().Row(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return row.State
		}
		steps := []struct {
			what string
			got  func() store.MailboxState
			want store.MailboxState
		}{
			{"a first success", func() store.MailboxState { return pass(nil) }, store.MailboxActive},
			{"one hiccup is no news", func() store.MailboxState { return pass(providertest.ErrCut) }, store.MailboxActive},
			{"a second one is", func() store.MailboxState { return pass(providertest.ErrCut) }, store.MailboxBackingOff},
			{"success ends it", func() store.MailboxState { return pass(nil) }, store.MailboxActive},
			{"a refused credential at once", func() store.MailboxState { return pass(providers.ErrUnauthorized) }, store.MailboxUnauthorized},
			{"a network fault does not hide it", func() store.MailboxState { return pass(providertest.ErrCut) }, store.MailboxUnauthorized},
			{"suspended", func() store.MailboxState { return do(w.box().Suspend) }, store.MailboxSuspended},
			{"an operator's pause stays on top", func() store.MailboxState { return do(w.box().Pause) }, store.MailboxPaused},
			{"of a user coming back", func() store.MailboxState { return do(w.box().Unsuspend) }, store.MailboxPaused},
			{"and of a pass that was running", func() store.MailboxState { return pass(nil) }, store.MailboxPaused},
			{"until resumed", func() store.MailboxState { return do(w.box().Resume) }, store.MailboxActive},
			{"suspended again", func() store.MailboxState { return do(w.box().Suspend) }, store.MailboxSuspended},
			{"and back by itself", func() store.MailboxState { return do(w.box().Unsuspend) }, store.MailboxActive},
		}
		for _, s := range steps {
			if got := s.got(); got != s.want {
				t.Errorf("%s: state %q, want %q", s.what, got, s.want)
			}
		}
		var posted []string
		for _, e := range w.events() {
			if e.Data.Mailbox != nil {
				posted = append(posted, string(e.Data.Mailbox.State))
			}
		}
		want := []string{"backing_off", "active", "unauthorized", "suspended", "paused", "active", "suspended", "active"}
		if !slices.Equal(posted, want) {
			t.Errorf("posted %v, want %v", posted, want)
		}
	})
}

func TestThrottlingIsWrittenDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.MemoryOptions{})
		w.server.SetFault(func(providertest.Op) error { return providertest.Throttled(5 * time.Minute) })
		if _, err := w.box().Pass(t.Context()); providers.Classify(err) != providers.ClassThrottled {
			t.Fatalf("pass: %v", err)
		}
		row, err := w.box().Row(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if want := time.Now().Add(5 * time.Minute); !row.RetryAt.Equal(want.UTC().Truncate(time.Millisecond)) {
			t.Errorf("retry at %v, want %v", row.RetryAt, want)
		}
	})
}

func TestStoppingSaysNothingAboutTheMailbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.MemoryOptions{})
		w.candidate("nora", "nora@example.net")
		ctx, stop := context.WithCancel(t.Context())
		stop()
		for range 3 {
			if _, err := w.box().Pass(ctx); err == nil {
				t.Error("a pass with a cancelled context succeeded")
			}
		}
		if es := w.events(); len(es) != 0 {
			t.Errorf("stopping posted %d events", len(es))
		}
	})
}

// slowOpener makes every page take a while.
type slowOpener struct {
	providers.Opener
	each time.Duration
}

func (o *slowOpener) Open(ctx context.Context) (providers.Mailbox, error) {
	m, err := o.Opener.Open(ctx)
	return &slowMailbox{m, o.each}, err
}

type slowMailbox struct {
	providers.Mailbox
	each time.Duration
}

func (m *slowMailbox) Next(ctx context.Context, c providers.Cursor, w providers.Window) (providers.Page, error) {
	time.Sleep(m.each)
	return m.Mailbox.Next(ctx, c, w)
}

// hidingOpener is a server that counts a mail as read without showing it.
type hidingOpener struct {
	providers.Opener
	hide bool
}

func (o *hidingOpener) Open(ctx context.Context) (providers.Mailbox, error) {
	m, err := o.Opener.Open(ctx)
	return &hidingMailbox{m, o}, err
}

type hidingMailbox struct {
	providers.Mailbox
	o *hidingOpener
}

func (m *hidingMailbox) Next(ctx context.Context, c providers.Cursor, w providers.Window) (providers.Page, error) {
	page, err := m.Mailbox.Next(ctx, c, w)
	if m.o.hide {
		page.Messages = nil
	}
	return page, err
}
