package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailsyncd/admin"
)

// noon is the time that commands under test believe it is.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// ran is what a command did.
type ran struct {
	code           int
	stdout, stderr string
}

// console runs commands against a daemon's socket.
type console struct {
	socket string
	stdin  string
	ctx    context.Context // nil: the test's
}

func (c console) run(t *testing.T, args ...string) ran {
	t.Helper()
	var out, errs bytes.Buffer
	env := &environment{
		stdout: &out, stderr: &errs, stdin: strings.NewReader(c.stdin),
		getenv: func(name string) string {
			if name == "MAILSYNCD_SOCKET" {
				return c.socket
			}
			return ""
		},
		now:   func() time.Time { return noon },
		every: time.Millisecond,
	}
	code := env.run(c.context(t), args)
	return ran{code, out.String(), errs.String()}
}

func (c console) context(t *testing.T) context.Context {
	if c.ctx != nil {
		return c.ctx
	}
	return t.Context()
}

// oddDaemon answers calls with what a test puts into it.
type oddDaemon struct {
	status    admin.Status
	mailbox   admin.Mailbox
	sync      admin.SyncResult
	syncAll   admin.SyncAllResult
	delivery  admin.Delivery
	events    []admin.Delivery
	records   []admin.Record
	reload    admin.ReloadResult
	reloadErr error
	rotate    admin.RotateResult
	webhook   admin.WebhookStatus
	approve   admin.ApproveResult
	tasks     []admin.Task
	// progress are the answers about a task, one after the other; the last stays.
	progress    []admin.Task
	look        func() // called when a task is looked at
	explanation admin.Explanation
	proof       admin.Reconciliation
	rereading   int

	replay  admin.Replay // what was asked for
	deleted string
	put     string
	resync  admin.Resync
	explain admin.ExplainQuery
	proved  admin.Reconcile
}

func (d *oddDaemon) Status(context.Context) (admin.Status, error) { return d.status, nil }
func (d *oddDaemon) Version() admin.Version                       { return admin.Version{} }
func (d *oddDaemon) Reload(context.Context) (admin.ReloadResult, error) {
	return d.reload, d.reloadErr
}
func (d *oddDaemon) RotateKey(context.Context) (admin.RotateResult, error) { return d.rotate, nil }

func (d *oddDaemon) Mailboxes(_ context.Context, q admin.MailboxQuery) (admin.MailboxList, error) {
	if q.After == "" { // two pages, whatever is asked for
		return admin.MailboxList{Items: []admin.Mailbox{{ID: "rita", State: "active"}}, Next: "rita"}, nil
	}
	return admin.MailboxList{Items: []admin.Mailbox{{ID: "tom", State: "unauthorized", Class: "unauthorized"}}}, nil
}

func (d *oddDaemon) Mailbox(_ context.Context, id string) (admin.Mailbox, error) {
	if id != d.mailbox.ID {
		return admin.Mailbox{}, admin.NotFound("there is no mailbox %q; check the configuration", id)
	}
	return d.mailbox, nil
}

func (d *oddDaemon) SetPaused(_ context.Context, id string, paused bool) (admin.Mailbox, error) {
	state := map[bool]string{true: "paused", false: "active"}[paused]
	return admin.Mailbox{ID: id, State: state}, nil
}

func (d *oddDaemon) Forget(_ context.Context, id string) error { d.deleted = id; return nil }

func (d *oddDaemon) Sync(context.Context, string) (admin.SyncResult, error) { return d.sync, nil }
func (d *oddDaemon) SyncAll(context.Context) (admin.SyncAllResult, error)   { return d.syncAll, nil }

func (d *oddDaemon) Deliveries(_ context.Context, q admin.DeliveryQuery) (admin.DeliveryList, error) {
	var list admin.DeliveryList
	for _, e := range d.events {
		switch {
		case e.No <= q.After || q.State != "" && e.State != q.State:
		case len(list.Items) == q.Limit:
			list.Next = list.Items[q.Limit-1].No
			return list, nil
		default:
			list.Items = append(list.Items, e)
		}
	}
	return list, nil
}

func (d *oddDaemon) Delivery(_ context.Context, id string, payload bool) (admin.Delivery, error) {
	e := d.delivery
	if !payload {
		e.Payload = nil
	}
	return e, nil
}

func (d *oddDaemon) Replay(_ context.Context, r admin.Replay) (admin.ReplayResult, error) {
	d.replay = r
	return admin.ReplayResult{Replayed: max(1, len(r.IDs)), Rereading: d.rereading, Erased: len(r.IDs) / 2}, nil
}

