package imap

import (
	"context"
	"errors"
	"strings"

	"github.com/emersion/go-imap/v2"

	"mailsyncd/providers"
)

// findDepth is how many of a folder's newest mails are read where the server
// will not search for a Message-ID.
const findDepth = 5_000

// maxMessageID bounds what is searched for: RFC 5322 §2.1.1 allows no longer line.
const maxMessageID = 998

// Find looks in every folder, also those that walks leave out. SEARCH HEADER
// finds by part of the id (RFC 9051 §6.4.4), so each hit is read and compared.
func (s *session) Find(ctx context.Context, messageID string) ([]providers.Message, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if messageID == "" || len(messageID) > maxMessageID || strings.ContainsAny(messageID, "\x00\r\n") {
		return nil, nil
	}
	s.settle()
	if err := s.listOnce(); err != nil {
		return nil, err
	}
	var found []providers.Message
	for _, f := range s.dir.all {
		ms, err := s.findIn(f, messageID)
		s.p.cfg.Meter.Request("find", providers.Result(err))
		if err != nil {
			return nil, err
		}
		found = append(found, ms...)
	}
	return found, nil
}

func (s *session) findIn(f *folder, messageID string) ([]providers.Message, error) {
	var next uint32
	r, err := s.open(f, func(_, n uint32) []span { next = n; return nil })
	if errors.Is(err, errFolder) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer r.abandon()
	c, err := r.withID(messageID, next)
	if err != nil {
		return nil, err
	}
	var found []providers.Message
	for _, m := range c.msgs {
		if m.Header.MessageID == messageID {
			m.Ignored = !s.dir.isWatched(f)
			found = append(found, m)
		}
	}
	return found, nil
}

// withID reads the mails that may have the id: the server's hits, or the newest
// ones where it refuses to search.
func (r *reader) withID(messageID string, next uint32) (chunk, error) {
	all := span{lo: 1, hi: max(next, 2)}
	q := r.s.startSearch(all, &imap.SearchCriteria{
		Header: []imap.SearchCriteriaHeaderField{{Key: "Message-ID", Value: messageID}},
	})
	uids, err := q.wait(r.s)
	var c chunk
	switch {
	case err == nil:
		err = r.rescue(&c, uids[:min(len(uids), maxPageSize)])
		return c, err
	case refusal(err) == nil || r.s.conn.Err() != nil:
		return c, r.s.why("searching for a Message-ID", err)
	}
	r.spans = []span{{lo: next - min(next-1, findDepth), hi: next}}
	for {
		n, err := r.ready()
		if err != nil || n == 0 {
			return c, err
		}
		part, err := r.take()
		if err != nil {
			return c, err
		}
		c.msgs = append(c.msgs, part.msgs...)
	}
}
