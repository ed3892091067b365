package providertest_test

import (
	"errors"
	"testing"
	"time"

	"mailsyncd/message"
	"mailsyncd/providers"
	"mailsyncd/providers/providertest"
)

// fakeServer is the Fake as the suite wants it.
type fakeServer struct{ *providertest.Fake }

func (s fakeServer) Deliver(_ *testing.T, folder, mail string, arrival time.Time) {
	s.Fake.Deliver(folder, providertest.Mail{Raw: mail, Arrival: arrival.UTC()})
}

func (s fakeServer) Renumber(*testing.T) { s.Fake.Renumber("INBOX") }

func TestFakeObeysTheContract(t *testing.T) {
	providertest.Run(t, func(*testing.T) providertest.Server { return fakeServer{providertest.NewFake()} })
}

func mail(id string) providertest.Mail {
	return providertest.Mail{Header: message.Header{MessageID: id}, Arrival: time.Now()}
}

func poll(t *testing.T, mb providers.Mailbox, cur providers.Cursor) (got []string, next providers.Cursor, unreadable int) {
	t.Helper()
	for more := true; more; {
		p, err := mb.Next(t.Context(), cur, providers.Window{})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range p.Messages {
			got = append(got, m.Folder+" "+m.Header.MessageID)
		}
		cur, more, unreadable = p.Next, p.More, p.Unreadable
	}
	return got, cur, unreadable
}

func TestFakeMovesLikeAServer(t *testing.T) {
	f := providertest.NewFake()
	ref := f.Deliver("INBOX", mail("a"))
	mb, _ := f.Open(t.Context())
	cur, _ := mb.Start(t.Context(), time.Time{})
	_, cur, _ = poll(t, mb, cur)

	moved := f.Move(ref, "Kunden")
	if f.Move(ref, "Sent") != "" || f.Delete(ref) {
		t.Error("the old place still holds the moved mail")
	}
	got, cur, _ := poll(t, mb, cur)
	if len(got) != 1 || got[0] != "Kunden a" {
		t.Errorf("after a move the walk brings %v", got)
	}
	if !f.Delete(moved) || len(f.Mails()) != 0 {
		t.Error("the moved mail cannot be deleted")
	}
	if got, _, _ = poll(t, mb, cur); len(got) != 0 {
		t.Errorf("after a deletion the walk brings %v", got)
	}
}

func TestFakeRemembersUnreadableMail(t *testing.T) {
	f := providertest.NewFake()
	bad := mail("bad")
	bad.Unreadable = true
	ref := f.Deliver("INBOX", bad)
	f.Deliver("INBOX", mail("good"))
	mb, _ := f.Open(t.Context())
	cur, _ := mb.Start(t.Context(), time.Time{})
	got, cur, unreadable := poll(t, mb, cur)
	if len(got) != 1 || unreadable != 1 {
		t.Errorf("got %v and %d unreadable, want the good one and 1", got, unreadable)
	}
	f.Repair(ref)
	if got, _, unreadable = poll(t, mb, cur); len(got) != 1 || got[0] != "INBOX bad" || unreadable != 0 {
		t.Errorf("after the repair: %v, %d unreadable", got, unreadable)
	}
}

func TestFakeFailsOnCommand(t *testing.T) {
	f := providertest.NewFake()
	f.SetFault(providertest.FailNth(providertest.OpNext, 2, providertest.Throttled(time.Minute)))
	mb, _ := f.Open(t.Context())
	cur, _ := mb.Start(t.Context(), time.Time{})
	var errs []error
	for range 3 {
		_, err := mb.Next(t.Context(), cur, providers.Window{})
		errs = append(errs, err)
	}
	var throttled *providers.ThrottledError
	if errs[0] != nil || !errors.As(errs[1], &throttled) || errs[2] != nil {
		t.Errorf("the second call alone should be throttled: %v", errs)
	}
	if n := f.Calls(providertest.OpNext); n != 3 {
		t.Errorf("%d calls counted, want 3", n)
	}
	_ = mb.Close()
	if n := f.Sessions(); n != 0 {
		t.Errorf("%d sessions open after Close", n)
	}
}
