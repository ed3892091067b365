package proptest_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailsyncd/message"
	"mailsyncd/providers"
	"mailsyncd/providers/providertest"
	"mailsyncd/store"
	"mailsyncd/sync/mailbox"
)

// verdict is how a life ended.
type verdict struct {
	broken *violation // nil when every promise was kept
	shares shares
	posts  int
}

// play plays one life in a bubble of its own.
func play(t *testing.T, s script, b bug, sh *shared) (v verdict) {
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(context.Background())
		defer end()
		w := newWorld(ctx, s, b, sh)
		defer w.floor.Unlock()
		w.load()
		for _, st := range s.steps {
			if w.failed() {
				break
			}
			w.step(st)
		}
		if !w.failed() {
			w.settle()
		}
		w.stopCourier()
		v = verdict{w.broken.Load(), w.model.shares(), w.receiver.posts}
	})
	return v
}

// step plays one step and what follows of it at once.
func (w *world) step(s step) {
	w.cut, w.calls, w.hit = s.cut, map[string]int{}, false
	w.do(s)
	w.cut = nil
	if w.killed {
		w.kill()
	}
	w.followUsers()
	w.runCourier()
}

// inside plays a step in the middle of another one. Only what does not need the
// part that is in the middle of its work may be there.
func (w *world) inside(s step) {
	if s.do == poll && slices.Contains(w.passing, s.box) {
		return // passes over one mailbox never overlap
	}
	w.do(s)
}

// do carries a step out.
func (w *world) do(s step) {
	switch s.do {
	case arrive:
		w.arrive(s)
	case move:
		w.move(s)
	case expunge:
		w.expunge(s)
	case put:
		w.put(s)
	case erase:
		w.erase(s)
	case setJob, setUser:
		w.setOther(s)
	case poll:
		w.poll(s.box)
	case wait:
		w.sleep(s.lasts)
	case off:
		w.off(s.lasts)
	case crash:
		w.kill()
	case restart:
		w.off(time.Second)
	default:
		w.doRarely(s)
	}
}

func (w *world) doRarely(s step) {
	switch s.do {
	case renumber:
		w.renumber(s)
	case lose:
		w.lose(s.box)
	case resync:
		w.resync(s)
	case cancel:
		w.cancelTasks()
	case answer:
		w.receiver.how = s.how
		w.resume()
	case trouble:
		w.left.Store(int32(s.nth))
		w.trouble.Store(&s)
	case replay:
		w.replay(s.ref)
	case retain:
		w.quietly(func() { w.expire(7 * day) })
	case post:
		w.runCourier()
	}
}

// runCourier lets the courier do all it can without time passing.
func (w *world) runCourier() {
	if w.news.Swap(false) {
		w.courier.Notify()
	}
	w.await(synctest.Wait)
}

// resume ends every pause of the endpoint. It wakes the courier, which must be
// at rest again before the driver goes on.
func (w *world) resume() {
	w.quietly(func() { _ = w.courier.Resume(w.ctx) })
	w.await(synctest.Wait)
}

// quietly asks the store without faults.
func (w *world) quietly(f func()) {
	w.quiet.Store(true)
	defer w.quiet.Store(false)
	f()
}

// off stops the daemon for a while. It is also how long times pass: an idle
// courier looks at the clock every minute, and a night is many minutes.
func (w *world) off(d time.Duration) {
	w.stopCourier()
	w.sleep(d)
	w.mem = w.mem.Reopen()
	w.start()
	w.load()
}

// ---- mail --------------------------------------------------------------

func (w *world) arrive(s step) {
	now := time.Now()
	if w.script.gmail {
		// Gmail's windows go by arrival: what a sender's clock adds to them is
		// another test's.
		s.dateAge = max(s.dateAge, s.age)
	}
	arrival, date := now.Add(-s.age), now.Add(-s.dateAge)
	m := &mail{name: s.mail, raw: compose(s, date), stamp: arrival}
	if date.After(arrival) {
		m.stamp = date
	}
	h := message.Parse([]byte(m.raw))
	m.id = h.ID()
	if s.category == "" {
		for _, n := range s.names {
			m.names = append(m.names, n.address)
			if n.field != "Reply-To" {
				m.asked = append(m.asked, n.address)
			}
		}
	}
	w.deliver(m, s.box, s.folder, arrival)
	if s.also != "" && s.also != s.box {
		w.deliver(m, s.also, s.folder, arrival)
	}
}

