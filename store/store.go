// Package store is the contract for mailsyncd's durable state: what must be
// true after every commit and every crash. store/bolt keeps it in one bbolt
// file; storetest is the conformance suite and holds a memory store with fault
// hooks. A server database must be able to keep the same promises, so nothing
// here hands out a transaction: each method is one, whole or not at all.
//
// The rules every implementation keeps:
//
//   - A cursor moves only by Advance, together with what its page produced, and
//     only from the version the caller read (compare and swap).
//   - A pair (message, candidate) enters the ledger once, whoever brings it.
//   - A pair whose candidate does not hold that address any more at commit is
//     dropped, whatever revision it was decided at.
//   - seq rises strictly per stream; an event keeps its id for ever; a body is
//     frozen by the first attempt.
//   - A message is announced by one thread.matched per thread and page, at most
//     50 messages each, oldest first; a later candidate announces it again with
//     all its candidates.
//   - Another mailbox with a known message is added to the event that announces
//     it while no attempt was made, else told by message.observed.
//   - Two threads join only under a candidate they share; the older id survives.
//   - After a purge no row names the candidate but a keyed hash of its ref, and
//     the candidate.purged event until retention removes it.
//   - What retention erases of a thread.matched can be found again: its row keeps
//     which messages of whom it told, and a replay reads their headers again.
//   - Nothing personal stands in clear: keys are keyed hashes, values are sealed.
//
// The store knows no clock: callers pass the time. Times are kept in UTC with
// millisecond precision.
package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mailsyncd/message"
)

// Errors of the contract. Everything else is a fault of the medium.
var (
	// ErrConflict says that somebody else moved the walk, event or directory
	// since the caller read it. Nothing was written; read again.
	ErrConflict = errors.New("the state changed since it was read")
	// ErrFull says that the outbox is at its limit or the disk is low. Nothing
	// was written and the cursor stays; it helps to wait for deliveries.
	ErrFull = errors.New("the outbox takes no more events")
	// ErrDiskLow is the ErrFull that asks for disk space; errors.Is(ErrDiskLow,
	// ErrFull) holds.
	ErrDiskLow = fmt.Errorf("the disk is low, make room on it: %w", ErrFull)
	// ErrNotFound says that there is no such row.
	ErrNotFound = errors.New("not found")
	// ErrErased says that the payload is no longer kept.
	ErrErased = errors.New("the payload was erased by retention")
	// ErrUnusable says that the store cannot be used at all: locked, sealed under
	// another key, written by a later version, or damaged. The error that wraps
	// it says which, and what to do. Trying again does not help.
	ErrUnusable = errors.New("the store cannot be used")
)

// ---- walks -------------------------------------------------------------

// Walk names one moving position: a mailbox's main walk (Task empty), a walk it
// owes by itself ("lookback", "search", "audit", "reconcile"), or its part of a task
// ("task_…").
type Walk struct {
	Mailbox string
	Task    string
}

// WalkState is where a walk stands. The zero value is a walk that never began.
type WalkState struct {
	// Version counts the Advances of this walk; 0 before the first.
	Version uint64
	Cursor  string
	// Since and Addresses are the query of a task's walk; zero for the main walk.
	// A task's walk has the task's Addresses, whatever an Advance brings.
	Since     time.Time
	Addresses []string
	// Revision is the directory revision a look-back brings its mailbox up to.
	Revision uint64
	// Scanned and Matched count messages since the walk began.
	Scanned, Matched uint64
	Started          time.Time
}

// Batch is what one page of a walk produced.
type Batch struct {
	// State is the walk after the page; its Version is ignored (the store
	// counts). With Done the walk's row is removed instead (a finished task).
	State WalkState
	Done  bool
	// Revision is the directory revision the messages were decided at.
	Revision uint64
	Origin   Origin
	// Messages are the matched messages of the page, in any order; the store
	// links and numbers them by date.
	Messages []Matched
	// Mailbox, if not nil, replaces the mailbox's row in the same transaction.
	Mailbox *Mailbox
	// Again delivers pairs that the ledger has once more, in new events under the
	// same message ids (a TaskRedeliver). The walk's commit makes sure that a
	// crash does not do it twice; within one task a message is delivered again
	// once, in however many folders and mailboxes it lies.
	Again bool
	// Now is the time of the commit.
	Now time.Time
}

// Origin says why a message is delivered now.
type Origin string

// The origins, as events carry them.
const (
	OriginPoll      Origin = "poll"
	OriginBackfill  Origin = "backfill"
	OriginLookback  Origin = "lookback"
	OriginResync    Origin = "resync"
	OriginRedeliver Origin = "redeliver"
	OriginRepair    Origin = "repair"
)

