package proptest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailsyncd/directory"
	"mailsyncd/message"
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
		w.sleep(s.lasts + 7*time.Nanosecond)
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
		w.servers[s.box].Expire()
		w.model.boxes[s.box].lost, w.model.boxes[s.box].everLost = true, true
	case resync:
		w.resync(s)
	case cancel:
		w.cancelTasks()
	case answer:
		w.receiver.how = s.how
		w.quietly(func() { _ = w.courier.Resume(w.ctx) })
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
	w.sleep(d + 11*time.Nanosecond)
	w.mem = w.mem.Reopen()
	w.start()
	w.load()
}

// ---- mail --------------------------------------------------------------

func (w *world) arrive(s step) {
	now := time.Now()
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
		}
	}
	w.deliver(m, s.box, s.folder, arrival)
	if s.also != "" && s.also != s.box {
		w.deliver(m, s.also, s.folder, arrival)
	}
}

func (w *world) deliver(m *mail, box, folder string, arrival time.Time) {
	ref := w.servers[box].Deliver(folder, providertest.Mail{Raw: m.raw, Arrival: arrival})
	w.model.place(&copy{mail: m, box: box, folder: folder, ref: ref})
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

// renumber gives the mails of a folder new numbers, and tells the model the names
// by which they are found again.
func (w *world) renumber(s step) {
	w.servers[s.box].Renumber(s.folder)
	w.model.boxes[s.box].reset[s.folder] = true
	for _, m := range w.servers[s.box].Mails() {
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
	w.model.take(c)
	ref := w.servers[s.box].Move(c.ref, s.folder)
	w.model.place(&copy{mail: c.mail, box: c.box, folder: s.folder, ref: ref})
}

func (w *world) expunge(s step) {
	if c := w.model.find(s.mail, s.box); c != nil {
		w.model.take(c)
		w.servers[s.box].Delete(c.ref)
	}
}

// ---- the directory -----------------------------------------------------

func (w *world) put(s step) {
	rec := map[string]any{"kind": "candidate", "ref": s.ref, "emails": s.emails, "state": s.state}
	if s.hasJobs {
		rec["jobs"] = append([]string{}, s.jobs...)
	}
	if s.rev > 0 {
		rec["rev"] = s.rev
	}
	in := person{emails: s.emails, jobs: s.jobs, hasJobs: s.hasJobs, state: s.state, rev: s.rev}
	w.change(func() error { return w.record(rec) }, func() (truth, string) { return w.model.committed.put(s.ref, in), "" })
}

func (w *world) erase(s step) {
	rev := s.rev
	if s.how == "operator" {
		rev = 0
	}
	if next, gone := w.model.committed.remove(s.ref, rev); gone {
		w.change(func() error { return w.remove(s, rev) }, func() (truth, string) { return next, s.ref })
	}
}

func (w *world) remove(s step, rev int64) error {
	if s.how == "operator" {
		return w.keeper.Delete(w.ctx, directory.KindCandidate, s.ref)
	}
	rec := map[string]any{"kind": "candidate", "ref": s.ref, "deleted": true}
	if rev > 0 {
		rec["rev"] = rev
	}
	return w.record(rec)
}

func (w *world) setOther(s step) {
	rec := map[string]any{"kind": "job", "ref": s.ref, "state": s.state}
	if s.do == setUser {
		rec["kind"] = "user"
		if rec["emails"] = s.emails; s.emails == nil {
			rec["emails"] = []string{}
		}
	}
	w.change(func() error { return w.record(rec) }, func() (truth, string) {
		next := w.model.committed.clone()
		switch {
		case s.do == setJob:
			next.jobs[s.ref] = s.state
		case s.ref == owner:
			next.own = s.emails
		default:
			next.disabled[s.ref] = s.state == directory.UserDisabled
		}
		return next, ""
	})
}

// record puts one record as an operator's client does.
func (w *world) record(rec map[string]any) error {
	line, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	r, err := directory.ParseRecord(line)
	if err != nil {
		w.fail(broken, "the script has a bad record: %v", err)
		return nil
	}
	_, err = w.keeper.Put(w.ctx, []directory.Record{r})
	return err
}

// change runs a round of the directory and tells the model whether it was
// persisted, which an error does not say.
func (w *world) change(do func() error, next func() (truth, string)) {
	before := w.revision()
	err := do()
	if w.revision() > before {
		w.model.commit(next())
	} else if err == nil {
		w.unchanged(next)
	}
	w.published()
}

// unchanged: a round that writes nothing must have had nothing to write.
func (w *world) unchanged(next func() (truth, string)) {
	after, purged := next()
	for ref, p := range after.people {
		old := w.model.committed.people[ref]
		if purged != "" || old.state != p.state || old.hasJobs != p.hasJobs || !slices.Equal(old.emails, p.emails) || !slices.Equal(old.jobs, p.jobs) {
			w.fail(broken, "a change of %s was taken and nothing was written", ref)
		}
	}
}

func (w *world) revision() (revision uint64) {
	w.peek(func() error {
		var err error
		revision, _, err = w.mem.Revision(w.ctx)
		return err
	})
	return revision
}

// peek reads the store for the model, also one that a cut has closed.
func (w *world) peek(f func() error) {
	was := w.quiet.Swap(true)
	defer w.quiet.Store(was)
	if w.killed {
		closed := w.mem
		w.mem = closed.Reopen()
		defer func() { w.mem = closed }()
	}
	if err := f(); err != nil {
		w.fail(broken, "the model could not read the store: %v", err)
	}
}

// published compares what passes see with what the store holds.
func (w *world) published() {
	if snap := w.keeper.Snapshot(); snap != nil && snap.Revision() == w.revision() {
		w.model.publish()
	}
}

// load makes the keeper read the store, as its timer does within seconds.
func (w *world) load() {
	w.quietly(func() {
		if err := w.keeper.Load(w.ctx); err != nil {
			w.fail(broken, "loading the directory: %v", err)
		}
	})
	w.published()
	w.followUsers()
}

// followUsers suspends the mailboxes of disabled users and wakes the others, as
// the daemon does after each change of users.
func (w *world) followUsers() {
	snap := w.keeper.Snapshot()
	if snap == nil {
		return
	}
	w.quietly(func() {
		for _, id := range boxes {
			change := w.boxes[id].Unsuspend
			if state, known := snap.User(userOf(id)); known && state == directory.UserDisabled {
				change = w.boxes[id].Suspend
			}
			if err := change(w.ctx); err != nil {
				w.fail(broken, "following the users: %v", err)
			}
		}
	})
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
	report, err := w.boxes[box].Pass(w.ctx)
	w.passing = w.passing[:len(w.passing)-1]
	owed := w.model.end(box, err == nil && !report.More)
	if err != nil && !w.hit {
		w.unexplained(box, err)
	}
	w.taken(box, owed)
	if n := w.servers[box].Sessions(); n > 0 && len(w.passing) == 0 {
		w.fail(broken, "a pass left %d sessions open", n)
	}
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

// ---- the quiet end -----------------------------------------------------

// settle mends everything, lets the parts do what they owe, and holds the end to
// the model.
func (w *world) settle() {
	w.cut, w.receiver.how = nil, accepts
	w.trouble.Store(nil)
	w.load()
	for _, id := range boxes {
		w.do(step{do: setUser, ref: userOf(id), state: directory.UserEnabled})
	}
	w.followUsers()
	for range 3 {
		w.drainOutbox()
		for _, id := range boxes {
			w.pollAll(id)
		}
	}
	w.drainOutbox()
	if w.failed() {
		return
	}
	w.judge()
}

// pollAll polls until the mailbox has nothing left to do.
func (w *world) pollAll(box string) {
	for range 40 {
		w.model.begin(box)
		w.passing = []string{box}
		report, err := w.boxes[box].Pass(w.ctx)
		w.passing = nil
		w.taken(box, w.model.end(box, err == nil && !report.More))
		w.runCourier()
		switch {
		case errors.Is(err, store.ErrFull):
			w.drainOutbox()
		case err != nil:
			w.fail(broken, "a pass over %s failed and nothing was wrong: %v", box, err)
			return
		case !report.More:
			return
		}
	}
	w.fail(broken, "the passes over %s do not end", box)
}

// drainOutbox lets the courier work until nothing waits. Between two retries the
// daemon is off, which costs no time of ours.
func (w *world) drainOutbox() {
	w.quietly(func() { _ = w.courier.Resume(w.ctx) })
	w.replay("")
	for range 100 {
		w.runCourier()
		w.sleep(3 * time.Second)
		w.await(synctest.Wait)
		var due time.Time
		waiting := false
		w.quietly(func() { due, waiting = w.nextDue() })
		switch d := time.Until(due); {
		case !waiting:
			return
		case d > time.Hour:
			w.off(d)
		default:
			w.sleep(max(d, time.Second))
		}
	}
	w.fail(broken, "the outbox does not run empty")
}

// nextDue is when the next event is due, and whether any waits. What is due
// already waits for another event: of its stream, or for a candidate.purged.
func (w *world) nextDue() (next time.Time, waiting bool) {
	now := time.Now()
	for _, e := range w.events(store.EventFilter{State: store.EventPending}) {
		waiting = true
		if e.Due.After(now) && (next.IsZero() || e.Due.Before(next)) {
			next = e.Due
		}
	}
	return next, waiting
}

// judge holds the end of a life to the model.
func (w *world) judge() {
	w.quiet.Store(true)
	for p, life := range w.model.must {
		if life == w.model.life(p.ref) && w.model.told[p] < life {
			w.fail(lost, "%s of %s was never accepted", w.nameOf(p.message), p.ref)
		}
	}
	for _, ref := range refs {
		w.judgePurged(ref)
	}
	for _, id := range boxes {
		w.reconcile(id)
	}
}

// judgePurged: the ATS knows of every purge, and no row names who is gone.
func (w *world) judgePurged(ref string) {
	m := w.model
	if m.lives[ref] != m.erased[ref] {
		w.fail(erasure, "%s was purged %d times, and the ATS heard of %d", ref, m.lives[ref], m.erased[ref])
	}
	if m.lives[ref] == 0 || !m.gone(ref) {
		return
	}
	for _, e := range w.events(store.EventFilter{Candidate: ref}) {
		if e.Type != store.CandidatePurged {
			w.fail(erasure, "an event (%s, %s) still names %s", e.Type, e.State, ref)
		}
	}
	for _, e := range w.events(store.EventFilter{}) {
		whole, err := w.mem.Event(w.ctx, e.ID)
		if err != nil || e.Type != store.CandidatePurged && strings.Contains(string(whole.Body), `"`+ref+`"`) {
			w.fail(erasure, "the body of an event (%s, %s) still names %s: %v", e.Type, e.State, ref, err)
		}
	}
	w.judgeRows(ref)
}

func (w *world) judgeRows(ref string) {
	if left, err := w.mem.CandidateMessages(w.ctx, ref, "", 1); err != nil || len(left) > 0 {
		w.fail(erasure, "the ledger still has a message of %s (%v)", ref, err)
	}
	acts, _, err := w.mem.Activations(w.ctx, 0, w.revision())
	if err != nil || slices.ContainsFunc(acts, func(a store.Activation) bool { return a.Ref == ref }) {
		w.fail(erasure, "the activation log still names %s (%v)", ref, err)
	}
	for _, t := range w.tasks() {
		if t.Candidate == ref {
			w.fail(erasure, "a task still names %s", ref)
		}
	}
}

// reconcile is the product's own proof; it must agree that nothing is missing.
func (w *world) reconcile(box string) {
	r, err := w.boxes[box].Reconcile(w.ctx, time.Time{}, false)
	switch {
	case err != nil:
		w.fail(broken, "reconciling %s: %v", box, err)
	case r.Unaccounted != 0:
		w.fail(lost, "reconcile of %s finds %d pairs that nobody delivered", box, r.Unaccounted)
	case r.Pending+r.Dead+r.Held > 0:
		w.fail(lost, "reconcile of %s finds %d pairs undelivered", box, r.Pending+r.Dead+r.Held)
	}
}
