package imap

import (
	"errors"
	"slices"
	"time"

	"mailsyncd/providers"
)

// poll is one run of Next, page by page, over everything that is new: it lists
// the folders once, opens those whose numbers moved, and keeps the position.
type poll struct {
	s   *session
	cur *cursor          // as of the last chunk
	at  providers.Cursor // as of the last page: what the caller must come back with
	w   providers.Window
	now time.Time

	jobs    []*folder // still to open
	f       *folder   // at hand
	r       *reader
	stop    uint32 // UIDNEXT of the folder at hand
	reset   string
	refused int
}

func (s *session) startPoll(cur providers.Cursor, w providers.Window) (*poll, error) {
	c, err := decodeCursor(cur)
	if err != nil {
		return nil, err
	}
	if err := s.list(); err != nil {
		return nil, err
	}
	if w.Since.IsZero() {
		w.Since = time.Unix(c.Since, 0)
	}
	p := &poll{s: s, cur: c, at: cur, w: w, now: time.Now()}
	p.findRenamed()
	p.forget()
	for _, f := range s.dir.watched {
		if p.hasNews(f) {
			p.jobs = append(p.jobs, f)
		}
	}
	return p, nil
}

// page reads until a page is full.
func (p *poll) page() (providers.Page, error) {
	var page providers.Page
	if err := p.skim(&page); err != nil {
		return providers.Page{}, err
	}
	if err := p.s.fill(&page, p); err != nil {
		return providers.Page{}, err
	}
	if !page.More {
		p.s.p.notices.Tell("folder_refused", "folders are left out because the server refuses to open them; check their rights", p.refused)
	}
	page.Reset, p.reset = p.reset, ""
	page.Next = p.cur.encode()
	p.at = page.Next
	return page, nil
}

// hasNews tells whether a folder must be opened. One whose numbers are unknown
// always is.
func (p *poll) hasNews(f *folder) bool {
	st := f.status
	if st.validity == 0 || st.next == 0 {
		return !p.s.walkedBlind[f.name]
	}
	empty := st.counted && st.messages == 0
	if pl := p.cur.Folders[f.name]; empty && pl != nil && pl.untouched() {
		pl.Gone = 0
		return false // whatever its numbering is now, it counts from the first mail on
	}
	pl := p.place(f.name, st.validity, st.next)
	if empty {
		pl.taken(st.next)
		pl.Gaps = nil
		return false
	}
	return len(pl.spans(st.next)) > 0 || slices.ContainsFunc(pl.Gaps, func(g gap) bool { return g.due(p.now) })
}

// place returns where the walk of a folder stands, given its numbering now. A
// numbering that cannot continue the old one begins the window anew.
func (p *poll) place(name string, validity, next uint32) *place {
	pl := p.cur.Folders[name]
	switch {
	case pl == nil:
		// New to us: also mail that was moved here from where we do not look
		// counts, so the walk begins where the very first one did.
		pl = windowed(validity, next, p.cur.Since)
	case pl.Validity != validity && pl.untouched():
		if pl.Since != 0 && pl.Until == 0 {
			p.reset = "UIDVALIDITY changed"
		}
		pl.renumber(validity, next)
	case pl.Validity != validity:
		pl = p.anew(validity, next, "UIDVALIDITY changed")
	case next < pl.Next:
		pl = p.anew(validity, next, "UIDNEXT went back")
	case validity == 0 && pl.Next == 1 && next > 1:
		pl = windowed(0, next, p.w.Since.Unix())
	}
	pl.Gone = 0
	p.cur.Folders[name] = pl
	return pl
}

func (p *poll) anew(validity, next uint32, cause string) *place {
	p.reset = cause
	return again(validity, next, p.w.Since.Unix())
}

// findRenamed recognises a folder that has another name now by its UIDVALIDITY
// and a UIDNEXT that did not go back, where exactly one missing folder fits. The
// window is walked again all the same: on some servers folders that were made
// in the same second share a validity.
func (p *poll) findRenamed() {
	for _, f := range p.s.dir.watched {
		if p.cur.Folders[f.name] != nil || f.status.validity == 0 {
			continue
		}
		old := p.missingLike(f)
		if old == "" {
			continue
		}
		was := p.cur.Folders[old]
		since := p.w.Since.Unix()
		if was.Until != 0 {
			since = min(since, was.Since)
		}
		pl := windowed(was.Validity, max(was.Next, was.Until), since)
		pl.Gaps = was.Gaps
		p.cur.Folders[f.name] = pl
		delete(p.cur.Folders, old)
		p.reset = "folder renamed"
	}
}

// missingLike returns the one missing folder that f may have been; "" when there
// is none or more than one.
func (p *poll) missingLike(f *folder) string {
	found := ""
	for name, pl := range p.cur.Folders {
		if pl.Validity != f.status.validity || max(pl.Next, pl.Until) > f.status.next || p.exists(name) {
			continue
		}
		if found != "" {
			return ""
		}
		found = name
	}
	return found
}

