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
		if stop.Load() {
			break
		}
		g.Go(func() error {
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

// maxBroken bounds the mails that one page may find broken: with more it is the
// service that is failing, and the position stays where it is.
const maxBroken = 10

// readInto reads the mails with these ids into a page, and returns what has to
// be asked for again. keep, if not nil, sees every mail in order and says
// whether the page wants it. A failure in the midst ends the page early: what
// was read counts, and the next page meets the failure at its beginning.
func (s *session) readInto(ctx context.Context, page *pageOf, ids []string, retry *retries, keep func(*providers.Message) bool) (rest []string, n int, err error) {
	out, err := s.fetch(ctx, ids)
	if ctx.Err() != nil {
		return ids, 0, fmt.Errorf("reading headers: %w", ctx.Err())
	}
	var failed, settled []string
	for i, o := range out {
		switch o.state {
		case notAsked:
			rest = append(rest, ids[i])
			continue
		case broken:
			failed = append(failed, ids[i])
		case gone:
			settled = append(settled, ids[i])
		case taken:
			settled = append(settled, ids[i])
			if (keep == nil || keep(&o.msg)) && !o.msg.Ignored {
				page.Messages = append(page.Messages, o.msg)
			}
		}
	}
	n = len(ids) - len(rest)
	if err != nil && n == 0 {
		return ids, 0, err
	}
	page.spent += n
	page.stopped = err != nil
	if err == nil {
		s.p.moreAtOnce()
	}
	return rest, n, s.noteBroken(page, retry, failed, settled)
}

// noteBroken moves the list of mails to try again.
func (s *session) noteBroken(page *pageOf, retry *retries, failed, settled []string) error {
	page.Unreadable += len(failed)
	*retry = retry.remove(settled).add(failed, time.Now())
	if page.Unreadable > maxBroken || len(*retry) > maxRetries {
		return classed(providers.ClassServer, "Gmail fails on %d mails of one page, %d in all; it is tried again by itself", page.Unreadable, len(*retry))
	}
	return nil
}
