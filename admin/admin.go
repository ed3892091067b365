// Package admin is the operator's door: the handlers behind the Unix socket,
// and the client that mailsyncd's own commands use.
//
// It speaks HTTP and JSON, one call per command, described by openapi.yaml,
// which the daemon serves at /v1/openapi.yaml. Errors are
// application/problem+json (RFC 9457) whose detail says what to do.
//
// Who may open the socket may do everything: access is the business of the
// file's mode and folder, so there is no login, and Host and Origin are not
// looked at, as no browser can reach a Unix socket. Each call that changes
// something is logged with the caller's user id, and without any name of a
// candidate.
//
// The package imports nothing of ours. It declares the small interfaces it
// needs and the shapes that travel; the daemon fills them.
package admin

import (
	"context"
	_ "embed"
	"io"
	"log/slog"
	"net/http"
)

// Daemon is the process as a whole.
type Daemon interface {
	Status(ctx context.Context) (Status, error)
	Version() Version
	// Reload reads the configuration and the directory again. A bad file
	// changes nothing; the error is Invalid with the problems as its errors.
	Reload(ctx context.Context) (ReloadResult, error)
	// RotateKey reads the key file again and seals everything under its first line.
	RotateKey(ctx context.Context) (RotateResult, error)
}

// Mailboxes looks at mailboxes and sets what operators may set. An unknown id
// is a NotFound.
type Mailboxes interface {
	Mailboxes(ctx context.Context, q MailboxQuery) (MailboxList, error)
	Mailbox(ctx context.Context, id string) (Mailbox, error)
	// SetPaused pauses a mailbox or lets it go on: also one that is parked
	// because its credential was refused.
	SetPaused(ctx context.Context, id string, paused bool) (Mailbox, error)
	// Forget erases credentials, cursor and ledger rows of a mailbox. One that
	// is still configured begins again like a new one.
	Forget(ctx context.Context, id string) error
}

// Connector lets a mailbox's user give their consent. A mailbox that is connected
// already, or opened by something else, is a Conflict.
type Connector interface {
	Connection(ctx context.Context, id string) (Connection, error)
	// SetToken keeps the refresh token of a consent and polls the mailbox.
	SetToken(ctx context.Context, id, token string) error
}

// Syncer polls now. Both calls wait until a pass that began after the call has
// ended, or until ctx ends, which leaves the pass running. A mailbox that is
// paused or suspended is a Conflict.
type Syncer interface {
	Sync(ctx context.Context, mailbox string) (SyncResult, error)
	SyncAll(ctx context.Context) (SyncAllResult, error)
}

// Deliveries is the outbox. An unknown id is a NotFound.
type Deliveries interface {
	Deliveries(ctx context.Context, q DeliveryQuery) (DeliveryList, error)
	// Delivery returns one event; with its payload when that is asked for.
	Delivery(ctx context.Context, id string, payload bool) (Delivery, error)
	Replay(ctx context.Context, r Replay) (ReplayResult, error)
}

// Directory is the candidates, jobs and users. An unknown record is a NotFound.
type Directory interface {
	Records(ctx context.Context, q RecordQuery) (RecordList, error)
	// Put upserts JSON lines; never a snapshot. One bad line refuses them all,
	// as an Invalid that names the line.
	Put(ctx context.Context, lines io.Reader) (PutResult, error)
	// Delete deletes a record; a candidate is purged at once.
	Delete(ctx context.Context, kind, ref string) error
	// Approve releases held sweeps, or what is held for one address.
	Approve(ctx context.Context, address string) (ApproveResult, error)
}

// Tasks is work over old mail. An unknown id is a NotFound.
type Tasks interface {
	Tasks(ctx context.Context) (TaskList, error)
	Task(ctx context.Context, id string) (Task, error)
	// CancelTask ends a task; what it delivered stays. Cancelling an ended task
	// changes nothing.
	CancelTask(ctx context.Context, id string) (Task, error)
	// Resync begins one task for each candidate meant, and does not wait. A
	// candidate that is not matched now is a Conflict.
	Resync(ctx context.Context, r Resync) (TaskList, error)
}

