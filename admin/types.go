package admin

import (
	"encoding/json"
	"time"
)

// The shapes below are what travels over the socket, in both directions. Times
// are RFC 3339 in UTC and left out while they are not known. Lists are never
// null. openapi.yaml describes them for other programs; a test holds the two
// together.

// Status is the daemon at a glance.
type Status struct {
	Version       string    `json:"version"`
	Started       time.Time `json:"started"`
	UptimeSeconds int64     `json:"uptime_seconds"`
	ConfigFile    string    `json:"config_file"`
	// ReloadError is why the last reload was refused; the configuration before
	// it is in force. Empty when the last one worked.
	ReloadError string `json:"reload_error,omitempty"`
	// PollingStopped says why no mailbox is polled: "no_directory",
	// "outbox_full", "disk_low". Empty while polling goes on.
	PollingStopped string `json:"polling_stopped,omitempty"`

	Mailboxes MailboxSummary  `json:"mailboxes"`
	Outbox    OutboxStatus    `json:"outbox"`
	Webhook   WebhookStatus   `json:"webhook"`
	Directory DirectoryStatus `json:"directory"`
	Erasure   ErasureStatus   `json:"erasure"`
	Store     StoreStatus     `json:"store"`
}

// MailboxSummary counts the mailboxes and names the ones in trouble.
type MailboxSummary struct {
	Total  int            `json:"total"`
	States map[string]int `json:"states"` // state → how many; states without a mailbox may be missing
	// Stale are those whose last success is older than three intervals.
	Stale int `json:"stale"`
	// Unaccounted are pairs of message and candidate that the newest daily
	// reconcile of each mailbox found neither delivered nor refused.
	Unaccounted int `json:"unaccounted"`
	// OldestSuccess is the oldest last success of the mailboxes that are polled.
	OldestSuccess time.Time `json:"oldest_success,omitzero"`
	// Trouble are mailboxes that need somebody or are trying again, the longest
	// suffering first, at most 100; TroubleLeftOut is how many more there are.
	Trouble        []Mailbox `json:"trouble"`
	TroubleLeftOut int       `json:"trouble_left_out,omitempty"`
}

// OutboxStatus is what waits for the receiver.
type OutboxStatus struct {
	Pending   int       `json:"pending"`
	Held      int       `json:"held"` // wait for an approval
	Dead      int       `json:"dead"` // wait for a replay
	Delivered int       `json:"delivered"`
	Oldest    time.Time `json:"oldest,omitzero"` // creation of the oldest pending event
	MaxEvents int       `json:"max_events"`
}

// WebhookStatus is the receiver as the courier sees it.
type WebhookStatus struct {
	// State: ok, paused (tries again by itself), disabled (until `webhook resume`).
	State string `json:"state"`
	// Reason: why it is not ok: "failing", "throttled", "operator", "gone".
	Reason       string    `json:"reason,omitempty"`
	Since        time.Time `json:"since,omitzero"`         // of State
	NextAttempt  time.Time `json:"next_attempt,omitzero"`  // while paused
	LastAccepted time.Time `json:"last_accepted,omitzero"` // last 2xx
	LastResult   string    `json:"last_result,omitempty"`  // "204", "timeout"
	Action       string    `json:"action,omitempty"`       // what to do, when somebody must
}

// The states of WebhookStatus.
const (
	WebhookOK       = "ok"
	WebhookPaused   = "paused"
	WebhookDisabled = "disabled"
)

// DirectoryStatus is what the daemon knows of the ATS.
type DirectoryStatus struct {
	// Ready: one complete directory has been read; nothing is polled before.
	Ready      bool        `json:"ready"`
	Candidates int         `json:"candidates"`
	Jobs       int         `json:"jobs"`
	Users      int         `json:"users"`
	Revision   uint64      `json:"revision"`
	Checked    time.Time   `json:"checked,omitzero"` // last look at the source that succeeded
	Held       []HeldSweep `json:"held"`             // wait for `directory approve`
	LastError  string      `json:"last_error,omitempty"`
}

// HeldSweep is a snapshot that would make too many records go at once.
type HeldSweep struct {
	Kind    string    `json:"kind"`
	Missing int       `json:"missing"` // records it would take
	Total   int       `json:"total"`   // records of that kind
	Since   time.Time `json:"since,omitzero"`
}

// ErasureStatus is what is still to be erased.
type ErasureStatus struct {
	Pending   int       `json:"pending"`            // purges whose last trace is still in the file
	Oldest    time.Time `json:"oldest,omitzero"`    // the oldest of them
	Done      int       `json:"done"`               // purges since the store was made
	Rewritten time.Time `json:"rewritten,omitzero"` // the file, last: traces of before are gone
}