// Matched is one message that names at least one matched candidate.
type Matched struct {
	ID        string // message.Header.ID(): msg_…
	Mailbox   Holding
	Ref       string // the provider's reference inside that mailbox
	Received  time.Time
	Direction string // inbound, outbound, other
	Header    message.Header
	Pairs     []Pair
}

// Holding is a mailbox that holds a message.
type Holding struct {
	ID   string // mailbox id
	User string // the ATS user's ref, "" when unknown
	Link string // opens the mail in its owner's client, "" when there is none
}

// Pair is one candidate of a message and why it matched.
type Pair struct {
	Candidate string   // ref
	Key       string   // folded address, as in Row.Active
	Also      []string // other addresses of the candidate in the mail, folded: one that is active is enough
	Address   string   // the address as the mail's header spells it
	Fields    []string // "from", "sender", "reply_to", "to", "cc", "bcc"; sorted as here
}

// HeldBy tells that one of the pair's addresses is among a candidate's active
// ones: the candidate may have given up one of two that stand in the mail.
func (p Pair) HeldBy(active []string) bool {
	return slices.Contains(active, p.Key) || slices.ContainsFunc(p.Also, func(key string) bool {
		return slices.Contains(active, key)
	})
}

// Advanced says what an Advance did.
type Advanced struct {
	Version  uint64 // of the walk now; 0 after Done
	New      int    // pairs that entered the ledger
	Again    int    // pairs delivered again, or found again for an erased event
	Repeated int    // pairs the ledger already had, and that stays so
	Dropped  int    // pairs whose candidate no longer holds the address
	Messages int    // messages with at least one new pair
	Events   int    // events appended to the outbox
	// Ended tells that the walk's task ended with this page, though the walk was
	// not Done: a TaskReread found all it looked for. The walk is gone.
	Ended bool
}

// Walks is what sync/mailbox needs.
type Walks interface {
	// Walk returns the state of a walk; the zero state when it never began.
	Walk(ctx context.Context, w Walk) (WalkState, error)
	// Advance moves the walk from version to the next and records what the page
	// produced, or does neither. In that one transaction it drops pairs the
	// ledger has, drops pairs whose candidate does not hold the address any
	// more, links messages to threads, gives seq, and writes ledger, outbox,
	// cursor and mailbox row. ErrConflict if the walk is not at version;
	// ErrFull if it would append events to a full outbox. Done on a main walk
	// gives up the mailbox's cursor, and ends the walks tasks have there.
	Advance(ctx context.Context, w Walk, version uint64, b Batch) (Advanced, error)
	// Mailbox returns the row of a mailbox; the zero row with its ID when there
	// is none yet.
	Mailbox(ctx context.Context, id string) (Mailbox, error)
	// SetMailbox replaces the row and, if event is not nil, appends a
	// mailbox.state event to the stream "mailbox:ID" in the same transaction.
	SetMailbox(ctx context.Context, m Mailbox, event *MailboxEvent, now time.Time) error
	// Activations returns the activations with a revision in (after, upTo]. ok
	// is false when the log no longer reaches back to after: then everything
	// may have been activated, and only a walk without addresses is complete.
	Activations(ctx context.Context, after, upTo uint64) (acts []Activation, ok bool, err error)
}

// MailboxState is the state of a mailbox as operators see it.
type MailboxState string

// The states of a mailbox.
const (
	MailboxActive       MailboxState = "active"
	MailboxBackingOff   MailboxState = "backing_off"  // transient fault, n-th try
	MailboxUnauthorized MailboxState = "unauthorized" // parked until a credential changes or an operator resumes; probed hourly
	MailboxSuspended    MailboxState = "suspended"    // its user is disabled; resumes by itself
	MailboxPaused       MailboxState = "paused"       // by an operator
	MailboxRemoved      MailboxState = "removed"      // left the configuration; cursor kept for 7 days
)

// Mailbox is the row of one mailbox: everything about it that must survive a
// restart, but its cursor.
type Mailbox struct {
	ID    string
	State MailboxState
	// Class and Action describe the last failure ("" when none): the class of
	// providers.Classify and what an operator should do. No mail content.
	Class, Action string
	Err           string
	Since         time.Time // of State
	Tries         int       // failures in a row
	RetryAt       time.Time // not before
	// Horizon is first sync minus backfill, fixed for ever.
	Horizon time.Time
	// LookedBack is the directory revision up to which old mail was walked.
	LookedBack uint64
	// Searched is the directory revision up to which the server was asked for old
	// mail by address, where that is only a hint: the walk that reads it comes later.
	Searched uint64
	// OwedSince is where a walk of the window began that only asked by address: the
	// headers since then are still to be read. Zero: none are.
	OwedSince time.Time
	// LastSuccess is the end of the last complete poll that was written down: a
	// poll that finds nothing writes it at most daily.
	LastSuccess time.Time
	// LastAudit is the end of the last daily audit.
	LastAudit time.Time
	// LastReconcile is the end of the last reconcile of the window, and
	// Unaccounted how many pairs it found missing twice.
	LastReconcile time.Time
	Unaccounted   int
}