// Inquiry answers "why" and "is it all there".
type Inquiry interface {
	Explain(ctx context.Context, q ExplainQuery) (Explanation, error)
	// Reconcile waits for the proof of every mailbox that is meant, or until ctx
	// ends. A mailbox that cannot be asked is in the answer, not an error.
	Reconcile(ctx context.Context, r Reconcile) (Reconciliation, error)
	CandidateMessages(ctx context.Context, q CandidateMessageQuery) (CandidateMessageList, error)
}

// Webhook stops and starts the posts.
type Webhook interface {
	SetPaused(ctx context.Context, paused bool) (WebhookStatus, error)
}

// Config is what the handlers work on. Every field is required.
type Config struct {
	Daemon     Daemon
	Mailboxes  Mailboxes
	Connector  Connector
	Syncer     Syncer
	Deliveries Deliveries
	Directory  Directory
	Tasks      Tasks
	Inquiry    Inquiry
	Webhook    Webhook
	Log        *slog.Logger
}

//go:embed openapi.yaml
var openAPI []byte

// server holds the handlers.
type server struct{ Config }

// route is one call: a pattern of http.ServeMux and its handler.
type route struct {
	pattern string
	handler http.HandlerFunc
}

// routes is the whole surface. openapi.yaml lists the same calls.
func (s *server) routes() []route {
	return []route{
		{"GET /v1/status", answer(s.status)},
		{"GET /v1/version", answer(s.version)},
		{"GET /v1/openapi.yaml", s.describe},
		{"POST /v1/reload", answer(s.reload)},
		{"POST /v1/key/rotate", answer(s.rotateKey)},

		{"GET /v1/mailboxes", answer(s.listMailboxes)},
		{"GET /v1/mailboxes/{id}", answer(s.showMailbox)},
		{"POST /v1/mailboxes/{id}/sync", answer(s.sync)},
		{"POST /v1/mailboxes/{id}/pause", answer(s.pauseMailbox)},
		{"POST /v1/mailboxes/{id}/resume", answer(s.resumeMailbox)},
		{"POST /v1/mailboxes/{id}/forget", done(s.forgetMailbox)},
		{"GET /v1/mailboxes/{id}/connect", answer(s.connection)},
		{"PUT /v1/mailboxes/{id}/token", done(s.setToken)},
		{"POST /v1/sync", answer(s.syncAll)},

		{"GET /v1/deliveries", answer(s.listDeliveries)},
		{"GET /v1/deliveries/{id}", answer(s.showDelivery)},
		{"POST /v1/deliveries/replay", answer(s.replay)},

		{"GET /v1/directory", answer(s.listRecords)},
		{"PUT /v1/directory", answer(s.putRecords)},
		{"POST /v1/directory/approve", answer(s.approve)},
		{"GET /v1/directory/{kind}/{ref}", answer(s.showRecord)},
		{"PUT /v1/directory/{kind}/{ref}", answer(s.putRecord)},
		{"DELETE /v1/directory/{kind}/{ref}", done(s.deleteRecord)},

		{"GET /v1/tasks", answer(s.listTasks)},
		{"GET /v1/tasks/{id}", answer(s.showTask)},
		{"POST /v1/tasks/{id}/cancel", answer(s.cancelTask)},
		{"POST /v1/resync", accepted(s.resync)},
		{"POST /v1/candidates/{ref}/resync", accepted(s.resyncCandidate)},

		{"POST /v1/explain", answer(s.explain)},
		{"POST /v1/reconcile", answer(s.reconcile)},
		{"GET /v1/candidates/{ref}/messages", answer(s.listCandidateMessages)},

		{"POST /v1/webhook/pause", answer(s.pauseWebhook)},
		{"POST /v1/webhook/resume", answer(s.resumeWebhook)},
	}
}

// New returns the handlers of all calls.
func New(c Config) http.Handler {
	s := &server{c}
	mux := http.NewServeMux()
	for _, r := range s.routes() {
		mux.HandleFunc(r.pattern, r.handler)
	}
	mux.HandleFunc("/", noRoute(mux))
	return s.logged(limited(mux))
}