// StoreStatus is the daemon's own file.
type StoreStatus struct {
	Bytes    int64  `json:"bytes"`
	Epoch    uint64 `json:"epoch"`
	Messages int    `json:"messages"` // in the ledger
	Threads  int    `json:"threads"`
	// RotationDue: rows are still sealed under the previous key.
	RotationDue bool `json:"rotation_due"`
}

// Mailbox is one mailbox.
type Mailbox struct {
	ID      string `json:"id"`
	Address string `json:"address,omitempty"`
	User    string `json:"user,omitempty"`
	// Provider: imap, gmail. Host is the mail server; empty for gmail.
	Provider string `json:"provider,omitempty"`
	Host     string `json:"host,omitempty"`
	// State: active, backing_off, unauthorized, suspended, paused, removed.
	State string `json:"state"`
	// Class, Error and Action are the last failure: its kind, what happened,
	// what to do. Empty when there is none.
	Class  string `json:"class,omitempty"`
	Error  string `json:"error,omitempty"`
	Action string `json:"action,omitempty"`

	Since           time.Time `json:"since,omitzero"`    // of State
	Tries           int       `json:"tries,omitempty"`   // failures in a row
	RetryAt         time.Time `json:"retry_at,omitzero"` // after a failure
	NextPoll        time.Time `json:"next_poll,omitzero"`
	LastSuccess     time.Time `json:"last_success,omitzero"`
	Horizon         time.Time `json:"horizon,omitzero"`      // older mail is out of scope
	Unaccounted     int       `json:"unaccounted,omitempty"` // pairs the newest daily reconcile missed
	IntervalSeconds int64     `json:"interval_seconds,omitempty"`
	Running         bool      `json:"running"` // a pass is under way
	Walks           []Walk    `json:"walks,omitempty"`
}

// Walk is one moving position in a mailbox. Only GET /v1/mailboxes/{id} shows them.
type Walk struct {
	Task    string    `json:"task"` // "main", "lookback", "search", "audit", or the id of a task
	Started time.Time `json:"started,omitzero"`
	Scanned uint64    `json:"scanned"`
	Matched uint64    `json:"matched"`
	// Progress is there while the walk reads old mail of a mailbox where that
	// takes its time.
	Progress *Progress `json:"progress,omitempty"`
}

// Progress says how far a walk over old mail has come.
type Progress struct {
	Read        int     `json:"read"`         // headers
	Done        float64 `json:"done"`         // of the window, 0 to 1; 0 when unknown
	Left        int     `json:"left"`         // headers, estimated; 0 when unknown
	LeftSeconds int64   `json:"left_seconds"` // the quota allows it in no less
}

// Connection is what `mailsyncd connect` needs to ask a mailbox's user for a
// consent.
type Connection struct {
	Mailbox string      `json:"mailbox"`
	Address string      `json:"address"` // whose consent
	Mode    string      `json:"mode"`    // metadata, search
	Client  OAuthClient `json:"client"`
	// Endpoint of the API; empty: Google's.
	Endpoint string `json:"endpoint,omitempty"`
}

// OAuthClient is the company's own client. An installed app's secret is none
// (RFC 8252 §8.5).
type OAuthClient struct {
	ID       string `json:"id"`
	Secret   string `json:"secret"`
	AuthURL  string `json:"auth_url,omitempty"`
	TokenURL string `json:"token_url,omitempty"`
}

// Token is a refresh token on its way into the store.
type Token struct {
	Token string `json:"token"`
}

// MailboxList is one page of mailboxes, in order of their ids.
type MailboxList struct {
	Items []Mailbox `json:"items"`
	Next  string    `json:"next,omitempty"` // pass as after for the next page; empty on the last
}

// MailboxQuery selects mailboxes.
type MailboxQuery struct {
	State string // "": all
	After string // id
	Limit int    // 1 to 1000
}

