package proptest_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"mailsyncd/directory"
)

// The people and places of every life. They are few, so that what happens,
// happens to the same ones.
var (
	boxes      = [...]string{"rita", "mark", "lena"}
	folders    = [...]string{"INBOX", "Sent", "Projects", "Archive", "Junk"} // Archive is made late, Junk is left out
	refs       = [...]string{"cand_1", "cand_2", "cand_3", "cand_4"}
	addresses  = [...]string{"ann@people.example", "bob@people.example", "cyd@people.example", "dan@people.example", "eve@people.example", staff}
	jobs       = [...]string{"job_1", "job_2"}
	categories = [...]string{"", "", "", "", "", "", "list", "notice"}
)

const (
	staff  = "staff@example.com"       // in the company's domain: a guard refuses it
	notice = "noreply@ats.example.com" // company.ignore_from
	owner  = "usr_eve"                 // a user who may have a candidate's address
)

const (
	backfill = 14 * day
	day      = 24 * time.Hour
)

func userOf(box string) string { return "usr_" + box }

func addressOf(box string) string { return box + "@example.com" }

// verb is what a step does.
type verb string

const (
	arrive   verb = "mail arrives"
	move     verb = "mail moves"
	expunge  verb = "mail is deleted"
	put      verb = "put candidate"
	erase    verb = "delete candidate"
	setJob   verb = "put job"
	setUser  verb = "put user"
	poll     verb = "poll"
	wait     verb = "time passes"
	off      verb = "daemon is off"
	crash    verb = "crash"
	restart  verb = "restart"
	renumber verb = "server renumbers"
	lose     verb = "server forgets the position"
	resync   verb = "task"
	cancel   verb = "cancel all tasks"
	answer   verb = "webhook"
	trouble  verb = "outbox fault"
	replay   verb = "replay"
	retain   verb = "retention"
	post     verb = "courier runs"
)

// step is one step of a life. Only the fields its verb needs are set, and names
// are used instead of pointers: a step whose mail was never sent does nothing,
// which lets a script be cut down.
type step struct {
	do     verb
	box    string
	also   string // a second mailbox that gets the same mail
	folder string
	mail   string // id of the mail
	parent string // the mail it answers
	names  []named
	// age and dateAge are how long before now the mail arrived and was dated.
	age, dateAge time.Duration
	category     string
	ref          string // of a candidate, job or user
	emails, jobs []string
	hasJobs      bool
	state        directory.State
	rev          int64
	redeliver    bool
	lasts        time.Duration
	how          string // manner of an answer or a fault
	nth          int
	cut          *cut
}

// named is one address in one field of a mail.
type named struct{ field, address string }

// cut is what happens in the middle of a step: before its nth call of op (""
// any) on the store, or of the provider.
type cut struct {
	op    string
	nth   int
	how   string
	inner *step
}

// The manners of a cut. A store fault comes in both flavours, alone and with the
// end of the process.
const (
	fails        = "fails"
	failsDone    = "fails, but is persisted"
	crashes      = "crash before it"
	crashesDone  = "crash after it"
	happens      = "first"
	serverBreaks = "connection breaks"
	serverSlows  = "server asks for a pause"
	serverDenies = "server refuses the credential"
)

func (c *cut) atServer() bool {
	return c.how == serverBreaks || c.how == serverSlows || c.how == serverDenies
}

// script is one life.
type script struct {
	seed  uint64
	steps []step
	// slow is how long each page takes: then a pass ends before its work.
	slow time.Duration
	// tight makes the outbox small, short the log of activations.
	tight, short bool
	// gmail reads two of the mailboxes through the Gmail provider.
	gmail bool
}

// draw makes the life of a seed.
func draw(seed uint64) script {
	d := &drawer{rng: rand.New(rand.NewPCG(seed, 7))}
	s := script{seed: seed, tight: d.one(10), short: d.one(6)}
	if d.one(8) {
		s.slow = 6 * time.Minute
	}
	d.add(d.candidate())
	for n := 35 + d.rng.IntN(31); len(d.steps) < n; {
		d.next()
	}
	s.steps = d.steps
	return s
}

// drawer draws steps one after the other.
type drawer struct {
	rng   *rand.Rand
	steps []step
	mails []step
	rev   int64
}

func (d *drawer) add(s step) { d.steps = append(d.steps, s) }

// one is true once in n times.
func (d *drawer) one(n int) bool { return d.rng.IntN(n) == 0 }

func pick[T any](d *drawer, from []T) T { return from[d.rng.IntN(len(from))] }

// next draws one step, and for a poll what may happen inside it.
func (d *drawer) next() {
	switch n := d.rng.IntN(100); {
	case n < 40:
		s := step{do: poll, box: pick(d, boxes[:])}
		s.cut = d.cut(true)
		d.add(s)
	case n < 78:
		s := d.event()
		if s.do == put || s.do == erase || s.do == setJob || s.do == resync {
			s.cut = d.cut(false)
		}
		d.add(s)
	default:
		d.add(d.circumstance())
	}
}

