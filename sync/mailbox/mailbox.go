// Package mailbox is one pass over one mailbox: take the next page of headers,
// decide each against one directory snapshot, commit what matched together with
// the cursor, and go on until nothing is new; then do the walks over older mail
// that the mailbox owes.
//
//	drain     Next after the stored cursor, page by page, until there is no more
//	look-back candidates became matchable since this mailbox last looked back:
//	          walk the window for them, as if they had been there first
//	audit     once a day, three days of headers are read and decided again; the
//	          ledger drops what was delivered, so only what was missed is left
//	tasks     what an operator asked for: resync, redeliver, and the headers that
//	          an erased event needs to be replayed
//	reconcile once a day, and on demand: count what the window holds against the
//	          ledger; nothing may be unaccounted for
//
// Where reading old mail costs quota (Config.WalkEvery), look-back, audit and the
// daily reconcile are one walk that delivers whatever it finds undelivered. Where
// the server can also be asked (Config.Searches), its answer comes first, and that
// walk is the proof.
//
// Why a crash anywhere is harmless: a page's matches and the cursor behind it
// are one commit (store.Walks.Advance), so what a crash repeats is at most the
// reading of one page, and the ledger drops pairs it has.
//
// The package keeps nothing of a mail that does not match: no row, no log line,
// no metric label. It opens a session per pass, never retries and never sleeps:
// it says what went wrong, and sync/schedule decides when to try again.
package mailbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"mailsyncd/directory"
	"mailsyncd/matcher"
	"mailsyncd/providers"
	"mailsyncd/store"
)

// Store is what a pass needs of the store.
type Store interface {
	store.Walks
	store.Tasks
	store.Ledger
	// Room fails with store.ErrFull when nothing may be added to the outbox.
	Room(ctx context.Context) error
}

// Snapshot is the directory as one page sees it.
type Snapshot interface {
	matcher.Directory
	Revision() uint64
}

var _ Snapshot = (*directory.Snapshot)(nil)

// Privacy says what of a matched mail is kept. It is applied before anything is
// stored.
type Privacy struct {
	// OmitSubject leaves the subject out.
	OmitSubject bool
	// OmitOthers leaves out every address that is neither a matched candidate's
	// nor the company's.
	OmitOthers bool
}

// Config is what one mailbox is made of. All fields but User are needed.
type Config struct {
	ID       string // the configuration's id: names the mailbox everywhere
	User     string // the ATS user's ref, "" when unknown
	Provider string // label of metrics: "imap", "gmail"
	Opener   providers.Opener
	Store    Store
	// Directory returns the newest snapshot, nil until one complete directory
	// has been read.
	Directory func() Snapshot
	// Matcher returns the newest guards.
	Matcher func() *matcher.Matcher
	Privacy Privacy
	// Link opens a message in its owner's mail client where the provider gives
	// no link of its own; {message_id} stands for the Message-ID. "" makes none.
	Link string
	// Backfill is how far before the first sync mail is in scope.
	Backfill time.Duration
	// Budget bounds a pass; what is left goes on in the next. Zero: 15 minutes.
	Budget time.Duration
	// Reconcile is how often the window is counted against the ledger. Zero:
	// only on demand.
	Reconcile time.Duration
	// WalkEvery is how often a walk over old mail may begin by itself, where each
	// header costs quota: look-backs wait for each other, and the one walk of that
	// time is also the audit and the reconcile. Zero: each begins when it is owed.
	WalkEvery time.Duration
	// Searches tells that the provider asks the server for old mail by address and
	// that the answer may lack some: look-backs ask at once, and the walk of the day
	// still reads the headers. Without WalkEvery the answer is taken for the whole.
	Searches bool
	Metrics  *Metrics
	Log      *slog.Logger
}

// hinted tells that the server's search comes first and proves nothing.
func (c *Config) hinted() bool { return c.Searches && c.WalkEvery > 0 }

// Mailbox runs passes over one mailbox and keeps its state. Its methods may be
// called from several goroutines; passes must not overlap.
type Mailbox struct {
	cfg Config
	// row serialises read-modify-write of the mailbox's row: a pass and an
	// operator's pause may meet.
	row sync.Mutex
}

// New returns the mailbox of a configuration.
func New(cfg Config) *Mailbox {
	if cfg.Budget == 0 {
		cfg.Budget = 15 * time.Minute
	}
	cfg.Log = cfg.Log.With("mailbox", cfg.ID)
	return &Mailbox{cfg: cfg}
}

// Report says what a pass did.
type Report struct {
	Scanned int // headers read
	Matched int // messages that entered the ledger, or gained a candidate
	// More tells that the budget ended before the work: pass again soon.
	More bool
}

// ErrNotReady says that no complete directory has been read yet: nothing can be
// decided, so nothing is polled.
var ErrNotReady = errors.New("no complete directory has been read yet")

// Pass polls once and does the walks that are owed. Its error is classed by
// providers.Classify; ErrNotReady and store.ErrFull say that this mailbox is
// not at fault. The mailbox's state is updated and, where it changed, posted.
func (m *Mailbox) Pass(ctx context.Context) (rep Report, err error) {
	begun := time.Now()
	defer func() {
		m.cfg.Metrics.passed(m.cfg.Provider, time.Since(begun), err)
		err = m.settle(ctx, err)
	}()
	if m.cfg.Directory() == nil {
		return rep, ErrNotReady
	}
	if err := m.cfg.Store.Room(ctx); err != nil {
		return rep, fmt.Errorf("before polling: %w", err)
	}
	session, err := m.cfg.Opener.Open(ctx)
	if err != nil {
		return rep, err
	}
	defer session.Close()
	p := &pass{Mailbox: m, session: session, deadline: begun.Add(m.cfg.Budget)}
	err = p.run(ctx)
	return p.report, err
}

// pass is the state of one pass.
type pass struct {
	*Mailbox
	session  providers.Mailbox
	deadline time.Time
	report   Report
	// fresh is how many pairs the last commit brought into the ledger.
	fresh int
	// ended tells that the last commit found all that its task was looking for:
	// its walk is over, whatever the server still has.
	ended bool
	// restarted tells that the main walk began again in this pass.
	restarted bool
	// asked tells that an operator waits: a look-back that is owed begins now,
	// whatever Config.WalkEvery says.
	asked bool
}

// run drains what is new, then does what is owed, each only while the budget
// lasts.
func (p *pass) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{p.drain, p.lookBack, p.audit, p.tasks, p.dailyReconcile} {
		if err := step(ctx); err != nil || p.report.More {
			return err
		}
	}
	return nil
}

// spent tells that the budget is used up; the rest waits for the next pass.
func (p *pass) spent() bool {
	if time.Now().Before(p.deadline) {
		return false
	}
	p.report.More = true
	return true
}

// ids of the walks of a mailbox.
const (
	taskLookBack = "lookback"
	taskSearch   = "search"
	taskAudit    = "audit"
)

func (m *Mailbox) walk(task string) store.Walk {
	return store.Walk{Mailbox: m.cfg.ID, Task: task}
}
