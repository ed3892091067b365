package admin_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"mailsyncd/admin"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// fake is a daemon that remembers what it was asked and answers the same
// every time. Lists are left nil where they are empty, as careless code would.
type fake struct {
	mu    sync.Mutex
	asked []string
	// hold, if not nil, keeps SyncAll waiting.
	hold    chan struct{}
	waiting chan struct{} // closed when SyncAll waits
}

func (f *fake) note(words ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, strings.Join(words, " "))
}

func (f *fake) last() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.asked) == 0 {
		return ""
	}
	return f.asked[len(f.asked)-1]
}

func (f *fake) config(log *slog.Logger) admin.Config {
	return admin.Config{
		Daemon: f, Mailboxes: f, Connector: f, Syncer: f, Deliveries: f, Directory: f,
		Tasks: f, Inquiry: f, Webhook: fakeWebhook{f}, Log: log,
	}
}

func (f *fake) Status(context.Context) (admin.Status, error) {
	return admin.Status{
		Version: "v1", Started: noon, UptimeSeconds: 5, ConfigFile: "/c.yaml",
		Mailboxes: admin.MailboxSummary{Total: 2, States: map[string]int{"active": 1, "unauthorized": 1},
			Trouble: []admin.Mailbox{{ID: "rita", State: "unauthorized", Since: noon}}},
		Webhook: admin.WebhookStatus{State: admin.WebhookOK},
	}, nil
}

func (f *fake) Version() admin.Version {
	return admin.Version{Version: "v1", Go: "go1.26", Platform: "linux/amd64"}
}

func (f *fake) Reload(context.Context) (admin.ReloadResult, error) {
	f.note("reload")
	return admin.ReloadResult{Added: []string{"timo"}}, nil
}

func (f *fake) RotateKey(context.Context) (admin.RotateResult, error) {
	f.note("rotate")
	return admin.RotateResult{Complete: true}, nil
}

func (f *fake) Mailboxes(_ context.Context, q admin.MailboxQuery) (admin.MailboxList, error) {
	f.note("mailboxes", q.State, q.After, itoa(q.Limit))
	return admin.MailboxList{Items: []admin.Mailbox{{ID: "rita", State: "active"}}, Next: "rita"}, nil
}

func (f *fake) Mailbox(_ context.Context, id string) (admin.Mailbox, error) {
	f.note("mailbox", id)
	if id == "crash" {
		panic("value with nora@example.net in it")
	}
	if id == "broken" {
		return admin.Mailbox{}, errors.New("the store cannot be read")
	}
	if id != "rita" {
		return admin.Mailbox{}, admin.NotFound("there is no mailbox %q; `mailsyncd status` lists those in trouble", id)
	}
	return admin.Mailbox{ID: id, State: "active", Walks: []admin.Walk{{Task: "main", Scanned: 9}}}, nil
}

func (f *fake) SetPaused(_ context.Context, id string, paused bool) (admin.Mailbox, error) {
	if paused {
		f.note("pause", id)
		return admin.Mailbox{ID: id, State: "paused"}, nil
	}
	f.note("resume", id)
	return admin.Mailbox{ID: id, State: "active"}, nil
}

func (f *fake) Forget(_ context.Context, id string) error {
	f.note("forget", id)
	return nil
}

func (f *fake) Connection(_ context.Context, id string) (admin.Connection, error) {
	f.note("connection", id)
	if id == "rita" {
		return admin.Connection{}, admin.Conflict("mailbox %q is read over IMAP and needs no consent", id)
	}
	return admin.Connection{Mailbox: id, Address: "sam@example.com", Mode: "metadata", Client: admin.OAuthClient{ID: "client"}}, nil
}

func (f *fake) SetToken(_ context.Context, id, token string) error {
	f.note("token", id, token)
	return nil
}

func (f *fake) Sync(_ context.Context, id string) (admin.SyncResult, error) {
	f.note("sync", id)
	if id == "paused" {
		return admin.SyncResult{}, admin.Conflict("mailbox %q is paused; resume it first", id)
	}
	return admin.SyncResult{Mailbox: id, OK: true, Began: noon, Ended: noon.Add(time.Second), Scanned: 5, Matched: 1}, nil
}

func (f *fake) SyncAll(ctx context.Context) (admin.SyncAllResult, error) {
	f.note("sync all")
	if f.hold != nil {
		close(f.waiting)
		select {
		case <-f.hold:
		case <-ctx.Done():
			return admin.SyncAllResult{}, ctx.Err()
		}
	}
	return admin.SyncAllResult{Mailboxes: 2, OK: 1, Failed: []admin.SyncResult{{Mailbox: "timo", Class: "network"}}}, nil
}

func (f *fake) Deliveries(_ context.Context, q admin.DeliveryQuery) (admin.DeliveryList, error) {
	f.note("deliveries", q.State, q.Candidate, itoa(int(q.After)), itoa(q.Limit))
	return admin.DeliveryList{Items: []admin.Delivery{{No: 7, ID: "evt_7", State: "dead"}}, Next: 7}, nil
}

func (f *fake) Delivery(_ context.Context, id string, payload bool) (admin.Delivery, error) {
	d := admin.Delivery{No: 7, ID: id, State: "delivered", Created: noon}
	f.note("delivery", id)
	if payload && id == "evt_7" {
		d.Payload = []byte(`{"type":"thread.matched"}`)
	}
	return d, nil
}

func (f *fake) Replay(_ context.Context, r admin.Replay) (admin.ReplayResult, error) {
	f.note("replay", strings.Join(r.IDs, ","), r.Candidate)
	return admin.ReplayResult{Replayed: len(r.IDs)}, nil
}

