package mailbox

import (
	"context"
	"fmt"
	"time"

	"mailsyncd/matcher"
	"mailsyncd/providers"
	"mailsyncd/store"
)

// Explained is one copy of a mail with everything that decides about it. It
// holds no header value: what matched is named by the directory's own ref and
// address, what did not match is not named at all.
type Explained struct {
	Message string // msg_…
	Folder  string
	Arrival time.Time
	Horizon time.Time
	// Decision is taken now, from the header as it is on the server.
	Decision matcher.Decision
	// States are what became of each match, in the order of Decision.Matches.
	States []store.PairState
}

// Explain reads the headers of a mail again and decides it. Several copies give
// several answers; none means that the mail is not in the mailbox. It changes
// nothing and may run beside a pass, in a session of its own.
func (m *Mailbox) Explain(ctx context.Context, messageID string) ([]Explained, error) {
	snap := m.cfg.Directory()
	if snap == nil {
		return nil, ErrNotReady
	}
	row, err := m.Row(ctx)
	if err != nil {
		return nil, err
	}
	session, err := m.cfg.Opener.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	found, err := session.Find(ctx, messageID)
	if err != nil {
		return nil, fmt.Errorf("looking for the mail: %w", err)
	}
	var all []Explained
	for i := range found {
		e, err := m.explain(ctx, &found[i], row.Horizon, snap)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

func (m *Mailbox) explain(ctx context.Context, msg *providers.Message, horizon time.Time, snap Snapshot) (Explained, error) {
	e := Explained{
		Message: msg.Header.ID(), Folder: msg.Folder, Arrival: msg.Arrival, Horizon: horizon,
		Decision: m.judge(msg, scope{horizon: horizon}, m.cfg.Matcher(), snap),
	}
	keys := make([]store.PairKey, len(e.Decision.Matches))
	for i, match := range e.Decision.Matches {
		keys[i] = store.PairKey{Message: e.Message, Candidate: match.Ref}
	}
	states, err := m.cfg.Store.PairStates(ctx, keys)
	if err != nil {
		return e, fmt.Errorf("asking the ledger: %w", err)
	}
	e.States = states
	return e, nil
}