// event draws what happens to mail or people.
func (d *drawer) event() step {
	switch n := d.rng.IntN(48) - 6; {
	case n < 16 || len(d.mails) == 0:
		for range d.rng.IntN(2) { // several between two polls make pages
			d.add(d.newMail())
		}
		return d.newMail()
	case n < 19:
		return step{do: move, box: d.boxOf(), mail: d.someMail(), folder: pick(d, folders[:])}
	case n < 20:
		return step{do: expunge, box: d.boxOf(), mail: d.someMail()}
	case n < 38:
		return d.people()
	case n < 40:
		return step{do: resync, ref: pick(d, refs[:]), age: pick(d, []time.Duration{d.span(), 90 * day}), redeliver: d.one(2), box: pick(d, []string{"", "", boxes[0]})}
	case n < 41:
		return step{do: renumber, box: pick(d, boxes[:]), folder: pick(d, folders[:3])}
	default:
		return step{do: lose, box: pick(d, boxes[:])}
	}
}

// people draws what the ATS says of candidates, jobs and users.
func (d *drawer) people() step {
	switch n := d.rng.IntN(19); {
	case n < 10:
		return d.candidate()
	case n < 13:
		return step{do: erase, ref: pick(d, refs[:]), rev: d.revOf(3), how: pick(d, []string{"operator", "record"})}
	case n < 16:
		return step{do: setJob, ref: pick(d, jobs[:]), state: pick(d, []directory.State{directory.JobOpen, directory.JobArchived})}
	default:
		return d.user()
	}
}

// circumstance draws what happens around: time, the receiver, the process.
func (d *drawer) circumstance() step {
	switch n := d.rng.IntN(24); {
	case n < 9:
		return step{do: wait, lasts: pick(d, []time.Duration{time.Second, time.Minute, 10 * time.Minute, 2 * time.Hour})}
	case n < 12:
		return d.outage()
	case n < 14:
		return step{do: crash}
	case n < 15:
		return step{do: restart}
	case n < 20:
		return step{do: answer, how: pick(d, answers[:])}
	case n < 22:
		return step{do: trouble, mail: pick(d, []string{"Due", "Attempt", "Outcome", "PurgesPending"}), nth: 1 + d.rng.IntN(3), how: pick(d, []string{fails, failsDone})}
	case n < 23:
		return step{do: replay, ref: pick(d, []string{"", refs[0], refs[1]})}
	default:
		return pick(d, []step{{do: retain}, {do: cancel}})
	}
}

// outage draws a time without the daemon. After a long one the server is often
// another.
func (d *drawer) outage() step {
	s := step{do: off, lasts: pick(d, []time.Duration{5 * time.Hour, 30 * time.Hour, 4 * day, 9 * day, 16 * day, 24 * day})}
	if s.lasts > 5*day && d.one(2) {
		d.add(d.newMail())
		d.add(s)
		s = pick(d, []step{{do: lose, box: d.boxOf()}, {do: renumber, box: d.boxOf(), folder: folders[0]}})
	}
	return s
}

// cut draws what happens in the middle of a step; mostly nothing. Only a poll
// may have another step inside: the directory's rounds run one by one.
func (d *drawer) cut(inPoll bool) *cut {
	c := &cut{nth: 1 + d.rng.IntN(6)}
	switch n := d.rng.IntN(20); {
	case n < 9:
		return nil
	case n < 13:
		c.how = pick(d, []string{fails, failsDone, crashes, crashesDone})
	case n < 15 && inPoll:
		c.how = pick(d, []string{serverBreaks, serverBreaks, serverSlows, serverDenies})
	case inPoll:
		inner := d.people()
		switch d.rng.IntN(6) {
		case 0, 1:
			inner = d.event()
		case 2:
			inner = pick(d, []step{{do: post}, {do: poll, box: pick(d, boxes[:])}})
		}
		c.how, c.inner = happens, &inner
	default:
		return nil
	}
	if c.op = "Advance"; !inPoll {
		c.op = "Change"
		c.nth = 1
	}
	if d.one(3) {
		c.op, c.nth = "", 1+d.rng.IntN(14)
	}
	return c
}

func (d *drawer) newMail() step {
	s := step{
		do: arrive, box: pick(d, boxes[:]), folder: folders[min(d.rng.IntN(8), len(folders)-1)],
		mail: fmt.Sprint("m", len(d.mails)+1), category: pick(d, categories[:]),
	}
	if d.rng.IntN(8) < 4 {
		s.folder = folders[0]
	}
	for i := range 1 + d.rng.IntN(2) {
		field := pick(d, []string{"From", "To", "Cc", "Bcc", "Reply-To"})
		if i == 0 && d.one(2) {
			field = "From"
		}
		s.names = append(s.names, named{field, pick(d, addresses[:])})
	}
	if d.one(4) {
		s.also = pick(d, boxes[:])
	}
	if len(d.mails) > 0 && d.one(2) {
		s.parent = d.someMail()
	}
	if d.one(4) {
		s.age = d.span()
	}
	if s.dateAge = s.age; d.one(8) {
		s.dateAge = d.span()
	}
	d.mails = append(d.mails, s)
	return s
}