func (f *fake) Records(_ context.Context, q admin.RecordQuery) (admin.RecordList, error) {
	f.note("records", q.Kind, q.Ref, q.After, itoa(q.Limit))
	if q.Ref == "nobody" {
		return admin.RecordList{}, nil
	}
	jobs := []string{}
	return admin.RecordList{Items: []admin.Record{{Kind: "candidate", Ref: "cand/1", State: "active", Jobs: &jobs}}}, nil
}

func (f *fake) Put(_ context.Context, lines io.Reader) (admin.PutResult, error) {
	text, err := io.ReadAll(lines)
	if err != nil {
		return admin.PutResult{}, err
	}
	n := strings.Count(string(text), "\n")
	if n <= 3 {
		f.note("put", strings.TrimSpace(string(text)))
	}
	return admin.PutResult{Records: n, Changed: n}, nil
}

func (f *fake) Delete(_ context.Context, kind, ref string) error {
	f.note("delete", kind, ref)
	return nil
}

func (f *fake) Approve(_ context.Context, address string) (admin.ApproveResult, error) {
	f.note("approve", address)
	return admin.ApproveResult{Sweeps: 1}, nil
}

func (f *fake) Tasks(context.Context) (admin.TaskList, error) {
	f.note("tasks")
	return admin.TaskList{Items: []admin.Task{{ID: "task_1", Kind: "resync", State: admin.TaskRunning, Since: noon, Left: 2, Mailboxes: 3}}}, nil
}

func (f *fake) Task(_ context.Context, id string) (admin.Task, error) {
	f.note("task", id)
	if id == "task_9" {
		return admin.Task{}, admin.NotFound("no task %q; `mailsyncd tasks list` shows them", id)
	}
	return admin.Task{ID: id, Kind: "redeliver", State: admin.TaskRunning, Waiting: []admin.WaitingMailbox{{Mailbox: "rita", State: "paused"}}}, nil
}

func (f *fake) CancelTask(_ context.Context, id string) (admin.Task, error) {
	f.note("cancel", id)
	return admin.Task{ID: id, Kind: "reread", State: admin.TaskCancelled, Ended: noon}, nil
}

func (f *fake) Resync(_ context.Context, r admin.Resync) (admin.TaskList, error) {
	f.note("resync", r.Candidate, r.Who, strconv.FormatBool(r.All), r.Mailbox, strconv.FormatBool(r.Redeliver))
	if r.Who == "gone" {
		return admin.TaskList{}, admin.Conflict("the candidate was purged; put it again first")
	}
	return admin.TaskList{Items: []admin.Task{{ID: "task_1", Kind: "resync", State: admin.TaskRunning, Candidate: r.Candidate}}}, nil
}

func (f *fake) Explain(_ context.Context, q admin.ExplainQuery) (admin.Explanation, error) {
	f.note("explain", q.MessageID, q.Mailbox, q.Candidate)
	if q.Candidate != "" {
		return admin.Explanation{Candidate: &admin.ExplainedCandidate{
			Ref: q.Candidate, State: "active", Addresses: []admin.ExplainedAddress{{Address: "nora@example.net"}},
		}}, nil
	}
	return admin.Explanation{Mail: &admin.ExplainedMail{Asked: 2, Copies: []admin.ExplainedCopy{{
		Mailbox: "rita", Verdict: admin.VerdictMatched, Matches: []admin.Match{{Candidate: "cand/1", State: "dead"}},
	}, {
		Mailbox: "tom", Verdict: admin.VerdictRefused, Refusals: []admin.Refusal{{Candidate: "cand/1", Guard: "bulk"}},
	}}}}, nil
}

func (f *fake) Reconcile(_ context.Context, r admin.Reconcile) (admin.Reconciliation, error) {
	f.note("reconcile", r.Mailbox, strconv.FormatBool(r.Repair))
	return admin.Reconciliation{
		Total:     admin.ReconcileCounts{Messages: 9, Refused: map[string]int{"bulk": 2}, Unaccounted: 3, Repaired: 1},
		Mailboxes: []admin.ReconciledMailbox{{Mailbox: "rita"}},
	}, nil
}

func (f *fake) CandidateMessages(_ context.Context, q admin.CandidateMessageQuery) (admin.CandidateMessageList, error) {
	f.note("messages", q.Candidate, q.After, itoa(q.Limit))
	return admin.CandidateMessageList{Items: []admin.CandidateMessage{{ID: "msg_1", State: "delivered", Since: noon}}, Next: "msg_1"}, nil
}

type fakeWebhook struct{ *fake }

func (f fakeWebhook) SetPaused(_ context.Context, paused bool) (admin.WebhookStatus, error) {
	if paused {
		f.note("webhook pause")
		return admin.WebhookStatus{State: admin.WebhookDisabled, Reason: "operator"}, nil
	}
	f.note("webhook resume")
	return admin.WebhookStatus{State: admin.WebhookOK}, nil
}

// serve starts the daemon's socket and returns its path. It ends with the test.
func serve(t *testing.T, c admin.Config) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "admin.sock")
	l, err := admin.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	stop := background(t, l, c)
	t.Cleanup(stop)
	return socket
}

// background serves until the returned function is called.
func background(t *testing.T, l net.Listener, c admin.Config) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- admin.Serve(ctx, l, checked(t, admin.New(c)), c.Log) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
}

// logTo makes a logger that writes into the test's log.
func logTo(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

// itoa writes a number, and nothing for zero.
func itoa(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}