// ---- directory ---------------------------------------------------------

// Row is one directory record at rest.
type Row struct {
	Kind string // candidate, job, user
	Ref  string
	// Value is directory's own encoding; opaque here.
	Value []byte
	// Active are the folded addresses by which the candidate is matched now;
	// empty for a candidate that is not matched, and for other kinds. Advance
	// accepts a pair only while its Key stands here, and asks for it before the
	// ledger: a stopped candidate gains nothing.
	Active []string
}

// Activation is one address that became matchable at a revision.
type Activation struct {
	Revision uint64
	Key      string // folded address; empty: anything may have been activated
	Ref      string
	Since    time.Time // activation minus backfill: where its look-back begins
}

// Purge erases one candidate: its row, its part of the ledger, of every event
// and of the activation log, its tasks. A look-back that carries one of its
// addresses begins again without any, as a walk for all.
type Purge struct {
	Ref    string
	Reason string // deleted, missing, merged, operator
	// Rev is kept in the tombstone so that a stale record is refused; opaque.
	Rev string
}

// Change is one step of the directory, all or nothing.
type Change struct {
	// From is the revision the change was computed at; ErrConflict otherwise.
	// The store stands at From+1 afterwards.
	From uint64
	Put  []Row
	// Delete removes rows without purging (jobs and users).
	Delete []RowKey
	Purges []Purge
	// Clear removes the tombstones of these candidates: they are accepted again.
	Clear []string
	// Activations get revision From+1; their Revision field is ignored.
	Activations []Activation
	// Events are appended to the stream "directory".
	Events []DirectoryEvent
	// Meta, if not nil, replaces directory's own small state (opaque: whether a
	// complete directory was read, held sweeps, what is missing since when).
	Meta []byte
	Now  time.Time
}

// RowKey names a directory row.
type RowKey struct{ Kind, Ref string }

// Tombstone is what is left of a purged candidate.
type Tombstone struct {
	Rev string
	At  time.Time
}

// Directory is what sync/directory needs.
type Directory interface {
	// Revision returns the number of changes so far and directory's own state.
	Revision(ctx context.Context) (revision uint64, meta []byte, err error)
	// Row returns one row, or ErrNotFound.
	Row(ctx context.Context, k RowKey) (Row, error)
	// RowOrder returns the store's order of rows of a kind: a function from ref
	// to a sort key, so that a large file can be merged with ScanRows in one
	// pass. Equal refs give equal keys; keys of different refs differ.
	RowOrder(kind string) func(ref string) [16]byte
	// ScanRows calls f for the rows of a kind in RowOrder, after the key after
	// (nil: from the start), and stops at the first error. It holds no
	// transaction across calls of f longer than a few thousand rows: changes
	// committed meanwhile may or may not be seen.
	ScanRows(ctx context.Context, kind string, after *[16]byte, f func(key [16]byte, r Row) error) error
	// Tombstone returns what is left of a purged candidate, or ErrNotFound.
	Tombstone(ctx context.Context, ref string) (Tombstone, error)
	// Change commits one step.
	Change(ctx context.Context, c Change) error
}

// ---- outbox ------------------------------------------------------------

// EventType is the type of an event.
type EventType string

// The event types.
const (
	ThreadMatched      EventType = "thread.matched"
	ThreadMerged       EventType = "thread.merged"
	MessageObserved    EventType = "message.observed"
	CandidatePurged    EventType = "candidate.purged"
	MailboxStateEvent  EventType = "mailbox.state"
	DirectoryConflict  EventType = "directory.conflict"
	DirectorySweepHeld EventType = "directory.sweep_held"
)

// EventState is the state of an outbox row.
type EventState string

// The states of an outbox row.
const (
	EventPending   EventState = "pending"
	EventHeld      EventState = "held"      // waits for an operator's approval
	EventDead      EventState = "dead"      // its tries are used up; replay brings it back
	EventDelivered EventState = "delivered" // the receiver answered 2xx
)