func (w *world) deliver(m *mail, box, folder string, arrival time.Time) {
	ref := w.servers[box].Deliver(folder, providertest.Mail{Raw: m.raw, Arrival: arrival})
	w.model.place(&lying{mail: m, box: box, folder: folder, ref: ref})
}

// compose writes the header of a mail.
func compose(s step, date time.Time) string {
	var b strings.Builder
	line := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	from := addressOf(s.box)
	fields := map[string][]string{}
	for _, n := range s.names {
		fields[n.field] = append(fields[n.field], n.address)
	}
	switch {
	case s.category == "notice":
		fields["To"] = append(fields["To"], fields["From"]...)
		fields["From"] = []string{notice}
	case len(fields["From"]) == 0:
		fields["From"] = []string{from}
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		line(name, strings.Join(fields[name], ", "))
	}
	if s.category == "list" {
		line("List-Id", "<list.people.example>")
	}
	line("Subject", "SUBJECT of "+s.mail)
	line("Message-ID", "<"+s.mail+"@mail.example>")
	if s.parent != "" {
		line("References", "<"+s.parent+"@mail.example>")
	}
	line("Date", date.UTC().Format(time.RFC1123Z))
	return b.String()
}

// nameOf says which mail of the script an id belongs to.
func (w *world) nameOf(id string) string {
	if m := w.model.messages[id]; m != nil {
		return m.name
	}
	return id
}

// lose makes a server forget the position.
func (w *world) lose(box string) {
	w.servers[box].Expire()
	b := w.model.boxes[box]
	b.lost, b.everLost = w.model.tick(), true
}

// renumber gives the mails of a folder new numbers, and tells the model the names
// by which they are found again. Gmail has no numbers to lose but all of them.
func (w *world) renumber(s step) {
	fake, ok := w.servers[s.box].(fakeServer)
	if !ok {
		w.lose(s.box)
		return
	}
	fake.Renumber(s.folder)
	w.model.boxes[s.box].reset[s.folder] = w.model.tick()
	for _, m := range fake.Mails() {
		name, _, _ := strings.Cut(m.Header.MessageID, "@")
		if c := w.model.find(name, s.box); c != nil && c.folder == m.Folder {
			c.ref = m.Ref
		}
	}
}

func (w *world) move(s step) {
	c := w.model.find(s.mail, s.box)
	if c == nil || c.folder == s.folder {
		return
	}
	if w.model.boxes[s.box].kind.gmail() && c.watched() && s.folder != "Junk" {
		// Another label makes no new mail.
		w.servers[s.box].Move(c.ref, s.folder)
		c.folder = s.folder
		return
	}
	w.model.take(c)
	ref := w.servers[s.box].Move(c.ref, s.folder)
	w.model.place(&lying{mail: c.mail, box: c.box, folder: s.folder, ref: ref})
}

func (w *world) expunge(s step) {
	if c := w.model.find(s.mail, s.box); c != nil {
		w.model.take(c)
		w.servers[s.box].Delete(c.ref)
	}
}

// ---- passes and tasks --------------------------------------------------

// poll runs one pass, unless the schedule would not: the mailbox's user is
// disabled.
func (w *world) poll(box string) {
	if w.suspended(box) || w.keeper.Snapshot() == nil || w.killed {
		return
	}
	w.model.begin(box)
	w.passing = append(w.passing, box)
	hadFailed := w.model.boxes[box].failures
	report, err := w.boxes[box].Pass(w.ctx)
	w.passing = w.passing[:len(w.passing)-1]
	owed := w.model.end(box, err == nil && !report.More && !w.putOff(box, hadFailed))
	if err != nil && !w.hit && !w.waits(box, err) {
		w.unexplained(box, err)
	}
	w.taken(box, owed)
	if n := w.servers[box].Sessions(); n > 0 && len(w.passing) == 0 {
		w.fail(broken, "a pass left %d sessions open", n)
	}
}

// putOff: in Gmail a mail that is not handed out does not stop the others. It is
// tried again by the next pass.
func (w *world) putOff(box string, hadFailed int) bool {
	b := w.model.boxes[box]
	return b.kind.gmail() && b.failures > hadFailed
}

// waits: a walk over old mail in Gmail comes back, at its end, to a mail that was
// not handed out, and not at once.
func (w *world) waits(box string, err error) bool {
	var pause *providers.ThrottledError
	return w.model.boxes[box].kind.gmail() && w.model.boxes[box].failures > 0 && errors.As(err, &pause)
}

