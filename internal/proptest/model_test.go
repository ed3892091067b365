package proptest_test

import (
	"maps"
	"slices"
	"time"

	"mailsyncd/directory"
	"mailsyncd/message"
)

// slack is how near to the edge of a window the model says nothing: stores keep
// milliseconds, mails seconds.
const slack = 2 * time.Second

// person is a candidate as the ATS last said it.
type person struct {
	emails, jobs []string
	hasJobs      bool
	state        directory.State
	rev          int64
	deleted      bool
}

// truth is the directory at one moment. It is copied to be changed.
type truth struct {
	people   map[string]person
	jobs     map[string]directory.State
	disabled map[string]bool
	own      []string // what the user "owner" has
}

func (t truth) clone() truth {
	t.people, t.jobs, t.disabled = maps.Clone(t.people), maps.Clone(t.jobs), maps.Clone(t.disabled)
	return t
}

// matches tells whether a candidate is matched by an address; guards aside.
func (t truth) matches(ref, address string) bool {
	p, known := t.people[ref]
	if !known || p.deleted || p.state == directory.CandidateStopped || !slices.Contains(p.emails, address) {
		return false
	}
	return !p.hasJobs || slices.ContainsFunc(p.jobs, func(j string) bool { return t.jobs[j] != directory.JobArchived })
}

// owned tells whether the guard own_address refuses an address.
func (t truth) owned(address string) bool { return slices.Contains(t.own, address) }

// put is what the reducer must make of a record.
func (t truth) put(ref string, in person) truth {
	old, known := t.people[ref]
	stale := known && old.rev > 0 && in.rev > 0 && (in.rev < old.rev || old.deleted && in.rev == old.rev)
	if stale {
		return t
	}
	if in.rev == 0 && known && !old.deleted {
		in.rev = old.rev
	}
	next := t.clone()
	next.people[ref] = in
	return next
}

// remove is what the reducer must make of a delete; gone tells whether a live
// candidate went.
func (t truth) remove(ref string, rev int64) (next truth, gone bool) {
	old, known := t.people[ref]
	if !known || old.deleted || rev > 0 && rev < old.rev {
		return t, false
	}
	next = t.clone()
	next.people[ref] = person{deleted: true, rev: max(rev, old.rev)}
	return next, true
}

// ---- mail --------------------------------------------------------------

// mail is one mail, in however many folders.
type mail struct {
	name, id string // of the script; msg_…
	raw      string
	stamp    time.Time // the later of arrival and Date
	names    []string  // the addresses that may match; none when a guard refuses the mail
	asked    []string  // those of them that a server's search finds
}

// lying is one mail where it lies, in one folder of one mailbox.
type lying struct {
	*mail
	box, folder string
	ref         string // the provider's, as of placement
	placed      int    // when, in the model's count
	// tried is the first pass that may have read it; 0 while none did.
	tried int
	// drained tells that a complete poll has passed it, skipped that this poll
	// walked a window which the mail is older than.
	drained, skipped bool
	drainedAt        time.Time
}

func (c *lying) watched() bool { return c.folder != "Junk" }

// boxModel is what the model knows of a mailbox.
type boxModel struct {
	firstTry, firstDone time.Time // passes
	lastTry             time.Time // the end of the newest
	before              int       // start of the last pass that was complete
	beforeAt            time.Time // the same as a time
	began               int       // start of the first pass that was complete
	kind                boxKind
	failures            int       // of the server
	passAt              time.Time // when the pass that runs began
	polled              map[string]bool
	// reset says when a folder's numbering was lost, lost when the whole position
	// was; none before the last complete poll. everLost is that it ever was.
	reset    map[string]int
	lost     int
	everLost bool
	// pass is the pass that runs now, 0 when none.
	pass int
	// seen are the copies the pass that runs may have read, free the addresses
	// that own_address did not refuse at some time during it: guards are asked
	// when a page is decided, candidates when it is committed.
	seen map[*lying]bool
	free map[string]bool
}

// request is a resync or redelivery.
type request struct {
	id, ref   string
	since     time.Time
	redeliver bool
	owed      map[string]bool // mailboxes that have not walked for it
	from      int             // when it was made
}