func (d *oddDaemon) Records(_ context.Context, q admin.RecordQuery) (admin.RecordList, error) {
	var list admin.RecordList
	for _, r := range d.records {
		if (q.Ref == "" || r.Ref == q.Ref) && (q.Kind == "" || r.Kind == q.Kind) {
			list.Items = append(list.Items, r)
		}
	}
	return list, nil
}

func (d *oddDaemon) Put(_ context.Context, lines io.Reader) (admin.PutResult, error) {
	text, err := io.ReadAll(lines)
	d.put = string(text)
	return admin.PutResult{Records: 3, Changed: 2, Stale: 1}, err
}

func (d *oddDaemon) Delete(_ context.Context, kind, ref string) error {
	d.deleted = kind + " " + ref
	return nil
}

func (d *oddDaemon) Approve(context.Context, string) (admin.ApproveResult, error) {
	return d.approve, nil
}

func (d *oddDaemon) Tasks(context.Context) (admin.TaskList, error) {
	return admin.TaskList{Items: d.tasks}, nil
}

func (d *oddDaemon) Task(_ context.Context, id string) (admin.Task, error) {
	if d.look != nil {
		d.look()
	}
	t := d.progress[0]
	if len(d.progress) > 1 {
		d.progress = d.progress[1:]
	}
	t.ID = id
	return t, nil
}

func (d *oddDaemon) CancelTask(_ context.Context, id string) (admin.Task, error) {
	return admin.Task{ID: id, State: admin.TaskCancelled}, nil
}

func (d *oddDaemon) Resync(_ context.Context, r admin.Resync) (admin.TaskList, error) {
	d.resync = r
	if r.Who == "gone" {
		return admin.TaskList{}, admin.NotFound("no candidate has this ref or address; check its spelling")
	}
	return admin.TaskList{Items: d.tasks}, nil
}

func (d *oddDaemon) Explain(_ context.Context, q admin.ExplainQuery) (admin.Explanation, error) {
	d.explain = q
	return d.explanation, nil
}

func (d *oddDaemon) Reconcile(_ context.Context, r admin.Reconcile) (admin.Reconciliation, error) {
	d.proved = r
	return d.proof, nil
}

func (d *oddDaemon) CandidateMessages(context.Context, admin.CandidateMessageQuery) (admin.CandidateMessageList, error) {
	return admin.CandidateMessageList{}, nil
}

type oddWebhook struct{ d *oddDaemon }

func (w oddWebhook) SetPaused(_ context.Context, paused bool) (admin.WebhookStatus, error) {
	if paused {
		return admin.WebhookStatus{State: admin.WebhookDisabled, Reason: "operator", Since: noon}, nil
	}
	return w.d.webhook, nil
}

// startDaemon serves d on a real socket until the test ends.
func startDaemon(t *testing.T, d *oddDaemon) console {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	socket := filepath.Join(t.TempDir(), "s")
	l, err := admin.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	h := admin.New(admin.Config{Daemon: d, Mailboxes: d, Syncer: d, Deliveries: d, Directory: d,
		Tasks: d, Inquiry: d, Webhook: oddWebhook{d}, Log: log})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- admin.Serve(ctx, l, h, log) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return console{socket: socket}
}

// want compares all that a command did.
func (r ran) want(t *testing.T, what string, code int, stdout, stderr string) {
	t.Helper()
	if r.code != code {
		t.Errorf("%s: exit code %d, want %d", what, r.code, code)
	}
	if want := strings.TrimPrefix(stdout, "\n"); trimLines(r.stdout) != want {
		t.Errorf("%s: printed\n%s\nwant\n%s", what, trimLines(r.stdout), want)
	}
	if r.stderr != stderr {
		t.Errorf("%s: errors\n%s\nwant\n%s", what, r.stderr, stderr)
	}
}

// trimLines drops the spaces at line ends that aligning leaves behind.
func trimLines(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return b.String()
}

func (r ran) wantJSON(t *testing.T, what, want string) {
	t.Helper()
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(r.stdout)); err != nil {
		t.Errorf("%s: not JSON: %v\n%s", what, err, r.stdout)
		return
	}
	if compact.String() != want || r.code != exitDone {
		t.Errorf("%s: exit code %d, printed\n%s\nwant\n%s", what, r.code, compact.String(), want)
	}
}
