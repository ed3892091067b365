package admin

import "time"

// Task is work over old mail: one walk in each of its mailboxes, resumed after
// a restart. An ended task is listed for 7 days.
type Task struct {
	ID string `json:"id"`
	// Kind: resync, redeliver, reread (the headers an erased event needs for its
	// replay).
	Kind string `json:"kind"`
	// Candidate is the ref the task is about; empty means every candidate.
	Candidate string    `json:"candidate,omitempty"`
	Since     time.Time `json:"since,omitzero"`
	DryRun    bool      `json:"dry_run"` // counts, and records nothing
	// State: running, done, cancelled.
	State string `json:"state"`
	// Purged: the task ended because its candidate was purged.
	Purged  bool      `json:"purged,omitempty"`
	Created time.Time `json:"created,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`

	Mailboxes int    `json:"mailboxes"` // it walks over
	Left      int    `json:"left"`      // of them, not walked to the end yet
	Scanned   uint64 `json:"scanned"`   // headers read
	Matched   uint64 `json:"matched"`   // messages that match
	New       uint64 `json:"new"`       // pairs of message and candidate that are delivered by it

	// Waiting are mailboxes of Left that are not polled now, with their state:
	// the task ends there once they are. At most 100, and only GET /v1/tasks/{id}
	// shows them.
	Waiting []WaitingMailbox `json:"waiting,omitempty"`
}

// The states of a task.
const (
	TaskRunning   = "running"
	TaskDone      = "done"
	TaskCancelled = "cancelled"
)

// WaitingMailbox is a mailbox that a task waits for.
type WaitingMailbox struct {
	Mailbox string `json:"mailbox"`
	State   string `json:"state"` // paused, suspended, unauthorized, removed
}

// TaskList is every task that is known, oldest first.
type TaskList struct {
	Items []Task `json:"items"`
}

// Resync asks for older mail of exactly one of Candidate, Who and All.
type Resync struct {
	Candidate string `json:"candidate,omitempty"` // ref
	// Who is a candidate's ref or, if there is no such ref, an address and with it
	// every candidate who has it.
	Who string `json:"who,omitempty"`
	// All candidates: goes only with Redeliver and Since.
	All bool `json:"all,omitempty"`
	// Since is how far back to read; left out, as far as sync.resync_limit lets.
	Since   time.Time `json:"since,omitzero"`
	Mailbox string    `json:"mailbox,omitempty"` // only this one
	// Redeliver posts again what was delivered, under the same message ids.
	Redeliver bool `json:"redeliver,omitempty"`
	DryRun    bool `json:"dry_run,omitempty"`
}

// Reconcile asks for the proof that nothing is missing.
type Reconcile struct {
	Mailbox string    `json:"mailbox,omitempty"` // only this one
	Since   time.Time `json:"since,omitzero"`    // left out: the window of sync.backfill
	Repair  bool      `json:"repair,omitempty"`  // queue what is unaccounted for
}

// Reconciliation is the proof: of every mailbox, and the sum.
type Reconciliation struct {
	Total     ReconcileCounts     `json:"total"`
	Mailboxes []ReconciledMailbox `json:"mailboxes"`
	// Failed could not be read to the end, or are not polled now.
	Failed []FailedMailbox `json:"failed"`
}

// ReconciledMailbox is the proof of one mailbox.
type ReconciledMailbox struct {
	Mailbox string          `json:"mailbox"`
	Since   time.Time       `json:"since,omitzero"` // of the window that was read
	Counts  ReconcileCounts `json:"counts"`
}

// ReconcileCounts compares what mailboxes hold with what the ledger knows.
type ReconcileCounts struct {
	Messages int `json:"messages"` // headers read
	// Pairs of message and candidate, by the state of the event that carries them.
	Delivered int `json:"delivered"`
	Pending   int `json:"pending"`
	Held      int `json:"held"`
	Dead      int `json:"dead"`
	// Refused are mails that name a candidate, by the guard that refused them.
	Refused map[string]int `json:"refused"`
	// Unaccounted pairs were missing twice. It must be 0.
	Unaccounted int `json:"unaccounted"`
	Repaired    int `json:"repaired"` // of them, queued now
}

// Left is how many pairs are still unaccounted for.
func (c ReconcileCounts) Left() int { return max(0, c.Unaccounted-c.Repaired) }

// FailedMailbox is a mailbox that could not be asked.
type FailedMailbox struct {
	Mailbox string `json:"mailbox"`
	Class   string `json:"class,omitempty"` // of the failure
	Error   string `json:"error"`
	Action  string `json:"action,omitempty"` // what to do
}
