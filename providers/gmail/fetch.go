package gmail

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/api/gmail/v1"

	"mailsyncd/message"
	"mailsyncd/providers"
)

// outcome is what became of one mail that was asked for.
type outcome struct {
	state state
	msg   providers.Message
}

type state int

const (
	notAsked state = iota // a failure came first: ask again
	taken                 // the header is here
	gone                  // deleted between the listing and now
	broken                // the server failed on this one mail
)

// fetch reads headers, a few at a time, in order of ids. After a failure that
// is not one mail's own (throttled, unauthorized, no network) nothing further is
// asked, but what is under way comes in: its units are spent.
func (s *session) fetch(ctx context.Context, ids []string) ([]outcome, error) {
	out := make([]outcome, len(ids))
	var g errgroup.Group
	var stop atomic.Bool
	g.SetLimit(s.p.width())
	for i, id := range ids {
		g.Go(func() error {
			if stop.Load() { // asked here: Go has just waited for another to end
				return nil
			}
			var err error
			if out[i], err = s.fetchOne(ctx, id); err != nil {
				stop.Store(true)
			}
			return err
		})
	}
	return out, g.Wait()
}

func (s *session) fetchOne(ctx context.Context, id string) (outcome, error) {
	m, err := s.p.get(ctx, id)
	switch {
	case isKind(err, kindGone):
		return outcome{state: gone}, nil
	case isKind(err, kindBroken), isKind(err, kindBadCall):
		return outcome{state: broken}, nil
	case err != nil:
		return outcome{}, err
	case m.Id != id:
		return outcome{state: broken}, nil
	}
	msg, err := s.message(ctx, m)
	return outcome{state: taken, msg: msg}, err
}

// message reads an answer. Nothing but the fields of the mask is looked at,
// whatever the server sent.
func (s *session) message(ctx context.Context, m *gmail.Message) (providers.Message, error) {
	ignored, err := s.ignores(ctx, m.LabelIds)
	if err != nil {
		return providers.Message{}, err
	}
	msg := providers.Message{
		Ref: m.Id, Labels: m.LabelIds, ThreadHint: m.ThreadId,
		Link: s.p.link + m.Id, Ignored: ignored, Header: header(m.Payload),
	}
	if m.InternalDate > 0 {
		msg.Arrival = time.UnixMilli(m.InternalDate).UTC()
	}
	return msg, nil
}

func header(part *gmail.MessagePart) message.Header {
	if part == nil {
		return message.Header{}
	}
	var fields []message.Field
	for _, h := range part.Headers {
		if h != nil {
			fields = append(fields, message.Field{Name: h.Name, Value: h.Value})
		}
	}
	return message.FromFields(fields)
}

// An outage is this many mails in a row of which the server hands out none. Then
// it is the service that fails, not the mails, and the position stays.
const outage = 20

// readInto reads the mails with these ids into a page, and returns what has to
// be asked for again and how many are settled. keep, if not nil, sees every mail
// in order and says whether the page wants it. A failure in the midst ends the
// page early: what was read counts, and the next page meets the failure at its
// beginning.
func (s *session) readInto(ctx context.Context, page *pageOf, ids []string, retry *retries, keep func(*providers.Message) bool) (rest []string, n int, err error) {
	out, err := s.fetch(ctx, ids)
	if ctx.Err() != nil {
		return ids, 0, fmt.Errorf("reading headers: %w", ctx.Err())
	}
	b := sortOut(ids, out)
	if err == nil && len(b.broken) >= outage && len(b.settled) == 0 {
		err = classed(providers.ClassServer, "the server fails on every mail that is asked for; it is tried again by itself")
	}
	if err != nil && len(b.settled) == 0 {
		return ids, 0, s.keep(page, err)
	}
	for i := range b.msgs {
		if m := &b.msgs[i]; (keep == nil || keep(m)) && !m.Ignored {
			page.Messages = append(page.Messages, *m)
		}
	}
	*retry = retry.remove(b.settled)
	*retry = retry.add(b.broken, time.Now())
	page.Unreadable += len(b.broken)
	page.spent += len(b.settled) + len(b.broken)
	page.stopped = page.stopped || err != nil
	if len(*retry) > maxRetries {
		return nil, 0, classed(providers.ClassServer, "the server does not hand out %d mails; it is tried again by itself", len(*retry))
	}
	if err == nil {
		s.p.moreAtOnce()
	}
	return b.rest, len(b.settled) + len(b.broken), nil
}

// batch is what became of the mails of one fetch.
type batch struct {
	msgs    []providers.Message
	settled []string // read, or deleted
	broken  []string
	rest    []string // not asked for
}

func sortOut(ids []string, out []outcome) batch {
	var b batch
	for i, o := range out {
		switch o.state {
		case notAsked:
			b.rest = append(b.rest, ids[i])
		case broken:
			b.broken = append(b.broken, ids[i])
		case gone:
			b.settled = append(b.settled, ids[i])
		case taken:
			b.settled = append(b.settled, ids[i])
			b.msgs = append(b.msgs, o.msg)
		}
	}
	return b
}
