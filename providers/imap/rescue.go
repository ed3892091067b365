package imap

import (
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"

	"mailsyncd/providers"
)

// rescueMissing asks again for mails whose rows did not come. What was deleted
// meanwhile is decided; what the server still lists is asked for in pieces.
func (r *reader) rescueMissing(c *chunk, missing []uint32) error {
	alive, err := r.alive(uidSet(missing))
	if err != nil {
		return err
	}
	alive = slices.DeleteFunc(alive, func(u uint32) bool {
		_, asked := slices.BinarySearch(missing, u)
		return !asked
	})
	if err := r.rescue(c, alive); err != nil {
		return err
	}
	slices.SortFunc(c.msgs, func(a, b providers.Message) int { return cmpRef(a.Ref, b.Ref) })
	return nil
}

// alive returns which UIDs of a set still exist.
func (r *reader) alive(set imap.UIDSet) ([]uint32, error) {
	all := span{lo: 1, hi: 1<<32 - 1}
	if !r.s.noSearch {
		uids, err := r.s.startSearch(all, &imap.SearchCriteria{UID: []imap.UIDSet{set}}).wait(r.s)
		if err == nil || refusal(err) == nil || r.s.conn.Err() != nil {
			return uids, r.s.why("searching a folder", err)
		}
		r.s.noSearch = true
	}
	rows, err := r.s.startListing(set)()
	if err != nil {
		return nil, r.s.why("listing the mails of a folder", err)
	}
	var uids []uint32
	for _, row := range rows {
		uids = append(uids, row.uid)
	}
	slices.Sort(uids)
	return slices.Compact(uids), nil
}

// rescue reads uids in ever smaller pieces until those are isolated that the
// server will not hand out. One mail alone gets a second try with its whole
// header. When the budget is spent the rest counts as lost for now: it goes to
// the gaps and is tried again at a later poll.
func (r *reader) rescue(c *chunk, uids []uint32) error {
	for len(uids) > 0 {
		if r.budget <= 0 {
			c.lost = append(c.lost, uids...)
			return nil
		}
		got, err := r.attempt(c, uids, headerFields())
		if err != nil {
			return err
		}
		rest := without(uids, got)
		switch {
		case len(rest) == 0:
			return nil
		case len(uids) == 1:
			return r.lastTry(c, uids)
		case len(got) > 0:
			uids = rest
			continue
		}
		half := len(rest) / 2
		if err := r.rescue(c, rest[:half:half]); err != nil {
			return err
		}
		uids = rest[half:]
	}
	return nil
}

// lastTry asks for the beginning of one mail's whole header.
func (r *reader) lastTry(c *chunk, uids []uint32) error {
	got, err := r.attempt(c, uids, wholeHeader())
	if err == nil && len(got) == 0 {
		c.lost = append(c.lost, uids...)
	}
	return err
}

// attempt fetches uids once; a refusal brings nothing and is no error.
func (r *reader) attempt(c *chunk, uids []uint32, section *imap.FetchItemBodySection) (got []uint32, err error) {
	r.budget--
	fl := &flight{folder: r.f.name, prefix: r.prefix, uids: uids}
	r.s.launch(fl, section)
	if err := r.s.land(fl); err != nil {
		if r.s.mayRescue(err) {
			return nil, nil
		}
		return nil, r.s.why("reading headers", err)
	}
	for i, row := range fl.rows {
		if row.ok {
			c.msgs, got = append(c.msgs, row.msg), append(got, uids[i])
		}
	}
	return got, nil
}

func without(uids, got []uint32) []uint32 {
	return slices.DeleteFunc(slices.Clone(uids), func(u uint32) bool {
		_, ok := slices.BinarySearch(got, u)
		return ok
	})
}

// maxMended bounds how many whole headers one chunk may cost.
const maxMended = 20

// mend gives mails without a sender a second try with their whole header: some
// servers lose fields such as "From :" in HEADER.FIELDS. Then it drops what lies
// before the window where the search could not do that.
func (r *reader) mend(c *chunk, since time.Time) error {
	var bare []uint32
	for _, m := range c.msgs {
		if len(m.Header.From) == 0 && len(m.Header.Sender) == 0 && len(bare) < maxMended {
			bare = append(bare, uidOf(m.Ref))
		}
	}
	if len(bare) > 0 {
		var whole chunk
		if _, err := r.attempt(&whole, bare, wholeHeader()); err != nil {
			return err
		}
		for _, w := range whole.msgs {
			i := slices.IndexFunc(c.msgs, func(m providers.Message) bool { return m.Ref == w.Ref })
			if i >= 0 && len(w.Header.From) > 0 {
				c.msgs[i] = w
			}
		}
	}
	if !since.IsZero() {
		c.msgs = slices.DeleteFunc(c.msgs, func(m providers.Message) bool { return !inWindow(m, since) })
	}
	return nil
}

// inWindow: arrival or Date within, or neither known. A day of slack, as the
// search has it.
func inWindow(m providers.Message, since time.Time) bool {
	since = since.AddDate(0, 0, -1)
	if m.Arrival.IsZero() && m.Header.Date.IsZero() {
		return true
	}
	return !m.Arrival.Before(since) || !m.Header.Date.Before(since)
}