// ---- the model ---------------------------------------------------------

type pair struct{ message, ref string }

// grant is one address that matches one candidate.
type grant struct{ ref, address string }

type since struct {
	seq int
	at  time.Time
}

// model says what must, may and must not be delivered. It knows the contract
// and nothing of how it is kept. All counting is by seq, which every event of
// the world raises: virtual time often stands still.
type model struct {
	seq int
	// committed is what the store holds, published what passes see: after a
	// commit that failed only for its caller the two differ.
	committed, published truth
	grants               map[grant]since // in both
	copies               []*lying
	boxes                map[string]*boxModel
	requests             []*request
	// lives counts the purges of a candidate, erased those the ATS was told.
	lives, erased map[string]int
	// may and must hold the life of the candidate they speak of, counted from 1.
	may, must map[pair]int
	// told tells that a pair was accepted in that life.
	told map[pair]int
	// ever are the pairs that had to be delivered at some time.
	ever     map[pair]bool
	names    map[grant]bool // every address a candidate ever had
	messages map[string]*mail
	asked    int // redeliveries
	short    bool
}

func newModel() *model {
	empty := truth{people: map[string]person{}, jobs: map[string]directory.State{}, disabled: map[string]bool{}}
	m := &model{
		committed: empty, published: empty, grants: map[grant]since{}, boxes: map[string]*boxModel{},
		lives: map[string]int{}, erased: map[string]int{}, may: map[pair]int{}, must: map[pair]int{},
		told: map[pair]int{}, ever: map[pair]bool{}, names: map[grant]bool{}, messages: map[string]*mail{},
	}
	for _, b := range boxes {
		m.boxes[b] = &boxModel{polled: map[string]bool{}, reset: map[string]int{}}
	}
	return m
}

func (m *model) tick() int {
	m.seq++
	return m.seq
}

func (m *model) life(ref string) int { return m.lives[ref] + 1 }

// gone tells that a candidate was purged and not added again.
func (m *model) gone(ref string) bool {
	p, known := m.committed.people[ref]
	return !known || p.deleted
}

// commit takes a change of the directory that the store persisted.
func (m *model) commit(next truth, purged string) {
	m.tick()
	m.committed = next
	if purged != "" {
		m.lives[purged]++
		m.requests = slices.DeleteFunc(m.requests, func(r *request) bool { return r.ref == purged })
	}
	for ref, p := range next.people {
		for _, a := range p.emails {
			m.names[grant{ref, a}] = true
		}
	}
	m.regrant()
}

// publish notes that passes see now what the store holds.
func (m *model) publish() {
	m.published = m.committed
	m.regrant()
}

// regrant keeps since when each address matches, for the store and for passes.
func (m *model) regrant() {
	for _, b := range m.boxes {
		if b.pass != 0 {
			m.guard(b)
		}
	}
	for _, ref := range refs {
		for _, a := range addresses {
			g := grant{ref, a}
			_, had := m.grants[g]
			has := a != staff && m.committed.matches(ref, a) && m.published.matches(ref, a) && !m.loses(ref) &&
				!m.committed.owned(a) && !m.published.owned(a)
			switch {
			case has && !had:
				m.grants[g] = since{m.tick(), time.Now()}
			case !has:
				delete(m.grants, g)
			}
		}
	}
}

// loses tells that passes still match a candidate by an address it has no more.
// What they decide by it is dropped when it is committed, also where the mail
// names another address; so the others begin anew when the loss is known.
func (m *model) loses(ref string) bool {
	has := m.committed.people[ref].emails
	return slices.ContainsFunc(m.published.people[ref].emails, func(a string) bool { return !slices.Contains(has, a) })
}

// ---- mail in folders ---------------------------------------------------

func (m *model) place(c *lying) {
	c.placed = m.tick()
	m.messages[c.id] = c.mail
	m.copies = append(m.copies, c)
	if b := m.boxes[c.box]; b.pass != 0 && c.watched() {
		c.tried = b.pass
		b.seen[c] = true
	}
}

