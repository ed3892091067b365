package mailbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mailsyncd/providers"
	"mailsyncd/store"
)

// A single hiccup of the network is no news: the state becomes backing_off, and
// an event is posted, with this failure in a row.
const failuresUntilBackingOff = 2

// settle records what the outcome of a pass means for the mailbox's state. A
// success of an active mailbox changes nothing and writes nothing. The error is
// handed on; if noting it fails too, both are.
func (m *Mailbox) settle(ctx context.Context, err error) error {
	if notOurs(ctx, err) {
		return err
	}
	// The verdict is kept even when the daemon is stopping.
	ctx = context.WithoutCancel(ctx)
	noted := m.change(ctx, func(row *store.Mailbox) { outcome(row, m.cfg.Provider, err) })
	return errors.Join(err, noted)
}

// notOurs tells that the outcome says nothing about this mailbox: the daemon is
// stopping, has no directory yet, or takes nothing more in.
func notOurs(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, ErrNotReady) || errors.Is(err, store.ErrFull)
}

// outcome is the transition table of a pass's result. A pause or suspension
// that came while the pass ran stays.
func outcome(row *store.Mailbox, provider string, err error) {
	if row.State == store.MailboxPaused || row.State == store.MailboxSuspended {
		return
	}
	if err == nil {
		row.State, row.Class, row.Action, row.Err = store.MailboxActive, "", "", ""
		row.Tries, row.RetryAt = 0, time.Time{}
		return
	}
	class := providers.Classify(err)
	row.Tries++
	row.Class, row.Action, row.Err = string(class), ActionFor(provider, class), err.Error()
	var throttled *providers.ThrottledError
	if errors.As(err, &throttled) {
		row.RetryAt = time.Now().UTC().Add(throttled.After)
	}
	switch {
	case class == providers.ClassUnauthorized:
		row.State = store.MailboxUnauthorized
	case row.Tries >= failuresUntilBackingOff && row.State != store.MailboxUnauthorized:
		row.State = store.MailboxBackingOff
	}
}

// Action says what an operator should do about a class of failure.
func Action(c providers.Class) string {
	switch c {
	case providers.ClassUnauthorized:
		return "put a working credential into the mailbox's password or token file; it is tried again as soon as the file changes"
	case providers.ClassThrottled:
		return "nothing: the server asked for a pause and is asked again afterwards; lower sync.per_host if it repeats"
	case providers.ClassNetwork:
		return "check that the mail server's host and port can be reached from this machine"
	case providers.ClassTLS:
		return "check the server's certificate; set imap.ca_file when a private CA signed it"
	case providers.ClassConfig:
		return "mend the file or setting that the error names"
	default:
		return "see the error; the mailbox is tried again by itself"
	}
}

// ActionFor is Action where the provider is known.
func ActionFor(provider string, c providers.Class) string {
	if provider != "gmail" {
		return Action(c)
	}
	switch c {
	case providers.ClassUnauthorized:
		return "`mailsyncd status --mailbox ID` shows the error. A mailbox that its user connects: `mailsyncd connect ID`; one of a service account: mend its key or its delegation, then `mailsyncd mailbox resume ID`"
	case providers.ClassThrottled:
		return "Google's quota is spent for now: the mailbox goes on by itself, or at once with `mailsyncd mailbox resume ID`; see google in the configuration if it repeats"
	case providers.ClassNetwork, providers.ClassTLS:
		return "check that gmail.googleapis.com and oauth2.googleapis.com can be reached from this machine"
	}
	return Action(c)
}

// Pause stops polling until Resume; an operator's decision outlives restarts.
func (m *Mailbox) Pause(ctx context.Context) error {
	return m.change(ctx, func(row *store.Mailbox) { row.State = store.MailboxPaused })
}

// Suspend stops polling because the mailbox's user is disabled. Cursor and
// credentials are kept. An operator's pause stays on top.
func (m *Mailbox) Suspend(ctx context.Context) error {
	return m.change(ctx, func(row *store.Mailbox) {
		if row.State != store.MailboxPaused {
			row.State = store.MailboxSuspended
		}
	})
}

