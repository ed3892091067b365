package store

import (
	"context"
	"fmt"
	"time"
)

// The part of the contract that a candidate's life needs beyond the first
// delivery: work over old mail that an operator asks for, what became of a pair,
// and erasure from the file itself.

// ---- tasks -------------------------------------------------------------

// TaskKind says what a task does with the mail its walks find.
type TaskKind string

// The kinds of tasks.
const (
	// TaskResync delivers what the ledger does not have yet.
	TaskResync TaskKind = "resync"
	// TaskRedeliver delivers what it finds again, under the same message ids and
	// in new events, whatever the ledger has.
	TaskRedeliver TaskKind = "redeliver"
	// TaskReread finds the messages of events whose payload retention erased, so
	// that they can be replayed under their own ids. Replay makes it. Its walks
	// enter nothing into the ledger: a page gives the events what they lack, of
	// the messages and candidates they told before. An event is pending again
	// once it lacks nothing or the task's last walk has ended, with what was
	// found; where nothing was, it stays as it was with NotFoundAgain.
	TaskReread TaskKind = "reread"
)

// TaskPrefix begins the id of every task, and of nothing else that walks.
const TaskPrefix = "task_"

// NotFoundAgain is the LastResult of an event for which a TaskReread found
// nothing.
const NotFoundAgain = "not found again"

// TaskState is where a task stands.
type TaskState string

// The states of a task.
const (
	TaskRunning   TaskState = "running"
	TaskDone      TaskState = "done"
	TaskCancelled TaskState = "cancelled"
)

// Task is work over old mail: one walk per mailbox, each with its own cursor, so
// that it is resumable page by page. An ended task's row is kept for 7 days.
type Task struct {
	ID   string // "task_…", given by AddTasks
	Kind TaskKind
	// Candidate is the ref the task is about; "" means every candidate. A mail
	// may name others: only pairs of this one are decided.
	Candidate string
	// Addresses are the candidate's folded addresses when the task was made, for
	// a provider's search; empty: every header is read.
	Addresses []string
	// Since bounds the walks by arrival, and stands for the horizon.
	Since time.Time
	// DryRun counts and records nothing.
	DryRun bool
	// Mailboxes are those the task walks over.
	Mailboxes []string
	// Events are the positions of the events a TaskReread fills.
	Events []uint64

	State   TaskState
	Created time.Time
	Ended   time.Time // zero while running
	// Purged says that the task ended because its candidate was purged: what it
	// was about is erased from Candidate and Addresses.
	Purged  bool
	Left    int    // mailboxes whose walk has not ended
	Scanned uint64 // headers, all walks together
	Matched uint64 // messages with a pair of this task
	New     uint64 // pairs that entered the ledger, or were delivered again
}

// OwedWalk is one walk of a task that a mailbox has not ended.
type OwedWalk struct {
	Task Task // without Mailboxes and Events, which may be long
	Walk Walk // Task.ID in this mailbox
	// State has the task's Since and Addresses from the start, at version 0.
	State WalkState
}

// MaxTaskWalks is how many walks one AddTasks may make: they are one
// transaction, during which nothing else is committed.
const MaxTaskWalks = 200_000

// Tasks keeps them. A task's walk moves by Walks.Advance like any other; its
// Batch.Done ends the walk in this mailbox, and the task with its last one. In
// the same transaction it adds to the task's Scanned and Matched what the walk's
// state grew by, and to New the pairs that were delivered. Advance of a walk
// whose task was cancelled, or does not exist, is ErrConflict; one that brings
// messages to a dry run is an error. A purge ends the candidate's tasks.
type Tasks interface {
	// AddTasks records tasks and their walks, all or nothing, and returns them
	// with ids and states. A task without mailboxes has ended. ErrNotFound if the
	// directory has no row of a task's candidate: what is purged is not walked
	// for.
	AddTasks(ctx context.Context, tasks []Task, now time.Time) ([]Task, error)
	// Tasks lists the running tasks and the ended ones that Expire has left,
	// oldest first.
	Tasks(ctx context.Context) ([]Task, error)
	// Task returns one; ErrNotFound.
	Task(ctx context.Context, id string) (Task, error)
	// CancelTask ends a task and its walks; what it delivered stays. Cancelling
	// an ended task changes nothing. ErrNotFound.
	CancelTask(ctx context.Context, id string, now time.Time) (Task, error)
	// Owed lists the walks of running tasks that a mailbox has not ended, oldest
	// task first.
	Owed(ctx context.Context, mailbox string) ([]OwedWalk, error)
}

// ---- ledger ------------------------------------------------------------

// PairKey names a pair of the ledger.
type PairKey struct{ Message, Candidate string }

// PairState is what became of a pair: "" when the ledger does not have it.
type PairState string

// The states of a pair; those of the event that carries it, and delivered once
// that event's row is gone.
const (
	PairAbsent    PairState = ""
	PairPending   PairState = "pending"
	PairHeld      PairState = "held"
	PairDead      PairState = "dead"
	PairDelivered PairState = "delivered"
)

// LedgerMessage is one message of the ledger.
type LedgerMessage struct {
	ID       string // msg_…
	Thread   string // thr_…, the surviving one
	Holdings []Holding
	Pairs    []LedgerPair
}

// LedgerPair is one candidate of a message of the ledger.
type LedgerPair struct {
	Pair
	State PairState
	Event string    // webhook-id of the event that carries it; "" once its row is gone
	At    time.Time // when the pair entered the ledger
}

// Ledger answers what was decided and delivered. It never answers about mail
// that did not match: nothing is kept of it.
type Ledger interface {
	// PairStates returns the state of each pair, in the order given.
	PairStates(ctx context.Context, keys []PairKey) ([]PairState, error)
	// Message returns one message; ErrNotFound. Its pairs stand in the order in
	// which they entered.
	Message(ctx context.Context, id string) (LedgerMessage, error)
	// CandidateMessages lists the messages of a candidate in the ledger's order,
	// which is no order a person knows, after a message id ("": from the start),
	// at most limit of them (0: 100).
	CandidateMessages(ctx context.Context, ref, after string, limit int) ([]LedgerMessage, error)
}

// ---- erasure -----------------------------------------------------------

// Erasure says what purges have left behind in the file: the pages they freed
// keep their sealed bytes until the file is rewritten.
type Erasure struct {
	// Pending counts the purges, and the mailboxes of which something was
	// forgotten, since the last finished rewrite began.
	Pending     int
	Oldest      time.Time // the first of them; zero when there is none
	LastRewrite time.Time // zero: never
}

// Eraser rewrites the file.
type Eraser interface {
	Erasure(ctx context.Context) (Erasure, error)
	// Rewrite copies the live rows into a new file and puts it in the place of
	// the old one, whose bytes are overwritten or discarded. Everything else goes
	// on meanwhile; writers wait for at most a fraction of a second at the end.
	// Killed anywhere, the store is the old file or the new one, whole.
	Rewrite(ctx context.Context, now time.Time) error
}

// CheckTasks says what is wrong with tasks that AddTasks is asked to record;
// every implementation asks it first.
func CheckTasks(tasks []Task) error {
	walks := 0
	for _, task := range tasks {
		if task.Kind != TaskResync && task.Kind != TaskRedeliver {
			return fmt.Errorf("a task of kind %q is not one that can be asked for", task.Kind)
		}
		walks += len(task.Mailboxes)
	}
	if walks > MaxTaskWalks {
		return fmt.Errorf("%d tasks over their mailboxes are %d walks, more than the %d of one step: ask for fewer at a time", len(tasks), walks, MaxTaskWalks)
	}
	return nil
}