// Event is one row of the outbox.
type Event struct {
	No   uint64 // position in the outbox, rising
	ID   string // webhook-id, stable over attempts and replays
	Type EventType
	// Stream, Epoch and Seq order the events of one stream: a thread ("thr_…"),
	// a candidate ("candidate:REF"), a mailbox ("mailbox:ID") or "directory".
	Stream  string
	Epoch   uint64
	Seq     uint64
	State   EventState
	Version uint64 // counts the changes of this row
	Created time.Time
	// Due is the earliest time of the next attempt.
	Due time.Time
	// Tries are the attempts that count against the schedule, Attempts all.
	Tries, Attempts int
	FirstFailure    time.Time // that counted (no Refund); zero while none did
	LastAttempt     time.Time
	Delivered       time.Time
	LastResult      string // "204", "timeout", …; never a body or a header of the answer
	// Candidates are the refs the event names or is about, sorted: what a purge
	// strips and what a courier must not have in flight meanwhile.
	Candidates []string
	// Body is the frozen payload: nil before the first attempt that brought one,
	// after a purge stripped it, and after retention erased it.
	Body []byte
	// Data is what a body is rendered from: exactly one field is set. Nil once
	// retention erased it.
	Data *EventData
	// Reread is the id of the task that looks for the event's messages again
	// after a replay; "" when none does.
	Reread string
}

// EventData is the content of an event; exactly one field is set.
type EventData struct {
	Thread    *ThreadEvent    `json:"thread,omitempty"`
	Merged    *MergedEvent    `json:"merged,omitempty"`
	Observed  *ObservedEvent  `json:"observed,omitempty"`
	Purged    *PurgedEvent    `json:"purged,omitempty"`
	Mailbox   *MailboxEvent   `json:"mailbox,omitempty"`
	Directory *DirectoryEvent `json:"directory,omitempty"`
}

// ThreadEvent is the content of thread.matched: new messages of one thread, at
// most 50, oldest first.
type ThreadEvent struct {
	Origin       Origin
	Thread       string // thr_…
	MessageCount int    // of the thread, at the time of the event
	Messages     []EventMessage
}

// EventMessage is one message of an event.
type EventMessage struct {
	ID            string // msg_…
	MessageID     string
	Date          time.Time // zero: unreadable
	Received      time.Time
	Direction     string
	From, To, Cc  []EventAddress
	Subject       string
	AutoSubmitted bool
	Mailboxes     []Holding
	Candidates    []Pair
}

// EventAddress is an address as an event shows it.
type EventAddress struct{ Name, Address string }

// MergedEvent is the content of thread.merged.
type MergedEvent struct {
	From, Into string   // thr_…
	Messages   []string // msg_… of From
}

// ObservedEvent is the content of message.observed.
type ObservedEvent struct {
	Message string // msg_…
	Thread  string // thr_…
	Mailbox Holding
}

// PurgedEvent is the content of candidate.purged.
type PurgedEvent struct {
	Candidate    string
	Reason       string
	ThreadCount  int
	MessageCount int
	Receipt      string // names this erasure in logs and reports
}

// MailboxEvent is the content of mailbox.state.
type MailboxEvent struct {
	Mailbox         string
	State, Previous MailboxState
	Class           string
	Since           time.Time
	Action          string
}

// DirectoryEvent is the content of directory.conflict (Candidate, Address,
// Rule) and directory.sweep_held (Kind and the counts).
type DirectoryEvent struct {
	Type      EventType
	Candidate string
	Address   string
	Rule      string
	Kind      string
	Missing   int // records a sweep would take
	Total     int // records of that kind
}

// Attempt is the intent to post one event now: counted before the post.
type Attempt struct {
	No      uint64
	Version uint64
	Body    []byte // frozen by the first attempt; ignored when one is frozen
	At      time.Time
}

// Outcome is what became of an attempt.
type Outcome struct {
	No      uint64
	Version uint64
	State   EventState // delivered, pending (again at Due) or dead
	Result  string
	Due     time.Time
	// Refund gives the try back: the endpoint failed, not the event.
	Refund bool
	At     time.Time
}