func (p *poll) exists(name string) bool {
	return slices.ContainsFunc(p.s.dir.all, func(f *folder) bool { return f.name == name })
}

// forget drops what is not watched any more, and what has been missing for long.
// A folder that is only missing for now (a rename under way, a list that came
// incomplete) keeps its place.
func (p *poll) forget() {
	for name, pl := range p.cur.Folders {
		watched := slices.ContainsFunc(p.s.dir.watched, func(f *folder) bool { return f.name == name })
		switch {
		case watched:
		case p.exists(name):
			delete(p.cur.Folders, name)
		case pl.Gone == 0:
			pl.Gone = p.now.Unix()
		case p.now.Sub(time.Unix(pl.Gone, 0)) > goneFor:
			delete(p.cur.Folders, name)
		}
	}
}

// next implements stepper.
func (p *poll) next(page *providers.Page) (*reader, error) {
	for p.r == nil && len(p.jobs) > 0 {
		p.f, p.jobs = p.jobs[0], p.jobs[1:]
		r, err := p.s.open(p.f, p.want)
		if errors.Is(err, errFolder) {
			if p.f.role == roleInbox {
				return nil, classed(providers.ClassServer, "the server refuses to open INBOX; check the rights of this account")
			}
			p.refused++
			continue
		}
		if err != nil {
			return nil, err
		}
		p.r = r
		if err := p.retryGaps(page); err != nil {
			return nil, err
		}
	}
	return p.r, nil
}

// want says what is to be read of the folder at hand under a numbering.
func (p *poll) want(validity, next uint32) []span {
	p.stop = next
	return p.place(p.f.name, validity, next).spans(next)
}

// took implements stepper: the place moves, and what was lost goes to the gaps.
func (p *poll) took(c chunk) error {
	pl := p.cur.Folders[p.f.name]
	pl.taken(c.next)
	for _, uid := range c.lost {
		pl.Gaps = addGap(pl.Gaps, gap{Lo: uid, Hi: uid, Tries: 1, First: p.now.Unix(), Last: p.now.Unix()})
	}
	if len(pl.Gaps) > maxGaps {
		return classed(providers.ClassServer, "the server lists more than %d mails of one folder and will not hand them out; have the folder repaired on the server", maxGaps)
	}
	return nil
}

// addGap extends the last gap where the new one continues it.
func addGap(gs []gap, g gap) []gap {
	if n := len(gs); n > 0 {
		last := &gs[n-1]
		if last.Hi+1 == g.Lo && last.Tries == g.Tries && last.First == g.First && last.Last == g.Last {
			last.Hi = g.Hi
			return gs
		}
	}
	return append(gs, g)
}

// done implements stepper. A folder without UIDVALIDITY goes back to its start:
// its numbers mean nothing tomorrow.
func (p *poll) done() error {
	pl := p.cur.Folders[p.f.name]
	if pl.Validity == 0 {
		*pl = place{Next: 1}
		p.s.walkedBlind[p.f.name] = true
	} else {
		pl.taken(p.stop)
	}
	p.r = nil
	return nil
}

// retryGaps asks again for mails that did not come before. Those the server no
// longer lists are decided; those it has not handed out for two weeks are given
// up.
func (p *poll) retryGaps(page *providers.Page) error {
	pl := p.cur.Folders[p.f.name]
	var keep []gap
	dropped := 0
	for _, g := range pl.Gaps {
		if !g.due(p.now) {
			keep = append(keep, g)
			continue
		}
		c, err := p.retryGap(g)
		if err != nil {
			return err
		}
		page.Messages = append(page.Messages, c.msgs...)
		page.Unreadable += len(c.lost)
		if p.now.Sub(time.Unix(g.First, 0)) > gapFor {
			dropped += len(c.lost)
			continue
		}
		for _, uid := range c.lost {
			keep = addGap(keep, gap{Lo: uid, Hi: uid, Tries: g.Tries + 1, First: g.First, Last: p.now.Unix()})
		}
	}
	pl.Gaps = keep
	p.s.p.notices.Tell("mail_given_up", "mails are given up that the server lists but has not handed out for two weeks", dropped)
	return nil
}

func (p *poll) retryGap(g gap) (chunk, error) {
	sp := span{lo: g.Lo, hi: g.Hi + 1}
	alive, err := p.r.alive(sp.set())
	if err != nil {
		return chunk{}, err
	}
	alive = slices.DeleteFunc(alive, func(u uint32) bool { return u < sp.lo || u >= sp.hi })
	var c chunk
	for part := range slices.Chunk(alive, p.s.p.cfg.PageSize) {
		if err := p.r.rescue(&c, part); err != nil {
			return chunk{}, err
		}
	}
	return c, nil
}
