package mailbox

import (
	"context"
	"fmt"
	"time"

	"mailsyncd/matcher"
	"mailsyncd/providers"
	"mailsyncd/store"
)

// taskReconcile names the walk under which a repair is committed.
const taskReconcile = "reconcile"

// Reconciliation is the proof of completeness of one mailbox: every pair that
// the window's headers and the directory ask for, and what became of it.
type Reconciliation struct {
	Since    time.Time
	Messages int // headers read
	// Delivered, Pending, Held and Dead count pairs (message, candidate) by the
	// state of the event that carries them.
	Delivered, Pending, Held, Dead int
	// Refused counts, per guard, the mails that name a candidate and were
	// refused for it.
	Refused map[matcher.Guard]int
	// Unaccounted counts pairs that the ledger did not have, twice: once when
	// the headers were read, and again after everything new was drained. It must
	// be 0.
	Unaccounted int
	// Repaired are those of them that were queued now.
	Repaired int
}

// Reconcile drains what is new, reads the window's headers again (never by the
// server's search), decides each and compares with the ledger. since zero means
// the window of the backfill; it never reaches behind the horizon. With repair,
// what is unaccounted for is delivered. Like Pass it must not overlap a pass.
func (m *Mailbox) Reconcile(ctx context.Context, since time.Time, repair bool) (Reconciliation, error) {
	if m.cfg.Directory() == nil {
		return Reconciliation{}, ErrNotReady
	}
	session, err := m.cfg.Opener.Open(ctx)
	if err != nil {
		return Reconciliation{}, err
	}
	defer session.Close()
	// No budget: it is read-only and short, and half of a proof is none.
	p := &pass{Mailbox: m, session: session, deadline: time.Now().Add(24 * time.Hour), asked: true}
	if err := p.catchUp(ctx); err != nil {
		return Reconciliation{}, err
	}
	r, err := p.reconcile(ctx, since, repair)
	if err != nil || !since.IsZero() {
		return r, err
	}
	return r, p.noteReconciled(ctx, r)
}

// noteReconciled keeps the verdict on the window for status and metrics.
func (p *pass) noteReconciled(ctx context.Context, r Reconciliation) error {
	return p.change(ctx, func(row *store.Mailbox) {
		row.LastReconcile, row.Unaccounted = time.Now().UTC(), r.Unaccounted-r.Repaired
	})
}

// dailyReconcile counts the window once per Config.Reconcile, and keeps the
// verdict in the mailbox's row for the metrics. It does not repair: the audit
// does that for the days in which a poll can have missed something, and what is
// older than that is for a person to look at.
func (p *pass) dailyReconcile(ctx context.Context) error {
	row, err := p.Row(ctx)
	if err != nil || p.cfg.WalkEvery > 0 || !p.reconcileDue(row) {
		return err
	}
	r, err := p.reconcile(ctx, time.Time{}, false)
	if err != nil {
		return fmt.Errorf("reconciling: %w", err)
	}
	if r.Unaccounted > 0 {
		p.cfg.Log.Error("mail of candidates is neither delivered nor refused; `mailsyncd reconcile --repair` queues it",
			"event", "unaccounted", "pairs", r.Unaccounted)
	}
	return p.noteReconciled(ctx, r)
}

// reconcileDue tells that the window has not been counted for long enough.
func (p *pass) reconcileDue(row store.Mailbox) bool {
	last := row.LastReconcile
	if last.IsZero() {
		last = row.LastAudit // the first walk has just read it all
	}
	return p.cfg.Reconcile > 0 && time.Since(last) >= p.cfg.Reconcile
}

// catchUp does what a pass does before it may judge what is missing.
func (p *pass) catchUp(ctx context.Context) error {
	if err := p.drain(ctx); err != nil {
		return err
	}
	return p.lookBack(ctx)
}

// missing is a pair that the ledger did not have at the first look.
type missing struct {
	key store.PairKey
	msg providers.Message
}