// SyncResult is what one pass over one mailbox brought.
type SyncResult struct {
	Mailbox string    `json:"mailbox"`
	OK      bool      `json:"ok"`
	Began   time.Time `json:"began,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	Scanned int       `json:"scanned"`
	Matched int       `json:"matched"`
	Class   string    `json:"class,omitempty"` // of the failure
	Error   string    `json:"error,omitempty"`
	Action  string    `json:"action,omitempty"`
}

// SyncAllResult is what one pass over every mailbox brought.
type SyncAllResult struct {
	Mailboxes int `json:"mailboxes"` // polled; paused, parked and suspended ones are not
	OK        int `json:"ok"`
	Skipped   int `json:"skipped"`
	Scanned   int `json:"scanned"`
	Matched   int `json:"matched"`
	// Failed are at most 100; FailedLeftOut is how many more there are.
	Failed        []SyncResult `json:"failed"`
	FailedLeftOut int          `json:"failed_left_out,omitempty"`
}

// Delivery is one event of the outbox.
type Delivery struct {
	No     uint64 `json:"no"` // position in the outbox, rising
	ID     string `json:"id"` // webhook-id
	Type   string `json:"type"`
	Stream string `json:"stream"`
	Epoch  uint64 `json:"epoch"`
	Seq    uint64 `json:"seq"`
	// State: pending, held, dead, delivered.
	State        string    `json:"state"`
	Created      time.Time `json:"created,omitzero"`
	Due          time.Time `json:"due,omitzero"`
	Tries        int       `json:"tries"`    // count against the schedule
	Attempts     int       `json:"attempts"` // all there were
	FirstFailure time.Time `json:"first_failure,omitzero"`
	LastAttempt  time.Time `json:"last_attempt,omitzero"`
	Delivered    time.Time `json:"delivered,omitzero"`
	LastResult   string    `json:"last_result,omitempty"`
	Candidates   []string  `json:"candidates"` // refs
	// Payload is the body as it is or would be posted: only on request, null
	// once retention erased it.
	Payload json.RawMessage `json:"payload,omitempty"`
}

// DeliveryList is one page of the outbox, in order of position.
type DeliveryList struct {
	Items []Delivery `json:"items"`
	Next  uint64     `json:"next,omitempty"` // pass as after; 0 on the last page
}

// DeliveryQuery selects events.
type DeliveryQuery struct {
	State     string // "": all
	Candidate string // ref; "": all
	After     uint64 // position
	Limit     int    // 1 to 1000
}

// Replay selects the events to post again: by id, or else by exactly one of
// the others.
type Replay struct {
	IDs       []string  `json:"ids,omitempty"`
	Since     time.Time `json:"since,omitzero"` // created at or after
	Candidate string    `json:"candidate,omitempty"`
	Dead      bool      `json:"dead,omitempty"` // every dead letter
}

// ReplayResult is what became of a replay.
type ReplayResult struct {
	Replayed int `json:"replayed"`
	// Rereading are events whose payload was erased: Tasks read the headers
	// again, and then they are posted.
	Rereading int      `json:"rereading"`
	Tasks     []string `json:"tasks"`
	Erased    int      `json:"erased"` // left out: their payload is gone, and so is the mail
}

// Record is one directory record with what the daemon makes of it.
type Record struct {
	Kind   string   `json:"kind"`
	Ref    string   `json:"ref"`
	State  string   `json:"state"`
	Emails []string `json:"emails,omitempty"`
	// Jobs is null without a job rule, [] for a candidate without a job.
	Jobs *[]string `json:"jobs,omitempty"`
	Rev  string    `json:"rev,omitempty"`
	// Source: file or put.
	Source string `json:"source,omitempty"`
	// Matched tells, for a candidate, that mail is matched with it now;
	// Inactive why not: stopped, jobs_archived, no_jobs, missing, held.
	Matched  bool   `json:"matched"`
	Inactive string `json:"inactive,omitempty"`
	// MissingSince: absent from the file since then, purged after the grace.
	MissingSince time.Time `json:"missing_since,omitzero"`
}

// RecordList is one page of directory records.
type RecordList struct {
	Items []Record `json:"items"`
	Next  string   `json:"next,omitempty"` // pass as after; empty on the last page
}

// RecordQuery selects directory records.
type RecordQuery struct {
	Kind  string // candidate, job, user; "": all
	Ref   string // exactly this ref; "": all
	After string // opaque
	Limit int    // 1 to 1000
}

// PutResult is what became of an upsert.
type PutResult struct {
	Records   int `json:"records"`   // read
	Changed   int `json:"changed"`   // stored
	Unchanged int `json:"unchanged"` // said nothing new
	Stale     int `json:"stale"`     // older than what is stored, or than a deletion
}

// ApproveResult is what an approval released.
type ApproveResult struct {
	Sweeps    int `json:"sweeps"`
	Addresses int `json:"addresses"`
}

// ReloadResult is what a reload changed.
type ReloadResult struct {
	Added    []string `json:"added"`   // mailbox ids
	Removed  []string `json:"removed"` // mailbox ids
	Changed  []string `json:"changed"` // mailbox ids
	Settings []string `json:"settings"`
	Restart  []string `json:"restart"` // settings that wait for a restart
}

// RotateResult is what became of a key rotation.
type RotateResult struct {
	Resealed int `json:"resealed"` // rows sealed anew by this call
	// Complete: nothing is sealed under the previous key any more; its line can
	// go from the key file.
	Complete bool `json:"complete"`
}

// Version is the build.
type Version struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"` // of the source
	Go       string `json:"go"`
	Platform string `json:"platform"`
}