// Unsuspend takes Suspend back; a mailbox in any other state stays as it is.
func (m *Mailbox) Unsuspend(ctx context.Context) error {
	return m.change(ctx, func(row *store.Mailbox) {
		if row.State == store.MailboxSuspended {
			row.State = store.MailboxActive
		}
	})
}

// Resume ends a pause and forgets failures: the next pass tries afresh. A
// suspended mailbox stays so: its user has to be enabled.
func (m *Mailbox) Resume(ctx context.Context) error {
	return m.change(ctx, func(row *store.Mailbox) {
		if row.State == store.MailboxSuspended {
			return
		}
		row.State, row.Class, row.Action, row.Err = store.MailboxActive, "", "", ""
		row.Tries, row.RetryAt = 0, time.Time{}
	})
}

// Leave notes that the mailbox left the configuration. Its cursor stays until
// DropCursor, so that it can come back without a second first walk.
func (m *Mailbox) Leave(ctx context.Context) error {
	return m.change(ctx, func(row *store.Mailbox) { row.State = store.MailboxRemoved })
}

// Row returns the mailbox's row. One that was never polled is active.
func (m *Mailbox) Row(ctx context.Context) (store.Mailbox, error) {
	row, err := m.cfg.Store.Mailbox(ctx, m.cfg.ID)
	if err != nil {
		return row, fmt.Errorf("reading the mailbox's row: %w", err)
	}
	if row.State == "" {
		row.State = store.MailboxActive
	}
	return row, nil
}

// change applies f to the row. A new state is stamped, logged and posted as an
// event with the same commit; a row that f left as it was is not written.
func (m *Mailbox) change(ctx context.Context, f func(*store.Mailbox)) error {
	m.row.Lock()
	defer m.row.Unlock()
	old, err := m.Row(ctx)
	if err != nil {
		return err
	}
	row := old
	if f(&row); row == old {
		return nil
	}
	now := time.Now().UTC()
	var event *store.MailboxEvent
	if row.State != old.State {
		row.Since = now
		event = &store.MailboxEvent{
			Mailbox: row.ID, State: row.State, Previous: old.State,
			Class: row.Class, Since: now, Action: row.Action,
		}
	}
	if err := m.cfg.Store.SetMailbox(ctx, row, event, now); err != nil {
		return fmt.Errorf("noting the mailbox's state: %w", err)
	}
	if event != nil {
		m.logChange(row, old.State)
	}
	return nil
}

// logChange writes the one log line of a change of state.
func (m *Mailbox) logChange(row store.Mailbox, previous store.MailboxState) {
	args := []any{"event", "mailbox_state", "state", row.State, "previous", previous}
	if row.Class == "" {
		m.cfg.Log.Info("mailbox changed its state", args...)
		return
	}
	m.cfg.Log.Warn("mailbox changed its state",
		append(args, "class", row.Class, "err", row.Err, "action", row.Action)...)
}

// DropCursor ends all walks of a mailbox. What was delivered stays in the
// ledger; if the mailbox comes back, it walks the window again from its old
// horizon and repeats nothing.
func DropCursor(ctx context.Context, s store.Walks, id string, now time.Time) error {
	for _, task := range []string{taskLookBack, taskSearch, taskAudit, ""} {
		w := store.Walk{Mailbox: id, Task: task}
		state, err := s.Walk(ctx, w)
		if err != nil {
			return fmt.Errorf("reading a walk of mailbox %s: %w", id, err)
		}
		if state.Version == 0 && task != "" {
			continue // the main walk is ended even if it never began: tasks wait behind it
		}
		if _, err := s.Advance(ctx, w, state.Version, store.Batch{Done: true, Now: now}); err != nil {
			return fmt.Errorf("ending a walk of mailbox %s: %w", id, err)
		}
	}
	return nil
}