// span is how long ago something old was: most of them within the window, some
// on either side of its edge and some far behind it.
func (d *drawer) span() time.Duration {
	return pick(d, []time.Duration{5 * time.Hour, 3 * day, 10 * day, 13 * day, 15 * day, 25 * day, 60 * day}) + time.Duration(d.rng.IntN(7200))*time.Second
}

func (d *drawer) someMail() string { return pick(d, d.mails).mail }

func (d *drawer) boxOf() string { return pick(d, d.mails).box }

func (d *drawer) candidate() step {
	s := step{do: put, ref: pick(d, refs[:]), state: directory.CandidateActive, rev: d.revOf(2)}
	home := slices.Index(refs[:], s.ref) // most have their own address, some somebody else's
	for i := range 1 + d.rng.IntN(2) {
		a := addresses[home]
		if i > 0 || d.one(4) {
			a = pick(d, addresses[:])
		}
		if !slices.Contains(s.emails, a) {
			s.emails = append(s.emails, a)
		}
	}
	if d.one(6) {
		s.state = directory.CandidateStopped
	}
	if s.hasJobs = d.one(3); s.hasJobs {
		for _, j := range jobs {
			if d.one(2) {
				s.jobs = append(s.jobs, j)
			}
		}
	}
	return s
}

// revOf is a rev for one record of n; sometimes an old one.
func (d *drawer) revOf(n int) int64 {
	if !d.one(n) {
		return 0
	}
	if d.rev++; d.one(3) {
		return 1 + d.rng.Int64N(d.rev)
	}
	return d.rev
}

// user draws a recruiter who comes or goes, or a user who has a candidate's
// address.
func (d *drawer) user() step {
	if d.one(3) {
		return step{do: setUser, ref: owner, state: directory.UserEnabled, emails: pick(d, [][]string{nil, {addresses[4]}, {addresses[0]}})}
	}
	return step{do: setUser, ref: userOf(pick(d, boxes[:])), state: pick(d, []directory.State{directory.UserEnabled, directory.UserDisabled})}
}

// ---- printing ----------------------------------------------------------

// String prints a life as a script that a person can follow.
func (s script) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d", s.seed)
	for _, o := range []struct {
		on   bool
		text string
	}{{s.slow > 0, "each page takes " + s.slow.String()}, {s.tight, "the outbox takes few events"}, {s.short, "the log of activations is short"}, {s.gmail, "rita and lena are Gmail"}} {
		if o.on {
			b.WriteString(", " + o.text)
		}
	}
	for i, st := range s.steps {
		fmt.Fprintf(&b, "\n%3d  %s", i+1, st)
	}
	return b.String()
}

func (s step) String() string {
	parts := []string{string(s.do)}
	add := func(ok bool, format string, args ...any) {
		if ok {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(s.mail != "", "%s", s.mail)
	add(s.ref != "", "%s", s.ref)
	add(s.box != "", "in %s", s.box)
	add(s.also != "", "and %s", s.also)
	add(s.folder != "", "%s", s.folder)
	add(len(s.names) > 0, "naming %v", s.names)
	add(s.parent != "", "answering %s", s.parent)
	add(s.age != 0, "%v old", s.age)
	add(s.dateAge != s.age, "dated %v ago", s.dateAge)
	add(s.category != "", "(%s)", s.category)
	add(s.emails != nil, "%v", s.emails)
	add(s.hasJobs, "jobs %v", s.jobs)
	add(s.state != "", "%s", s.state)
	add(s.rev != 0, "rev %d", s.rev)
	add(s.redeliver, "redeliver")
	add(s.lasts != 0, "%v", s.lasts)
	add(s.nth != 0, "call %d", s.nth)
	add(s.how != "", "%s", s.how)
	if s.cut != nil {
		parts = append(parts, s.cut.String())
	}
	return strings.Join(parts, " ")
}

func (c *cut) String() string {
	call := fmt.Sprintf("%s call %d", c.op, c.nth)
	switch {
	case c.atServer():
		return fmt.Sprintf("{server call %d: %s}", c.nth, c.how)
	case c.op == "":
		call = fmt.Sprintf("store call %d", c.nth)
	}
	if c.inner != nil {
		return fmt.Sprintf("{before %s: %s}", call, c.inner)
	}
	return fmt.Sprintf("{%s: %s}", call, c.how)
}