// reconcile walks and compares. It expects that everything new was drained.
func (p *pass) reconcile(ctx context.Context, since time.Time, repair bool) (Reconciliation, error) {
	row, err := p.Row(ctx)
	if err != nil {
		return Reconciliation{}, err
	}
	if since.IsZero() {
		since = time.Now().UTC().Add(-p.cfg.Backfill)
	}
	if since.Before(row.Horizon) {
		since = row.Horizon
	}
	r := Reconciliation{Since: since, Refused: map[matcher.Guard]int{}}
	sc := scope{origin: store.OriginRepair, horizon: row.Horizon}
	lost, err := p.compare(ctx, &r, sc)
	if err != nil || len(lost) == 0 {
		return r, err
	}
	if err := p.catchUp(ctx); err != nil {
		return r, err
	}
	lost, err = p.stillMissing(ctx, &r, sc, lost)
	if err != nil {
		return r, err
	}
	if r.Unaccounted = len(lost); repair {
		err = p.repair(ctx, &r, sc, lost)
	}
	return r, err
}

// compare reads the window and counts every pair by its state.
func (p *pass) compare(ctx context.Context, r *Reconciliation, sc scope) (lost []missing, err error) {
	var cur providers.Cursor
	for more := true; more; {
		page, err := p.session.Search(ctx, providers.Query{Since: r.Since}, cur)
		if err != nil {
			return nil, fmt.Errorf("reading the window again: %w", err)
		}
		found, err := p.comparePage(ctx, r, sc, page)
		if err != nil {
			return nil, err
		}
		lost = append(lost, found...)
		cur, more = page.Next, page.More
	}
	return lost, nil
}

func (p *pass) comparePage(ctx context.Context, r *Reconciliation, sc scope, page providers.Page) ([]missing, error) {
	guards, snap := p.cfg.Matcher(), p.cfg.Directory()
	var pairs []missing
	for i := range page.Messages {
		msg := &page.Messages[i]
		d := p.judge(msg, sc, guards, snap)
		r.Messages++
		for j, refusal := range d.Refusals {
			if !counted(d.Refusals[:j], refusal.Guard) {
				r.Refused[refusal.Guard]++
			}
		}
		for _, match := range d.Matches {
			pairs = append(pairs, missing{store.PairKey{Message: msg.Header.ID(), Candidate: match.Ref}, *msg})
		}
	}
	return p.count(ctx, r, pairs)
}

// count adds pairs to the reconciliation by their state and returns those that
// the ledger does not have.
func (p *pass) count(ctx context.Context, r *Reconciliation, pairs []missing) (lost []missing, err error) {
	keys := make([]store.PairKey, len(pairs))
	for i, m := range pairs {
		keys[i] = m.key
	}
	states, err := p.cfg.Store.PairStates(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("asking the ledger: %w", err)
	}
	for i, state := range states {
		switch state {
		case store.PairAbsent:
			lost = append(lost, pairs[i])
		case store.PairPending:
			r.Pending++
		case store.PairHeld:
			r.Held++
		case store.PairDead:
			r.Dead++
		case store.PairDelivered:
			r.Delivered++
		}
	}
	return lost, nil
}

// stillMissing looks a second time: a candidate may have come or gone, and a
// mail may have been delivered, while the headers were read.
func (p *pass) stillMissing(ctx context.Context, r *Reconciliation, sc scope, lost []missing) ([]missing, error) {
	guards, snap := p.cfg.Matcher(), p.cfg.Directory()
	var wanted []missing
	for _, m := range lost {
		for _, match := range p.judge(&m.msg, sc, guards, snap).Matches {
			if match.Ref == m.key.Candidate {
				wanted = append(wanted, m)
			}
		}
	}
	return p.count(ctx, r, wanted)
}

// repair delivers what is unaccounted for, through the same door as every other
// mail: the ledger still drops what it has.
func (p *pass) repair(ctx context.Context, r *Reconciliation, sc scope, lost []missing) error {
	var page providers.Page
	for _, m := range lost {
		page.Messages = append(page.Messages, m.msg)
	}
	b := p.decide(page, sc)
	b.Done = true
	walk, err := p.cfg.Store.Walk(ctx, p.walk(taskReconcile))
	if err != nil {
		return fmt.Errorf("reading the repair's walk: %w", err)
	}
	if _, err := p.commit(ctx, taskReconcile, walk.Version, b, nil); err != nil {
		return err
	}
	r.Repaired = p.fresh
	return nil
}