func (m *model) find(name, box string) *lying {
	i := slices.IndexFunc(m.copies, func(c *lying) bool { return c.name == name && c.box == box })
	if i < 0 {
		return nil
	}
	return m.copies[i]
}

func (m *model) take(c *lying) {
	m.copies = slices.DeleteFunc(m.copies, func(o *lying) bool { return o == c })
}

// ---- passes ------------------------------------------------------------

// begin notes that a pass reads from now on.
func (m *model) begin(box string) {
	b := m.boxes[box]
	b.pass, b.passAt, b.seen, b.free = m.tick(), time.Now(), map[*lying]bool{}, map[string]bool{}
	m.guard(b)
	if b.firstTry.IsZero() {
		b.firstTry = time.Now()
	}
	for _, c := range m.copies {
		if c.box != box || !c.watched() {
			continue
		}
		b.seen[c] = true
		if c.tried == 0 {
			c.tried = b.pass
		}
	}
}

// guard notes the addresses that a page decided now lets pass.
func (m *model) guard(b *boxModel) {
	for _, a := range addresses {
		b.free[a] = b.free[a] || a != staff && (!m.committed.owned(a) || !m.published.owned(a))
	}
}

// committing says what a page that is committed now may deliver: what the pass
// has seen, for whom the store knows at this moment.
func (m *model) committing(box string) {
	b := m.boxes[box]
	for c := range b.seen {
		for _, a := range c.names {
			for _, ref := range refs {
				if m.mayCommit(box, c, ref, a) {
					m.may[pair{c.id, ref}] = m.life(ref)
				}
			}
		}
	}
}

func (m *model) mayCommit(box string, c *lying, ref, address string) bool {
	b := m.boxes[box]
	if !b.free[address] || !m.committed.matches(ref, address) {
		return false
	}
	horizon := b.firstTry.Add(-backfill - slack)
	for _, r := range m.requests {
		if r.ref == ref && r.owed[box] && r.since.Before(horizon) {
			horizon = r.since.Add(-slack)
		}
	}
	return !c.stamp.Before(horizon)
}

// end notes how a pass ended, and returns the pairs that must be delivered
// because it was complete.
func (m *model) end(box string, complete bool) (owed []pair) {
	b, now := m.boxes[box], time.Now()
	start := b.pass
	b.pass, b.seen, b.free = 0, nil, nil
	m.tick()
	if complete {
		if b.firstDone.IsZero() {
			b.firstDone, b.began = now, start
		}
		owed = m.owed(box, start, now)
		b.before, b.beforeAt = start, b.passAt
		b.found(start)
		for _, f := range folders {
			b.polled[f] = b.polled[f] || slices.ContainsFunc(m.copies, func(c *lying) bool { return c.box == box && c.folder == f }) || f != "Archive"
		}
		for _, r := range m.requests {
			if r.from < start {
				delete(r.owed, box)
			}
		}
	}
	b.lastTry = now
	return owed
}

// found notes that a complete poll has found its position again. What was lost
// while it ran is still to be found.
func (b *boxModel) found(start int) {
	if b.lost < start {
		b.lost = 0
	}
	maps.DeleteFunc(b.reset, func(_ string, when int) bool { return when < start })
}

// owed lists what a complete pass that began at start owes the ATS.
func (m *model) owed(box string, start int, now time.Time) (all []pair) {
	b := m.boxes[box]
	for _, c := range m.copies {
		if c.box != box || !c.watched() || c.placed > start {
			continue
		}
		if !c.drained {
			c.drained, c.drainedAt, c.skipped = true, now, c.stamp.Before(m.walked(b, c, now))
		}
		for _, a := range c.names {
			for _, ref := range refs {
				g, matched := m.grants[grant{ref, a}]
				if matched && g.seq < start && (m.drains(b, c, a, g) || m.looksBack(b, c, a, g) || m.readsDaily(b, c, g) || m.requested(box, c, ref, a, start, g)) {
					all = append(all, pair{c.id, ref})
				}
			}
		}
	}
	for _, p := range all {
		m.must[p], m.ever[p] = m.life(p.ref), true
	}
	return all
}

