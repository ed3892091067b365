package mailbox

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"mailsyncd/matcher"
	"mailsyncd/message"
	"mailsyncd/providers"
	"mailsyncd/store"
)

// scope is what a walk's pages are decided for.
type scope struct {
	origin  store.Origin
	horizon time.Time
	// only is the candidate a task is about, "" for all.
	only string
}

// decide turns a page into the batch of what matched. Every message of the page
// is decided against one snapshot, whose revision the batch carries.
func (p *pass) decide(page providers.Page, sc scope) store.Batch {
	snap, guards := p.cfg.Directory(), p.cfg.Matcher()
	b := store.Batch{Revision: snap.Revision(), Origin: sc.origin, Now: time.Now().UTC()}
	for i := range page.Messages {
		msg := &page.Messages[i]
		d := p.judge(msg, sc, guards, snap)
		p.cfg.Metrics.decided(msg.Header.Problems, d)
		if len(d.Matches) > 0 {
			b.Messages = append(b.Messages, p.matched(msg, d, guards))
		}
	}
	p.report.Scanned += len(page.Messages)
	p.cfg.Metrics.scanned(p.cfg.Provider, len(page.Messages), page.Unreadable)
	return b
}

// judge decides one header.
func (m *Mailbox) judge(msg *providers.Message, sc scope, guards *matcher.Matcher, snap Snapshot) matcher.Decision {
	d := guards.Decide(matcher.Mail{
		Header: &msg.Header, Mailbox: m.cfg.ID,
		Arrival: msg.Arrival, Horizon: sc.horizon, Ignored: msg.Ignored,
	}, snap)
	if sc.only != "" {
		d.Matches = slices.DeleteFunc(d.Matches, func(match matcher.Match) bool { return match.Ref != sc.only })
	}
	return d
}

// matched is what is kept of a message: its identity, computed before privacy
// takes anything away, and the header that remains.
func (p *pass) matched(msg *providers.Message, d matcher.Decision, guards *matcher.Matcher) store.Matched {
	out := store.Matched{
		ID:        msg.Header.ID(),
		Mailbox:   store.Holding{ID: p.cfg.ID, User: p.cfg.User, Link: p.link(msg)},
		Ref:       msg.Ref,
		Received:  msg.Arrival,
		Direction: string(d.Direction),
		Header:    msg.Header,
	}
	for _, m := range d.Matches {
		out.Pairs = append(out.Pairs, store.Pair{Candidate: m.Ref, Key: m.Key, Also: m.Also, Address: m.Address, Fields: m.Fields})
	}
	p.cfg.Privacy.apply(&out, guards.Company)
	return out
}

// link is the provider's own, else one made from the template.
func (p *pass) link(msg *providers.Message) string {
	if msg.Link != "" || p.cfg.Link == "" || msg.Header.MessageID == "" {
		return msg.Link
	}
	return strings.ReplaceAll(p.cfg.Link, "{message_id}", url.QueryEscape(msg.Header.MessageID))
}

// apply takes out of a header what must not be kept. The ids that link threads
// stay: they name no person.
func (v Privacy) apply(m *store.Matched, company func(key string) bool) {
	if v.OmitSubject {
		m.Header.Subject = ""
	}
	if !v.OmitOthers {
		return
	}
	keep := make(map[string]bool, len(m.Pairs))
	for _, pair := range m.Pairs {
		keep[pair.Key] = true
		for _, key := range pair.Also {
			keep[key] = true
		}
	}
	h := &m.Header
	for _, field := range []*[]message.Address{&h.From, &h.Sender, &h.ReplyTo, &h.To, &h.Cc, &h.Bcc} {
		var kept []message.Address // a new slice: the page's own is left as it is
		for _, a := range *field {
			if keep[a.Key] || company(a.Key) {
				kept = append(kept, a)
			}
		}
		*field = kept
	}
}

// commit advances a walk from version by one page. mutate, if not nil, changes
// the mailbox's row in the same transaction.
func (p *pass) commit(ctx context.Context, task string, version uint64, b store.Batch, mutate func(*store.Mailbox)) (store.WalkState, error) {
	if mutate != nil {
		p.row.Lock()
		defer p.row.Unlock()
		row, err := p.Row(ctx)
		if err != nil {
			return b.State, err
		}
		mutate(&row)
		b.Mailbox = &row
	}
	done, err := p.cfg.Store.Advance(ctx, p.walk(task), version, b)
	if err != nil {
		return b.State, fmt.Errorf("committing a page: %w", err)
	}
	p.report.Matched += done.Messages
	p.fresh, p.ended = done.New, done.Ended
	p.cfg.Metrics.matched(p.cfg.Provider, b.Origin, done.Messages)
	b.State.Version = done.Version
	return b.State, nil
}
