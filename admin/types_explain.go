package admin

import "time"

// ExplainQuery asks why: about one mail, or about one candidate.
type ExplainQuery struct {
	MessageID string `json:"message_id,omitempty"` // with or without angle brackets
	Mailbox   string `json:"mailbox,omitempty"`    // look for the mail in this one only
	Candidate string `json:"candidate,omitempty"`  // ref
}

// Explanation is the answer: the part that was asked for.
type Explanation struct {
	Mail      *ExplainedMail      `json:"mail,omitempty"`
	Candidate *ExplainedCandidate `json:"candidate,omitempty"`
}

// ExplainedMail is what is decided about a mail now, by its header as it is in
// the mailboxes. It never says what stands in the header of a mail that does not
// match.
type ExplainedMail struct {
	Copies []ExplainedCopy `json:"copies"`
	// Asked is in how many mailboxes it was looked for.
	Asked int `json:"asked"`
	// Unpolled are mailboxes among them that no pass reads now.
	Unpolled []WaitingMailbox `json:"unpolled"`
	Failed   []FailedMailbox  `json:"failed"`
}

// ExplainedCopy is the mail as one mailbox holds it.
type ExplainedCopy struct {
	Mailbox string `json:"mailbox"`
	// Verdict: matched, refused, no_candidate. Of a mail without a candidate
	// nothing else is said.
	Verdict string    `json:"verdict"`
	Folder  string    `json:"folder,omitempty"`
	Arrival time.Time `json:"arrival,omitzero"`
	Horizon time.Time `json:"horizon,omitzero"` // of the mailbox: older mail is out of scope
	Matches []Match   `json:"matches"`
	// Refusals are every guard that refused, for every candidate the mail names.
	Refusals []Refusal `json:"refusals"`
	// Kept are candidates for whom the ledger has the mail although it does not
	// match them now: it was delivered while it did.
	Kept []KeptPair `json:"kept"`
}

// The verdicts on a copy.
const (
	VerdictMatched     = "matched"
	VerdictRefused     = "refused"
	VerdictNoCandidate = "no_candidate"
)

// Match is a candidate the mail belongs to, and why.
type Match struct {
	Candidate string   `json:"candidate"`
	Address   string   `json:"address"` // as the mail spells it
	Fields    []string `json:"fields"`  // it stands in
	Jobs      []Job    `json:"jobs"`    // of the candidate; none without a job rule
	// State of the event that carries the pair: pending, held, dead, delivered.
	// Empty: there is none yet, and Note says why.
	State string    `json:"state,omitempty"`
	Event string    `json:"event,omitempty"` // its webhook-id; empty once its row is gone
	Since time.Time `json:"since,omitzero"`  // the ledger has the pair
	Note  string    `json:"note,omitempty"`
}

// Job is a job of a candidate.
type Job struct {
	Ref   string `json:"ref"`
	State string `json:"state"` // open, archived
}

// Refusal is a guard's no. It does not name the address: the mail did not match.
type Refusal struct {
	Candidate string   `json:"candidate"`
	Guard     string   `json:"guard"`
	Detail    string   `json:"detail"` // what in the guard refused: a setting or a rule
	Fields    []string `json:"fields"` // in which the candidate's address stands
	Mend      string   `json:"mend"`   // what would change the answer
}

// KeptPair is a candidate of a message in the ledger.
type KeptPair struct {
	Candidate string    `json:"candidate"`
	State     string    `json:"state"`
	Event     string    `json:"event,omitempty"`
	Since     time.Time `json:"since,omitzero"`
}

// ExplainedCandidate is why mail of a candidate is matched or not.
type ExplainedCandidate struct {
	Ref string `json:"ref"`
	// State of the record: active, stopped, deleted; unknown without one.
	State   string `json:"state"`
	Matched bool   `json:"matched"`
	// Inactive says why it is not matched, and Mend what would change that.
	Inactive     string    `json:"inactive,omitempty"`
	Mend         string    `json:"mend,omitempty"`
	MissingSince time.Time `json:"missing_since,omitzero"`
	Purged       time.Time `json:"purged,omitzero"` // erased at
	Jobs         []Job     `json:"jobs"`
	// Addresses are those of the record, each with the guards that would refuse
	// an ordinary mail from it.
	Addresses []ExplainedAddress `json:"addresses"`
	// Mails counts the candidate's messages by the state of their events.
	Mails MailCounts `json:"mails"`
	// LookBack are mailboxes whose old mail is not walked for the candidate yet,
	// at most 100; LookBackLeftOut is how many more there are.
	LookBack        []string `json:"look_back"`
	LookBackLeftOut int      `json:"look_back_left_out,omitempty"`
	Tasks           []Task   `json:"tasks"` // running ones
}

// StateUnknown is the state of a candidate the directory has no record of.
const StateUnknown = "unknown"

// ExplainedAddress is one address of a candidate.
type ExplainedAddress struct {
	Address  string    `json:"address"`
	Shared   []string  `json:"shared"`   // refs of other candidates who have it
	Refusals []Refusal `json:"refusals"` // none: mail from it matches
}

// MailCounts counts messages by the state of the events that carry them.
type MailCounts struct {
	Delivered int `json:"delivered"`
	Pending   int `json:"pending"`
	Held      int `json:"held"`
	Dead      int `json:"dead"`
}

// CandidateMessage is one message as it was delivered for a candidate.
type CandidateMessage struct {
	ID        string          `json:"id"` // msg_…
	Thread    string          `json:"thread"`
	Mailboxes []MessageHolder `json:"mailboxes"`
	Address   string          `json:"address"` // of the candidate, as the mail spells it
	Fields    []string        `json:"fields"`
	State     string          `json:"state"`           // pending, held, dead, delivered
	Event     string          `json:"event,omitempty"` // webhook-id; empty once its row is gone
	Since     time.Time       `json:"since,omitzero"`  // the ledger has it
}

// MessageHolder is a mailbox that holds a message.
type MessageHolder struct {
	ID   string `json:"id"`
	User string `json:"user,omitempty"`
	Link string `json:"link,omitempty"` // opens the mail in its owner's client
}

// CandidateMessageList is one page of a candidate's messages.
type CandidateMessageList struct {
	Items []CandidateMessage `json:"items"`
	Next  string             `json:"next,omitempty"` // pass as after; empty on the last page
}

// CandidateMessageQuery selects a page of a candidate's messages.
type CandidateMessageQuery struct {
	Candidate string
	After     string // opaque
	Limit     int    // 1 to 1000
}