// walked is where the walk began that a poll did over a copy's folder: at the
// horizon, unless the server had forgotten the position.
func (m *model) walked(b *boxModel, c *lying, now time.Time) time.Time {
	window := now.Add(-backfill)
	switch {
	case b.everLost && !b.polled[c.folder]:
		return window.Add(slack)
	case b.reset[c.folder] == 0 && b.lost == 0:
		return time.Time{}
	case b.lastTry.IsZero():
		return time.Time{}
	}
	if gap := b.lastTry.Add(-3 * day); gap.Before(window) {
		window = gap
	}
	return window.Add(slack)
}

// horizon is the latest that a mailbox's can be.
func (b *boxModel) horizon() time.Time { return b.firstDone.Add(-backfill + slack) }

// finds: where the server is asked for an address, it finds the mail.
func (b *boxModel) finds(c *lying, address string) bool {
	return b.kind != gmailAsks && b.kind != gmailBoth || slices.Contains(c.asked, address)
}

// drains: the candidate was there before anybody read the mail. A walk that asks
// for addresses is at the beginning, and after the position was lost.
func (m *model) drains(b *boxModel, c *lying, address string, g since) bool {
	return g.seq < c.tried && !c.skipped && !c.stamp.Before(b.horizon()) &&
		(b.finds(c, address) || c.placed > b.began && !b.everLost)
}

// looksBack: the candidate came later than the mail. One complete pass may still
// end an older look-back; the second one owes this one. Gmail is asked at once for
// a few, and never where each header costs.
func (m *model) looksBack(b *boxModel, c *lying, address string, g since) bool {
	if b.kind == gmailMeta || b.kind == gmailBoth || b.kind == gmailAsks && (m.short || !b.finds(c, address)) {
		return false
	}
	return g.seq > c.tried && b.before > g.seq && c.placed < b.before &&
		!c.stamp.Before(b.horizon()) && !c.stamp.Before(g.at.Add(-backfill+slack))
}

// readsDaily: what costs is read once a day. One complete pass after that day may
// still end an older walk; the second one owes this one.
func (m *model) readsDaily(b *boxModel, c *lying, g since) bool {
	last := c.drainedAt
	if g.at.After(last) {
		last = g.at
	}
	return b.kind.gmail() && c.drained && !c.skipped && b.before > g.seq && b.beforeAt.After(last.Add(day+slack)) &&
		!c.stamp.Before(b.horizon()) && !c.stamp.Before(g.at.Add(-backfill+slack))
}

// requested: somebody asked for the candidate's older mail.
func (m *model) requested(box string, c *lying, ref, address string, start int, g since) bool {
	return m.boxes[box].finds(c, address) && slices.ContainsFunc(m.requests, func(r *request) bool {
		return r.ref == ref && r.owed[box] && r.from < start && c.placed < r.from && g.seq < r.from && !c.stamp.Before(r.since.Add(slack))
	})
}

// ---- counting ----------------------------------------------------------

// shares counts the pairs of a life: of all mails with a candidate whose address
// they name, those that had to be delivered, that could be, and that must not.
type shares struct{ must, may, mustNot int }

func (s shares) plus(o shares) shares {
	return shares{s.must + o.must, s.may + o.may, s.mustNot + o.mustNot}
}

func (m *model) shares() (s shares) {
	for id, mail := range m.messages {
		for _, ref := range refs {
			p := pair{id, ref}
			switch {
			case !m.related(mail, ref):
			case m.ever[p]:
				s.must++
			case m.may[p] > 0:
				s.may++
			default:
				s.mustNot++
			}
		}
	}
	return s
}

// related tells that a mail names an address the candidate ever had.
func (m *model) related(mail *mail, ref string) bool {
	h := message.Parse([]byte(mail.raw))
	for _, field := range [][]message.Address{h.From, h.ReplyTo, h.To, h.Cc, h.Bcc} {
		for _, a := range field {
			if m.names[grant{ref, a.Key}] {
				return true
			}
		}
	}
	return false
}