// Outbox is what the courier needs. A stream is blocked by its oldest
// undelivered event; Due returns only such heads.
type Outbox interface {
	// Due returns up to limit pending heads of streams that are due at now, the
	// longest due first, leaving out the events for which skip is true; and
	// when the first head that is neither returned nor skipped is due (not after
	// now if limit cut the list; zero: nothing else waits). skip runs inside the
	// call and must not call the store.
	Due(ctx context.Context, now time.Time, limit int, skip func(no uint64) bool) ([]Event, time.Time, error)
	// Attempt counts the attempts and freezes the bodies, all in one commit, and
	// returns the events as they are now. An entry that changed since it was
	// read is left out. An attempt without a body counts all the same.
	Attempt(ctx context.Context, as []Attempt) ([]Event, error)
	// Outcome records outcomes, all in one commit. An entry whose event was
	// purged or replayed meanwhile is ignored.
	Outcome(ctx context.Context, os []Outcome) error
	// PurgesPending returns the refs whose candidate.purged is undelivered: no
	// other event that names one of them may be posted.
	PurgesPending(ctx context.Context) ([]string, error)
	// Endpoint returns and SetEndpoint keeps the state of the webhook that
	// survives a restart.
	Endpoint(ctx context.Context) (Endpoint, error)
	SetEndpoint(ctx context.Context, e Endpoint) error
}

// Endpoint is the durable state of the webhook.
type Endpoint struct {
	// Disabled is "" while the endpoint is in use, "operator" after `webhook
	// pause`, "gone" after a 410: nothing is posted until `webhook resume`.
	Disabled string
	Since    time.Time
	// NotBefore is the end of a pause the endpoint asked for (Retry-After).
	NotBefore time.Time
	// LastAccepted is the last 2xx, kept to about a minute: dead letters need it.
	LastAccepted time.Time
}

// EventFilter selects events for Events and Replay. Zero fields do not select.
type EventFilter struct {
	IDs       []string // webhook ids
	State     EventState
	Since     time.Time // Created at or after
	Candidate string
	After     uint64 // position
	Limit     int    // 0: 100
}

// Deliveries is what the admin room needs of the outbox.
type Deliveries interface {
	// Events lists rows in order of position, without Body and Data.
	Events(ctx context.Context, f EventFilter) ([]Event, error)
	// Event returns one row by its webhook id, whole.
	Event(ctx context.Context, id string) (Event, error)
	// Replay makes the selected dead and delivered rows pending again under
	// their ids and seqs and with fresh tries. A pending row that is asked for by
	// its id becomes due now, and nothing else of it changes. A row whose payload
	// retention erased gets a TaskReread, made in the same transaction. Limit 0
	// means all. It may commit in pieces: after an error, calling again replays
	// the rest. The purge of a candidate who is back is left out: posted again it
	// would have the ATS erase what came since.
	Replay(ctx context.Context, f EventFilter, now time.Time) (Replayed, error)
	// Expire erases what retention allows to go. It does a bounded piece of work
	// and tells whether more is left.
	Expire(ctx context.Context, before Expiry) (more bool, err error)
}

// Replayed says what became of a Replay.
type Replayed struct {
	Replayed  int // due now, payload and all
	Rereading int // pending once a TaskReread found their messages
	Erased    int // left out: their payload is gone and no mailbox holds the mail
	// Tasks are the ids of the TaskRereads this replay made.
	Tasks []string
}

// Expiry says up to when retention erases. A zero time erases nothing.
type Expiry struct {
	// Delivered bounds what was delivered: before it, a thread.matched loses its
	// payload and other events go.
	Delivered time.Time
	// Dead bounds dead letters by their last attempt, which lose the same.
	Dead time.Time
	// Tasks bounds ended tasks, whose rows go; 7 days are promised to operators.
	Tasks time.Time
}

// ---- the whole ---------------------------------------------------------

// Stats are counts for status and metrics; cheap to ask for.
type Stats struct {
	Epoch       uint64
	Pending     int
	Held        int
	Dead        int
	Delivered   int
	OldestAt    time.Time // Created of the oldest pending event; zero when none
	Candidates  int
	Jobs        int
	Users       int
	Messages    int // in the ledger
	Pairs       int
	Threads     int
	Purges      int // since the store was made
	Bytes       int64
	RotationDue bool // some rows are still sealed under the previous key
}

// Store is all of it, plus what operates it.
type Store interface {
	Walks
	Directory
	Outbox
	Deliveries
	Tasks
	Ledger
	Eraser
	Secrets
	Notes
	// Mailboxes lists the rows of all mailboxes.
	Mailboxes(ctx context.Context) ([]Mailbox, error)
	// ForgetMailbox erases a mailbox's walks, secrets, row and place in the ledger: a
	// message no other mailbox holds leaves the ledger with it. Tasks end there.
	// It may commit in pieces, the row last: after an error, calling again does
	// the rest.
	ForgetMailbox(ctx context.Context, id string, now time.Time) error
	// Writable commits a mark, to prove that it can.
	Writable(ctx context.Context) error
	// Room returns ErrFull when the outbox is at its limit or the disk is low.
	Room(ctx context.Context) error
	Stats(ctx context.Context) (Stats, error)
	Close() error
}
