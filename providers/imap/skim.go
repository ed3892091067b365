package imap

import (
	"errors"
	"slices"

	"github.com/emersion/go-imap/v2/imapclient"

	"mailsyncd/providers"
)

// maxSkimmed bounds the folders of one flight. Their commands take some 400
// bytes each, which must not fill the buffers of a server that reads no further
// while it answers.
const maxSkimmed = 100

// skimmed is one folder of a flight over several.
type skimmed struct {
	f   *folder
	cmd *imapclient.SelectCommand
	r   *reader
}

// skim reads the news of several folders in one round trip: each is opened,
// searched and fetched without waiting for the one before. All of it has room on
// one page. What is not as plain as that stays a job: a window, many mails, a
// folder whose opening did not confirm its STATUS, a mail that was not handed
// out.
func (p *poll) skim(page *providers.Page) error {
	if p.r != nil || p.s.noSearch {
		return nil
	}
	plain := p.plainJobs()
	if len(plain) < 2 {
		return nil
	}
	flight := p.setOut(plain)
	var failed error
	for _, k := range flight {
		c, whole, err := p.land(k, failed != nil)
		switch {
		case err != nil:
			failed = err
		case whole:
			if failed = p.keep(page, k.f, c); failed == nil {
				p.jobs = slices.DeleteFunc(p.jobs, func(f *folder) bool { return f == k.f })
			}
		}
	}
	return failed
}

// plainJobs are the folders with few new mails and nothing else to do, as many
// as fit onto a page.
func (p *poll) plainJobs() []*folder {
	var plain []*folder
	room := p.s.p.cfg.PageSize
	for _, f := range p.jobs {
		st := f.status
		if st.validity == 0 || st.next == 0 || len(plain) == maxSkimmed {
			continue
		}
		pl := p.place(f.name, st.validity, st.next)
		due := slices.ContainsFunc(pl.Gaps, func(g gap) bool { return g.due(p.now) })
		spans := pl.spans(st.next)
		if due || len(spans) != 1 || !spans[0].isFew(room) {
			continue
		}
		room -= int(spans[0].hi - spans[0].lo)
		plain = append(plain, f)
	}
	return plain
}

// setOut sends everything at once.
func (p *poll) setOut(plain []*folder) []skimmed {
	defer p.s.conn.Cork()()
	flight := make([]skimmed, len(plain))
	for i, f := range plain {
		cmd := p.s.startOpen(f, p.s.p.selects.Load())
		r := p.s.newReader(f, f.status.validity, f.status.messages, p.place(f.name, f.status.validity, f.status.next).spans(f.status.next))
		r.begin()
		flight[i] = skimmed{f, cmd, r}
	}
	return flight
}

// land takes the answers for one folder; waste throws them away, so that none is
// left behind after an error.
func (p *poll) land(k skimmed, waste bool) (chunk, bool, error) {
	data, err := k.cmd.Wait()
	p.s.p.cfg.Meter.Request("examine", providers.Result(err))
	switch {
	case waste:
		k.r.abandon()
		return chunk{}, false, nil
	case err != nil || !confirms(data, k.f.status, p.s.p.selects.Load()):
		k.r.abandon()
		return chunk{}, false, p.s.unlessRefused(err)
	}
	return k.r.takeWhole()
}

// unlessRefused returns what ends the whole flight. A folder that was refused is
// met again in the usual way, which will tell.
func (s *session) unlessRefused(err error) error {
	if err == nil {
		return nil
	}
	if err = s.openError(err); errors.Is(err, errFolder) {
		return nil
	}
	return err
}

// keep moves the place of a folder that was read to its end.
func (p *poll) keep(page *providers.Page, f *folder, c chunk) error {
	p.f, p.stop = f, f.status.next
	if err := p.took(c); err != nil {
		return err
	}
	page.Messages = append(page.Messages, c.msgs...)
	return p.done()
}