// unexplained: a pass fails only because something failed.
func (w *world) unexplained(box string, err error) {
	if !errors.Is(err, store.ErrFull) && !errors.Is(err, mailbox.ErrNotReady) && !errors.Is(err, store.ErrConflict) {
		w.fail(broken, "the pass over %s failed and nothing had gone wrong: %v", box, err)
	}
}

func (w *world) suspended(box string) (yes bool) {
	w.peek(func() error {
		row, err := w.mem.Mailbox(w.ctx, box)
		yes = row.State == store.MailboxSuspended
		return err
	})
	return yes
}

// taken: a complete pass has everything in the ledger that it owes.
func (w *world) taken(box string, owed []pair) {
	if len(owed) == 0 {
		return
	}
	keys := make([]store.PairKey, len(owed))
	for i, p := range owed {
		keys[i] = store.PairKey{Message: p.message, Candidate: p.ref}
	}
	w.peek(func() error {
		states, err := w.mem.PairStates(w.ctx, keys)
		for i, state := range states {
			if state == store.PairAbsent {
				w.fail(lost, "the poll of %s is complete, and %s of %s was not taken", box, w.nameOf(owed[i].message), owed[i].ref)
			}
		}
		return err
	})
}

func (w *world) resync(s step) {
	p, known := w.model.committed.people[s.ref]
	if !known || p.deleted {
		return
	}
	task := store.Task{Kind: store.TaskResync, Candidate: s.ref, Since: time.Now().Add(-s.age), Addresses: p.emails, Mailboxes: boxes[:]}
	if s.box != "" {
		task.Mailboxes = []string{s.box}
	}
	if s.redeliver {
		task.Kind = store.TaskRedeliver
	}
	before := w.tasks()
	_, err := w.mem.AddTasks(w.ctx, []store.Task{task}, time.Now())
	after := w.tasks()
	if len(after) == len(before) {
		if err == nil {
			w.fail(broken, "a task was recorded and is not there")
		}
		return
	}
	r := &request{id: after[len(after)-1].ID, ref: s.ref, since: task.Since, redeliver: s.redeliver, owed: map[string]bool{}, from: w.model.tick()}
	for _, b := range task.Mailboxes {
		r.owed[b] = true
	}
	if w.model.requests = append(w.model.requests, r); s.redeliver {
		w.model.asked++
	}
}

func (w *world) tasks() (all []store.Task) {
	w.peek(func() (err error) {
		all, err = w.mem.Tasks(w.ctx)
		return err
	})
	return all
}

func (w *world) cancelTasks() {
	for _, r := range w.model.requests {
		w.quietly(func() {
			if _, err := w.mem.CancelTask(w.ctx, r.id, time.Now()); err != nil && !errors.Is(err, store.ErrNotFound) {
				w.fail(broken, "cancelling a task: %v", err)
			}
		})
	}
	w.model.requests = nil
}

// ---- the outbox --------------------------------------------------------

// replay brings dead letters back, or all that was told of a candidate. The
// receiver is told of dead letters, which may come late.
func (w *world) replay(ref string) {
	f := store.EventFilter{Candidate: ref}
	if ref == "" {
		f.State = store.EventDead
	} else if w.model.lives[ref] > 0 && !w.model.gone(ref) {
		return // a purge told again would take what came after it; nobody promises otherwise
	}
	w.quietly(func() {
		for _, e := range w.events(f) {
			if e.State == store.EventDead && e.Type == store.CandidatePurged {
				w.fail(erasure, "a candidate.purged is a dead letter")
			}
			w.receiver.replayed[e.ID] = w.receiver.replayed[e.ID] || e.State == store.EventDead
		}
		if _, err := w.mem.Replay(w.ctx, f, time.Now()); err != nil {
			w.fail(broken, "replaying: %v", err)
		}
	})
}

// expire erases the payloads of what was delivered longer ago. What is erased
// is read again for a replay, and may have another body then.
func (w *world) expire(age time.Duration) {
	before := time.Now().Add(-age)
	for more := true; more; {
		var err error
		if more, err = w.mem.Expire(w.ctx, store.Expiry{Delivered: before, Tasks: before}); err != nil {
			w.fail(broken, "retention: %v", err)
			return
		}
	}
	for _, e := range w.events(store.EventFilter{State: store.EventDelivered}) {
		if whole, err := w.mem.Event(w.ctx, e.ID); err == nil && whole.Data == nil {
			delete(w.receiver.bodies, e.ID)
		}
	}
}

func (w *world) events(f store.EventFilter) []store.Event {
	f.Limit = 10_000
	events, err := w.mem.Events(w.ctx, f)
	if err != nil {
		w.fail(broken, "listing events: %v", err)
	}
	return events
}
